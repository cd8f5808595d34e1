"""MedNeXt v1 and v2 for volumes: inference, fine-tuning and pre-training in nnU-Net v2's formats.

Importing this package costs nothing: torch is imported by the rooms that compute, never here.
"""

__version__ = "0.1.0"

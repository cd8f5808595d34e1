"""Networks: MedNeXt v1 and v2, UpKern, official weights, and the registry of what may be built."""

from .mednext import MedNeXt

__all__ = ["MedNeXt"]

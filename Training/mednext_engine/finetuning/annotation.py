"""From a label file to training labels: classes, background, and unknown where nobody looked."""

from __future__ import annotations

import numpy as np

from .case_file import Annotated

UNKNOWN = -1
"""In training labels: not annotated; ignored by the loss and by every figure."""


def known_voxels(labels: np.ndarray, annotated: Annotated) -> np.ndarray:
    """Where `labels` (z, y, x; values of the file) is annotated, bool (z, y, x)."""
    raise NotImplementedError

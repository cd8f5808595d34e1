"""Label maps on the plan's grid, without losing slices or voxels that were annotated sparsely."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def resample_labels(
    labels: np.ndarray, new_shape: Sequence[int], nearest_axis: int | None = None
) -> np.ndarray:
    """`labels` (z, y, x), int16, -1 unknown, on a grid of `new_shape` over the same box."""
    raise NotImplementedError


def surviving_share(labels: np.ndarray, resampled: np.ndarray) -> float:
    """The share of annotated voxels that lie in an annotated voxel of `resampled`."""
    raise NotImplementedError

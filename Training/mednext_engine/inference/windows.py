"""Where the windows of a sliding-window prediction lie, and how much each voxel of one weighs.

The same positions and weights as nnU-Net v2 (Isensee et al. 2021, supplementary note 4: overlapping
windows of half a patch, Gaussian importance weighting), so that results can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np

SIGMA_SHARE = 1 / 8
LARGEST_WEIGHT = 10.0


def window_starts(size: int, patch: int, step: float) -> list[int]:
    """First voxels of the windows along one axis that cover `size` voxels.

    The windows are spread evenly, at most `step * patch` apart; `size` is at least `patch`.
    """
    span = size - patch
    count = math.ceil(span / (patch * step)) + 1
    return [round(span * i / (count - 1)) for i in range(count)] if count > 1 else [0]


def window_positions(
    shape: Sequence[int], patch: Sequence[int], step: float
) -> list[tuple[int, int, int]]:
    """First voxels (z, y, x) of all windows, in order of the first axis."""
    starts = [window_starts(s, p, step) for s, p in zip(shape, patch, strict=True)]
    return [(z, y, x) for z, y, x in product(*starts)]


def overlaps(
    position: Sequence[int],
    patch: Sequence[int],
    region: Sequence[tuple[int, int]] | None,
) -> bool:
    """Whether a window shares a voxel with the half-open `region` ((low, high) for each axis)."""
    if region is None:
        return True
    return all(
        start < high and start + size > low
        for start, size, (low, high) in zip(position, patch, region, strict=True)
    )


def gaussian_weights(patch: Sequence[int]) -> np.ndarray:
    """Importance of each voxel of a window, float32 (z, y, x), 10 at the centre, never 0."""
    axes = []
    for size in patch:
        sigma = size * SIGMA_SHARE
        distance = np.arange(size) - size // 2
        axis = np.exp(-0.5 * (distance / sigma) ** 2)
        axis[np.abs(distance) > int(4 * sigma + 0.5)] = 0  # the filter's reach in nnU-Net
        axes.append(axis)
    weights = np.einsum("i,j,k->ijk", *axes)
    weights *= LARGEST_WEIGHT / weights.max()
    weights[weights == 0] = weights[weights > 0].min()
    return weights.astype(np.float32)

"""Where a patch is taken from: nnU-Net's rules (Isensee et al. 2021, supplementary note 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .cases import Locations

Corner = tuple[int, int, int]


def wants_foreground(
    index: int, batch_size: int, share: float, generator: np.random.Generator
) -> bool:
    """Whether patch `index` of a batch is to be centred on a labelled structure.

    The last patches of a batch are, a third of them rounded up, so that of two patches one always
    is. A batch of one, which nnU-Net does not have, draws it.
    """
    if batch_size == 1:
        return bool(generator.random() < share)
    return index >= round(batch_size * (1.0 - share))


def draw_corner(
    shape: Sequence[int],
    patch: Sequence[int],
    locations: Locations,
    foreground: bool,
    generator: np.random.Generator,
) -> Corner:
    """First voxel (z, y, x) of a patch in a volume of `shape`; where it is larger, negative.

    Around a voxel of a class, all classes being equally likely; else, in a completely annotated
    case, anywhere; else around an annotated voxel, as nnU-Net does with its ignore label. The patch
    stays inside the volume along every axis that is long enough.
    """
    centre = _centre(locations, foreground, generator)
    corner = []
    for axis in range(3):
        lowest, highest = _limits(shape[axis], patch[axis])
        if centre is None:
            corner.append(int(generator.integers(lowest, highest + 1)))
        else:
            corner.append(min(max(int(centre[axis]) - patch[axis] // 2, lowest), highest))
    return corner[0], corner[1], corner[2]


def _centre(
    locations: Locations, foreground: bool, generator: np.random.Generator
) -> np.ndarray | None:
    if foreground and locations.classes:
        present = sorted(locations.classes)
        voxels = locations.classes[present[generator.integers(len(present))]]
    elif locations.complete or not len(locations.annotated):
        return None
    else:
        voxels = locations.annotated
    centre: np.ndarray = voxels[generator.integers(len(voxels))]
    return centre


def _limits(size: int, patch: int) -> tuple[int, int]:
    missing = patch - size
    if missing <= 0:
        return 0, size - patch
    return -(missing // 2), -(missing // 2)


def cut(array: np.ndarray, corner: Sequence[int], size: Sequence[int], fill: float) -> np.ndarray:
    """(..., z, y, x) from `corner` on, a copy of `size`; what lies outside is `fill`."""
    space = array.shape[-3:]
    inside, into = [], []
    for first, length, have in zip(corner, size, space, strict=True):
        low, high = min(max(first, 0), have), max(min(first + length, have), 0)
        inside.append(slice(low, max(high, low)))
        into.append(slice(low - first, max(high, low) - first))
    part = array[..., inside[0], inside[1], inside[2]]
    if part.shape[-3:] == tuple(size):
        return np.array(part, order="C")
    result = np.full((*array.shape[:-3], *size), fill, array.dtype)
    if part.size:
        result[..., into[0], into[1], into[2]] = part
    return result

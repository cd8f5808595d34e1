"""How many voxels of each class a label map holds, in all and slice by slice."""

from __future__ import annotations

import numpy as np


def class_counts(labels: np.ndarray, classes: int = 0) -> np.ndarray:
    """Voxels (int64) of class 0, 1, ...; at least `classes` entries. Unknown (-1) is not counted.

    Args:
        labels: (z, y, x), int16, no value below -1.
    """
    total = np.zeros(max(classes, int(labels.max(initial=0)) + 1) + 1, dtype=np.int64)
    for plane in labels:
        total += np.bincount(plane.ravel() + 1, minlength=len(total))
    return total[1:]


def slice_counts(labels: np.ndarray, classes: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For the axes z, y and x: voxels of each class in each slice, (classes, n) int64."""
    nz, ny, nx = labels.shape
    kinds = max(classes, int(labels.max(initial=0)) + 1) + 1
    along_z = np.zeros((nz, kinds), dtype=np.int64)
    along_y = np.zeros(ny * kinds, dtype=np.int64)
    along_x = np.zeros(nx * kinds, dtype=np.int64)
    rows = np.arange(ny)[:, None] * kinds
    columns = np.arange(nx)[None, :] * kinds
    for z, plane in enumerate(labels):
        shifted = plane.astype(np.int64) + 1
        along_z[z] = np.bincount(shifted.ravel(), minlength=kinds)
        along_y += np.bincount((shifted + rows).ravel(), minlength=ny * kinds)
        along_x += np.bincount((shifted + columns).ravel(), minlength=nx * kinds)
    z, y, x = (table.reshape(-1, kinds).T[1:] for table in (along_z, along_y, along_x))
    return z, y, x


def bounding_boxes(labels: np.ndarray) -> dict[int, tuple[slice, slice, slice]]:
    """The smallest box of each class from 1 upwards that is there, smallest class first."""
    profiles = slice_counts(labels)
    boxes = {}
    for value in np.flatnonzero(profiles[0].sum(1)):
        if value:
            z, y, x = (np.flatnonzero(profile[value]) for profile in profiles)
            boxes[int(value)] = _span(z), _span(y), _span(x)
    return boxes


def _span(found: np.ndarray) -> slice:
    return slice(int(found[0]), int(found[-1]) + 1)

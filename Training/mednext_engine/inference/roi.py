"""A region of interest, from world millimetres or voxels to what must be computed for it.

Three grids: the image's array (z, y, x); the target grid (plan axes, cropped to the non-zero box);
the network's grid. Boxes are tuples of slices, half-open.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from .grid import linear_axes
from .options import Box
from .resampling import Scheme

if TYPE_CHECKING:
    from .images import Volume
    from .preprocess import Frame

Region = tuple[slice, slice, slice]

_SPLINE_REACH = 12
"""Voxels beyond which a spline's neighbours no longer count (0.27 to this power)."""


def image_region(box: Box, volume: Volume) -> Region:
    """The voxels (z, y, x) of `volume` that `box` touches, clipped to the image.

    A voxel box is i, j, k as in Slicer and SimpleITK (x first), half-open. A box in millimetres
    (RAS or LPS) is parallel to the patient's axes; in an oblique image its eight corners are
    enclosed. A voxel reaches half its size to each side of its centre.

    Raises:
        InputError: nothing of the box lies in the image.
    """
    low, high = np.asarray(box.low, dtype=float), np.asarray(box.high, dtype=float)
    if box.space == "voxel":
        first, last = np.floor(low), np.ceil(high)
    else:
        to_lps = np.array([-1.0, -1.0, 1.0] if box.space == "ras" else [1.0, 1.0, 1.0])
        corners = itertools.product(*zip(low * to_lps, high * to_lps, strict=True))
        indices = np.array([_to_index(volume, corner) for corner in corners])
        # The tolerance keeps a face that lies on a voxel's face from adding a row of voxels.
        first = np.floor(indices.min(0) + 0.5 + 1e-4)
        last = np.ceil(indices.max(0) + 0.5 - 1e-4)
    size = volume.shape[::-1]
    starts = [max(int(a), 0) for a in first]
    stops = [min(int(b), n) for b, n in zip(last, size, strict=True)]
    if any(a >= b for a, b in zip(starts, stops, strict=True)):
        raise InputError(
            "The region of interest lies outside the image.",
            "Move it onto the image, or segment without one.",
        )
    x, y, z = (slice(a, b) for a, b in zip(starts, stops, strict=True))
    return z, y, x


def _to_index(volume: Volume, point: Sequence[float]) -> np.ndarray:
    """Continuous voxel index (x, y, z) of a point in LPS mm."""
    axes = np.asarray(volume.direction, dtype=float).reshape(3, 3)
    offset = np.asarray(point, dtype=float) - np.asarray(volume.origin, dtype=float)
    return np.linalg.solve(axes, offset) / np.asarray(volume.spacing[::-1], dtype=float)


def target_region(region: Region, frame: Frame) -> Region | None:
    """`region` of the image in the target grid; None where the image is zero all over it."""
    turned = frame.orientation.permute_box(region, frame.shape_before_crop)
    parts = []
    for part, crop in zip(turned, frame.crop, strict=True):
        start, stop = max(part.start, crop.start), min(part.stop, crop.stop)
        if start >= stop:
            return None
        parts.append(slice(start - crop.start, stop - crop.start))
    return parts[0], parts[1], parts[2]


def network_region(region: Region, scheme: Scheme) -> Region:
    """The voxels of the network's grid that the target's `region` is interpolated from.

    `scheme` leads from the network's grid to the target's.
    """
    if scheme.linear:
        axes = linear_axes(scheme, region)
        z, y, x = (axis.span(0, len(axis)) for axis in axes)
        return z, y, x
    parts = []
    for part, n_in, n_out in zip(region, scheme.shape, scheme.new_shape, strict=True):
        ratio = n_in / n_out
        start = math.floor(part.start * ratio) - _SPLINE_REACH
        stop = math.ceil(part.stop * ratio) + _SPLINE_REACH
        parts.append(slice(max(start, 0), min(stop, n_in)))
    return parts[0], parts[1], parts[2]

"""A picture of labels over an image: three slices through the middle of what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..atomic import replacing
from ..errors import InputError, OutputError

OPACITY = 0.45
MARGIN = 8  # pixels between the slices
HEIGHT = 420  # pixels, of each slice

Color = tuple[int, int, int]


def overlay(
    image: NDArray[np.float32],
    labels: NDArray[np.integer],
    spacing: Sequence[float],
    colors: Mapping[int, Color],
    direction: Sequence[float] | None = None,
    center: Sequence[int] | None = None,
) -> NDArray[np.uint8]:
    """Axial, coronal and sagittal slice, left to right, as radiologists look at them.

    Args:
        image: one channel, (z, y, x).
        labels: (z, y, x), same grid; 0 is not drawn.
        spacing: mm, (z, y, x); slices keep their true proportions.
        colors: (r, g, b), 0 to 255, of each label.
        direction: SimpleITK's 3 x 3 cosines; slices follow the nearest patient axes. None: LPS.
        center: voxel (z, y, x), before reorientation, through which the slices go; None for the
            middle of all labels.

    Returns:
        (rows, columns, 3).
    """
    if image.shape != labels.shape or image.ndim != 3:
        raise InputError("A picture needs an image and labels of one shape (z, y, x).")
    if center is None:
        center = _middle(labels)
    mark = np.zeros(labels.shape, np.uint8)
    mark[tuple(center)] = 1
    grey = _windowed(image)
    volumes = [_to_lps(v, spacing, direction) for v in (grey, _indexed(labels), mark)]
    (shades, grid), (indices, _), (marked, _) = volumes
    z, y, x = (int(i[0]) for i in np.nonzero(marked))
    colored = _palette(labels, colors)
    # rows and columns of each slice, looked at from the feet, from the front, from the left
    cuts: tuple[tuple[tuple[int | slice, ...], tuple[int, int]], ...] = (
        ((z, slice(None), slice(None)), (1, 2)),
        ((slice(None, None, -1), y, slice(None)), (0, 2)),
        ((slice(None, None, -1), slice(None), x), (0, 1)),
    )
    panels = [
        _panel(shades[cut], indices[cut], (grid[rows], grid[columns]), colored)
        for cut, (rows, columns) in cuts
    ]
    gap = np.zeros((HEIGHT, MARGIN, 3), np.uint8)
    return np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1)


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Writes (rows, columns, 3) as a PNG, whole or not at all. Raises OutputError."""
    if path.suffix.lower() != ".png":
        raise OutputError(f"A picture is written as PNG, so {path.name} must end in .png.")
    try:
        with replacing(path, ".png") as temporary:
            image = sitk.GetImageFromArray(np.ascontiguousarray(picture), isVector=True)
            sitk.WriteImage(image, str(temporary))
    except (RuntimeError, OSError):
        raise OutputError(
            f"The picture {path} cannot be written.", "Check the folder and its permissions."
        ) from None


def _middle(labels: NDArray[np.integer]) -> tuple[int, ...]:
    """The centre of all labelled voxels; the volume's middle when there is none."""
    found = np.nonzero(labels)
    if not found[0].size:
        return tuple(n // 2 for n in labels.shape)
    return tuple(round(float(axis.mean())) for axis in found)


def _windowed(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Grey values from the 1st to the 99.5th percentile (of a sample) as 0 to 255."""
    sample = image.reshape(-1)[:: max(1, image.size // 200_000)]
    low, high = np.percentile(sample, (1.0, 99.5))
    span = max(float(high - low), 1e-6)
    return (np.clip((image - low) / span, 0, 1) * 255).astype(np.uint8)


def _indexed(labels: NDArray[np.integer]) -> NDArray[np.uint16]:
    """Labels as indices into the sorted values, so that a palette is a small table."""
    values = np.unique(labels)
    return np.searchsorted(values, labels).astype(np.uint16) + (1 if values[0] != 0 else 0)


def _palette(labels: NDArray[np.integer], colors: Mapping[int, Color]) -> NDArray[np.float32]:
    values = [int(v) for v in np.unique(labels)]
    if values[0] != 0:
        values.insert(0, 0)
    return np.array([colors.get(v, (255, 64, 64)) for v in values], np.float32)


def _to_lps(
    array: NDArray[np.generic], spacing: Sequence[float], direction: Sequence[float] | None
) -> tuple[NDArray[np.generic], tuple[float, ...]]:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([float(s) for s in spacing[::-1]])
    if direction is not None:
        image.SetDirection([float(d) for d in direction])
    turned = sitk.DICOMOrient(image, "LPS")
    return sitk.GetArrayFromImage(turned), tuple(turned.GetSpacing()[::-1])


def _panel(
    grey: NDArray[np.generic],
    indices: NDArray[np.generic],
    pixel: tuple[float, float],
    palette: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """One slice in colour, `HEIGHT` pixels high, square pixels."""
    rows, columns = grey.shape
    width = max(1, round(HEIGHT * columns * pixel[1] / (rows * pixel[0])))
    at_row = (np.arange(HEIGHT) + 0.5) * rows / HEIGHT
    at_column = (np.arange(width) + 0.5) * columns / width
    shade = _bilinear(grey.astype(np.float32), at_row - 0.5, at_column - 0.5)
    label = indices[at_row.astype(int)[:, None], at_column.astype(int)[None]].astype(int)
    color = palette[label]
    alpha = np.where(label > 0, OPACITY, 0.0)
    alpha = np.where(_edges(label), 1.0, alpha)[..., None]
    mixed = shade[..., None] * (1 - alpha) + color * alpha
    return np.clip(np.round(mixed), 0, 255).astype(np.uint8)


def _bilinear(
    plane: NDArray[np.float32], at_row: NDArray[np.float64], at_column: NDArray[np.float64]
) -> NDArray[np.floating]:
    mixed: NDArray[np.floating] = plane
    for axis, at in ((0, at_row), (1, at_column)):
        last = mixed.shape[axis] - 1
        at = np.clip(at, 0, last)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, last)
        share = (at - low).reshape((-1, 1) if axis == 0 else (1, -1))
        mixed = np.take(mixed, low, axis) * (1 - share) + np.take(mixed, high, axis) * share
    return mixed


def _edges(label: NDArray[np.int_]) -> NDArray[np.bool_]:
    """Labelled pixels beside a pixel of another label."""
    edge = np.zeros(label.shape, bool)
    edge[1:] |= label[1:] != label[:-1]
    edge[:, 1:] |= label[:, 1:] != label[:, :-1]
    return edge & (label > 0)

"""Label maps from files, on the grid of the image they belong to."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..inference import images
from ..inference.images import Volume
from ..models.labels import MAX_LABELS, MAX_VALUE

SAME_GRID = 1e-3
"""Corners of two grids may be this far apart (mm) without a word."""

_SEGMENT = re.compile(r"(Segment\d+)_Name")

_USABLE = 0.05
"""Corners may be this share of a voxel apart: programs round the geometry they write."""


def read_label_map(path: Path, like: Volume) -> tuple[np.ndarray, float]:
    """Label values (z, y, x), uint16, and how far (mm) the corners are from those of `like`.

    Raises:
        InputError: see `read_values`; or not on the grid of `like`.
    """
    image = images._read_image(path)
    distance = grid_distance(like, image, path.name)
    return _values(image, path), distance


def read_values(path: Path) -> np.ndarray:
    """Label values (z, y, x), uint16.

    Raises:
        InputError: not readable, or not a label map (values that are not whole, negative, above
            65535, or too many different ones).
    """
    return _values(images._read_image(path), path)


def _values(image: sitk.Image, path: Path) -> np.ndarray:
    array = sitk.GetArrayFromImage(image)
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise _no_labels(path, "NaN or infinite values")
    if low < 0 or high > MAX_VALUE:
        bad = low if low < 0 else high
        raise _no_labels(path, f"the value {bad:g}; labels are 0 to {MAX_VALUE}")
    if array.dtype.kind == "f":
        odd = array != np.rint(array)
        if odd.any():
            raise _no_labels(path, f"values that are not whole numbers, such as {array[odd][0]:g}")
    labels = array.astype(np.uint16, copy=False)
    different = int(np.count_nonzero(np.bincount(labels.ravel())))
    if different > MAX_LABELS:
        raise _no_labels(path, f"{different} different values; {MAX_LABELS} labels are possible")
    return labels


def _no_labels(path: Path, what: str) -> InputError:
    return InputError(
        f"{path.name} is not a label map: it holds {what}.",
        "Check that the segmentation and not an image was chosen.",
    )


def grid_distance(volume: Volume, image: sitk.Image, name: str) -> float:
    """The largest distance (mm) between corners of two grids of the same size.

    Raises:
        InputError: another size, or corners more than a twentieth of a voxel apart.
    """
    hint = "Resample the segmentation to the grid of the image."
    size = image.GetSize()[::-1]
    if size != volume.shape:
        raise InputError(
            f"{name} has {_by(size)} voxels (z, y, x), but the image has {_by(volume.shape)}.",
            hint,
        )
    furthest = 0.0
    for index in itertools.product(*((0, n - 1) for n in image.GetSize())):
        there = np.asarray(image.TransformContinuousIndexToPhysicalPoint(index))
        apart = float(np.linalg.norm(volume.to_lps(index) - there))
        furthest = max(furthest, apart)
    if furthest > max(SAME_GRID, _USABLE * min(volume.spacing)):
        raise InputError(
            f"{name} lies on another grid than the image: corners are up to {furthest:.3g} mm "
            "apart.",
            hint,
        )
    return furthest


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape)


def segment_names(path: Path) -> dict[int, str]:
    """Value -> name of the labels in a file: as 3D Slicer wrote them, else "Label <value>".

    Raises:
        InputError: the file cannot be read or is no label map.
    """
    image = images._read_image(path)
    found: dict[int, str] = {}
    for key in image.GetMetaDataKeys():
        match = _SEGMENT.fullmatch(key)
        value = image.GetMetaData(match[1] + "_LabelValue") if match else ""
        if match and value.isdigit() and 0 < int(value) <= MAX_VALUE:
            found[int(value)] = image.GetMetaData(key).strip()[:200]
    if not found:
        values = np.unique(_values(image, path))
        found = {int(value): f"Label {int(value)}" for value in values if value != 0}
    return found

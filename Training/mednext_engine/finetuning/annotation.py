"""From a label file to training labels: classes, background, and unknown where nobody looked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..errors import InputError
from .case_file import Annotated, CaseFile

UNKNOWN = -1
"""In training labels: not annotated; ignored by the loss and by every figure."""


def known_voxels(labels: np.ndarray, annotated: Annotated) -> np.ndarray:
    """Where `labels` (z, y, x; values of the file) is annotated, bool (z, y, x).

    A box or slices that reach beyond the image are cut to it.

    Raises:
        InputError: slices are to be found, but no voxel is labelled.
    """
    if annotated.kind == "painted":
        return labels != 0
    known = np.ones(labels.shape, dtype=bool)
    if annotated.kind == "slices":
        axis, slices = annotated_slices(labels, annotated)
        unseen = np.ones(labels.shape[axis], dtype=bool)
        unseen[list(slices)] = False
        if annotated.beyond and len(slices) > 1:
            gap = int(np.diff(slices).max())
            unseen[: max(slices[0] - gap + 1, 0)] = False
            unseen[slices[-1] + gap :] = False
        np.moveaxis(known, axis, 0)[unseen] = False
    elif annotated.kind == "box" and annotated.box is not None:
        inside = tuple(slice(max(low, 0), max(high, 0)) for low, high in annotated.box)
        known[...] = False
        known[inside] = True
    return known


def annotated_slices(labels: np.ndarray, annotated: Annotated) -> tuple[int, tuple[int, ...]]:
    """Axis and indices of the annotated slices of `labels` (z, y, x), those in the image.

    Without an axis it is the one along which the fewest slices hold a label; where two are equal,
    the one with gaps between them. Without slices they are those that hold a label.

    Raises:
        InputError: they are to be found, but no voxel is labelled.
    """
    if annotated.axis is not None and annotated.slices is not None:
        n = labels.shape[annotated.axis]
        return annotated.axis, tuple(index for index in annotated.slices if index < n)
    found = [_labelled_slices(labels, axis) for axis in range(3)]
    if len(found[0]) == 0:
        raise InputError(
            "No slice holds a label, so the annotated slices cannot be found.",
            "Draw on a slice, or say which slices are annotated.",
        )
    axis = annotated.axis
    if axis is None:
        axis = min(range(3), key=lambda a: (len(found[a]), _contiguous(found[a]), a))
    return axis, tuple(int(index) for index in found[axis])


def _labelled_slices(labels: np.ndarray, axis: int) -> np.ndarray:
    others = tuple(other for other in range(3) if other != axis)
    return np.flatnonzero((labels != 0).any(axis=others))


def _contiguous(indices: np.ndarray) -> bool:
    return bool(indices[-1] - indices[0] + 1 == len(indices))


def training_labels(
    labels: np.ndarray, case: CaseFile, class_values: Mapping[str, int]
) -> np.ndarray:
    """Classes (z, y, x), int16, of a label map: 0 background, 1 to N, `UNKNOWN` elsewhere.

    Args:
        labels: values of the file, a non-negative integer type.
        class_values: name -> class (`Job.class_values`). Values of the file whose label is not
            among them are background where they are annotated: something else was drawn there.

    Raises:
        InputError: see `annotated_slices`.
    """
    drawn = labels if case.ignore is None else np.where(labels == case.ignore, 0, labels)
    known = known_voxels(drawn, case.annotated)
    if case.ignore is not None:
        known &= labels != case.ignore
    table = np.zeros(int(labels.max(initial=0)) + 1, dtype=np.int16)
    for name, value in case.values.items():
        if name in class_values and value < len(table):
            table[value] = class_values[name]
    result = table[labels]
    result[~known] = UNKNOWN
    return result

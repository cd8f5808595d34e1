"""Label maps on the plan's grid, without losing slices or voxels that were annotated sparsely.

nnU-Net interpolates each label linearly and takes it where it reaches a half (background where none
does). With a few annotated slices that loses most of them: the new voxels' centres lie elsewhere.
Here two questions are kept apart, each answered axis by axis, voxels being boxes:

- *Is the new voxel known?* Yes, if the centre of a known old voxel lies in it; where the new grid
  is finer, if the old voxel that its centre lies in is known. So every known old voxel is seen in
  exactly one new one or more, and nothing becomes known further than that.
- *Which label does it have?* The one with the largest share among the known old voxels it overlaps
  (linear weights where the new grid is finer). With equal shares a label wins over background, and
  the higher label over the lower, as in nnU-Net.

A label that would lose more than half its volume, because it is thinner than a new voxel, takes the
background voxels of its largest shares, as many as its volume needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .annotation import UNKNOWN
from .counting import bounding_boxes, class_counts
from .label_axes import LabelAxis, label_axis, owner_indices

if TYPE_CHECKING:
    from ..monitor import Monitor

_TIE = 1e-5
_SLAB = 2**24
"""Old voxels that are resampled at once."""

_FINE = 0.5
"""A label that keeps less of its volume than this is thinner than the new voxels."""


def resample_labels(
    labels: np.ndarray,
    new_shape: Sequence[int],
    nearest_axis: int | None = None,
    monitor: Monitor | None = None,
) -> np.ndarray:
    """`labels` on a grid of `new_shape` voxels over the same box; see the module.

    Args:
        labels: (z, y, x), int16; 0 background, 1 to N, `UNKNOWN`.
        nearest_axis: an axis along which the image is not interpolated but taken from the nearest
            slice, where the new grid is finer (nnU-Net's "separate z").

    Returns:
        int16, `new_shape`.
    """
    axes = [
        label_axis(n_in, int(n_out), axis == nearest_axis)
        for axis, (n_in, n_out) in enumerate(zip(labels.shape, new_shape, strict=True))
    ]
    if labels.shape == tuple(new_shape):
        return labels.copy()
    result = np.empty([len(axis.source) for axis in axes], dtype=np.int16)
    planes = len(axes[0].source)
    step = max(1, int(_SLAB * planes / max(labels.size, 1)))
    for start in range(0, planes, step):
        if monitor is not None:
            monitor.check()
        stop = min(start + step, planes)
        first, span = axes[0].part(start, stop)
        result[start:stop] = _resample(labels[span], [first, axes[1], axes[2]])
    _keep_fine_labels(labels, result, axes)
    return result


def surviving_share(labels: np.ndarray, resampled: np.ndarray) -> float:
    """The share of annotated voxels that lie in an annotated voxel of `resampled`; 0 of none."""
    known = labels != UNKNOWN
    total = int(np.count_nonzero(known))
    if total == 0:
        return 0.0
    after = resampled != UNKNOWN
    for axis, (n_in, n_out) in enumerate(zip(labels.shape, resampled.shape, strict=True)):
        after = after.take(owner_indices(n_in, n_out), axis)
    return int(np.count_nonzero(known & after)) / total


def volume_ratios(labels: np.ndarray, resampled: np.ndarray) -> dict[int, float]:
    """For each label present: its volume after resampling over that before, both as shares of what
    is annotated (1 = unchanged, 0 = gone)."""
    before = class_counts(labels)
    after = class_counts(resampled, len(before))
    scale = max(int(after.sum()), 1) / max(int(before.sum()), 1)
    return {
        value: float(after[value] / (before[value] * scale))
        for value in range(1, len(before))
        if before[value]
    }


# --- parts -----------------------------------------------------------------------------------


def _resample(labels: np.ndarray, axes: Sequence[LabelAxis]) -> np.ndarray:
    known = labels != UNKNOWN
    shape = [len(axis.source) for axis in axes]
    best, result = np.zeros(shape, np.float32), np.zeros(shape, np.int16)
    labelled = np.zeros(shape, np.float32)
    for value, box in bounding_boxes(labels).items():
        share, where = _share(labels, value, box, axes)
        labelled[where] += share
        wins = (share > 0) & (share >= best[where] - _TIE)
        best[where][wins] = share[wins]
        result[where][wins] = value
    complete = bool(known.all())
    background = (1.0 if complete else _weigh(known, axes)) - labelled
    result[best < background - _TIE] = 0
    if not complete:
        for index, axis in enumerate(axes):
            known = axis.known(known, index)
        result[~known] = UNKNOWN
    return result


def _share(
    labels: np.ndarray, value: int, box: Sequence[slice], axes: Sequence[LabelAxis]
) -> tuple[np.ndarray, tuple[slice, ...]]:
    """The share of one label in the new voxels around its box, and where these are."""
    parts, spans, where = [], [], []
    for axis, side in zip(axes, box, strict=True):
        start, stop = axis.touched(side)
        part, span = axis.part(start, stop)
        parts.append(part)
        spans.append(span)
        where.append(slice(start, stop))
    return _weigh(labels[tuple(spans)] == value, parts), tuple(where)


def _weigh(mask: np.ndarray, axes: Sequence[LabelAxis]) -> np.ndarray:
    """The weighted share of `mask` in each new voxel, float32; what shrinks most goes first."""
    for index in sorted(range(3), key=lambda i: len(axes[i].source) / len(axes[i].owner)):
        mask = axes[index].weigh(mask, index)
    return mask


def _keep_fine_labels(labels: np.ndarray, result: np.ndarray, axes: Sequence[LabelAxis]) -> None:
    """Gives labels that are thinner than the new voxels the background where they are densest."""
    fine = [value for value, ratio in volume_ratios(labels, result).items() if ratio < _FINE]
    if not fine:
        return
    boxes, before = bounding_boxes(labels), class_counts(labels)
    scale = class_counts(result).sum() / before.sum()
    for value in fine:
        share, where = _share(labels, value, boxes[value], axes)
        share[result[where] != 0] = 0.0
        have = int(np.count_nonzero(result == value))
        wanted = max(1, round(before[value] * scale)) - have
        highest = np.sort(share, axis=None)[::-1]
        enough = max(float(highest[min(wanted, len(highest)) - 1]), _TIE)
        result[where][share >= enough - _TIE / 2] = value

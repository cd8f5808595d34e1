"""Which windows judge a segmentation network, and the Dice over them.

Always the same windows, so that two epochs can be compared and no running average (nnU-Net's
pseudo-Dice needs one, as its windows are drawn anew each time) is needed. Voxels are counted over
all windows of all cases before the Dice is taken: with few cases, or with structures that a window
only touches, a mean of Dice values of windows would be noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..inference.windows import window_positions
from .cases import UNKNOWN, TrainingCase
from .sampling import Corner, cut


@dataclass(frozen=True)
class Window:
    """A patch of validation case number `case`, from voxel `corner` (z, y, x) on."""

    case: int
    corner: Corner


def choose_windows(
    cases: Sequence[TrainingCase], patch: Sequence[int], most: int
) -> tuple[Window, ...]:
    """Windows that cover the annotated part of all cases side by side, at most `most`.

    Where there are more, each case gets an equal share: first, for each class, the window with most
    of it, then others spread evenly. (Windows of one case overlap only as far as its size demands.)
    """
    share = max(1, most // max(len(cases), 1))
    chosen: list[Window] = []
    for number, case in enumerate(cases):
        chosen += [Window(number, corner) for corner in _of_case(case, patch, share)]
    return tuple(chosen[:most])


def _of_case(case: TrainingCase, patch: Sequence[int], most: int) -> list[Corner]:
    labels, where = case.open()[1], case.locations
    if not len(where.annotated):
        return []
    # The box of what is annotated, widened to a patch and moved inside the volume.
    low, size = [], []
    for axis in range(3):
        length = max(where.high[axis] - where.low[axis], patch[axis])
        start = where.low[axis] - (length - (where.high[axis] - where.low[axis])) // 2
        start = max(0, min(start, labels.shape[axis] - length))
        if labels.shape[axis] < length:
            start = (labels.shape[axis] - length) // 2
        low.append(start)
        size.append(length)
    corners = [
        (low[0] + z, low[1] + y, low[2] + x) for z, y, x in window_positions(size, patch, 1.0)
    ]
    patches = [cut(labels, corner, patch, UNKNOWN) for corner in corners]
    known = [i for i, p in enumerate(patches) if (p != UNKNOWN).any()]
    if len(known) <= most:
        return [corners[i] for i in known]
    classes = sorted(where.classes)
    counts = {i: [int((patches[i] == c).sum()) for c in classes] for i in known}
    first = [max(known, key=lambda i, k=k: counts[i][k]) for k in range(len(classes))]  # type: ignore[misc]
    kept = list(dict.fromkeys(first))[:most]
    others = [i for i in known if i not in kept]
    room = most - len(kept)
    kept += [others[round(j * (len(others) - 1) / max(room - 1, 1))] for j in range(room)]
    return [corners[i] for i in sorted(set(kept))]


class Counts:
    """Voxels of each class: predicted and true at once, predicted, true. Unknown ones count not."""

    def __init__(self, classes: int) -> None:
        self.table = np.zeros((3, classes))

    def add(self, predicted: Tensor, truth: Tensor) -> None:
        """Masks (classes, voxels) bool of known voxels."""
        both = (predicted & truth).sum(1), predicted.sum(1), truth.sum(1)
        self.table += torch.stack(both).double().cpu().numpy()

    def dice(self) -> list[float | None]:
        """2 |A and B| / (|A| + |B|) of each class; None where the cases do not have the class."""
        both, predicted, truth = self.table
        return [
            float(2 * b / (p + t)) if t > 0 else None
            for b, p, t in zip(both, predicted, truth, strict=True)
        ]

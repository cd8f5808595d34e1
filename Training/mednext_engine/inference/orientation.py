"""The axes a model was trained in: those of the file, or turned towards sides of the patient.

Models that know left from right without mirroring rely on one orientation, such as RAS: x, y and z
grow towards the patient's right, anterior and superior (`Model.orientation`). Axes are swapped and
flipped as views; no voxel is interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

_SIDES = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}

Value = TypeVar("Value")


@dataclass(frozen=True)
class Reorientation:
    """From the image's array axes (z, y, x) to plan axes.

    Attributes:
        axes: for each plan axis, the image's array axis it comes from.
        flipped: for each plan axis, whether it runs the other way.
    """

    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool] = (False, False, False)

    def view(self, array: np.ndarray) -> np.ndarray:
        """`array` (..., z, y, x) in plan axes, without a copy."""
        lead = array.ndim - 3
        turned = array.transpose([*range(lead), *(lead + axis for axis in self.axes)])
        index = (..., *(slice(None, None, -1 if flip else 1) for flip in self.flipped))
        return turned[index]

    def permute(self, values: Sequence[Value]) -> tuple[Value, Value, Value]:
        """Values of the image's array axes (z, y, x), in the order of the plan's."""
        first, second, third = (values[axis] for axis in self.axes)
        return first, second, third

    def permute_box(self, box: Sequence[slice], shape: Sequence[int]) -> tuple[slice, slice, slice]:
        """A box of the image's array (z, y, x) in plan axes, where the image has `shape`."""
        turned = [
            slice(n - part.stop, n - part.start) if flip else slice(part.start, part.stop)
            for part, n, flip in zip(self.permute(box), shape, self.flipped, strict=True)
        ]
        return turned[0], turned[1], turned[2]

    def shape_back(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """The image's array shape, from `shape` in plan axes."""
        z, y, x = (int(shape[self.axes.index(axis)]) for axis in range(3))
        return z, y, x


def reorientation(
    direction: Sequence[float], towards: str, transpose_forward: Sequence[int]
) -> Reorientation:
    """What a model that was trained on images of one orientation wants.

    Args:
        direction: SimpleITK's direction cosines (3 x 3, row by row, LPS; columns are x, y, z).
        towards: the sides of the patient towards which x, y and z grow, such as "RAS"; empty: the
            image's own axes are kept.
        transpose_forward: the plan's, applied to the array axes (z, y, x) afterwards.
    """
    axes, flipped = [0, 1, 2], [False] * 3
    if towards:
        axes, flipped = _turned(np.asarray(direction, dtype=float).reshape(3, 3), towards)
    order = [int(axis) for axis in transpose_forward]
    first, second, third = (axes[axis] for axis in order)
    flip_first, flip_second, flip_third = (flipped[axis] for axis in order)
    return Reorientation((first, second, third), (flip_first, flip_second, flip_third))


def _turned(direction: np.ndarray, towards: str) -> tuple[list[int], list[bool]]:
    """For z, y, x of `towards`: the nearest array axis of the image, and whether it is flipped."""
    wanted = np.zeros((3, 3))  # rows: x, y, z as wanted; columns: L, P, S
    for row, letter in enumerate(towards):
        axis, sign = _SIDES[letter]
        wanted[row, axis] = sign
    along = wanted @ direction  # columns: x, y, z of the image
    strength = np.abs(along)
    axes, flipped = [0, 0, 0], [False, False, False]
    for _ in range(3):
        row, column = (int(i) for i in np.unravel_index(np.argmax(strength), (3, 3)))
        axes[2 - row] = 2 - column
        flipped[2 - row] = bool(along[row, column] < 0)
        strength[row, :] = strength[:, column] = -1.0
    return axes, flipped

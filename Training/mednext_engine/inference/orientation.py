"""The axes a model was trained in: nnU-Net's readers either keep the file's or turn to RAS.

`SimpleITKIO` and `NibabelIO` both give the file's own axes as (z, y, x). `NibabelIOWithReorient`
and `SimpleITKIOWithReorient` first turn and flip axes so that x, y and z grow towards the patient's
right, anterior and superior, which models that know left from right rely on. No voxel is
interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ..errors import UnsupportedModelError

KEEPING_READERS = ("SimpleITKIO", "NibabelIO", "Tiff3DIO", "NaturalImage2DIO")
TURNING_READERS = ("NibabelIOWithReorient", "SimpleITKIOWithReorient")

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
    direction: Sequence[float], reader: str, transpose_forward: Sequence[int]
) -> Reorientation:
    """What a model read by `reader` and planned with `transpose_forward` wants.

    Args:
        direction: SimpleITK's direction cosines (3 x 3, row by row, LPS; columns are x, y, z).

    Raises:
        UnsupportedModelError: a reader of another name.
    """
    if reader in KEEPING_READERS:
        axes, flipped = [0, 1, 2], [False] * 3
    elif reader in TURNING_READERS:
        axes, flipped = _towards_ras(np.asarray(direction, dtype=float).reshape(3, 3))
    else:
        raise UnsupportedModelError(
            f'The model reads images with "{reader}", which this engine does not know.',
            "Models planned with nnU-Net's own readers work.",
        )
    order = [int(axis) for axis in transpose_forward]
    first, second, third = (axes[axis] for axis in order)
    flip_first, flip_second, flip_third = (flipped[axis] for axis in order)
    return Reorientation((first, second, third), (flip_first, flip_second, flip_third))


def _towards_ras(direction: np.ndarray) -> tuple[list[int], list[bool]]:
    """For S, A and R in turn: the array axis nearest to it, and whether it runs the other way."""
    towards = np.diag([-1.0, -1.0, 1.0]) @ direction  # rows R, A, S; columns x, y, z
    strength = np.abs(towards)
    axes, flipped = [0, 0, 0], [False, False, False]
    for _ in range(3):
        world, column = np.unravel_index(np.argmax(strength), (3, 3))
        axes[2 - world] = int(2 - column)
        flipped[2 - world] = bool(towards[world, column] < 0)
        strength[world, :] = strength[:, column] = -1.0
    return axes, flipped

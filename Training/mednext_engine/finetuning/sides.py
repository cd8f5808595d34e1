"""Left and right in label names, and which axis of the plan they lie along."""

from __future__ import annotations

from collections.abc import Sequence


def paired_labels(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """(left, right) pairs among `names`: "Left kidney" and "Right kidney", "x_L" and "x_R"."""
    raise NotImplementedError


def sided_labels(names: Sequence[str]) -> tuple[str, ...]:
    """The names that say a side, with or without their twin: a mirrored image would be wrong."""
    raise NotImplementedError


def left_right_axis(
    direction: Sequence[float], orientation: str, transpose_forward: Sequence[int]
) -> int:
    """The plan axis (0, 1, 2) that lies closest to the patient's left-right.

    Args:
        direction: the image's SimpleITK direction cosines (3 x 3, row by row, LPS).
        orientation: what images are turned to first (`Model.orientation`), or "".
        transpose_forward: the plan's.
    """
    raise NotImplementedError

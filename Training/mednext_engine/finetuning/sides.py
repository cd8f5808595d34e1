"""Left and right in label names, and which axis of the plan they lie along."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..inference.orientation import reorientation

LEFT, RIGHT = "left", "right"
_WORDS = {
    **dict.fromkeys(("left", "l", "lh", "lt", "sin", "sinister", "sinistra", "sinistrum"), LEFT),
    **dict.fromkeys(("right", "r", "rh", "rt", "dex", "dexter", "dextra", "dextrum"), RIGHT),
}
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SEPARATORS = re.compile(r"[^\w]+|_+")


def words_of(name: str) -> tuple[str, ...]:
    """The words of a label's name in order, lower case, sides as "left" and "right".

    "Hippocampus_L", "lh-hippocampus" and "LeftHippocampus" hold the same words.
    """
    parts = _SEPARATORS.split(_CAMEL.sub(" ", name.strip()))
    return tuple(_WORDS.get(part.casefold(), part.casefold()) for part in parts if part)


def paired_labels(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """(left, right) pairs among `names`, such as ("Left kidney", "Right kidney")."""
    lefts = {_without_side(name): name for name in names if LEFT in words_of(name)}
    rights = {_without_side(name): name for name in names if RIGHT in words_of(name)}
    return tuple((left, rights[key]) for key, left in lefts.items() if key in rights)


def sided_labels(names: Sequence[str]) -> tuple[str, ...]:
    """The names that say a side, with or without their twin: in a mirrored image, left is right."""
    return tuple(name for name in names if {LEFT, RIGHT} & set(words_of(name)))


def _without_side(name: str) -> tuple[str, ...]:
    return tuple(sorted(word for word in words_of(name) if word not in (LEFT, RIGHT)))


def left_right_axis(
    direction: Sequence[float], orientation: str, transpose_forward: Sequence[int]
) -> int:
    """The plan axis (0, 1, 2) that lies closest to the patient's left-right.

    Args:
        direction: the image's SimpleITK direction cosines (3 x 3, row by row, LPS).
        orientation: what images are turned to first (`Model.orientation`), or "".
        transpose_forward: the plan's.
    """
    towards_left = [abs(float(direction[column])) for column in (2, 1, 0)]  # array axes z, y, x
    turned = reorientation(direction, orientation, transpose_forward).permute(towards_left)
    return turned.index(max(turned))

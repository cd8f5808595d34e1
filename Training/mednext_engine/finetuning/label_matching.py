"""Labels of a job against the classes of its base model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import InputError
from .job import BY_NAME, JobLabel
from .sides import words_of

if TYPE_CHECKING:
    from ..models.labels import Labels


@dataclass(frozen=True)
class LabelState:
    """One line of the label table: "matched" (with its class in the base), "new" or "dropped"."""

    name: str
    state: str
    base: str | None = None


@dataclass(frozen=True)
class LabelPlan:
    """What the new head is made of.

    Attributes:
        names: of classes 1 to N.
        base_rows: for background and classes 1 to N, the row of the base's head it starts from, or
            None for a new row.
        dropped: classes of the base that no label of the job starts from.
        states: every label of the job, then what is dropped.
    """

    names: tuple[str, ...]
    base_rows: tuple[int | None, ...]
    dropped: tuple[str, ...]
    states: tuple[LabelState, ...]

    @property
    def num_classes(self) -> int:
        """Background included."""
        return len(self.names) + 1


def match_labels(labels: Sequence[JobLabel], base: Labels | None) -> LabelPlan:
    """Finds for each label the base's class it starts from.

    By name: upper and lower case, separators, the order of words and the way of saying left and
    right do not count; each class is given to one label only. Labels that name their class may
    share one (to divide a structure). The base's classes may overlap (regions): its head, which
    decides each class by itself, is then of no use to one that chooses among classes, and every
    label is new.

    Raises:
        InputError: a label names a class that the base does not have.
    """
    rows = _rows(base)
    background = 0 if base is not None and not base.has_regions else None
    taken: dict[str, int] = {}  # label -> row
    drawn = [label for label in labels if not label.background]
    for label in drawn:
        if label.base:
            taken[label.name] = _named_row(label, rows)
    for label in drawn:
        if label.base == BY_NAME:
            row = _find_row(label.name, rows, set(taken.values()))
            if row is not None:
                taken[label.name] = row
    names = {row: name for name, row in rows.items()}
    used = set(taken.values())
    dropped = [name for name, row in rows.items() if row not in used]
    if base is not None and base.has_regions:
        dropped = list(base.names)
    states = [_state(label, taken, names) for label in drawn]
    return LabelPlan(
        names=tuple(label.name for label in drawn),
        base_rows=(background, *(taken.get(label.name) for label in drawn)),
        dropped=tuple(dropped),
        states=(*states, *(LabelState(name, "dropped", name) for name in dropped)),
    )


def _rows(base: Labels | None) -> dict[str, int]:
    """Class of the base -> row of its head, without background."""
    if base is None or base.has_regions:
        return {}
    return {name: row for row, name in enumerate(base.names) if row > 0}


def _named_row(label: JobLabel, rows: dict[str, int]) -> int:
    if label.base not in rows:
        known = ", ".join(list(rows)[:10]) or "none that can be kept"
        raise InputError(
            f"'{label.name}' is to start from '{label.base}', which the base model does not have.",
            f"Its classes are: {known}.",
        )
    return rows[label.base]


def _find_row(name: str, rows: dict[str, int], used: set[int]) -> int | None:
    words = words_of(name)
    for key in (lambda n: words_of(n) == words, lambda n: sorted(words_of(n)) == sorted(words)):
        for other, row in rows.items():
            if row not in used and key(other):
                return row
    return None


def _state(label: JobLabel, taken: dict[str, int], names: dict[int, str]) -> LabelState:
    row = taken.get(label.name)
    if row is None:
        return LabelState(label.name, "new")
    return LabelState(label.name, "matched", names[row])

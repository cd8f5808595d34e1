"""Labels of a job against the classes of its base model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .job import JobLabel

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

    Raises:
        InputError: a label names a class that the base does not have.
    """
    raise NotImplementedError

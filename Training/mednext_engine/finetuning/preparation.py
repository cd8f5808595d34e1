"""Cases as the training loop reads them: arrays on disk in the plan's grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .job import Job
from .label_matching import LabelPlan
from .splitting import Split

if TYPE_CHECKING:
    from ..models.plan import Plan
    from ..monitor import Monitor
    from ..training.cases import TrainingCase


@dataclass(frozen=True)
class Prepared:
    """What training runs on.

    Attributes:
        train, validation: arrays on disk; a divided case stands in both, with other labels.
        surviving: case id -> share of its annotated voxels that are annotated in the plan's grid.
        sources: case id -> digest of its image's voxels.
    """

    train: tuple[TrainingCase, ...]
    validation: tuple[TrainingCase, ...]
    surviving: dict[str, float]
    sources: dict[str, str] = field(default_factory=dict)


def prepare_cases(
    job: Job,
    plan: Plan,
    label_plan: LabelPlan,
    split: Split,
    folder: Path,
    monitor: Monitor,
    orientation: str = "",
) -> Prepared:
    """Writes the arrays of every case into `folder` (run/prepared), with an index beside them.

    Raises:
        InputError: a case cannot be read (any more) or does not fit the plan.
        OutputError: no space or no permission.
        Cancelled: nothing half-written stays.
    """
    raise NotImplementedError


def open_prepared(folder: Path) -> Prepared | None:
    """What an earlier run wrote, for resuming; None where it is missing, damaged or unfinished.

    The original images and label files are not needed for it.
    """
    raise NotImplementedError


def prepared_bytes(job: Job, plan: Plan, orientation: str = "") -> int:
    """Disk space that `prepare_cases` takes, from the images' headers."""
    raise NotImplementedError

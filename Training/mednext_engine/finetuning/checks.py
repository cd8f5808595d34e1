"""Everything that can be wrong with a job, said before any training starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .facts import Inspection
from .job import Job
from .label_matching import LabelPlan, LabelState
from .problems import Problem
from .splitting import Split

if TYPE_CHECKING:
    from ..models.folder import Model
    from ..models.plan import Plan
    from ..monitor import Monitor


@dataclass(frozen=True)
class Estimate:
    """What the run will need; `None` where it is not known. Bytes and seconds.

    `memory_free` is of the device, `disk_free` where the job folder lies.
    """

    memory_bytes: int | None = None
    memory_free: int | None = None
    disk_bytes: int | None = None
    disk_free: int | None = None
    seconds: float | None = None
    device: str = ""


@dataclass(frozen=True)
class CheckReport:
    """Attributes:
    problems: errors first, then warnings, then infos.
    labels: the label table.
    validation: the sentence that says on what the figures are measured.
    surviving: case id -> share of annotated voxels that are annotated in the plan's grid.
    label_plan, split: None where errors left none.
    mirror_axes: plan axes that may be mirrored, as the labels' sides allow.
    """

    problems: tuple[Problem, ...]
    labels: tuple[LabelState, ...] = ()
    validation: str = ""
    surviving: dict[str, float] = field(default_factory=dict)
    label_plan: LabelPlan | None = None
    split: Split | None = None
    mirror_axes: tuple[int, ...] = (0, 1, 2)

    @property
    def can_start(self) -> bool:
        return not any(problem.level == "error" for problem in self.problems)


def check_job(
    job: Job,
    plan: Plan,
    *,
    base: Model | None = None,
    orientation: str = "",
    estimate: Estimate | None = None,
    inspection: Inspection | None = None,
    monitor: Monitor | None = None,
) -> CheckReport:
    """Checks a job without computing anything large.

    Args:
        job: what `read_job` gave.
        plan: the one the run will use.
        base: the base model, opened; None from scratch.
        orientation: what images are turned to (`Model.orientation`).
        estimate: of memory, disk and time on the chosen device; None: not checked.
        inspection: from `inspect_cases`, where the caller has it already.
    """
    raise NotImplementedError

"""Everything that can be wrong with a job, said before any training starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import InputError
from .case_checks import check_case, check_labels
from .facts import CaseFacts, Inspection, inspect_cases
from .job import Job
from .label_matching import LabelPlan, LabelState, match_labels
from .plan_checks import check_grid, check_intensity, check_resampling, check_sides
from .problems import LEVELS, Problem, counted, error, info, warning
from .split_checks import check_split, read_previous
from .splitting import Split, split_cases

if TYPE_CHECKING:
    from ..models.folder import Model
    from ..models.plan import Plan
    from ..monitor import Monitor

_LONG = 24 * 3600.0


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
    inspection = inspection or inspect_cases(job, monitor)
    facts = inspection.facts
    problems = [*inspection.problems, *check_labels(job, facts)]
    label_plan = _matched(job, base, problems)
    split = _split(job, inspection, problems)
    surviving = _check_cases(job, facts, plan, orientation, problems, monitor)
    sides, axes = check_sides(job, facts, plan, orientation)
    problems += sides
    if estimate is not None:
        problems += check_estimate(estimate)
    problems.sort(key=lambda problem: LEVELS.index(problem.level))
    return CheckReport(
        problems=tuple(problems),
        labels=label_plan.states if label_plan else (),
        validation=split.sentence if split else "",
        surviving=surviving,
        label_plan=label_plan,
        split=split,
        mirror_axes=axes,
    )


def _matched(job: Job, base: Model | None, problems: list[Problem]) -> LabelPlan | None:
    labels = base.labels if base is not None else None
    if labels is not None and labels.has_regions:
        problems.append(
            info(
                "",
                "The base model's classes are regions that overlap, so its last layer is not kept: "
                "every label starts anew. The rest of the network is.",
            )
        )
    if base is not None and len(base.channel_names) != len(job.channels):
        problems.append(
            info(
                "",
                f"The base model has {counted(len(base.channel_names), 'channel')} and the job "
                f"{len(job.channels)}: the network's first layer is adapted.",
            )
        )
    try:
        return match_labels(job.labels, labels)
    except InputError as failure:
        problems.append(error("", failure.message, failure.hint))
        return None


def _split(job: Job, inspection: Inspection, problems: list[Problem]) -> Split | None:
    """The split of the cases that could be read; what is wrong with it goes to `problems`."""
    if inspection.problems:  # the split is found when every case can be read
        return None
    previous = read_previous(job)
    try:
        split = split_cases(
            inspection.facts, previous.validated - previous.trained, previous.trained
        )
    except InputError as failure:
        problems.append(error("", failure.message, failure.hint))
        return None
    problems += check_split(job, inspection.facts, split, previous)
    return split


def _check_cases(
    job: Job,
    facts: Sequence[CaseFacts],
    plan: Plan,
    orientation: str,
    problems: list[Problem],
    monitor: Monitor | None,
) -> dict[str, float]:
    """Checks each case that could be read; its surviving share."""
    surviving = {}
    files = {case.id: case for case in job.cases}
    for index, found in enumerate(facts):
        case = files[found.id]
        if monitor is not None:
            monitor.advance(index / len(facts), f"Checking {case.id}.")
        problems += check_case(case, found, job)
        problems += check_grid(found, plan, orientation)
        problems += check_intensity(found, plan)
        if found.counts.sum() == 0:
            continue
        try:
            more, surviving[case.id] = check_resampling(
                case, found, job, plan, orientation, monitor
            )
        except InputError as failure:
            more = [error(case.id, failure.message, failure.hint)]
        problems += more
    return surviving


def check_estimate(estimate: Estimate) -> list[Problem]:
    """Memory, disk and time that the run needs against what there is."""
    problems = []
    where = f" on {estimate.device}" if estimate.device else ""
    needed, free = estimate.memory_bytes, estimate.memory_free
    if needed is not None and free is not None and needed > free:
        problems.append(
            error(
                "",
                f"Training needs about {_size(needed)} of memory{where}, but {_size(free)} are "
                "free.",
                "Close other programs, or choose a smaller patch or gradient checkpointing under "
                "Advanced.",
            )
        )
    needed, free = estimate.disk_bytes, estimate.disk_free
    if needed is not None and free is not None and needed > free:
        problems.append(
            error(
                "",
                f"Training needs about {_size(needed)} of disk space, but {_size(free)} are free.",
                "Free some space, or choose another folder.",
            )
        )
    if estimate.seconds is not None:
        say = warning if estimate.seconds > _LONG else info
        hint = "Choose a shorter preset or a faster device." if say is warning else ""
        problems.append(say("", f"Training takes about {_time(estimate.seconds)}{where}.", hint))
    return problems


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{count / 2**20:.0f} MB"


def _time(seconds: float) -> str:
    if seconds < 5400:
        return counted(max(1, round(seconds / 60)), "minute")
    hours = seconds / 3600
    return f"{hours:.0f} hours" if hours < 48 else f"{hours / 24:.0f} days"

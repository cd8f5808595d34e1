"""What requests about fine-tuning are answered with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import EngineError, InputError
from ..monitor import Monitor
from . import protocol as p
from .lanes import Task

if TYPE_CHECKING:
    from ..finetuning.job import Job
    from ..finetuning.preview import PreviewReport
    from ..training.control import EpochReport

Tell = Callable[[p.Reply], None]
Hide = Callable[[str], None]


def finetune(request: p.Finetune, task: Task, tell: Tell, hide: Hide) -> dict[str, Any]:
    """Trains, telling of epochs and previews; `hide` keeps names of patients out of the log."""
    from ..finetuning.run import News, finetune
    from ..models.store import describe

    def on_epoch(report: EpochReport) -> None:
        tell(epoch_message(request.job, report))

    def on_resumed(reports: Sequence[EpochReport]) -> None:
        for report in reports:
            on_epoch(report)

    def on_preview(report: PreviewReport) -> None:
        path, dice = str(report.path), _plain(report.dice)
        tell(p.Preview(request.job, report.case, path, report.epoch, dice))

    news = News(on_epoch, on_resumed, on_preview, lambda job: hide_job(job, hide))
    folder = _folder(request.job_folder)
    made = finetune(folder, task.monitor, resume=request.resume, stop=task.stop, news=news)
    if made is None:
        raise InputError("This process is not the first of several, so it has no result.")
    value: p.FinetuneValue = {
        "model": describe(made.model),  # type: ignore[typeddict-item]
        "before_after": made.before_after,  # type: ignore[typeddict-item]
        "held_out": made.held_out,
        "reason": made.reason,
        "notes": made.notes,
        "seconds": round(made.seconds, 1),
    }
    return dict(value)


def check(request: p.CheckFinetune, monitor: Monitor, hide: Hide) -> dict[str, Any]:
    """Looks at a job; what stands in the way of looking is a finding too."""
    from ..finetuning.job import read_job
    from ..finetuning.survey import problem_of, survey

    job = read_job(_folder(request.job_folder))
    hide_job(job, hide)
    try:
        found = survey(job, monitor)
    except EngineError as error:
        if error.code == "cancelled":
            raise
        problem = problem_of(error)
        return dict(_value([vars(problem)], [], "", None, False))
    report, estimate = found.report, found.estimate
    sizes: p.EstimateInfo = {
        "seconds": _finite(estimate.seconds),
        "memory_bytes": int(estimate.memory_bytes or 0),
        "disk_bytes": int(estimate.disk_bytes or 0),
        "device": estimate.device,
        "patch": list(found.recipe.patch_size),
        "batch": found.recipe.batch_size,
        "steps": found.recipe.steps,
    }
    problems = [vars(problem) for problem in report.problems]
    labels = [{"name": s.name, "state": s.state, "base": s.base} for s in report.labels]
    return dict(_value(problems, labels, report.validation, sizes, report.can_start))


def runs(request: p.Runs, monitor: Monitor) -> dict[str, Any]:
    from ..finetuning.runs import list_runs

    return {**list_runs(), "networks": _networks()}


@cache
def _networks() -> list[p.NetworkInfo]:
    from ..networks.registry import CONFIGURATIONS

    return [
        {"id": key, "title": one.title, "parameters": one.parameters}
        for key, one in CONFIGURATIONS.items()
    ]


def remove_run(request: p.RemoveRun, monitor: Monitor) -> dict[str, Any]:
    from ..finetuning.runs import remove_run

    return {"removed": remove_run(_folder(request.folder))}


def epoch_message(job: str, report: EpochReport) -> p.Epoch:
    """What an epoch gave, as a message: no number in it is infinite or none."""
    return p.Epoch(
        job,
        epoch=report.epoch,
        epochs=report.epochs,
        step=report.step,
        train_loss=_finite(report.train_loss),
        validation_loss=_finite(report.validation_loss),
        dice=_plain(report.dice),
        learning_rate=float(report.learning_rate),
        seconds_left=_finite(report.seconds_left),
        memory_bytes=int(report.memory_bytes),
        best=bool(report.best),
    )


def hide_job(job: Job, hide: Hide) -> None:
    """Hides paths of a job and whatever its cases remember of where they come from."""
    hide(str(job.folder))
    for case in job.cases:
        for path in (*case.images, case.labels):
            hide(str(path))
        for text in _texts(case.source):
            hide(text)


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [text for one in value.values() for text in _texts(one)]
    if isinstance(value, (list, tuple)):
        return [text for one in value for text in _texts(one)]
    return [value] if isinstance(value, str) else []


def _folder(said: str) -> Path:
    folder = Path(said)
    if not said or not folder.is_absolute():
        raise InputError(f"The path {said or '(none)'} is not absolute.")
    return folder


def _value(
    problems: list[Any],
    labels: list[Any],
    validation: str,
    estimate: p.EstimateInfo | None,
    can_start: bool,
) -> p.CheckValue:
    return {
        "problems": problems,
        "labels": labels,
        "validation": validation,
        "estimate": estimate,
        "can_start": can_start,
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _plain(scores: Mapping[str, float]) -> dict[str, float]:
    return {name: round(float(v), 5) for name, v in scores.items() if math.isfinite(v)}

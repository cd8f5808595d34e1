"""A fine-tuning from its job folder to its model folder, in reading order.

look -> prepare -> measure the base -> train -> measure again -> write the model.

Everything on the way lies in the job's `run/`: decisions and state (`run.json`), prepared arrays,
checkpoints, previews. Whatever ends a run, what it had stays there, and `resume` goes on with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..monitor import Monitor
from .guard import disk_said, remove_half_written, said_in_state
from .job import Job, read_job
from .measure import Measured, Segmented, digests_of, measure
from .parts import part_of
from .preparation import Prepared, prepare_cases
from .preview import Previewer, PreviewReport
from .report import overlay_picture
from .result import Made, before_after, held_out_sentence, write_plain_model, write_result
from .runs import locked, read_state, write_state
from .start import Start, before_json, can_take_up, start_anew, take_up
from .survey import require_training

if TYPE_CHECKING:
    from ..inference.options import Options
    from ..models.folder import Model
    from ..training.control import EpochReport

MOST_PICTURES = 3
_LOOK, _PREPARE, _BEFORE, _TRAIN, _AFTER = 0.02, 0.04, 0.06, 0.95, 0.99
"""Fractions of the whole at which each part ends."""


def _ignore(_: Any) -> None:
    return None


@dataclass
class News:
    """What a run tells while it runs, beside its monitor's progress; `on_resumed` gets the epochs
    that a resumed run had before."""

    on_epoch: Callable[[EpochReport], None] = _ignore
    on_resumed: Callable[[Sequence[EpochReport]], None] = _ignore
    on_preview: Callable[[PreviewReport], None] = _ignore
    on_read: Callable[[Job], None] = _ignore


@dataclass(frozen=True)
class Finished:
    """What a run has made.

    Attributes:
        before_after: a row a label: name, Dice of the base model, of the new one, or None.
        held_out: the sentence on what was measured.
        reason: why the training ended: "finished", "plateau" or "stopped".
        seconds: of training.
    """

    model: Model
    before_after: list[dict[str, Any]]
    held_out: str
    reason: str
    notes: list[str]
    seconds: float


def finetune(
    job_folder: Path,
    monitor: Monitor | None = None,
    *,
    resume: bool = False,
    stop: Event | None = None,
    news: News | None = None,
    out: Path | None = None,
) -> Finished | None:
    """Trains the model of a job folder.

    Started by `torchrun`, its processes share every step; the first does everything else.

    Args:
        resume: goes on with what an unfinished run left; without it that is thrown away.
        stop: when set, the training ends and its best weights are the result.
        out: the model's folder; by default one of its own in the models directory.

    Returns:
        What was made; None in every process but the first.

    Raises:
        InputError: the job has errors (the first is named), is being trained already, or cannot be
            resumed.
        ModelError, UnsupportedModelError: of the base model.
        ResourceError, OutputError, DependencyError, TrainingError: the cause in a sentence; what
            was trained stays.
        Cancelled: likewise.
    """
    require_training()
    monitor, job = monitor or Monitor(), read_job(Path(job_folder))
    news = news or News()
    news.on_read(job)
    run = _Run(job, monitor, stop or Event(), news, out)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return _together(run, resume)
    with locked(job.folder), said_in_state(job.folder):
        start, prepared = run.prepare(resume)
        return run.finish(start, run.train(start, prepared))


def _together(run: _Run, resume: bool) -> Finished | None:
    """The same run on all processes of `torchrun`; the job folder is one that all can read."""
    from ..training.distributed import joined
    from ..training.recipe import Phase, Recipe

    job = run.job
    joining = Recipe((1, 1, 1), (Phase("Joining", 1, 0, 1.0),), device=job.options.device)
    with joined(joining) as group:
        if group.first:
            with locked(job.folder), said_in_state(job.folder):
                start, prepared = run.prepare(resume)
                group.wait()
                return run.finish(start, run.train(start, prepared))
        group.wait()
        start = take_up(job, read_state(job.folder), run.monitor)
        if start.prepared is None:
            raise InputError("This process cannot read what the first has prepared.")
        run.train(replace(start, begun=start.begun and resume), start.prepared)
        return None


@dataclass
class _Run:
    """One run in one process: `prepare`, `train` and `finish` follow one another."""

    job: Job
    monitor: Monitor
    stop: Event
    news: News
    out: Path | None

    @property
    def options(self) -> Options:
        """How cases are segmented: on the training's device, without mirroring."""
        from ..inference.options import Options

        return Options(device=self.job.options.device, threads=self.job.options.threads)

    def prepare(self, resume: bool) -> tuple[Start, Prepared]:
        """Decides, or takes up what was decided; prepares the cases; measures the base model."""
        job = self.job
        remove_half_written(job.run_folder)
        state = read_state(job.folder) if resume else {}
        if state.get("state") == "finished":
            raise InputError(
                f"This run is finished; its model is '{state.get('model')}'.",
                "Start it anew to train once more.",
            )
        if can_take_up(state):
            start = take_up(job, state, self.monitor)
        else:
            start = start_anew(job, part_of(self.monitor, 0.0, _LOOK))
        write_state(job.folder, state="running", model=None, message="")
        prepared = start.prepared
        if prepared is None:
            part = part_of(self.monitor, _LOOK, _PREPARE)
            with part.stage("Preparing the cases", 0.0, 1.0):
                prepared = self._prepare_cases(start, part)
        if start.before is None:
            start = replace(start, before=self._measure_base(start))
        return start, prepared

    def _prepare_cases(self, start: Start, part: Monitor) -> Prepared:
        decisions = start.decisions
        return prepare_cases(
            self.job,
            decisions.plan,
            decisions.label_plan,
            decisions.split,
            self.job.run_folder / "prepared",
            part,
            decisions.grid.orientation,
        )

    def _measure_base(self, start: Start) -> Measured:
        part = part_of(self.monitor, _PREPARE, _BEFORE)
        known = dict(start.decisions.matched or {})
        before = Measured({})
        if start.base is not None and known:
            with part.stage("Measuring the base model", 0.0, 1.0):
                before = measure(
                    start.base, self.job, start.decisions.split, known, self.options, part
                )
        if not before.digests:
            split = start.decisions.split
            before = replace(before, digests=digests_of(self.job, split, part))
        write_state(self.job.folder, before=before_json(before))
        return before

    # ---- training ------------------------------------------------------------------------

    def train(self, start: Start, prepared: Prepared) -> Made:
        """Trains from the start or from the checkpoint; what had ended is only read."""
        from ..training.control import Control
        from ..training.loop import train
        from ..training.segmentation import SegmentationTask

        job, decisions = self.job, start.decisions
        if start.ended:
            ended = _read_ended(job, start)
            self.news.on_resumed(ended.curves)
            return ended
        if job.options.threads is not None:
            import torch

            torch.set_num_threads(job.options.threads)
        names = decisions.label_plan.names
        task = SegmentationTask(prepared.train, prepared.validation, len(names) + 1, names)
        part = part_of(self.monitor, _BEFORE, _TRAIN)
        control = Control(
            part,
            self.stop,
            on_epoch=self._after_epoch(start),
            on_resumed=self.news.on_resumed,
        )
        with part.stage("Training", 0.0, 1.0):
            outcome = train(
                _network(job, start, prepared),
                task,
                decisions.recipe,
                job.run_folder,
                control,
                resume=start.begun,
            )
        return Made(
            weights=outcome.best_weights,
            best_epoch=outcome.best_epoch,
            epochs=outcome.epochs,
            steps=outcome.steps,
            skipped=outcome.skipped,
            seconds=outcome.seconds,
            reason=outcome.reason,
            device=_device(start),
            curves=outcome.curves,
        )

    def _after_epoch(self, start: Start) -> Callable[[EpochReport], None]:
        show = Previewer(
            self.job,
            start.decisions,
            start.base,
            self.options,
            self.monitor,
            self.news.on_preview,
        ).after_epoch

        def after_epoch(report: EpochReport) -> None:
            self.news.on_epoch(report)
            write_state(self.job.folder, fraction=min(1.0, report.epoch / report.epochs))
            show(report)

        return after_epoch

    # ---- after ---------------------------------------------------------------------------

    def finish(self, start: Start, made: Made) -> Finished:
        """Measures what came out, writes the model and clears what only training needed."""
        write_state(self.job.folder, ended=made.reason)
        with disk_said(self.job.run_folder):
            after, pictures = self._measure_result(start, made)
        held_out = held_out_sentence(start.decisions, len(after.missing))
        before = start.before or Measured({})
        made = replace(
            made, before=before.dice, after=after.dice, held_out=held_out, pictures=pictures
        )
        with self.monitor.stage("Writing", _AFTER, 1.0):
            model = write_result(self.job, start.decisions, made, start.base, self.out)
        table = before_after(self.job, made)
        write_state(
            self.job.folder,
            state="finished",
            fraction=1.0,
            model=model.id if self.out is None else str(model.path),
            result={"before_after": table, "held_out": held_out, "reason": made.reason},
        )
        _clear(self.job.run_folder)
        notes = list(self.monitor.notes)
        return Finished(model, table, held_out, made.reason, notes, made.seconds)

    def _measure_result(self, start: Start, made: Made) -> tuple[Measured, list[bytes]]:
        """What `made` does on the held-out cases, and pictures of that."""
        part = part_of(self.monitor, _TRAIN, _AFTER)
        folder = self.job.run_folder / "preview" / "model"
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        model = write_plain_model(
            folder, self.job, start.decisions, made.weights, start.base, overwrite=True
        )
        colors = {entry.value: entry.color for entry in model.card.labels}
        pictures: list[bytes] = []

        def look(_: str, done: Segmented) -> None:
            if len(pictures) < MOST_PICTURES:
                pictures.append(overlay_picture(done, colors))

        names = {label.name: label.name for label in self.job.classes}
        digests = start.before.digests if start.before else {}
        try:
            with part.stage("Measuring the new model", 0.0, 1.0):
                found = measure(
                    model,
                    self.job,
                    start.decisions.split,
                    names,
                    self.options,
                    part,
                    look,
                    digests,
                )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        for case in found.missing:
            self.monitor.note(
                f"The files of {case} were moved or changed meanwhile, so it was not measured."
            )
        return found, pictures


def _network(job: Job, start: Start, prepared: Prepared) -> Any:
    """The network that training starts with; a resumed one gets its weights from the loop."""
    from ..training.cases import class_shares
    from .transfer import head_rows, initial_network

    decisions = start.decisions
    wanted = decisions.transfer != "scratch" and not start.begun
    base = start.base if wanted else None
    rows = head_rows(decisions.label_plan, base.labels.names) if base is not None else None
    return initial_network(
        decisions.plan.network_class,
        decisions.plan.network_kwargs,
        job.channels,
        decisions.label_plan.num_classes,
        base=base,
        rows=rows,
        encoder_only=decisions.transfer == "encoder",
        shares=class_shares(prepared.train, decisions.label_plan.num_classes),
        seed=decisions.recipe.seed,
    )


def _read_ended(job: Job, start: Start) -> Made:
    """A training that had ended when something stopped its result from being written."""
    from ..training.state import load_best, load_latest

    progress, latest = load_latest(job.run_folder, start.decisions.recipe)
    best = load_best(job.run_folder)
    return Made(
        weights=best[0] if best is not None else latest["network"],
        best_epoch=progress.best_epoch,
        epochs=progress.epoch,
        steps=progress.step,
        skipped=progress.skipped,
        seconds=progress.seconds,
        reason=start.ended,
        device=_device(start),
        curves=tuple(progress.curves),
    )


def _device(start: Start) -> str:
    from ..training.device import choose_device

    return str(choose_device(start.decisions.recipe.device))


def _clear(run_folder: Path) -> None:
    """Removes what only training needed; curves and result are in the model's folder."""
    from ..training.state import BEST, LATEST

    large = [run_folder / LATEST, run_folder / BEST]
    for pattern in ("*.npy", "*.npz"):  # the index stays: a run that continues this one asks
        large += (run_folder / "prepared").glob(pattern)
    for path in large:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)

"""A fine-tuning from its job folder to its model folder, in reading order.

look -> prepare -> measure the base -> train -> measure again -> write the model.

Everything on the way lies in the job's `run/`: decisions and state (`run.json`), prepared arrays,
checkpoints, previews. Whatever ends a run, what it had stays there, and `resume` goes on with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from ..errors import Cancelled, EngineError, InputError, ModelError, ResourceError
from ..monitor import Monitor
from .decisions import Decisions, decide, digest_of, from_json, to_json
from .job import Job, read_job
from .measure import Measured, Segmented, measure
from .parts import part_of
from .preparation import Prepared, open_prepared, prepare_cases
from .preview import Previewer, PreviewReport
from .problems import ERROR
from .report import overlay_picture
from .result import Made, before_after, held_out_sentence, write_result
from .runs import cannot_write, locked, read_state, write_state
from .survey import base_of, require_training, survey

if TYPE_CHECKING:
    from ..inference.options import Options
    from ..models.folder import Model
    from ..training.control import EpochReport
    from ..training.loop import Outcome

MOST_PICTURES = 3
_LOOK, _PREPARE, _BEFORE, _TRAIN, _AFTER = 0.02, 0.04, 0.06, 0.95, 0.99
"""Fractions of the whole at which each part ends."""


def _ignore(_: Any) -> None:
    return None


@dataclass
class News:
    """What a run tells while it runs, beside its monitor's progress."""

    on_epoch: Callable[[EpochReport], None] = _ignore
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
        resume: goes on with what an earlier run left; without it that is thrown away.
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
        return run.together(resume)
    with locked(job.folder), _said_in_state(job.folder):
        run.prepare(resume)
        return run.finish(run.train())


@dataclass
class _Run:
    """One run in one process; `prepare`, `train` and `finish` follow one another."""

    job: Job
    monitor: Monitor
    stop: Event
    news: News
    out: Path | None
    resumed: bool = False
    _decisions: Decisions | None = None
    _prepared: Prepared | None = None
    _base: Model | None = None
    _before: Measured = field(default_factory=lambda: Measured({}))

    @property
    def decisions(self) -> Decisions:
        if self._decisions is None:
            raise InputError("This run has decided nothing yet.")
        return self._decisions

    @property
    def options(self) -> Options:
        """How cases are segmented: on the training's device, without mirroring."""
        from ..inference.options import Options

        return Options(device=self.job.options.device, threads=self.job.options.threads)

    # ---- before --------------------------------------------------------------------------

    def prepare(self, resume: bool) -> None:
        """Takes up what is there, or looks at the job and prepares its cases anew."""
        folder = self.job.run_folder
        state = read_state(self.job.folder) if resume else {}
        if resume and "decisions" in state:
            self.resumed = self._take_up(state)
        else:
            self._begin()
        write_state(self.job.folder, state="running", model=None, message="")
        if self._prepared is None:
            self._prepared = prepare_cases(
                self.job,
                self.decisions.plan,
                self.decisions.label_plan,
                self.decisions.split,
                folder / "prepared",
                part_of(self.monitor, _LOOK, _PREPARE),
                self.decisions.grid.orientation,
            )
        if not self._before.digests and not self.resumed:
            self._measure_base()

    def _begin(self) -> None:
        """Decides everything. Errors of the check end it before anything was written."""
        from ..training.state import BEST, LATEST

        found = survey(self.job, part_of(self.monitor, 0.0, _LOOK), timed=False)
        errors = [p for p in found.report.problems if p.level == ERROR]
        if errors:
            where = f"{errors[0].case}: " if errors[0].case else ""
            more = f" ({len(errors) - 1} more problems)" if len(errors) > 1 else ""
            raise InputError(f"{where}{errors[0].message}{more}", errors[0].hint)
        for sentence in (p.message for p in found.report.problems if p.level == "warning"):
            self.monitor.note(sentence)
        seen = set(_seen_before(self.job))
        digests = {one.id: one.digest for one in found.inspection.facts}
        split = found.report.split
        trained = [c for c in (split.validate if split else ()) if digests.get(c) in seen]
        self._base = found.base
        self._decisions = decide(found, digest_of(self.job), tuple(trained))
        for note in self.decisions.notes:
            self.monitor.note(note)
        folder = self.job.run_folder
        for name in (LATEST, BEST):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / "preview", ignore_errors=True)
        inside = self.decisions.split.inside
        learned = {digests[c] for c in self.decisions.split.train if c not in inside}
        held = {digests[c] for c in self.decisions.split.validate}
        write_state(
            self.job.folder,
            decisions=to_json(self.decisions),
            seen=sorted(seen | learned),
            validated=sorted(held),
            fraction=0.0,
            before=None,
        )

    def _take_up(self, state: dict[str, Any]) -> bool:
        """Whether a checkpoint is there to go on from. Raises InputError when the job changed."""
        from ..training.state import LATEST

        self._decisions = from_json(state["decisions"])
        if self.decisions.job_digest != digest_of(self.job):
            raise InputError(
                "The job was changed after this training began, so it cannot go on.",
                "Start it anew, or take the changes back.",
            )
        self._prepared = open_prepared(self.job.run_folder / "prepared")
        begun = (self.job.run_folder / LATEST).is_file()
        try:
            self._base = base_of(self.job)
        except (ModelError, InputError):
            if not begun:
                raise
            self.monitor.note("The base model is not installed any more; what was trained is.")
        before = state.get("before")
        if isinstance(before, dict):
            self._before = Measured(
                dict(before["dice"]), digests=dict(before["digests"]), missing=[]
            )
        return begun

    def _measure_base(self) -> None:
        part = part_of(self.monitor, _PREPARE, _BEFORE)
        known = dict(self.decisions.matched or {})
        if self._base is not None and known:
            with part.stage("Measuring the base model", 0.0, 1.0):
                self._before = measure(
                    self._base,
                    self.job,
                    self.decisions.split,
                    known,
                    self.options,
                    part_of(part, 0.0, 1.0),
                )
        before = {"dice": self._before.dice, "digests": self._before.digests}
        write_state(self.job.folder, before=before)

    # ---- training ------------------------------------------------------------------------

    def train(self) -> Outcome:
        """Trains from the start or from the checkpoint. Weights are the best and the last."""
        from ..training.control import Control
        from ..training.loop import train
        from ..training.segmentation import SegmentationTask

        if self._prepared is None:
            raise InputError("The cases of this run are not prepared.", "Start it anew.")
        _set_threads(self.job.options.threads)
        names = self.decisions.label_plan.names
        task = SegmentationTask(
            self._prepared.train, self._prepared.validation, len(names) + 1, names
        )
        first = _rank() == 0
        previewer = Previewer(
            self.job,
            self.decisions,
            self._base,
            self.options,
            self.monitor,
            self.news.on_preview,
        )

        def on_epoch(report: EpochReport) -> None:
            if not first:
                return
            self.news.on_epoch(report)
            write_state(self.job.folder, fraction=min(1.0, report.epoch / report.epochs))
            previewer.after_epoch(report)

        part = part_of(self.monitor, _BEFORE, _TRAIN)
        control = Control(part, self.stop, on_epoch=on_epoch)
        with part.stage("Training", 0.0, 1.0):
            return train(
                self._network(),
                task,
                self.decisions.recipe,
                self.job.run_folder,
                control,
                resume=self.resumed,
            )

    def _network(self) -> Any:
        """The network that training starts with; a resumed one gets its weights from the loop."""
        from .transfer import head_rows, initial_network

        plan, transfer = self.decisions.plan, self.decisions.transfer
        base = self._base if transfer != "scratch" and not self.resumed else None
        rows = None
        if base is not None:
            rows = head_rows(self.decisions.label_plan, base.labels.names)
        return initial_network(
            plan.network_class,
            plan.network_kwargs,
            self.job.channels,
            self.decisions.label_plan.num_classes,
            base=base,
            rows=rows,
            encoder_only=transfer == "encoder",
            seed=self.decisions.recipe.seed,
        )

    # ---- after ---------------------------------------------------------------------------

    def finish(self, outcome: Outcome) -> Finished:
        """Measures what came out, writes the model and clears what only training needed."""
        made = _made(outcome, str(self._device()))
        with _disk_said(self.job.run_folder):
            after, pictures = self._measure_result(made)
        held_out = held_out_sentence(self.decisions, len(after.missing))
        from dataclasses import replace

        made = replace(
            made, before=self._before.dice, after=after.dice, held_out=held_out, pictures=pictures
        )
        with self.monitor.stage("Writing", _AFTER, 1.0):
            model = write_result(self.job, self.decisions, made, self._base, self.out)
        table = before_after(self.job, made)
        write_state(
            self.job.folder,
            state="finished",
            fraction=1.0,
            model=model.id if self.out is None else str(model.path),
            result={"before_after": table, "held_out": held_out, "reason": outcome.reason},
        )
        self._clear()
        return Finished(
            model, table, held_out, outcome.reason, list(self.monitor.notes), outcome.seconds
        )

    def _measure_result(self, made: Made) -> tuple[Measured, list[bytes]]:
        from .result import write_plain_model

        part = part_of(self.monitor, _TRAIN, _AFTER)
        folder = self.job.run_folder / "preview" / "model"
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        model = write_plain_model(
            folder, self.job, self.decisions, made.weights, self._base, overwrite=True
        )
        colors = {entry.value: entry.color for entry in model.card.labels}
        pictures: list[bytes] = []

        def look(_: str, done: Segmented) -> None:
            if len(pictures) < MOST_PICTURES:
                pictures.append(overlay_picture(done, colors))

        try:
            with part.stage("Measuring the new model", 0.0, 1.0):
                found = measure(
                    model,
                    self.job,
                    self.decisions.split,
                    {label.name: label.name for label in self.job.classes},
                    self.options,
                    part_of(part, 0.0, 1.0),
                    look,
                    self._before.digests,
                )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        for case in found.missing:
            self.monitor.note(
                f"The files of {case} were moved or changed meanwhile, so it was not measured."
            )
        return found, pictures

    def _device(self) -> Any:
        from ..training.device import choose_device

        return choose_device(self.decisions.recipe.device)

    def _clear(self) -> None:
        """Removes what only training needed; curves and result are in the model's folder."""
        from ..training.state import BEST, LATEST

        folder = self.job.run_folder
        large = [folder / LATEST, folder / BEST]
        for pattern in ("*.npy", "*.npz"):  # the index stays: a run that continues this one asks
            large += (folder / "prepared").glob(pattern)
        for path in large:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    # ---- several processes ---------------------------------------------------------------

    def together(self, resume: bool) -> Finished | None:
        """The same run on all processes of `torchrun`; the job folder is one that all can read."""
        from ..training.distributed import joined
        from ..training.recipe import Phase, Recipe

        device = self.job.options.device
        sizes = Recipe((16, 16, 16), (Phase("Joining", 1, 0, 1.0),), device=device)
        with joined(sizes) as group:
            if group.first:
                with locked(self.job.folder), _said_in_state(self.job.folder):
                    self.prepare(resume)
                    group.wait()
                    return self.finish(self.train())
            group.wait()
            state = read_state(self.job.folder)
            self.resumed = self._take_up(state) and resume
            self.train()
            return None


def _made(outcome: Outcome, device: str) -> Made:
    return Made(
        weights=outcome.best_weights,
        best_epoch=outcome.best_epoch,
        epochs=outcome.epochs,
        steps=outcome.steps,
        skipped=outcome.skipped,
        seconds=outcome.seconds,
        reason=outcome.reason,
        device=device,
        curves=outcome.curves,
    )


def _seen_before(job: Job) -> list[str]:
    """Digests of images that the model which this run continues has learned from."""
    if job.previous is None:
        return []
    seen = read_state(job.previous).get("seen", [])
    return [one for one in seen if isinstance(one, str)] if isinstance(seen, list) else []


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


@contextmanager
def _disk_said(folder: Path) -> Iterator[None]:
    """Turns what the system says of a full disk or a missing permission into a sentence."""
    try:
        yield
    except OSError as error:
        raise cannot_write(folder, error) from None


@contextmanager
def _said_in_state(job_folder: Path) -> Iterator[None]:
    """Leaves in `run.json` how a run ended, and turns foreign errors into sentences."""
    try:
        with _disk_said(job_folder / "run"):
            yield
    except Cancelled:
        _leave(job_folder, "interrupted", "")
        raise
    except EngineError as error:
        _leave(job_folder, "failed", error.message)
        raise
    except (MemoryError, RuntimeError) as error:
        from ..training.device import out_of_memory

        if not out_of_memory(error):
            _leave(job_folder, "failed", type(error).__name__)
            raise
        known = ResourceError(
            "The memory of this device does not suffice for this training.",
            "Choose a smaller patch or gradient checkpointing, close other programs, and resume.",
        )
        _leave(job_folder, "failed", known.message)
        raise known from error
    except BaseException:
        _leave(job_folder, "interrupted", "")
        raise


def _leave(job_folder: Path, state: str, message: str) -> None:
    """Only where the run got as far as deciding; a full disk must not hide the first error."""
    with contextlib.suppress(EngineError):
        if read_state(job_folder):
            write_state(job_folder, state=state, message=message)

"""One fine-tuning from cases to a model: export, check, train. Nothing blocks.

    job = FinetuneJob(context, on_state=…, on_end=…)
    job.start(parameter, directory)      # or job.resume(folder)
    ...
    job.stop()      # end now and keep the best
    job.cancel()    # end now; the training can be resumed

The scene is read while the cases are exported and not needed afterwards: closing it in mid-training
stops nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from mednext_engine.jobs import protocol as p

from .errors import UserError
from .finetune_export import RunFolder, Step, export_steps
from .finetune_parameter import FinetuneParameter
from .worker_client import Job, News, Reply, Schedule, WorkerClient

EXPORTING, CHECKING, TRAINING, STOPPING, CANCELLING, OVER = (
    "exporting", "checking", "training", "stopping", "cancelling", "over",
)  # fmt: skip
DONE, CHECKED, FAILED, CANCELLED = "done", "checked", "failed", "cancelled"


@dataclass(frozen=True)
class TrainingContext:
    """What a fine-tuning works with: the client of the training process, the scene, a timer."""

    client: WorkerClient
    scene: Any
    schedule: Schedule


@dataclass
class FinetuneOutcome:
    """How it ended: "done" with a FinetuneValue, "checked" (not trained), "failed", "cancelled"."""

    state: str
    message: str = ""
    hint: str = ""
    value: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Exported:
    """A job folder that was written and checked, and what it was written of."""

    key: tuple[Any, ...]
    folder: RunFolder
    report: dict[str, Any]


class FinetuneJob:
    """See the module. `state` is one of the constants above."""

    def __init__(
        self,
        context: TrainingContext,
        on_state: Callable[[str], None] = lambda state: None,
        on_progress: Callable[[str, float, float | None], None] = lambda text, part, left: None,
        on_report: Callable[[dict[str, Any]], None] = lambda report: None,
        on_news: Callable[[News], None] = lambda news: None,
        on_end: Callable[[FinetuneOutcome], None] = lambda outcome: None,
    ) -> None:
        self.parameter: FinetuneParameter | None = None
        self.state = EXPORTING
        self.outcome: FinetuneOutcome | None = None
        self.exported: Exported | None = None
        self.folder: Path | None = None
        self._context = context
        self._on_state, self._on_progress, self._on_report = on_state, on_progress, on_report
        self._on_news, self._on_end = on_news, on_end
        self._check_only = False
        self._run: RunFolder | None = None
        self._key: tuple[Any, ...] = ()
        self._steps: Iterator[Step] = iter(())
        self._job: Job | None = None
        self._reason = ""
        self._observers: list[int] = []
        self._started = time.monotonic()

    @property
    def over(self) -> bool:
        return self.outcome is not None

    # ---- beginning -----------------------------------------------------------------------------

    def start(
        self,
        parameter: FinetuneParameter,
        directory: str,
        check_only: bool = False,
        checked: Exported | None = None,
    ) -> None:
        """Exports and checks the cases, then trains unless `check_only` or an error is found.

        What `checked` holds is used where it was made of the same. Raises UserError where the
        parameter is not valid.
        """
        parameter.require_valid()
        parameter = parameter.frozen()
        self.parameter, self._check_only, self._key = parameter, check_only, parameter.key()
        if checked is not None and checked.key == self._key and checked.folder.path.is_dir():
            self._run, self.exported = checked.folder, checked
            self.folder = checked.folder.path
            self._reported(checked.report)
            return
        if checked is not None:
            checked.folder.remove()
        try:
            self._run = RunFolder(directory)
            self.folder = self._run.path
            self._steps = export_steps(parameter, self._run)
        except UserError as error:
            self._fail(error)
            return
        self._watch()
        self._set_state(EXPORTING)
        self._context.schedule(0, self._step)

    def resume(self, folder: str) -> None:
        """Goes on with a training that was interrupted."""
        self.folder = Path(folder)
        self._train(resume=True)

    def _step(self) -> None:
        """One step of the export, then the next through the event loop: Slicer stays alive."""
        if self.over or self.state != EXPORTING:
            return
        try:
            fraction, text = next(self._steps)
        except StopIteration:
            self._unwatch()
            self._ask(p.CheckFinetune(job_folder=str(self.folder)), CHECKING, self._checked)
        except UserError as error:
            self._fail(error)
        except Exception as error:  # whatever it is, the person is told and nothing is left behind
            self._fail(unexpected(error))
        else:
            self._on_progress(text, fraction, None)
            self._context.schedule(0, self._step)

    def _ask(self, request: p.Request, state: str, on_end: Callable[[Reply], None]) -> None:
        self._set_state(state)
        try:
            self._job = self._context.client.ask(request, on_end, self._progressed, self._told)
        except UserError as error:
            self._fail(error)

    def _checked(self, reply: Reply) -> None:
        if not isinstance(reply, p.Result):
            self._replied(reply)
        elif not self.over and self._run is not None:
            self.exported = Exported(self._key, self._run, dict(reply.value))
            self._reported(self.exported.report)

    def _reported(self, report: dict[str, Any]) -> None:
        self._on_report(report)
        if self._reason:
            self._end(FinetuneOutcome(CANCELLED, self._reason))
        elif self._check_only:
            self._end(FinetuneOutcome(CHECKED))
        elif not report.get("can_start"):
            message = _("It cannot start yet: the list says what is wrong and what to do.")
            self._end(FinetuneOutcome(CHECKED, message))
        else:
            self._train(resume=False)

    def _train(self, resume: bool) -> None:
        self.exported = None  # the folder is the training's from now on
        self._run = None
        self._started = time.monotonic()
        request = p.Finetune(job_folder=str(self.folder), resume=resume)
        self._ask(request, TRAINING, self._replied)

    # ---- ending --------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ends the training now and keeps the best."""
        if self.state == TRAINING and self._job is not None:
            self._set_state(STOPPING)
            self._context.client.stop_training(self._job)

    def cancel(self, reason: str = "") -> None:
        """Ends whatever goes on; a training can be resumed, everything else leaves nothing."""
        if self.over:
            return
        self._reason = self._reason or reason or _("Cancelled.")
        self._unwatch()
        if self._job is None or self._job.over:
            self._end(FinetuneOutcome(CANCELLED, self._reason))
        elif self.state != CANCELLING:
            self._set_state(CANCELLING)
            self._context.client.cancel(self._job)

    def abandon(self) -> None:
        """Ends silently, because the training process is about to be stopped."""
        self._on_end = lambda outcome: None
        self._on_state = lambda state: None
        if not self.over:
            self._end(FinetuneOutcome(CANCELLED))

    def _progressed(self, progress: p.Progress) -> None:
        if not self.over:
            text = progress.note or progress.stage or _("Working")
            self._on_progress(text, progress.fraction, progress.seconds_left)

    def _told(self, news: News) -> None:
        if not self.over:
            self._on_news(news)

    def _replied(self, reply: Reply) -> None:
        if self.over:
            return
        if isinstance(reply, p.Cancelled):
            self._end(FinetuneOutcome(CANCELLED, self._reason or _("Cancelled.")))
        elif isinstance(reply, p.Error):
            self._end(FinetuneOutcome(FAILED, reply.message, reply.hint))
        else:
            self._end(FinetuneOutcome(DONE, value=dict(reply.value)))

    def _fail(self, error: UserError) -> None:
        self._end(FinetuneOutcome(FAILED, error.message, error.hint))

    def _end(self, outcome: FinetuneOutcome) -> None:
        if self.over:
            return
        self._unwatch()
        if self._run is not None and (outcome.state != CHECKED or self.exported is None):
            self._run.remove()  # of what was not trained nothing is left
            self._run, self.exported, self.folder = None, None, None
        outcome.folder = self.folder
        outcome.seconds = time.monotonic() - self._started
        self.outcome = outcome
        self.state = OVER
        self._on_state(OVER)
        self._on_end(outcome)

    def _set_state(self, state: str) -> None:
        self.state = state
        self._on_state(state)

    # ---- the scene, while it is read -------------------------------------------------------------

    def _watch(self) -> None:
        scene, events = self._context.scene, slicer.vtkMRMLScene
        self._observers = [
            scene.AddObserver(events.NodeRemovedEvent, self._node_removed),
            scene.AddObserver(events.StartCloseEvent, self._scene_closes),
        ]

    def _unwatch(self) -> None:
        for tag in self._observers:
            self._context.scene.RemoveObserver(tag)
        self._observers = []

    def _node_removed(self, caller: Any, event: str) -> None:
        nodes = [n for c in self.parameter.cases for n in c.nodes()] if self.parameter else []
        for node in nodes:
            if not self._context.scene.IsNodePresent(node):
                sentence = _("{name} was removed from the scene, so the export was stopped.")
                self.cancel(sentence.format(name=node.GetName()))
                return

    def _scene_closes(self, caller: Any, event: str) -> None:
        self.cancel(_("The scene was closed, so the export was stopped."))


def unexpected(error: Exception) -> UserError:
    logging.exception("MedNeXt Segmentation: fine-tuning failed", exc_info=error)
    return UserError(
        _("Something unexpected went wrong ({kind}: {error}).").format(
            kind=type(error).__name__, error=error
        ),
        _("Please report it with the diagnostics of the Log section."),
    )

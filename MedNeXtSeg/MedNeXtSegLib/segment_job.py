"""One run from volumes to segments: export, ask the worker, import. Nothing blocks.

    job = SegmentJob(parameter, context, on_progress, on_end)
    job.start()
    ...
    job.cancel()

The scene changes only at the very end, and only where everything went well. The run stops by
itself, with the reason, where a volume it works on is removed or the scene is closed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from mednext_engine.jobs import protocol as p

from .errors import CancelledError, UserError
from .exporting import Exported, export_channels
from .geometry import roi_box
from .job_folder import JobFolder, sweep
from .parameter import SegmentParameter
from .placing import place_result
from .sequences import TimePoints
from .undo import Undo
from .worker_client import Job, Reply, WorkerClient

DONE, FAILED, CANCELLED = "done", "failed", "cancelled"


@dataclass(frozen=True)
class Context:
    """What a run works with: the worker's client, the scene and where temporary files go."""

    client: WorkerClient
    scene: Any
    segmentations_logic: Any
    temporary_folder: str


@dataclass
class Outcome:
    """How a run ended. `state` is "done", "failed" or "cancelled"; `message` says it in words."""

    state: str
    message: str = ""
    hint: str = ""
    code: str = ""
    segmentation: Any = None
    uncertainty: Any = None
    found: int = 0
    seconds: float = 0.0
    values: list[dict[str, Any]] = field(default_factory=list)  # SegmentValue, one a time point
    undo: Undo | None = None

    @property
    def notes(self) -> list[str]:
        return [note for value in self.values for note in value.get("notes", [])]


@dataclass(frozen=True)
class Frame:
    """One time point under way: what was exported and where its results will be."""

    exported: Exported
    labels: Path
    uncertainty: Path | None


class SegmentJob:
    """See the module. `outcome` is None until the run is over."""

    def __init__(
        self,
        parameter: SegmentParameter,
        context: Context,
        on_progress: Callable[[p.Progress], None] = lambda progress: None,
        on_end: Callable[[Outcome], None] = lambda outcome: None,
    ) -> None:
        self.parameter = parameter
        self.outcome: Outcome | None = None
        self._context = context
        self._on_progress = on_progress
        self._on_end = on_end
        self._folder: JobFolder | None = None
        self._job: Job | None = None
        self._frames: list[Frame] = []
        self._values: list[dict[str, Any]] = []
        self._reason = ""
        self._observers: list[int] = []
        self._started = time.monotonic()
        self._points = TimePoints.of(parameter)

    @property
    def over(self) -> bool:
        return self.outcome is not None

    @property
    def segmentation(self) -> Any:
        """The node with the result, once the run is done."""
        return self.outcome.segmentation if self.outcome else None

    def start(self) -> None:
        """Checks the parameter, exports and asks the worker. What goes wrong ends the run; only
        an invalid parameter raises (UserError)."""
        self.parameter.require_valid()
        self._started = time.monotonic()
        try:
            sweep(self._context.temporary_folder)
            self._folder = JobFolder(self._context.temporary_folder)
            self._watch()
            self._next_frame()
        except UserError as error:
            self._fail(error)
        except Exception as error:  # whatever it is, the person is told and nothing is left behind
            self._fail(_unexpected(error))

    def cancel(self, reason: str = "") -> None:
        """Stops the run; the end is told through `on_end`, within about two seconds."""
        if self.over:
            return
        self._reason = self._reason or reason
        if self._job is None or self._job.over:
            self._end(Outcome(CANCELLED, self._reason or _("Cancelled.")))
        else:
            self._context.client.cancel(self._job)

    def abandon(self) -> None:
        """Ends at once and silently, because the worker is about to be stopped."""
        self._on_end = lambda outcome: None
        if not self.over:
            self.parameter.keep_loaded = True
            self._end(Outcome(CANCELLED))

    def wait(self) -> Outcome:
        """Waits until the run is over, while Slicer stays alive."""
        while self.outcome is None:
            if self._job is None:
                raise UserError(_("The run was not started."))
            self._context.client.wait(self._job)
        return self.outcome

    # ---- on the way ----------------------------------------------------------------------------

    def _next_frame(self) -> None:
        parameter, number = self.parameter, len(self._frames)
        folder = self._require_folder()
        volumes = self._points.volumes(number)
        exported = export_channels(volumes, parameter.channels, folder, parameter.volumes)
        box = roi_box(parameter.roi, exported.grid) if parameter.roi is not None else None
        frame = Frame(
            exported,
            folder.path / f"labels{number}.nrrd",
            folder.path / f"uncertainty{number}.nrrd" if parameter.uncertainty else None,
        )
        self._frames.append(frame)
        request = p.Segment(
            inputs=[str(path) for path in exported.paths],
            output=str(frame.labels),
            model=str(parameter.model["id"] if parameter.model else ""),
            options=parameter.options(box),  # type: ignore[arg-type]
            uncertainty_output=str(frame.uncertainty) if frame.uncertainty else None,
        )
        self._job = self._context.client.ask(request, self._replied, self._progressed)

    def _require_folder(self) -> JobFolder:
        if self._folder is None:
            raise UserError(_("The run was not started."))
        return self._folder

    def _progressed(self, progress: p.Progress) -> None:
        if self.over:
            return
        count, done = self._points.count, len(self._frames) - 1
        if count > 1:
            stage = _("Time point {number} of {count}: {stage}").format(
                number=done + 1, count=count, stage=progress.stage
            )
            fraction = (done + progress.fraction) / count
            progress = p.Progress(progress.job, stage, fraction, None, progress.note)
        self._on_progress(progress)

    def _replied(self, reply: Reply) -> None:
        if self.over:
            return
        if isinstance(reply, p.Cancelled) or self._reason:
            self._end(Outcome(CANCELLED, self._reason or _("Cancelled.")))
            return
        if isinstance(reply, p.Error):
            self._end(Outcome(FAILED, reply.message, reply.hint, reply.code))
            return
        self._values.append(reply.value)
        try:
            for path in self._frames[-1].exported.paths:
                path.unlink()  # a long sequence must not fill the disk
            if len(self._frames) < self._points.count:
                self._next_frame()
            else:
                self._place()
        except UserError as error:
            self._fail(error)
        except Exception as error:  # see start
            self._fail(_unexpected(error))

    def _place(self) -> None:
        self._unwatch()
        undo = Undo(self._context.scene, self._context.segmentations_logic)
        try:
            placed = place_result(
                self.parameter, self._points, self._frames, self._values, self._context, undo
            )
        except BaseException:
            undo.restore()
            raise
        self._end(
            Outcome(
                DONE,
                segmentation=placed.segmentation,
                uncertainty=placed.uncertainty,
                found=placed.found,
                values=self._values,
                undo=undo,
            )
        )

    # ---- the end -------------------------------------------------------------------------------

    def _fail(self, error: UserError) -> None:
        state = CANCELLED if isinstance(error, CancelledError) else FAILED
        self._end(Outcome(state, error.message, error.hint, "module"))

    def _end(self, outcome: Outcome) -> None:
        if self.over:
            return
        self._unwatch()
        if self._folder is not None:
            self._folder.remove()
        outcome.seconds = time.monotonic() - self._started
        self.outcome = outcome
        if not self.parameter.keep_loaded and self._context.client.running:
            self._context.client.ask(p.Unload())
        self._on_end(outcome)

    # ---- the scene -----------------------------------------------------------------------------

    def _watch(self) -> None:
        scene = self._context.scene
        events = slicer.vtkMRMLScene
        self._observers = [
            scene.AddObserver(events.NodeRemovedEvent, self._node_removed),
            scene.AddObserver(events.StartCloseEvent, self._scene_closes),
        ]

    def _unwatch(self) -> None:
        for tag in self._observers:
            self._context.scene.RemoveObserver(tag)
        self._observers = []

    def _node_removed(self, caller: Any, event: str) -> None:
        for node in (*self.parameter.volumes, self.parameter.segmentation):
            if node is not None and not self._context.scene.IsNodePresent(node):
                self._unwatch()
                self.cancel(
                    _("{name} was removed from the scene, so the run was stopped.").format(
                        name=node.GetName()
                    )
                )
                return

    def _scene_closes(self, caller: Any, event: str) -> None:
        self._unwatch()
        self.cancel(_("The scene was closed, so the run was stopped."))


def _unexpected(error: Exception) -> UserError:
    logging.exception("MedNeXt Segmentation failed unexpectedly", exc_info=error)
    return UserError(
        _("Something unexpected went wrong ({kind}: {error}).").format(
            kind=type(error).__name__, error=error
        ),
        _("Please report it with the diagnostics of the Log section."),
    )

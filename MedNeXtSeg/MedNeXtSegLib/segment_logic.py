"""Segment, for panel and scripts alike: one run at a time, undo, and what went before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slicer.i18n import tr as _

from mednext_engine.jobs import protocol as p

from .errors import CancelledError, UserError
from .parameter import SegmentParameter
from .segment_job import CANCELLED, DONE, Context, Outcome, SegmentJob
from .undo import Undo


class SegmentLogic:
    """Runs `SegmentJob`s in a `Context` and remembers how to undo the last one."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.job: SegmentJob | None = None
        self._undo: Undo | None = None

    @property
    def running(self) -> bool:
        return self.job is not None and not self.job.over

    def models(self) -> list[dict[str, Any]]:
        """The installed models (ModelSummary); waits for the worker. Raises UserError."""
        reply = self.context.client.wait(self.context.client.ask(p.Models()), 60)
        if isinstance(reply, p.Result):
            return list(reply.value["models"])
        if isinstance(reply, p.Error):
            raise UserError(reply.message, reply.hint)
        raise CancelledError(_("Cancelled."))

    def find_model(self, identifier: str | None) -> Mapping[str, Any]:
        """The model of that id, or the first one (it ships with the extension)."""
        models = self.models()
        for model in models:
            if identifier in (None, "", model["id"]):
                return model
        raise UserError(
            _("There is no model {name}.").format(name=identifier or ""),
            _("Installed are: {names}.").format(names=", ".join(m["id"] for m in models) or "–"),
        )

    def start(
        self,
        parameter: SegmentParameter,
        on_progress: Callable[[p.Progress], None] = lambda progress: None,
        on_end: Callable[[Outcome], None] = lambda outcome: None,
    ) -> SegmentJob:
        """Starts a run. Raises UserError where one is under way or the parameter is invalid."""
        if self.running:
            raise UserError(_("A run is under way; wait for it or cancel it."))

        def ended(outcome: Outcome) -> None:
            if outcome.state == DONE:
                self._undo = outcome.undo
            on_end(outcome)

        job = SegmentJob(parameter, self.context, on_progress, ended)
        self.job = job
        job.start()
        return job

    def segment(self, parameter: SegmentParameter, **callbacks: Any) -> Any:
        """Runs and waits; returns the segmentation node. Raises UserError with the reason."""
        outcome = self.start(parameter, **callbacks).wait()
        if outcome.state == DONE:
            return outcome.segmentation
        kind = CancelledError if outcome.state == CANCELLED else UserError
        raise kind(outcome.message, outcome.hint)

    @property
    def can_undo(self) -> bool:
        return self._undo is not None and not self._undo.empty and not self.running

    def undo(self) -> None:
        """Takes the last result back: the scene is as it was before the run."""
        undo, self._undo = self._undo, None
        if undo is None or undo.empty:
            raise UserError(_("There is no result to undo."))
        undo.restore()

    def forget(self) -> None:
        """The scene was closed: nothing of before can be undone."""
        self._undo = None


def as_volumes(volume: Any) -> Sequence[Any]:
    """One volume node, or several in the order of the model's channels."""
    return list(volume) if isinstance(volume, (list, tuple)) else [volume]

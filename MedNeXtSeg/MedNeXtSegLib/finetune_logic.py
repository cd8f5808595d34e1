"""Fine-tuning of this Slicer: one training at a time, and the trainings that went before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from mednext_engine.jobs import protocol as p

from .errors import UserError
from .finetune_export import read_json
from .finetune_job import DONE, Exported, FinetuneJob, FinetuneOutcome, TrainingContext
from .finetune_parameter import FinetuneParameter
from .worker_client import Reply, WorkerClient

Run = Mapping[str, Any]  # a RunInfo of the protocol


class FinetuneLogic:
    """Starts `FinetuneJob`s and keeps the list of trainings.

    `context.client` is the process that trains; `files` the client that answers meanwhile.
    """

    def __init__(self, context: TrainingContext, files: WorkerClient) -> None:
        self.context, self._files = context, files
        self.job: FinetuneJob | None = None
        self.directory = ""
        self.problem = ""  # why the list cannot be had
        self.runs: list[Run] = []
        self.networks: list[Mapping[str, Any]] = []  # NetworkInfo: what can start from scratch
        self.last: Path | None = None  # folder of the last training that gave a model
        self._checked: Exported | None = None
        self.on_runs: Callable[[], None] = lambda: None
        self.on_failed: Callable[[str, str], None] = lambda message, hint: None

    @property
    def running(self) -> bool:
        return self.job is not None and not self.job.over

    # ---- trainings -----------------------------------------------------------------------------

    def start(self, parameter: FinetuneParameter, check_only: bool, **callbacks: Any) -> None:
        """Exports, checks and, unless `check_only`, trains. Raises UserError where it cannot."""
        self._require_idle()
        if not self.directory:
            raise UserError(_("The worker has not said yet where trainings are kept; try again."))
        checked, self._checked = self._checked, None
        job = self._new_job(callbacks)
        job.start(parameter, self.directory, check_only, checked)

    def resume(self, folder: str, **callbacks: Any) -> None:
        """Goes on with an interrupted training."""
        self._require_idle()
        self._new_job(callbacks).resume(folder)

    def _require_idle(self) -> None:
        if self.running:
            raise UserError(_("A training is under way; stop or cancel it first."))

    def _new_job(self, callbacks: dict[str, Any]) -> FinetuneJob:
        said = callbacks.pop("on_end", lambda outcome: None)

        def ended(outcome: FinetuneOutcome) -> None:
            self._checked = job.exported
            if outcome.state == DONE:
                self.last = outcome.folder
            self.refresh()
            said(outcome)

        job = FinetuneJob(self.context, on_end=ended, **callbacks)
        self.job = job
        return job

    def close(self) -> None:
        """The module is reloaded or Slicer quits: a training stops and can be resumed."""
        if self.job is not None:
            self.job.abandon()
        self._forget_checked()

    def _forget_checked(self) -> None:
        checked, self._checked = self._checked, None
        if checked is not None:
            checked.folder.remove()

    # ---- the list --------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Asks for the list of trainings."""
        self._files.ask(p.Runs(), self._listed)

    def remove(self, folder: str) -> None:
        self._files.ask(p.RemoveRun(folder=folder), self._removed)

    def _listed(self, reply: Reply) -> None:
        if isinstance(reply, p.Result):
            self.directory, self.problem = str(reply.value["directory"]), ""
            kept = str(self._checked.folder.path) if self._checked else ""
            self.runs = [run for run in reply.value["runs"] if run["folder"] != kept]
            self.networks = list(reply.value.get("networks", []))
            self.on_runs()
        elif isinstance(reply, p.Error):
            self.problem = f"{reply.message} {reply.hint}".strip()
            self.on_failed(reply.message, reply.hint)

    def _removed(self, reply: Reply) -> None:
        if isinstance(reply, p.Error):
            self.on_failed(reply.message, reply.hint)
        self.refresh()


def name_of(folder: Path) -> str:
    """How the model of a training is called."""
    return str(read_json(folder / "job.json").get("name") or folder.name)

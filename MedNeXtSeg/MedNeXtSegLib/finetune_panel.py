"""The tab "Fine-tune": wires its parts to their logics, to the scene and to the tab "Segment"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from mednext_engine.jobs import protocol as p

from . import finetune_job as j
from .dialogs import Dialogs
from .errors import UserError
from .finetune_cases_panel import CasesPanel
from .finetune_install_panel import FinetuneInstallPanel
from .finetune_job import FinetuneOutcome
from .finetune_labels_panel import LabelsPanel
from .finetune_live_panel import FinetuneLivePanel
from .finetune_logic import FinetuneLogic, Run, name_of
from .finetune_memory import cases_of_run, load_cases, save_cases
from .finetune_options_panel import TrainOptionsPanel
from .finetune_parameter import FinetuneParameter
from .finetune_report_panel import FinetuneReportPanel
from .finetune_run_panel import FinetuneRunPanel
from .finetune_runs_panel import RunsPanel
from .guard import Guard
from .segment_panel import SegmentPanel
from .settings import SceneSettings
from .worker_client import Reply


class FinetunePanel:
    """`ui` has the widgets of MedNeXtSegFineTune.ui, `segment` is the other tab."""

    def __init__(
        self, ui: Any, logic: FinetuneLogic, segment: SegmentPanel, dialogs: Dialogs
    ) -> None:
        self._ui, self._logic, self._segment, self.dialogs = ui, logic, segment, dialogs
        self._settings: SceneSettings | None = None
        self._previous = ("", "")  # folder and model of the training that is gone on from
        self._made = ""  # the model that was just trained, until it is listed
        self._devices_asked = False
        self.on_training: Callable[[bool], None] = lambda training: None
        self.guard = Guard(self._report)
        self.cases = CasesPanel(ui, self.guard)
        self.labels = LabelsPanel(ui, self.guard)
        self.options = TrainOptionsPanel(ui, self.guard)
        self.report = FinetuneReportPanel(ui, self.guard)
        self.run = FinetuneRunPanel(ui, logic, self.guard)
        self.runs = RunsPanel(ui, logic, dialogs, self.guard)
        context = logic.context
        self.install = FinetuneInstallPanel(
            ui, segment.install, context.client, dialogs, self.guard
        )
        self.live = FinetuneLivePanel(ui, context.scene, self._folder, self.report, self.guard)
        self._wire(ui)
        context.client.on_failed = self._report
        segment.log.training = context.client

    def _wire(self, ui: Any) -> None:
        self.cases.on_changed = self._cases_changed
        self.cases.current = lambda: (
            next(iter(self._segment.inputs.volumes), None), self._segment.inputs.segmentation,
        )  # fmt: skip
        self.labels.on_changed = self.options.on_changed = self._changed
        self.run.parameter = self.parameter
        self.run.blocked = self._blocked
        self.run.before_start = self.install.offer
        self.run.callbacks = lambda: {"on_report": self._checked, "on_news": self.live.show}
        self.run.on_state = self._state
        self.run.on_end = self._ended
        self.runs.on_resume = self.resume
        self.runs.on_continue = self.take_up
        self.runs.on_filled = self._runs_listed
        self.install.say = self.run.say
        self._segment.on_models = self.guard(self._models_changed)
        self._segment.on_doctored = self.guard(self.install.update)
        self.guard.connect(ui.tidyButton, "clicked()", self.tidy)
        self.guard.connect(ui.trainAgainButton, "clicked()", self.train_again)
        self.guard.connect(ui.advancedSection, "contentsCollapsed(bool)", self._advanced)

    # ---- life ------------------------------------------------------------------------------------

    def enter(self, settings: SceneSettings) -> None:
        """The panel comes to the front, or the scene is another."""
        self._settings = None
        if not self.run.running:
            saved = load_cases(settings)
            self.cases.drop_gone()
            if saved and not any(case.from_scene for case in self.cases.cases):
                self.cases.set_cases(saved)
            self.options.load(settings)
        self._settings = settings
        if not self._logic.directory:
            self._logic.refresh()
        self._models_changed()
        self._cases_changed()

    def pause(self) -> None:
        """The scene is about to change: its settings must not be written to any more."""
        self._settings = None

    def leave(self) -> None:
        """The scene closes; a training goes on without it."""
        self.pause()
        self.live.forget()

    def close(self) -> None:
        """The module is reloaded or Slicer quits: a training stops and can be resumed."""
        self._settings = None
        self.guard.close()
        self._logic.close()
        self.live.clear()

    def may_quit(self) -> bool:
        """Asked when Slicer's window is closed."""
        if not self.run.training:
            return True
        return self.dialogs.confirm_quit(
            _(
                "A model is being trained. If Slicer is closed, the training stops; it can be "
                "resumed later from the list of earlier trainings, with at most some minutes lost."
            )
        )

    # ---- what the parts say ----------------------------------------------------------------------

    def parameter(self) -> FinetuneParameter:
        """What the tab is set to."""
        return FinetuneParameter(
            name=self.options.name,
            base=self.options.base,
            preset=self.options.preset,
            channels=self.options.channels,
            cases=self.cases.cases,
            labels=self.labels.table,
            options=self.options.options(),
            preview_case=self.options.preview_case,
            previous=self._previous_folder(),
        )

    def _previous_folder(self) -> str:
        """Only as long as its model is the one that is started from."""
        folder, model = self._previous
        base = self.options.base
        return folder if base is not None and model == base["id"] else ""

    def _blocked(self) -> str:
        if self._logic.directory and self._segment.models_logic.models:
            return ""
        return self._logic.problem or _("Looking for models…")

    def _models_changed(self) -> None:
        made = self._segment.models_logic.find(self._made)
        if made is not None:
            self._made = ""
            self._segment.models.choose(str(made["id"]))
        self.options.set_models(self._segment.models_logic.models)

    def _runs_listed(self) -> None:
        self.options.set_networks(self._logic.networks)
        self.run.changed()

    def _cases_changed(self) -> None:
        self.options.set_cases(self.cases.cases)
        self._changed()

    def _changed(self) -> None:
        if not self.run.running:
            self.cases.set_channels(self.options.channels)
        self.labels.update(self.cases.cases, self.parameter().base_names)
        if self._settings is not None and not self.run.running:
            save_cases(self._settings, self.cases.cases)
            self.options.save(self._settings)
        self.run.changed()

    def _state(self, state: str) -> None:
        idle = not self.run.running
        self.on_training(self.run.training)
        for part in (self.cases, self.labels, self.options, self.runs):
            part.set_enabled(idle)
        if state == j.TRAINING:
            folder = self._folder()
            self.live.begin(name_of(folder) if folder else self.options.name)
            self.report.begin_training()
            self._fold(True)
        elif state == j.EXPORTING:
            self.report.clear()

    def _folder(self) -> Path | None:
        """Of the training that runs, or that was the last."""
        return self._logic.job.folder if self._logic.job else None

    def _fold(self, folded: bool) -> None:
        """While it trains, its progress is seen without scrolling; cases cannot change anyway."""
        for section in (self._ui.casesSection, self._ui.labelsSection, self._ui.trainSection):
            section.collapsed = folded

    def _checked(self, report: dict[str, Any]) -> None:
        names = {
            identifier: case.title()
            for identifier, case in zip(self.parameter().case_ids(), self.cases.cases, strict=True)
        }
        self.report.show_report(report, names)

    def _ended(self, outcome: FinetuneOutcome) -> None:
        if outcome.state == j.DONE:
            self.report.show_result(outcome.value)
            self._previous = ("", "")
            self._keep_cases(outcome)
            model = outcome.value.get("model") or {}
            self._made = str(model.get("id") or "")
            self._segment.models_logic.refresh()
        elif outcome.state in (j.FAILED, j.CANCELLED):
            self.live.clear()
            self.report.hide_progress()
            self._fold(False)
        self.cases.drop_gone()  # the scene may have changed meanwhile

    def _keep_cases(self, outcome: FinetuneOutcome) -> None:
        """The training's files stand in where nodes of its cases go away later."""
        job = self._logic.job
        if job is None or job.parameter is None or outcome.folder is None:
            return
        told = zip(job.parameter.case_ids(), job.parameter.cases, self.cases.cases, strict=True)
        for identifier, exported, case in told:
            case.kept_name = exported.title() if exported.from_scene else exported.kept_name
            case.kept = outcome.folder / "cases" / identifier
        self.labels.keep([replace(row) for row in self.labels.table.rows])

    def _advanced(self, collapsed: bool) -> None:
        if collapsed:
            return
        self.options.describe()  # expanding has shown what was hidden while it was collapsed
        if not self._devices_asked:
            self._devices_asked = True
            self._logic.context.client.ask(p.Doctor(devices=True), self._doctored)

    def _doctored(self, reply: Reply) -> None:
        if isinstance(reply, p.Result):
            self.options.set_devices(reply.value.get("devices", []))

    def _report(self, message: str, hint: str) -> None:
        self.run.say(message, hint)

    # ---- going on --------------------------------------------------------------------------------

    def tidy(self) -> None:
        """Takes curves and preview out of the scene."""
        self.live.clear()
        self.run.say(_("Curves and preview were removed from the scene."))

    def resume(self, folder: str) -> None:
        """Goes on with an interrupted training."""
        if self.install.offer():
            self.report.clear()
            self.run.resume(folder)

    def train_again(self) -> None:
        """One more case, and on from the last result. Raises UserError where no case is there."""
        folder = self._logic.last
        model = self._model_of(str(folder)) if folder else ""
        if folder is None:
            raise UserError(_("There is no training to go on from."))
        self.cases.add_current()
        self._go_on_from(folder, model)
        if self.install.offer():
            self.run.start()

    def take_up(self, run: Run) -> None:
        """Lists the cases of an earlier training; Start then goes on from its model."""
        folder = Path(str(run["folder"]))
        cases, labels = cases_of_run(folder)
        if not cases:
            raise UserError(_("The cases of this training cannot be read any more."))
        self.labels.keep(labels)
        self.cases.set_cases(cases)
        self._go_on_from(folder, str(run["model"] or ""))
        self.run.say(
            _("The cases of {name} are listed.").format(name=run["name"]),
            _("Add further ones and click Start."),
        )

    def _go_on_from(self, folder: Path, model: str) -> None:
        self._previous = (str(folder), model)
        self._fold(False)
        if model:
            self.options.choose_base(model)
            self.labels.table.follow_base()
            self.labels.refill()
        self._changed()

    def _model_of(self, folder: str) -> str:
        made = next((run for run in self._logic.runs if run["folder"] == folder), None)
        return str(made["model"] or "") if made else ""

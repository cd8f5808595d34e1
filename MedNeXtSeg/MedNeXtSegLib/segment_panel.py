"""The whole panel: wires its parts to their logics and to each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from .batch_logic import BatchLogic
from .batch_panel import BatchPanel
from .dialogs import Dialogs
from .guard import Guard
from .inputs_panel import InputsPanel
from .install_panel import InstallPanel
from .log_panel import LogPanel
from .manage_panel import ManagePanel
from .measurements import Measurements
from .models_logic import ModelsLogic
from .models_panel import ModelsPanel
from .options_panel import OptionsPanel
from .parameter import SegmentParameter
from .run_panel import RunPanel
from .sample_data import load_sample
from .segment_job import Outcome
from .segment_logic import SegmentLogic
from .settings import SceneSettings


class SegmentPanel:
    """The tab "Segment". `ui` has the widgets of MedNeXtSeg.ui as attributes."""

    def __init__(self, ui: Any, logic: SegmentLogic, dialogs: Dialogs) -> None:
        self._logic = logic
        self._settings: SceneSettings | None = None
        self.on_models: Callable[[], None] = lambda: None
        self.on_doctored: Callable[[], None] = lambda: None
        client = logic.context.client
        self.guard = Guard(self._report)
        self.models_logic = ModelsLogic(client)
        measurements = Measurements(qt.QSettings())
        self.models = ModelsPanel(ui, self.models_logic, measurements, self.guard)
        self.manage = ManagePanel(ui, self.models_logic, self.models, dialogs, self.guard)
        self.inputs = InputsPanel(ui, self.guard)
        self.options = OptionsPanel(ui, client, self.guard)
        self.run = RunPanel(ui, logic, measurements, self.guard)
        self.install = InstallPanel(ui, client, dialogs, self.guard)
        self.batch_logic = BatchLogic(client, logic)
        self.batch = BatchPanel(ui, self.batch_logic, self.guard)
        self.log = LogPanel(ui, client, dialogs, self.guard)
        self._wire(ui)
        client.on_lost = self._worker_lost
        client.on_failed = self._report

    def _wire(self, ui: Any) -> None:
        self.models_logic.on_changed = self._models_changed
        self.models.on_chosen = self._model_chosen
        self.inputs.on_changed = self._changed
        self.options.on_changed = self._changed
        self.run.parameter = self.parameter
        self.run.blocked = self._blocked
        self.run.before_run = self.install.offer
        self.run.on_state = self._running
        self.run.on_done = self._done
        self.install.on_changed = self._doctored
        self.install.on_installed = self._installed
        self.install.say = self.log.say = self.run.say
        self.batch.parameter = self.parameter
        self.batch.before_run = self.install.offer
        self.batch.on_state = self._batch_running
        self.log.options = self._options_in_words
        for label, widget in (
            (ui.roiLabel, ui.roiSelector),
            (ui.segmentationLabel, ui.segmentationSelector),
            (ui.deviceLabel, ui.deviceCombo),
            (ui.qualityLabel, ui.qualityCombo),
            (ui.batchSourceLabel, ui.batchSourceCombo),
            (ui.batchInputLabel, ui.batchInputPath),
            (ui.batchOutputLabel, ui.batchOutputPath),
        ):
            label.setBuddy(widget)
        self.guard.connect(ui.sampleDataButton, "clicked()", self._load_sample)

    # ---- life ----------------------------------------------------------------------------------

    def enter(self, settings: SceneSettings) -> None:
        """The panel comes to the front, or the scene is another: shows what `settings` say."""
        self._settings = None
        if not self.run.running:
            self.models.choose(settings.text("Model") or self.models.identifier)
            self.options.load(settings)
            self.inputs.load(settings)
        self._settings = settings
        if not self.models_logic.models:
            self.models_logic.refresh()
            self.install.refresh()
        self.inputs.fill_obvious()
        self.run.update()

    def pause(self) -> None:
        """The scene is about to change: its settings must not be written to any more."""
        self._settings = None

    def leave(self) -> None:
        """The scene closes."""
        self.pause()
        self._logic.forget()

    def close(self) -> None:
        """The module is reloaded or Slicer quits: a run is stopped, nothing is called back."""
        self._settings = None
        self.batch_logic.cancel()
        self.guard.close()
        self.log.stop()
        if self._logic.job is not None:
            self._logic.job.abandon()

    # ---- what the parts say --------------------------------------------------------------------

    def parameter(self) -> SegmentParameter:
        """What the panel is set to."""
        return SegmentParameter(
            model=self.models.model,
            volumes=self.inputs.volumes,
            segmentation=self.inputs.segmentation,
            roi=self.inputs.roi,
            quality=self.options.quality,
            device=self.options.device,
            uncertainty=self.options.uncertainty,
            show_3d=self.options.show_3d,
            keep_loaded=self.options.keep_loaded,
            time_points=self.inputs.time_points,
        )

    def _blocked(self) -> str:
        if self.batch_logic.running:
            return _("A batch is running.")
        if not self.models_logic.models:
            return _("Looking for models…")
        return ""

    def _models_changed(self) -> None:
        self.models.fill()
        self.manage.fill()
        self.on_models()

    def _model_chosen(self) -> None:
        model = self.models.model
        self.inputs.set_channels(model["channels"] if model else [])
        if self._settings is not None and model is not None:
            self.inputs.load(self._settings)
        self.manage.update()
        self._changed()

    def _changed(self) -> None:
        settings = self._settings
        if settings is not None and not self.run.running:
            if self.models.model is not None:
                settings.set_text("Model", self.models.identifier)
                self.inputs.save(settings)
            self.options.save(settings)
        self.run.changed()

    def _doctored(self) -> None:
        self.log.doctor = self.install.doctor
        if not self.install.missing.anything:
            self.run.notice(" ".join(self.install.doctor.get("problems", [])), standing=True)
        self.run.update()
        self.on_doctored()

    def _installed(self) -> None:
        self.models_logic.refresh()
        self.options.forget_devices()

    def _running(self, running: bool) -> None:
        self.inputs.set_enabled(not running)
        self.options.set_enabled(not running)
        self.batch.set_enabled(not running)

    def _batch_running(self, running: bool) -> None:
        self.options.set_enabled(not running)
        self.run.changed()

    def _done(self, outcome: Outcome) -> None:
        self.models.fill()  # the tooltip tells what was measured
        if outcome.segmentation is not None and self._settings is not None:
            self.run.update()

    def _worker_lost(self, sentence: str) -> None:
        hint = _("It starts again by itself with the next run.")
        if not self.run.running:
            self.run.say(sentence, hint)

    def _report(self, message: str, hint: str) -> None:
        self.run.say(message, hint)

    def _load_sample(self) -> None:
        node = load_sample(slicer.mrmlScene)
        if len(self.inputs.volumes) == 1:
            self.inputs.pick(0, node)
        self.inputs.fill_obvious()

    def _options_in_words(self) -> Mapping[str, Any]:
        parameter = self.parameter()
        return {
            "Model": self.models.identifier,
            "Quality": parameter.quality,
            "Device": parameter.device,
            "Uncertainty": parameter.uncertainty,
            "Region of interest": parameter.roi is not None,
            "All time points": parameter.time_points,
        }

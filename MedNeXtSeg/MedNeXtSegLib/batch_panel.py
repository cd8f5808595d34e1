"""The section "Batch": many cases with the model and options chosen above."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from .batch_logic import BatchLogic, folder_cases, scene_cases
from .errors import UserError
from .guard import Guard
from .inputs_panel import volumes_of_scene
from .parameter import SegmentParameter

_SCENE = 0


class BatchPanel:
    """One row a case. `parameter` is asked when the batch starts."""

    def __init__(self, ui: Any, logic: BatchLogic, guard: Guard) -> None:
        self._ui, self._logic = ui, logic
        self.parameter: Callable[[], SegmentParameter] = SegmentParameter
        self.before_run: Callable[[], bool] = lambda: True
        self.on_state: Callable[[bool], None] = lambda running: None
        logic.on_case = self._show
        logic.on_end = self._ended
        guard.connect(ui.batchButton, "clicked()", self._clicked)
        guard.connect(ui.batchSourceCombo, "currentIndexChanged(int)", self.update)
        header = ui.batchTable.horizontalHeader()
        header.setSectionResizeMode(qt.QHeaderView.Stretch)
        ui.batchTable.verticalHeader().visible = False
        ui.batchStatus.visible = False
        self.update()

    def update(self) -> None:
        ui = self._ui
        folder = ui.batchSourceCombo.currentIndex != _SCENE
        for widget in (
            ui.batchInputLabel,
            ui.batchInputPath,
            ui.batchOutputLabel,
            ui.batchOutputPath,
        ):
            widget.visible = folder
        running = self._logic.running
        ui.batchButton.text = _("&Cancel batch") if running else _("Segment &all")
        ui.batchButton.accessibleName = _("Cancel the batch") if running else _("Segment all cases")

    def set_enabled(self, enabled: bool) -> None:
        """A single run keeps the batch from starting."""
        self._ui.batchButton.enabled = enabled or self._logic.running

    def _clicked(self) -> None:
        if self._logic.running:
            self._say(_("Cancelling…"))
            self._logic.cancel()
            return
        try:
            self._start()
        except UserError as error:
            self._say(str(error))

    def _start(self) -> None:
        ui, parameter = self._ui, self.parameter()
        if not parameter.model:
            raise UserError(_("Pick a model."))
        if ui.batchSourceCombo.currentIndex == _SCENE:
            cases = scene_cases(parameter.model, volumes_of_scene())
        else:
            source, target = ui.batchInputPath.currentPath, ui.batchOutputPath.currentPath
            cases = folder_cases(parameter.model, source, target)
        if not cases:
            raise UserError(_("There is no volume in the scene."))
        if not self.before_run():
            return
        ui.batchTable.setRowCount(len(cases))
        for row, case in enumerate(cases):
            ui.batchTable.setItem(row, 0, qt.QTableWidgetItem(case.name))
            ui.batchTable.setItem(row, 1, qt.QTableWidgetItem(case.text))
        self.on_state(True)
        self._say(_("The batch runs."))
        self._logic.start(cases, parameter)
        self.update()

    def _show(self, row: int) -> None:
        item = self._ui.batchTable.item(row, 1)
        text = self._logic.cases[row].text
        if item is not None:
            item.setText(text)
            item.setToolTip(text)

    def _ended(self) -> None:
        self._say(self._logic.summary())
        self.update()
        self.on_state(False)

    def _say(self, sentence: str) -> None:
        self._ui.batchStatus.text = sentence
        self._ui.batchStatus.visible = bool(sentence)

"""The table of cases, and the fields that edit the chosen one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from .errors import UserError
from .finetune_cases import ANNOTATED, AXES, BOX, EVERYTHING, PAINTED, SLICES, USES, TrainingCase
from .finetune_pairs import current_pair, scene_pairs, volume_of
from .guard import Guard
from .tables import fit_table, prepare_table
from .volume_selector import labelled_selector


def annotated_words() -> dict[str, str]:
    return {
        EVERYTHING: _("Everything"),
        SLICES: _("Only annotated slices"),
        BOX: _("Only inside a box"),
        PAINTED: _("Painted voxels only"),
    }


def annotated_explanations() -> dict[str, str]:
    return {
        EVERYTHING: _("What is not painted is background, everywhere."),
        SLICES: _(
            "What is not painted is background on slices that hold a segment. All other slices are "
            "unknown, but for what is ticked here."
        ),
        BOX: _("What is not painted is background inside the box, and unknown outside of it."),
        PAINTED: _("What is not painted is unknown; paint a segment called 'background' too."),
    }


class CasesPanel:
    """The section "Cases". `on_changed` is called when something of it changes; `current` answers
    the volume and segmentation that are chosen elsewhere in the panel."""

    def __init__(self, ui: Any, guard: Guard) -> None:
        self._ui, self._guard = ui, guard
        self._channels: list[str] = []
        self._rows: list[tuple[Any, Any]] = []  # label, selector: one a channel
        self._filling = False
        self.cases: list[TrainingCase] = []
        self.enabled = True
        self.on_changed: Callable[[], None] = lambda: None
        self.current: Callable[[], tuple[Any, Any]] = lambda: (None, None)
        guard.connect(ui.addCurrentButton, "clicked()", self.add_current)
        guard.connect(ui.addPairsButton, "clicked()", self._add_pairs)
        guard.connect(ui.removeCaseButton, "clicked()", self._remove)
        guard.connect(ui.casesTable, "itemSelectionChanged()", self._selected)
        for selector in (ui.caseSegmentationSelector, ui.boxSelector):
            guard.connect(selector, "currentNodeChanged(vtkMRMLNode*)", self._edited)
        for combo in (ui.annotatedCombo, ui.axisCombo, ui.useCombo):
            guard.connect(combo, "currentIndexChanged(int)", self._edited)
        guard.connect(ui.beyondCheck, "toggled(bool)", self._edited)
        prepare_table(ui.casesTable)
        for label, widget in (
            (ui.caseSegmentationLabel, ui.caseSegmentationSelector),
            (ui.annotatedLabel, ui.annotatedCombo),
            (ui.axisLabel, ui.axisCombo),
            (ui.boxLabel, ui.boxSelector),
            (ui.useLabel, ui.useCombo),
        ):
            label.setBuddy(widget)
        self.set_channels([_("Volume")])
        self.update()

    # ---- cases ---------------------------------------------------------------------------------

    @property
    def row(self) -> int:
        return int(self._ui.casesTable.currentRow())

    @property
    def chosen(self) -> TrainingCase | None:
        return self.cases[self.row] if 0 <= self.row < len(self.cases) else None

    def set_cases(self, cases: Sequence[TrainingCase]) -> None:
        self.cases = list(cases)
        self._show(0 if self.cases else -1)

    def add(self, cases: Sequence[TrainingCase]) -> None:
        self.cases += cases
        self._show(len(self.cases) - 1)

    def add_current(self) -> None:
        """Adds what is open in the Segment Editor. Raises UserError where that is nothing, or on
        the list already."""
        case = current_pair(self._channels, *self.current())
        known = [c for c in self.cases if c.from_scene and c.segmentation is case.segmentation]
        if known:
            self._ui.casesTable.selectRow(self.cases.index(known[0]))
            raise UserError(
                _("{name} is on the list already.").format(name=case.segmentation.GetName()),
                _("Choose another segmentation in the Segment Editor."),
            )
        self.add([case])

    def _add_pairs(self) -> None:
        found = scene_pairs(self._channels, self.cases)
        if not found:
            raise UserError(
                _("There is no further segmentation whose volume can be told."),
                _("Open one in the Segment Editor and click 'Add current'."),
            )
        self.add(found)

    def _remove(self) -> None:
        row = self.row
        if 0 <= row < len(self.cases):
            del self.cases[row]
            self._show(min(row, len(self.cases) - 1))

    def drop_gone(self) -> None:
        """The scene is another: nodes that are no more are taken off, and cases of nothing else."""
        scene = slicer.mrmlScene

        def alive(node: Any) -> Any:
            return node if node is not None and scene.IsNodePresent(node) else None

        for case in self.cases:
            case.volumes = [alive(volume) for volume in case.volumes]
            case.segmentation, case.roi = alive(case.segmentation), alive(case.roi)
        self.set_cases(
            [c for c in self.cases if c.kept or c.segmentation is not None or c.volume is not None]
        )

    # ---- channels ------------------------------------------------------------------------------

    def set_channels(self, channels: Sequence[str]) -> None:
        """Makes one volume selector a channel, above the segmentation."""
        if list(channels) == self._channels:
            return
        for label, selector in self._rows:
            self._guard.forget(selector)
            self._ui.caseForm.removeRow(label)
        self._channels = list(channels)
        self._rows = [self._make_row(index, name) for index, name in enumerate(channels)]
        for case in self.cases:
            missing = len(channels) - len(case.volumes)
            case.volumes = [*case.volumes, *([None] * missing)][: max(1, len(channels))]
        self._show(self.row)

    def _make_row(self, index: int, name: str) -> tuple[Any, Any]:
        only = len(self._channels) == 1
        label, selector = labelled_selector(name, only, f"caseVolumeSelector{index}")
        selector.toolTip = _("The case's volume for channel {channel}").format(channel=name)
        selector.accessibleName = _("Volume of the case for channel {channel}").format(channel=name)
        self._ui.caseForm.insertRow(index, label, selector)
        self._guard.connect(selector, "currentNodeChanged(vtkMRMLNode*)", self._edited)
        return label, selector

    # ---- showing -------------------------------------------------------------------------------

    def set_enabled(self, enabled: bool) -> None:
        self.enabled = enabled
        ui = self._ui
        for widget in (ui.addCurrentButton, ui.addPairsButton, ui.removeCaseButton, ui.caseGroup):
            widget.enabled = enabled
        self.update()

    def _show(self, row: int) -> None:
        """Fills the table and chooses a row."""
        table = self._ui.casesTable
        self._filling = True
        try:
            table.setRowCount(len(self.cases))
            for index in range(len(self.cases)):
                self._show_row(index)
            fit_table(table, most_rows=6)
            table.setCurrentCell(row, 0)
            if row >= 0:
                table.selectRow(row)
        finally:
            self._filling = False
        self._fill_fields()
        self.update()
        self.on_changed()

    def _show_row(self, index: int) -> None:
        case = self.cases[index]
        problem = case.problem(self._channels)
        name = case.segmentation.GetName() if case.segmentation is not None else ""
        uses = [_("Automatic"), _("Learn"), _("Measure")]
        texts = (
            _("{title} (to do)").format(title=case.title()) if problem else case.title(),
            name,
            annotated_words()[case.annotated],
            uses[USES.index(case.use)],
        )
        for column, text in enumerate(texts):
            item = qt.QTableWidgetItem(text)
            item.setToolTip(problem or text)
            self._ui.casesTable.setItem(index, column, item)

    def _fill_fields(self) -> None:
        case, ui = self.chosen, self._ui
        self._filling = True
        try:
            for index, (_label, selector) in enumerate(self._rows):
                fits = case is not None and index < len(case.volumes)
                selector.setCurrentNode(case.volumes[index] if fits and case else None)
            ui.caseSegmentationSelector.setCurrentNode(case.segmentation if case else None)
            ui.boxSelector.setCurrentNode(case.roi if case else None)
            ui.annotatedCombo.currentIndex = ANNOTATED.index(case.annotated) if case else 0
            ui.axisCombo.currentIndex = AXES.index(case.axis) if case else 0
            ui.beyondCheck.checked = case is not None and case.beyond
            ui.useCombo.currentIndex = USES.index(case.use) if case else 0
        finally:
            self._filling = False

    def update(self) -> None:
        case, ui = self.chosen, self._ui
        ui.caseGroup.visible = case is not None
        ui.removeCaseButton.enabled = self.enabled and case is not None
        if case is None:
            return
        ui.caseGroup.title = _("Case {number} of {count}").format(
            number=self.row + 1, count=len(self.cases)
        )
        slices, box = case.annotated == SLICES, case.annotated == BOX
        for widget, shown in (
            (ui.axisLabel, slices),
            (ui.axisCombo, slices),
            (ui.beyondCheck, slices),
            (ui.boxLabel, box),
            (ui.boxSelector, box),
        ):
            widget.visible = shown
        ui.annotatedExplanation.text = annotated_explanations()[case.annotated]
        for widget in (ui.annotatedCombo, ui.axisCombo, ui.beyondCheck, ui.boxSelector):
            widget.enabled = case.from_scene  # files of an earlier training are as they are

    def _selected(self) -> None:
        if not self._filling:
            self._fill_fields()
            self.update()

    def _edited(self) -> None:
        case, ui = self.chosen, self._ui
        if self._filling or case is None:
            return
        segmentation = ui.caseSegmentationSelector.currentNode()
        case.volumes = [selector.currentNode() for _label, selector in self._rows]
        if segmentation is not case.segmentation and case.volume is None and segmentation:
            case.volumes[0] = volume_of(segmentation)
        case.segmentation = segmentation
        case.roi = ui.boxSelector.currentNode()
        case.annotated = ANNOTATED[ui.annotatedCombo.currentIndex]
        case.axis = AXES[ui.axisCombo.currentIndex]
        case.beyond = bool(ui.beyondCheck.checked)
        case.use = USES[ui.useCombo.currentIndex]
        self._show(self.row)

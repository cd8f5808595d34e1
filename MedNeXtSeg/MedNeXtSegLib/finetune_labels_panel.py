"""The table of labels: what each segment name goes on from in the base model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from .finetune_cases import TrainingCase
from .finetune_labels import BACKGROUND, FROM_BASE, NEW, UNUSED, LabelRow, LabelTable
from .guard import Guard
from .tables import fit_table, prepare_table

_FIXED = (NEW, BACKGROUND, UNUSED)  # entries of a combo box before the base model's labels


class LabelsPanel:
    """Shows a `LabelTable`; `on_changed` is called when a choice is made."""

    def __init__(self, ui: Any, guard: Guard) -> None:
        self._ui, self._guard = ui, guard
        self.table = LabelTable()
        self._kept: Sequence[LabelRow] = ()
        self._base_names: list[str] = []
        self._combos: list[Any] = []
        self._shown: tuple[Any, ...] | None = None
        self.enabled = True
        self.on_changed: Callable[[], None] = lambda: None
        prepare_table(ui.labelsTable)
        ui.labelsTable.horizontalHeader().setSectionResizeMode(2, qt.QHeaderView.ResizeToContents)
        self.update([], [])

    def keep(self, rows: Sequence[LabelRow]) -> None:
        """Labels of an earlier training, for cases whose nodes are gone."""
        self._kept = rows

    def update(self, cases: Sequence[TrainingCase], base_names: Sequence[str]) -> None:
        """Shows the segments of `cases` against the labels of the base model."""
        self.table.update(cases, self._kept)
        self._base_names = list(base_names)
        shown = (tuple(row.name for row in self.table.rows), tuple(base_names))
        if shown != self._shown:
            self._shown = shown
            self._fill()
        self._describe()

    def set_enabled(self, enabled: bool) -> None:
        self.enabled = enabled
        for combo in self._combos:
            combo.enabled = enabled

    def refill(self) -> None:
        """The choices were changed elsewhere."""
        self._shown = None

    def _fill(self) -> None:
        table = self._ui.labelsTable
        for combo in self._combos:
            self._guard.forget(combo)
        self._combos = []
        table.clearContents()
        table.setRowCount(len(self.table.rows))
        for index, row in enumerate(self.table.rows):
            item = qt.QTableWidgetItem(row.name)
            item.setToolTip(row.name)
            if row.color:
                pixmap = qt.QPixmap(12, 12)
                pixmap.fill(qt.QColor(*row.color))
                item.setIcon(qt.QIcon(pixmap))
            table.setItem(index, 0, item)
            combo = self._make_combo(row)
            table.setCellWidget(index, 1, combo)
            self._combos.append(combo)
            self._guard.connect(combo, "currentIndexChanged(int)", self._chosen)
        fit_table(table, most_rows=8)

    def _make_combo(self, row: LabelRow) -> Any:
        combo = qt.QComboBox()
        combo.addItems([_("New label"), _("Background"), _("Leave out"), *self._base_names])
        combo.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Fixed)
        combo.toolTip = _("Which label of the base model {name} goes on from").format(name=row.name)
        combo.accessibleName = _("{name} goes on from").format(name=row.name)
        combo.enabled = self.enabled
        base = row.matched(self._base_names)
        if row.kind in (BACKGROUND, UNUSED):
            combo.currentIndex = _FIXED.index(row.kind)
        elif base:
            combo.currentIndex = len(_FIXED) + self._base_names.index(base)
        return combo

    def _chosen(self) -> None:
        for row, combo in zip(self.table.rows, self._combos, strict=True):
            index = combo.currentIndex
            if index >= len(_FIXED):
                base = self._base_names[index - len(_FIXED)]
                if row.matched(self._base_names) != base:
                    row.kind, row.base = FROM_BASE, base
            elif _FIXED[index] != NEW or row.kind in (BACKGROUND, UNUSED) or self._now(row):
                row.kind, row.base = _FIXED[index], ""
        self._describe()
        self.on_changed()

    def _now(self, row: LabelRow) -> str:
        """The base model's label that a row goes on from so far."""
        return row.matched(self._base_names)

    def _describe(self) -> None:
        """States in words, and what of the base model goes."""
        for index, row in enumerate(self.table.rows):
            self._ui.labelsTable.setItem(index, 2, qt.QTableWidgetItem(row.state(self._base_names)))
        dropped = self.table.dropped(self._base_names) if self.table.rows else []
        names = ", ".join(dropped[:6]) + (" …" if len(dropped) > 6 else "")
        self._ui.droppedLabel.text = _(
            "The new model will not find these labels of the base model: {names}."
        ).format(names=names)
        self._ui.droppedLabel.visible = bool(dropped)
        self._ui.droppedLabel.toolTip = ", ".join(dropped)
        self._ui.labelsSection.text = _("Labels ({count})").format(count=len(self.table.names()))

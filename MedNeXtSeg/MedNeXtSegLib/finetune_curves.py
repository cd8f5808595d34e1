"""The curves of a training: one table, one line a loss and a label, in a plot view of Slicer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from vtk.util.numpy_support import numpy_to_vtk

MAX_LABELS = 12  # lines of labels; more cannot be told apart, the table and the mean have all
# Colours that people with any colour vision tell apart (Okabe and Ito); markers differ too.
_COLORS = (
    (0.00, 0.45, 0.70), (0.84, 0.37, 0.00), (0.00, 0.62, 0.45), (0.80, 0.47, 0.65),
    (0.90, 0.62, 0.00), (0.34, 0.71, 0.91), (0.50, 0.50, 0.50),
)  # fmt: skip


@dataclass
class _Row:
    epoch: int
    train_loss: float | None
    validation_loss: float | None
    dice: dict[str, float] = field(default_factory=dict)


class Curves:
    """Keeps every epoch; `show` makes the nodes, `remove` takes them out of the scene again.

    Nodes that the person removed, or that went with the scene, are not made again by new epochs.
    """

    def __init__(self, scene: Any, show_chart: Callable[[Any], None]) -> None:
        self._scene, self._show_chart = scene, show_chart
        self._rows: dict[int, _Row] = {}
        self._name = ""
        self._table_id = self._chart_id = ""
        self._series_ids: dict[str, str] = {}
        self._layout: tuple[int, int] | None = None  # the views' arrangement before and with curves

    @property
    def empty(self) -> bool:
        return not self._rows

    @property
    def shown(self) -> bool:
        return self._node(self._chart_id) is not None

    def begin(self, name: str) -> None:
        """A new training: what was drawn of an earlier one is removed."""
        self.remove()
        self._rows, self._name = {}, name

    def add(
        self,
        epoch: int,
        train_loss: float | None,
        validation_loss: float | None,
        dice: Mapping[str, float],
    ) -> None:
        """Takes an epoch; after a resume an epoch may come once more and replaces the first."""
        self._rows[epoch] = _Row(epoch, train_loss, validation_loss, dict(dice))
        if self.shown:
            self._fill()

    def show(self) -> None:
        """Draws what there is and shows it in a plot view."""
        if self.empty:
            return
        if not self.shown:
            self.remove()
            self._make()
        self._fill()
        layout = self._scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
        before = layout.GetViewArrangement() if layout is not None else 0
        self._show_chart(self._node(self._chart_id))
        if layout is not None and layout.GetViewArrangement() != before:
            self._layout = (before, layout.GetViewArrangement())

    def remove(self) -> None:
        """Takes the nodes out of the scene and gives the views their places back."""
        layout = self._scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
        if self._layout is not None and layout is not None:
            before, made = self._layout
            if layout.GetViewArrangement() == made:  # else the person has chosen another meanwhile
                layout.SetViewArrangement(before)
        for identifier in (self._chart_id, *self._series_ids.values(), self._table_id):
            node = self._node(identifier)
            if node is not None:
                self._scene.RemoveNode(node)
        self.forget()

    def forget(self) -> None:
        """The scene was closed: the nodes are gone; the epochs stay."""
        self._layout, self._table_id, self._chart_id, self._series_ids = None, "", "", {}

    # ---- the nodes -----------------------------------------------------------------------------

    def _node(self, identifier: str) -> Any:
        return self._scene.GetNodeByID(identifier) if identifier else None

    def _make(self) -> None:
        scene = self._scene
        table = scene.AddNewNodeByClass("vtkMRMLTableNode", self._title(_("Curves of {name}")))
        chart = scene.AddNewNodeByClass(
            "vtkMRMLPlotChartNode", self._title(_("Training of {name}"))
        )
        chart.SetTitle(chart.GetName())
        chart.SetXAxisTitle(_("Epoch"))
        chart.SetYAxisTitle(_("Loss, Dice"))
        self._table_id, self._chart_id = table.GetID(), chart.GetID()

    def _title(self, text: str) -> str:
        return str(self._scene.GenerateUniqueName(text.format(name=self._name)))

    def _columns(self) -> dict[str, np.ndarray]:
        rows = [self._rows[epoch] for epoch in sorted(self._rows)]
        names = list(dict.fromkeys(name for row in rows for name in row.dice))
        columns = {
            _("Epoch"): [row.epoch for row in rows],
            _("Training loss"): [row.train_loss for row in rows],
            _("Validation loss"): [row.validation_loss for row in rows],
            _("Mean Dice"): [_mean(row.dice) for row in rows],
        }
        for name in names:
            columns[_("Dice {label}").format(label=name)] = [row.dice.get(name) for row in rows]
        return {
            name: np.array([np.nan if value is None else value for value in values], dtype=float)
            for name, values in columns.items()
        }

    def _fill(self) -> None:
        """Replaces the columns of the table at once and adds lines for labels that are new."""
        table = self._node(self._table_id)
        chart = self._node(self._chart_id)
        if table is None or chart is None:
            return
        filled = vtk.vtkTable()
        columns = self._columns()
        for name, values in columns.items():
            column = numpy_to_vtk(values, deep=True, array_type=vtk.VTK_DOUBLE)
            column.SetName(name)
            filled.AddColumn(column)
        table.SetAndObserveTable(filled)
        epochs, *drawn = columns
        for index, name in enumerate(drawn[: 3 + MAX_LABELS]):
            if name not in self._series_ids and np.isfinite(columns[name]).any():
                self._add_series(table, chart, epochs, name, index)

    def _add_series(self, table: Any, chart: Any, epochs: str, name: str, index: int) -> None:
        node = self._scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", name)
        node.SetAndObserveTableNodeID(table.GetID())
        node.SetXColumnName(epochs)
        node.SetYColumnName(name)
        kind = slicer.vtkMRMLPlotSeriesNode
        node.SetPlotType(kind.PlotTypeScatter)
        node.SetLineStyle(kind.LineStyleDash if index == 1 else kind.LineStyleSolid)
        # The losses are plain lines; lines of labels have markers, so that colour is not all.
        markers = (kind.MarkerStyleCross, kind.MarkerStyleSquare, kind.MarkerStyleCircle,
                   kind.MarkerStyleDiamond, kind.MarkerStylePlus)  # fmt: skip
        node.SetMarkerStyle(markers[index % len(markers)] if index > 2 else kind.MarkerStyleNone)
        node.SetColor(*_COLORS[index % len(_COLORS)])
        node.SetLineWidth(3 if index == 2 else 2)
        self._series_ids[name] = node.GetID()
        chart.AddAndObservePlotSeriesNodeID(node.GetID())


def _mean(dice: Mapping[str, float]) -> float | None:
    return float(np.mean(list(dice.values()))) if dice else None


def show_chart_in_layout(chart: Any) -> None:
    """Shows a chart in a view; without views (no main window) it only exists."""
    if slicer.app.layoutManager() is not None:
        slicer.modules.plots.logic().ShowChartInLayout(chart)

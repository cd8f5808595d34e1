"""Renders pictures of the tab "Fine-tune" into Resources/Screenshots, with a real short training.

    python Testing/module/tools/render_finetune.py [STEPS]

Both thalami are drawn roughly on every fourth axial slice of the sample head and trained for a few
steps (40 unless said) on small patches, which a processor does in minutes. The tab is the module's
own under the tests' stand-in for Slicer, as in render_panel.py; the curves are drawn there from the
table that the module fills.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from places import keep_private

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT / "MedNeXtSeg")]
WIDTH, HEIGHT = 400, 900
CENTRES = {"Thalamus left": (-11, -18, 8), "Thalamus right": (11, -18, 8)}  # RAS, mm
RADII = (8, 13, 9)


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    with tempfile.TemporaryDirectory() as private:
        keep_private(private)
        import harness

        harness.start()
        harness.load_module(ROOT / "MedNeXtSeg" / "MedNeXtSeg.py")
        try:
            render(ROOT / "Resources" / "Screenshots", steps)
        finally:
            harness.unload_module("MedNeXtSeg")


def render(folder: Path, steps: int) -> None:
    """Goes through the states one after the other."""
    import slicer
    from finetune_fixtures import draw, epoch_of, idle
    from PySide6.QtWidgets import QApplication
    from render_panel import palette, settle, until

    app = QApplication.instance()
    app.setStyle("Fusion")
    app.setPalette(palette(dark=False))
    widget = slicer.util.getModuleWidget("MedNeXtSeg")
    slicer.modules.mednextseg.widgetRepresentation().enter()
    ui, segment = widget.fineTuneUi, widget.ui
    window = segment.tabs.window()
    window.resize(WIDTH, HEIGHT)
    window.show()
    segment.tabs.currentIndex = 1
    until(lambda: segment.modelList.count > 0 and widget.finetune._logic.directory)

    def picture(name: str) -> None:
        settle()
        window.resize(WIDTH, 100)
        settle()
        if not window.grab().save(str(folder / f"finetune-{name}.png")):
            raise SystemExit(f"finetune-{name}.png could not be written.")

    segment.sampleDataButton.click()
    until(lambda: segment.runButton.enabled)
    volume = slicer.util.getNode("Colin27_T1")
    draw(volume, thalami(volume), "Colin27_T1 drawn")
    ui.addPairsButton.click()
    ui.nameEdit.text = "Thalamus MR"
    ui.presetCombo.currentIndex = 0
    picture("idle")
    ui.stepsSpin.value = steps
    chosen = widget.finetune.options.options
    widget.finetune.options.options = lambda: {**chosen(), "patch": [48, 48, 48], "batch": 1}
    ui.checkButton.click()
    until(lambda: idle(ui), 1200)
    picture("checked")
    ui.startButton.click()
    until(lambda: epoch_of(ui) >= 6 or idle(ui), 3600)
    picture("training")
    until(lambda: idle(ui), 3600)
    print(ui.trainStatus.text)
    picture("finished")
    draw_curves(folder / "finetune-curves.png")
    app.setPalette(palette(dark=True))
    for section in (ui.casesSection, ui.labelsSection, ui.trainSection, ui.advancedSection):
        section.collapsed = False
    picture("dark")


def thalami(volume: Any) -> dict[str, Any]:
    """Ellipsoids [k, j, i] about where the thalami are, on every fourth axial slice."""
    import numpy as np
    import slicer
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    shape = slicer.util.arrayFromVolume(volume).shape
    k, j, i = np.indices(shape)
    points = np.stack([i, j, k, np.ones(shape)], axis=-1)
    ras = points @ slicer.util.arrayFromVTKMatrix(matrix).T
    masks = {}
    for name, centre in CENTRES.items():
        inside = (((ras[..., :3] - centre) / RADII) ** 2).sum(axis=-1) <= 1
        inside[np.arange(shape[0]) % 4 != 0] = False
        masks[name] = inside
    return masks


def draw_curves(path: Path) -> None:
    """What the plot view shows: the columns of the table against its first."""
    import slicer
    from PySide6.QtCore import QPointF, QRectF, Qt
    from PySide6.QtGui import QColor, QImage, QPainter, QPen, QPolygonF

    chart = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLPlotChartNode")
    table = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLTableNode").GetTable()
    rows = range(table.GetNumberOfRows())
    image = QImage(640, 320, QImage.Format.Format_RGB32)
    image.fill(QColor("white"))
    painter = QPainter(image)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    area = QRectF(50, 30, 400, 240)
    lines = []
    for index in range(chart.GetNumberOfPlotSeriesNodes()):
        node = chart.GetNthPlotSeriesNode(index)
        values = [table.GetValueByName(row, node.GetYColumnName()).ToDouble() for row in rows]
        lines.append((node, values))
    known = [value for _node, values in lines for value in values if value == value]
    low, high = min(0.0, *known), max(1.0, *known)
    last = max(2, len(rows)) - 1
    painter.drawRect(area)
    painter.drawText(QPointF(area.left(), 20), chart.GetTitle())
    painter.drawText(QPointF(area.center().x() - 20, 300), chart.GetXAxisTitle())
    for value in (low, high):
        y = area.bottom() - area.height() * (value - low) / (high - low)
        painter.drawText(QPointF(8, y + 4), f"{value:.2f}")
    for index, (node, values) in enumerate(lines):
        color = QColor.fromRgbF(*node.GetColor())
        dashed = node.GetLineStyle() == slicer.vtkMRMLPlotSeriesNode.LineStyleDash
        painter.setPen(QPen(color, 2, Qt.PenStyle.DashLine if dashed else Qt.PenStyle.SolidLine))
        points = [
            QPointF(
                area.left() + area.width() * row / last,
                area.bottom() - area.height() * (value - low) / (high - low),
            )
            for row, value in enumerate(values)
            if value == value
        ]
        painter.drawPolyline(QPolygonF(points))
        painter.drawText(QPointF(465, 45 + 20 * index), node.GetName())
    painter.end()
    if not image.save(str(path)):
        raise SystemExit(f"{path.name} could not be written.")


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)

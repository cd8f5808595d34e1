"""The click path with nothing pretended: drawn slices, embedded model, the engine's training."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from finetune_fixtures import draw, idle
from panel_fixtures import *  # noqa: F403 - fixtures
from panel_fixtures import ROOT, assert_no_torch, settle, until

pytest.importorskip("batchgeneratorsv2")
pytestmark = pytest.mark.skipif(
    not any((ROOT / "Resources" / "Models").glob("*/plans.json")), reason="no embedded model here"
)
STEPS = 4
SMALL = {"patch": [48, 48, 48], "batch": 1}
"""No choice of the panel: a patch that takes a second, not ten, on a processor."""


def blocks_on_some_slices(volume: Any) -> dict[str, np.ndarray]:
    """A block on each side of the middle of the brain, drawn on every tenth axial slice only."""
    shape = slicer.util.arrayFromVolume(volume).shape
    matrix = np.linalg.inv(slicer.util.arrayFromVTKMatrix(_matrix(volume)))
    masks = {}
    for name, side in (("Block left", -18), ("Block right", 18)):
        mask = np.zeros(shape, bool)
        corners = [matrix @ (side + dx, dy - 15, dz + 8, 1) for dx, dy, dz in
                   ((-9, -14, -25), (9, 14, 25))]  # fmt: skip
        low, high = (
            np.sort(np.array(corners)[:, :3], axis=0)[n].round().astype(int) for n in (0, 1)
        )
        mask[low[2] : high[2], low[1] : high[1], low[0] : high[0]] = True
        drawn = np.zeros(shape[0], bool)
        drawn[::10] = True
        masks[name] = mask & drawn[:, None, None]
    return masks


def _matrix(volume: Any) -> Any:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return matrix


def test_drawn_slices_become_a_model_that_segments(
    private_places: Path, a_panel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    widget = a_panel if hasattr(a_panel, "ui") else a_panel.self()
    ui, segment = widget.fineTuneUi, widget.ui
    until(lambda: segment.modelList.count > 0 and widget.finetune._logic.directory, 60)
    segment.sampleDataButton.click()
    until(lambda: segment.runButton.enabled)
    volume = slicer.util.getNode("Colin27_T1")
    draw(volume, blocks_on_some_slices(volume))
    ui.addPairsButton.click()
    assert ui.annotatedCombo.currentIndex == 1  # slices with gaps are noticed
    ui.nameEdit.text = "Blocks"
    ui.presetCombo.currentIndex = 0
    ui.stepsSpin.value = STEPS
    chosen = widget.finetune.options.options
    monkeypatch.setattr(widget.finetune.options, "options", lambda: {**chosen(), **SMALL})
    started = time.monotonic()
    ui.startButton.click()
    until(lambda: idle(ui), 600)
    print(f"from click to model: {time.monotonic() - started:.1f} s")
    problems = [ui.problemsList.item(row).text() for row in range(ui.problemsList.count)]
    print("\n".join([*problems, ui.estimateLabel.text, ui.trainStatus.text, ui.heldOutLabel.text]))
    assert ui.trainStatus.text.startswith("Done in "), ui.trainStatus.text
    assert ui.resultsTable.rowCount == 2
    assert float(ui.resultsTable.item(0, 2).text()) >= 0
    until(lambda: (widget.panel.models.model or {}).get("title") == "Blocks")
    names = [label["name"] for label in widget.panel.models.model["labels"]]
    assert names == ["Block left", "Block right"]
    table = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLTableNode")
    assert table.GetTable().GetNumberOfRows() > 0
    ui.tidyButton.click()
    settle()
    assert slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLTableNode") is None
    segment.qualityCombo.currentIndex = 0
    segment.runButton.click()
    until(lambda: segment.runButton.text == "&Segment", 300)
    assert segment.statusLabel.text.startswith("Done in "), segment.statusLabel.text
    assert_no_torch()

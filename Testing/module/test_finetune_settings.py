"""What can be set in the tab "Fine-tune": annotated parts, labels, networks, channels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from finetune_fixtures import *  # noqa: F403 - fixtures
from finetune_fixtures import a_left_and_right, draw, run_folders, texts, train
from panel_fixtures import *  # noqa: F403 - fixtures
from panel_fixtures import a_head, until


def test_labels_are_matched_mapped_and_dropped(
    a_training_panel: Any, a_volume: Any, a_scene: Any
) -> None:
    ui = a_training_panel.ui
    volume = a_volume("Head", a_head(), np.eye(4))
    masks = a_left_and_right()
    draw(volume, {"bright": masks["Left"], "Tumour": masks["Right"], "Background": ~masks["Left"]})
    ui.addPairsButton.click()
    states = [ui.labelsTable.item(row, 2).text() for row in range(3)]
    assert states == ["matched", "new", "background"]
    combo = ui.labelsTable.cellWidget(1, 1)
    assert combo.accessibleName == "Tumour goes on from"
    assert "Never there" in ui.droppedLabel.text
    combo.currentIndex = combo.findText("Very bright")
    assert ui.labelsTable.item(1, 2).text() == "matched"
    assert "Very bright" not in ui.droppedLabel.text
    combo.currentIndex = combo.findText("Bright")
    assert "both go on from Bright" in ui.trainStatus.text
    assert not ui.startButton.enabled
    combo.currentIndex = combo.findText("New label")
    assert ui.startButton.enabled
    labels = a_training_panel.tab.parameter().as_json()["labels"]
    assert [(one["name"], one["base"], one["background"]) for one in labels] == [
        ("bright", "Bright", False), ("Tumour", None, False), ("Background", None, True),
    ]  # fmt: skip
    ui.labelsTable.cellWidget(2, 1).currentIndex = 2
    assert a_training_panel.tab.labels.table.values() == {"bright": 1, "Tumour": 2}


def test_painted_voxels_need_a_background(
    a_training_panel: Any, a_drawn_pair: tuple[Any, Any]
) -> None:
    ui = a_training_panel.ui
    ui.addPairsButton.click()
    ui.annotatedCombo.currentIndex = 3
    assert "needs a segment for what is background" in ui.trainStatus.text
    ui.labelsTable.cellWidget(1, 1).currentIndex = 1
    assert ui.startButton.enabled


def test_a_box_is_wanted_before_it_starts(
    a_training_panel: Any, a_drawn_pair: tuple[Any, Any], a_scene: Any
) -> None:
    ui = a_training_panel.ui
    ui.addPairsButton.click()
    assert ui.boxSelector.isHidden()
    ui.annotatedCombo.currentIndex = 2
    assert not ui.boxSelector.isHidden()
    assert "pick the box" in ui.trainStatus.text
    roi = a_scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Seen")
    # The volume's own axes point to the left, the back and up: i = 10 - x, j = (-20 - y) / 1.5,
    # k = (z - 30) / 2. The box holds the centres of i 2 to 5, j 2 to 7 and k 1 to 3.
    roi.SetCenter(10 - 3.5, -20 - 1.5 * 4.5, 30 + 2 * 2)
    roi.SetSize(4, 9, 6)
    ui.boxSelector.setCurrentNode(roi)
    train(ui)
    (folder,) = run_folders(a_training_panel)
    case = json.loads((folder / "cases" / "case_001" / "case.json").read_text())
    assert case["annotated"] == {"kind": "box", "box": [[1, 4], [2, 8], [2, 6]]}


def test_from_scratch_needs_no_base(a_training_panel: Any, a_drawn_pair: tuple[Any, Any]) -> None:
    ui = a_training_panel.ui
    ui.addPairsButton.click()
    ui.transferCombo.currentIndex = 2
    assert ui.baseCombo.isHidden()
    assert ui.nameEdit.text == "My model"
    assert a_training_panel.tab.parameter().as_json()["base"] is None
    assert ui.startButton.enabled


def test_the_network_from_scratch_can_be_chosen(
    a_training_panel: Any, a_drawn_pair: tuple[Any, Any]
) -> None:
    ui = a_training_panel.ui
    ui.addPairsButton.click()
    assert ui.networkCombo.isHidden()
    ui.advancedSection.collapsed = False
    assert ui.networkCombo.isHidden()
    ui.upkernCheck.checked = True
    ui.transferCombo.currentIndex = 2
    assert not ui.networkCombo.isHidden()
    assert ui.spacingCombo.currentText == "1 mm, as in the MedNeXt paper"
    options = a_training_panel.tab.parameter().as_json()["options"]
    assert "network" not in options
    assert options["upkern"] is False  # there is nothing to enlarge
    ui.networkCombo.currentIndex = 1
    assert ui.networkCombo.currentText == "MedNeXt v1 S, kernel 3 (5.6 million weights)"
    assert a_training_panel.tab.parameter().as_json()["options"]["network"] == "v1-s-k3"
    ui.transferCombo.currentIndex = 0
    options = a_training_panel.tab.parameter().as_json()["options"]
    assert "network" not in options
    assert options["upkern"] is True
    assert ui.spacingCombo.currentText == "Of the base model"


def test_slices_beyond_which_there_is_nothing(
    a_training_panel: Any, a_drawn_pair: tuple[Any, Any]
) -> None:
    ui = a_training_panel.ui
    ui.addPairsButton.click()
    assert ui.beyondCheck.isHidden()
    ui.annotatedCombo.currentIndex = 1
    assert not ui.beyondCheck.isHidden()
    assert "unknown, but for what is ticked" in ui.annotatedExplanation.text
    ui.beyondCheck.checked = True
    train(ui)
    (folder,) = run_folders(a_training_panel)
    case = json.loads((folder / "cases" / "case_001" / "case.json").read_text())
    assert case["annotated"] == {
        "kind": "slices", "axis": None, "slices": None, "beyond": True,
    }  # fmt: skip
    until(lambda: ui.runsTable.rowCount == 1)
    ui.removeCaseButton.click()
    ui.runsTable.selectRow(0)
    ui.continueButton.click()
    assert ui.beyondCheck.checked


def test_several_channels_ask_for_their_volumes(a_training_panel: Any, a_volume: Any) -> None:
    ui = a_training_panel.ui
    ui.baseCombo.currentIndex = ui.baseCombo.findText("Model two")
    t1 = a_volume("sub_T1", a_head(), np.eye(4))
    draw(t1, a_left_and_right())
    ui.addPairsButton.click()
    assert "pick its volume for channel T2" in ui.trainStatus.text
    t2 = a_volume("sub_T2", a_head(), np.eye(4))
    slicer.util.findChild(a_training_panel.tabs, "caseVolumeSelector1").setCurrentNode(t2)
    assert ui.startButton.enabled
    assert train(ui).startswith("Done in ")
    (folder,) = run_folders(a_training_panel)
    case = json.loads((folder / "cases" / "case_001" / "case.json").read_text())
    assert case["images"] == ["image_0000.nrrd", "image_0001.nrrd"]


def test_settings_of_the_tab_come_back_with_a_saved_scene(
    a_training_panel: Any, a_drawn_pair: tuple[Any, Any], a_scene: Any, tmp_path: Path
) -> None:
    ui = a_training_panel.ui
    ui.addPairsButton.click()
    ui.annotatedCombo.currentIndex = 1
    ui.axisCombo.currentIndex = 2
    ui.beyondCheck.checked = True
    ui.presetCombo.currentIndex = 2
    ui.nameEdit.text = "Mine"
    a_scene.SetURL(str(tmp_path / "scene.mrml"))
    for node in a_drawn_pair:
        node.AddDefaultStorageNode()
        node.GetStorageNode().SetFileName(str(tmp_path / f"{node.GetName()}.nrrd"))
        node.GetStorageNode().WriteData(node)
    assert a_scene.Commit()
    a_scene.Clear(0)
    until(lambda: ui.casesTable.rowCount == 0)
    ui.nameEdit.text = "Other"
    assert a_scene.Connect() in (0, 1)
    until(lambda: ui.casesTable.rowCount == 1)
    assert texts(ui.casesTable, 0)[0] == "Head"
    assert ui.axisCombo.currentIndex == 2
    assert ui.beyondCheck.checked
    assert ui.presetCombo.currentIndex == 2
    assert ui.nameEdit.text == "Mine"

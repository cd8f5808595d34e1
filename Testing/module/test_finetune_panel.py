"""The tab "Fine-tune" as a user meets it, with a pretended training process."""

from __future__ import annotations

import json
import stat
from typing import Any

import numpy as np
import pytest
import slicer
from finetune_fixtures import *  # noqa: F403 - fixtures
from finetune_fixtures import a_left_and_right, draw, epoch_of, idle, run_folders, texts, train
from panel_fixtures import *  # noqa: F403 - fixtures
from panel_fixtures import a_head, assert_no_torch, class_counts, settle, until


def test_there_is_a_second_tab_and_it_says_why_it_cannot_start(a_training_panel: Any) -> None:
    ui = a_training_panel.ui
    assert a_training_panel.tabs.count == 2
    assert a_training_panel.tabs.tabText(1) == "Fine-tune"
    assert not ui.startButton.enabled
    assert ui.trainStatus.text == "Add a case: a volume with segments drawn on it."
    assert "stay on this computer" in ui.trainPrivacyLabel.text


def test_from_drawn_segments_to_a_chosen_model(
    a_training_panel: Any, a_drawn_pair: tuple[Any, Any], a_scene: Any
) -> None:
    ui = a_training_panel.ui
    before = class_counts(a_scene)
    ui.addPairsButton.click()
    assert texts(ui.casesTable, 0) == ["Head", "Head drawn", "Everything", "Automatic"]
    assert texts(ui.labelsTable, 0)[0] == "Left"
    assert texts(ui.labelsTable, 0)[2] == "new"
    assert ui.nameEdit.text == "Model one fine-tuned"
    assert ui.trainStatus.text.startswith("Ready")
    said = train(ui)
    assert said.startswith("Done in 61 s. Model one fine-tuned is chosen in the tab Segment."), said
    assert texts(ui.resultsTable, 0) == ["Left", "0.410", "0.729"]
    assert texts(ui.resultsTable, 1)[1] == "–"
    assert "held-out slices" in ui.heldOutLabel.text
    assert "Info: There is one case only" in ui.problemsList.item(0).text()
    chosen = "Model one fine-tuned"
    until(lambda: a_training_panel.segment.models.model["title"] == chosen)
    counts = class_counts(a_scene)
    assert counts["vtkMRMLPlotChartNode"] == 1
    assert counts["vtkMRMLSegmentationNode"] == 2  # what was drawn, and the preview
    ui.tidyButton.click()
    assert class_counts(a_scene) == before
    assert_no_torch()


def test_the_job_folder_is_private_and_complete(
    a_training_panel: Any, a_drawn_pair: tuple[Any, Any]
) -> None:
    ui = a_training_panel.ui
    ui.addPairsButton.click()
    ui.presetCombo.currentIndex = 0
    ui.useCombo.currentIndex = 0
    train(ui)
    (folder,) = run_folders(a_training_panel)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    job = json.loads((folder / "job.json").read_text())
    assert job["base"] == "one"
    assert job["preset"] == "quick"
    assert job["channels"] == ["MR"]
    assert job["cases"] == ["case_001"]
    assert [label["name"] for label in job["labels"]] == ["Left", "Right"]
    assert job["labels"][0]["color"] == [230, 51, 26]
    assert job["labels"][0]["base"] is None
    case = json.loads((folder / "cases" / "case_001" / "case.json").read_text())
    assert case["values"] == {"Left": 1, "Right": 2}
    assert case["overlaps"] == []
    assert case["annotated"] == {"kind": "everything"}
    assert case["source"]["volumes"][0]["name"] == "Head"
    from pretend_worker import read_nrrd

    _head, labels = read_nrrd(str(folder / "cases" / "case_001" / "labels.nrrd"))
    masks = a_left_and_right()
    assert (labels == np.where(masks["Left"], 1, np.where(masks["Right"], 2, 0))).all()
    _head, image = read_nrrd(str(folder / "cases" / "case_001" / "image_0000.nrrd"))
    assert (image == a_head()).all()


def test_check_says_what_is_wrong_and_start_refuses(
    a_training_panel: Any, a_drawn_pair: tuple[Any, Any], a_scene: Any
) -> None:
    ui = a_training_panel.ui
    ui.addPairsButton.click()
    ui.nameEdit.text = "Errors"
    before = class_counts(a_scene)
    ui.checkButton.click()
    until(lambda: idle(ui))
    first = ui.problemsList.item(0)
    assert first.text() == "Error: Head: The label Left is empty. Draw it, or leave it out."
    assert not first.icon().isNull()
    assert "It takes about 40 min." in ui.estimateLabel.text
    assert "3.2 GB of memory" in ui.estimateLabel.text
    said = train(ui)
    assert "It cannot start yet" in said
    assert class_counts(a_scene) == before
    assert len(run_folders(a_training_panel)) == 1  # the export of the check was used again


def test_what_was_checked_is_not_exported_again(
    a_training_panel: Any, a_drawn_pair: tuple[Any, Any]
) -> None:
    ui = a_training_panel.ui
    ui.addPairsButton.click()
    ui.checkButton.click()
    until(lambda: idle(ui))
    assert ui.trainStatus.text == "Checked: read the list, then click Start."
    (folder,) = run_folders(a_training_panel)
    stamp = (folder / "cases" / "case_001" / "image_0000.nrrd").stat().st_mtime_ns
    assert train(ui).startswith("Done in ")
    (same,) = run_folders(a_training_panel)
    assert same == folder
    assert (folder / "cases" / "case_001" / "image_0000.nrrd").stat().st_mtime_ns == stamp


def test_a_change_after_the_check_is_exported(
    a_training_panel: Any, a_drawn_pair: tuple[Any, Any]
) -> None:
    ui = a_training_panel.ui
    volume, segmentation = a_drawn_pair
    ui.addPairsButton.click()
    ui.checkButton.click()
    until(lambda: idle(ui))
    (before,) = run_folders(a_training_panel)
    draw_more(segmentation, volume, "Left")
    train(ui)
    (after,) = run_folders(a_training_panel)
    assert after != before


def draw_more(segmentation: Any, volume: Any, name: str) -> None:
    mask = a_left_and_right()[name]
    mask[0, 0, 0] = True
    identifier = segmentation.GetSegmentation().GetSegmentIdBySegmentName(name)
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        mask.astype(np.uint8), segmentation, identifier, volume
    )


def test_start_becomes_stop_and_keeps_the_best(
    a_training_panel: Any, a_drawn_pair: tuple[Any, Any]
) -> None:
    ui = a_training_panel.ui
    ui.addPairsButton.click()
    ui.nameEdit.text = "Endless"
    ui.startButton.click()
    assert not ui.startButton.enabled  # while it exports
    until(lambda: ui.startButton.text == "Stop and &keep the best")
    assert ui.startButton.accessibleName == "Stop the training and keep the best"
    until(lambda: epoch_of(ui) >= 5)
    assert not ui.addPairsButton.enabled
    assert "Memory: 2.1 GB." in ui.factsLabel.text
    assert "left" in ui.factsLabel.text
    ui.startButton.click()
    assert not ui.startButton.enabled
    until(lambda: idle(ui))
    assert "it was stopped and the best kept" in ui.trainStatus.text
    assert ui.addPairsButton.enabled


def test_cancel_leaves_nothing_in_the_scene_and_can_be_resumed(
    a_training_panel: Any, a_drawn_pair: tuple[Any, Any], a_scene: Any
) -> None:
    ui = a_training_panel.ui
    ui.addPairsButton.click()
    ui.nameEdit.text = "Endless"
    before = class_counts(a_scene)
    ui.startButton.click()
    until(lambda: epoch_of(ui) >= 4)
    assert class_counts(a_scene) != before  # curves and preview
    ui.cancelButton.click()
    until(lambda: idle(ui))
    assert "It can be resumed" in ui.trainStatus.text
    assert class_counts(a_scene) == before
    until(lambda: ui.runsTable.rowCount == 1)
    assert texts(ui.runsTable, 0)[0] == "Endless"
    assert texts(ui.runsTable, 0)[1].startswith("Interrupted (")
    assert "1 to resume" in ui.runsSection.text
    ui.runsTable.selectRow(0)
    ui.resumeButton.click()
    until(lambda: epoch_of(ui) >= 5)
    table = a_scene.GetFirstNodeByClass("vtkMRMLTableNode").GetTable()
    epochs = [table.GetValueByName(row, "Epoch").ToDouble() for row in range(5)]
    assert epochs == [1, 2, 3, 4, 5]  # the curves go on, they do not begin anew
    ui.startButton.click()
    until(lambda: idle(ui))
    assert "Done in" in ui.trainStatus.text
    until(lambda: texts(ui.runsTable, 0)[1] == "Finished")
    assert not ui.resumeButton.enabled


def test_curves_grow_and_hide(
    a_training_panel: Any, a_drawn_pair: tuple[Any, Any], a_scene: Any
) -> None:
    ui = a_training_panel.ui
    ui.addPairsButton.click()
    ui.nameEdit.text = "Endless"
    ui.startButton.click()
    until(lambda: epoch_of(ui) >= 4)
    table = a_scene.GetFirstNodeByClass("vtkMRMLTableNode").GetTable()
    names = [table.GetColumnName(n) for n in range(table.GetNumberOfColumns())]
    assert names == [
        "Epoch", "Training loss", "Validation loss", "Mean Dice", "Dice Left", "Dice Right",
    ]  # fmt: skip
    assert table.GetNumberOfRows() >= 4
    assert abs(table.GetValueByName(0, "Training loss").ToDouble() - 0.837) < 1e-6
    chart = a_scene.GetFirstNodeByClass("vtkMRMLPlotChartNode")
    assert chart.GetNumberOfPlotSeriesNodes() == 5
    ui.curvesCheck.checked = False
    assert a_scene.GetFirstNodeByClass("vtkMRMLPlotChartNode") is None
    settle(0.2)
    assert a_scene.GetFirstNodeByClass("vtkMRMLPlotChartNode") is None
    ui.curvesCheck.checked = True
    assert a_scene.GetFirstNodeByClass("vtkMRMLTableNode").GetTable().GetNumberOfRows() >= 4
    ui.cancelButton.click()
    until(lambda: idle(ui))


def test_the_preview_is_replaced(
    a_training_panel: Any, a_drawn_pair: tuple[Any, Any], a_scene: Any
) -> None:
    ui = a_training_panel.ui
    ui.addPairsButton.click()
    ui.nameEdit.text = "Endless"
    ui.startButton.click()
    until(lambda: epoch_of(ui) >= 6)
    found = [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        if "preview" in node.GetName()
    ]
    assert len(found) == 1
    assert found[0].GetName() != "Head preview (epoch 1)"
    from panel_fixtures import voxels_in_world

    drawn = a_drawn_pair[1]
    for name in ("Left", "Right"):
        assert np.allclose(voxels_in_world(found[0], name), voxels_in_world(drawn, name), atol=1e-3)
    ui.cancelButton.click()
    until(lambda: idle(ui))
    assert found[0].GetScene() is None


def test_without_a_preview_none_is_made(
    a_training_panel: Any, a_drawn_pair: tuple[Any, Any], a_scene: Any
) -> None:
    ui = a_training_panel.ui
    ui.addPairsButton.click()
    ui.previewCheck.checked = False
    ui.curvesCheck.checked = False
    before = class_counts(a_scene)
    train(ui)
    assert class_counts(a_scene) == before


def test_train_again_with_one_more_case_is_one_click(
    a_training_panel: Any, a_drawn_pair: tuple[Any, Any], a_volume: Any
) -> None:
    ui = a_training_panel.ui
    ui.addPairsButton.click()
    train(ui)
    (first,) = run_folders(a_training_panel)
    until(lambda: a_training_panel.tab._logic.runs and not ui.trainAgainButton.isHidden())
    ui.trainAgainButton.click()
    assert "on the list already" in ui.trainStatus.text
    other = a_volume("Second head", a_head(), np.eye(4))
    node = draw(other, a_left_and_right())
    editor = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode", "SegmentEditor")
    editor.SetSingletonTag("SegmentEditor")
    editor.SetAndObserveSegmentationNode(node)
    ui.trainAgainButton.click()
    until(lambda: not idle(ui))
    until(lambda: idle(ui))
    assert ui.trainStatus.text.startswith("Done in "), ui.trainStatus.text
    (second,) = [folder for folder in run_folders(a_training_panel) if folder != first]
    job = json.loads((second / "job.json").read_text())
    assert job["previous"] == str(first)
    assert job["base"] == "trained1"
    assert job["cases"] == ["case_001", "case_002"]
    assert [label["base"] for label in job["labels"]] == ["Left", "Right"]
    assert job["name"] == "Model one fine-tuned fine-tuned"


def test_cases_are_taken_up_after_their_nodes_are_gone(
    a_training_panel: Any, a_drawn_pair: tuple[Any, Any], a_volume: Any, a_scene: Any
) -> None:
    ui = a_training_panel.ui
    ui.addPairsButton.click()
    train(ui)
    (first,) = run_folders(a_training_panel)
    a_scene.Clear(0)
    until(lambda: ui.casesTable.rowCount == 1 and "kept" in ui.casesTable.item(0, 0).text())
    other = a_volume("Second head", a_head(), np.eye(4))
    draw(other, a_left_and_right())
    ui.addPairsButton.click()
    assert ui.casesTable.rowCount == 2
    assert train(ui).startswith("Done in ")
    (second,) = [folder for folder in run_folders(a_training_panel) if folder != first]
    for name in ("image_0000.nrrd", "labels.nrrd"):
        old, new = (f / "cases" / "case_001" / name for f in (first, second))
        assert old.read_bytes() == new.read_bytes()


def test_an_earlier_training_gives_its_cases_back(
    a_training_panel: Any, a_drawn_pair: tuple[Any, Any], a_scene: Any
) -> None:
    ui = a_training_panel.ui
    ui.addPairsButton.click()
    ui.annotatedCombo.currentIndex = 1
    train(ui)
    ui.removeCaseButton.click()
    assert ui.casesTable.rowCount == 0
    until(lambda: ui.runsTable.rowCount == 1)
    ui.runsTable.selectRow(0)
    ui.continueButton.click()
    assert texts(ui.casesTable, 0) == ["Head", "Head drawn", "Only annotated slices", "Automatic"]
    assert ui.labelsTable.rowCount == 2
    assert texts(ui.labelsTable, 0)[2] == "matched"  # its own model is the base now


def test_a_training_is_removed_from_the_list(
    a_training_panel: Any, a_drawn_pair: tuple[Any, Any]
) -> None:
    ui = a_training_panel.ui
    ui.addPairsButton.click()
    train(ui)
    until(lambda: ui.runsTable.rowCount == 1)
    ui.runsTable.selectRow(0)
    asked: list[str] = []

    class Dialogs:
        def confirm(self, question: str) -> bool:
            asked.append(question)
            return True

    a_training_panel.tab.runs.dialogs = Dialogs()
    ui.removeRunButton.click()
    until(lambda: ui.runsTable.rowCount == 0)
    assert "The model it made stays" in asked[0]
    assert run_folders(a_training_panel) == []


def test_segment_runs_while_it_trains(a_training_panel: Any, a_drawn_pair: tuple[Any, Any]) -> None:
    ui, segment_ui = a_training_panel.ui, a_training_panel.widget.ui
    ui.addPairsButton.click()
    ui.nameEdit.text = "Endless"
    ui.startButton.click()
    until(lambda: epoch_of(ui) >= 2)
    segment_ui.runButton.click()
    until(lambda: segment_ui.runButton.text == "&Segment")
    assert segment_ui.statusLabel.text.startswith("Done in ")
    assert ui.startButton.text == "Stop and &keep the best"
    ui.cancelButton.click()
    until(lambda: idle(ui))


def test_the_tab_is_usable_at_350_pixels(
    a_training_panel: Any, a_drawn_pair: tuple[Any, Any]
) -> None:
    ui, tabs = a_training_panel.ui, a_training_panel.tabs
    ui.addPairsButton.click()
    for name in ("advancedSection", "runsSection"):
        getattr(ui, name).collapsed = False
    train(ui)
    tabs.currentIndex = 1
    settle()
    assert tabs.minimumSizeHint.width() <= 350
    ui.trainStatus.text = "word " * 80
    assert tabs.minimumSizeHint.width() <= 350


@pytest.mark.parametrize("name", ["Broken", "Crash"])
def test_a_failure_is_said_and_leaves_nothing_in_the_scene(
    a_training_panel: Any, a_drawn_pair: tuple[Any, Any], a_scene: Any, name: str
) -> None:
    ui = a_training_panel.ui
    ui.addPairsButton.click()
    ui.nameEdit.text = name
    before = class_counts(a_scene)
    said = train(ui)
    if name == "Broken":
        assert said == "The device has too little memory. Choose the CPU."
    else:
        assert "ended unexpectedly" in said
    assert class_counts(a_scene) == before
    assert ui.startButton.enabled
    until(lambda: ui.runsTable.rowCount == 1)

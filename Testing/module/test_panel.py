"""The panel as a user meets it: picked, clicked and read through its widgets."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from panel_fixtures import *  # noqa: F403 - fixtures
from panel_fixtures import ROOT, a_head, assert_no_torch, class_counts, settle, until

UI = ROOT / "MedNeXtSeg" / "Resources" / "UI" / "MedNeXtSeg.ui"
BOTH = (UI, UI.with_name("MedNeXtSegFineTune.ui"))
INTERACTIVE = (
    "QPushButton",
    "QComboBox",
    "QCheckBox",
    "QLineEdit",
    "QListWidget",
    "QTextBrowser",
    "QPlainTextEdit",
    "QProgressBar",
    "QSpinBox",
    "QTableWidget",
    "qMRMLNodeComboBox",
    "ctkPathLineEdit",
    "ctkCollapsibleButton",
)


def choose(ui: Any, identifier: str) -> None:
    for row in range(ui.modelList.count):
        if f"Model {identifier} " in ui.modelList.item(row).text():
            ui.modelList.setCurrentRow(row)
            return
    raise AssertionError(identifier)


def selector(ui: Any, index: int) -> Any:
    return slicer.util.findChild(ui.tabs, f"volumeSelector{index}")


def idle(ui: Any) -> bool:
    return ui.runButton.text == "&Segment"


# ---- the file --------------------------------------------------------------------------------


@pytest.mark.parametrize("file", BOTH, ids=lambda file: file.stem)
def test_every_control_has_a_tooltip_and_an_accessible_name(file: Path) -> None:
    for widget in ElementTree.parse(file).iter("widget"):
        if widget.get("class") not in INTERACTIVE:
            continue
        said = {
            entry.get("name"): (entry.findtext("string") or "").strip()
            for entry in widget.findall("property")
        }
        for name in ("toolTip", "accessibleName"):
            assert said.get(name), f"{widget.get('name')} has no {name}"


@pytest.mark.parametrize("file", BOTH, ids=lambda file: file.stem)
def test_every_selector_gets_the_scene(file: Path) -> None:
    tree = ElementTree.parse(file)
    connected = {c.findtext("receiver") for c in tree.iter("connection")}
    for widget in tree.iter("widget"):
        if str(widget.get("class")).startswith("qMRML") and widget.get("name") != file.stem:
            assert widget.get("name") in connected


def test_there_is_no_style_sheet() -> None:
    for file in BOTH:
        assert "styleSheet" not in file.read_text(encoding="utf-8")
    for file in (ROOT / "MedNeXtSeg").rglob("*.py"):
        assert "setStyleSheet" not in file.read_text(encoding="utf-8")


def test_what_is_translated_is_a_literal_and_errors_are_translated() -> None:
    for file in (ROOT / "MedNeXtSeg").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            first = node.args[0] if node.args else None
            if node.func.id == "_":
                assert isinstance(first, ast.Constant), f"{file.name}:{node.lineno}"
            if node.func.id == "UserError":
                plain = isinstance(first, (ast.Constant, ast.JoinedStr))
                assert not plain, f"{file.name}:{node.lineno}: a sentence is not translatable"


# ---- the way -----------------------------------------------------------------------------------


def test_from_click_to_segmentation_and_back(
    a_live_panel: Any, a_volume: Any, a_scene: Any
) -> None:
    ui = a_live_panel.ui
    assert ui.statusLabel.text == "Pick a volume."
    assert not ui.runButton.enabled
    volume = a_volume("Head", a_head(), np.eye(4))
    until(lambda: ui.runButton.enabled)  # the only volume is picked by itself
    assert selector(ui, 0).currentNode() is volume
    assert ui.statusLabel.text == "Ready: click Segment."
    before = class_counts(a_scene)
    ui.runButton.click()
    assert ui.runButton.text == "&Cancel"
    assert ui.runButton.accessibleName == "Cancel the run"
    until(lambda: idle(ui))
    assert ui.statusLabel.text.startswith("Done in ")
    assert "2 labels found in Head segmentation." in ui.statusLabel.text
    assert "Not found: Never there." in ui.statusLabel.text
    assert "CPU" in ui.deviceNotice.text
    assert a_scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1
    ui.undoButton.click()
    assert class_counts(a_scene) == before
    assert not ui.undoButton.enabled
    assert "undone" in ui.statusLabel.text


def test_cancel_and_progress(a_live_panel: Any, a_volume: Any, a_scene: Any) -> None:
    ui = a_live_panel.ui
    a_volume("Head", a_head(), np.eye(4))
    choose(ui, "slow")
    until(lambda: ui.runButton.enabled)
    before = class_counts(a_scene)
    ui.runButton.click()
    until(lambda: ui.progressBar.value > 600)
    assert "Segmenting" in ui.statusLabel.text
    assert not selector(ui, 0).enabled
    ui.runButton.click()
    assert ui.statusLabel.text == "Cancelling…"
    until(lambda: idle(ui))
    assert ui.statusLabel.text == "Cancelled. The scene is as it was."
    assert class_counts(a_scene) == before
    assert selector(ui, 0).enabled


def test_the_reason_is_said_channel_by_channel(a_live_panel: Any, a_volume: Any) -> None:
    ui = a_live_panel.ui
    first, second = a_volume("A"), a_volume("B")
    settle()
    choose(ui, "two")
    assert ui.statusLabel.text == "Pick a volume for channel T1."
    selector(ui, 0).setCurrentNode(first)
    assert ui.statusLabel.text == "Pick a volume for channel T2."
    selector(ui, 1).setCurrentNode(first)
    assert ui.statusLabel.text == "A is picked for two channels; each needs its own."
    selector(ui, 1).setCurrentNode(second)
    assert ui.runButton.enabled


def test_channels_fill_by_name(a_live_panel: Any, a_volume: Any) -> None:
    ui = a_live_panel.ui
    t2, t1 = a_volume("sub-01_T2w"), a_volume("sub-01_T1w")
    a_volume("sub-01_T1w_ce")
    settle()
    choose(ui, "two")
    assert selector(ui, 1).currentNode() is t2
    assert selector(ui, 0).currentNode() in (None, t1)


def test_the_search_finds_models(a_live_panel: Any) -> None:
    ui = a_live_panel.ui
    everything = ui.modelList.count
    ui.modelSearch.text = "bright CRASH"
    assert ui.modelList.count == 1
    ui.modelSearch.text = ""
    assert ui.modelList.count == everything
    tooltip = ui.modelList.item(0).toolTip()
    for words in ("Modality: MR", "3 labels: Bright", "Needs: MR", "Licence: Apache-2.0"):
        assert words in tooltip
    assert "Measured" not in tooltip  # nothing ran yet


def test_a_measured_time_is_told_after_a_run(a_live_panel: Any, a_volume: Any) -> None:
    ui = a_live_panel.ui
    a_volume("Head", a_head(), np.eye(4))
    until(lambda: ui.runButton.enabled)
    ui.runButton.click()
    until(lambda: idle(ui))
    assert "Measured here: 1 s for 0.0 million voxels (cpu, pretend, float32)" in (
        ui.modelList.item(0).toolTip()
    )


def test_the_card_is_escaped_and_complete(a_live_panel: Any) -> None:
    text = a_live_panel.ui.modelCard.plainText
    for words in ("It is one <b>&", "Not for clinical use", "Nobody, 2026", "Very bright"):
        assert words in text


def test_an_error_is_shown_with_its_hint(a_live_panel: Any, a_volume: Any) -> None:
    ui = a_live_panel.ui
    a_volume("Head", a_head(), np.eye(4))
    choose(ui, "broken")
    until(lambda: ui.runButton.enabled)
    ui.runButton.click()
    until(lambda: idle(ui))
    assert ui.statusLabel.text == "The image is broken. Take another one."
    assert ui.runButton.enabled


def test_a_crash_is_shown_and_the_next_click_works(a_live_panel: Any, a_volume: Any) -> None:
    ui = a_live_panel.ui
    a_volume("Head", a_head(), np.eye(4))
    choose(ui, "crash")
    until(lambda: ui.runButton.enabled)
    ui.runButton.click()
    until(lambda: idle(ui))
    assert "ended unexpectedly" in ui.statusLabel.text
    choose(ui, "one")
    ui.runButton.click()
    until(lambda: idle(ui))
    assert ui.statusLabel.text.startswith("Done in ")


def test_two_quick_clicks_are_run_and_cancel(a_live_panel: Any, a_volume: Any) -> None:
    ui = a_live_panel.ui
    a_volume("Head", a_head(), np.eye(4))
    choose(ui, "slow")
    until(lambda: ui.runButton.enabled)
    ui.runButton.click()
    ui.runButton.click()
    ui.runButton.click()  # disabled while it cancels
    until(lambda: idle(ui))
    assert ui.statusLabel.text.startswith("Cancelled.")


def test_reload_and_quit_leave_no_process(a_live_panel: Any, a_volume: Any, tmp_path: Path) -> None:
    ui = a_live_panel.ui
    a_volume("Head", a_head(), np.eye(4))
    choose(ui, "slow")
    until(lambda: ui.runButton.enabled)
    ui.runButton.click()
    settle()
    pid = a_live_panel.widget.logic.runs.context.client.pid
    a_live_panel.widget.cleanup()
    settle(0.3)
    assert not Path(f"/proc/{pid}").exists()
    left = [f for f in Path(slicer.app.temporaryPath).iterdir() if f.name.startswith("MedNeXtSeg-")]
    assert left == []


@pytest.fixture
def the_same_parts_afterwards() -> Iterator[None]:
    """Reloading imports the parts anew; other tests go on with those that they imported."""
    parts = {n: m for n, m in sys.modules.items() if n.split(".")[0] == "MedNeXtSegLib"}
    yield
    sys.modules.update(parts)


def test_the_module_is_reloaded_in_mid_run(
    the_same_parts_afterwards: None, a_live_panel: Any, a_volume: Any, a_scene: Any
) -> None:
    ui = a_live_panel.ui
    a_volume("Head", a_head(), np.eye(4))
    choose(ui, "slow")
    until(lambda: ui.runButton.enabled)
    before = class_counts(a_scene)
    ui.runButton.click()
    settle()
    pid = a_live_panel.widget.logic.runs.context.client.pid
    assert pid
    package = sys.modules["MedNeXtSegLib"]
    parts = {n: m for n, m in sys.modules.items() if n.startswith("MedNeXtSegLib.")}
    a_live_panel.widget.onReload()
    settle(0.3)
    assert not Path(f"/proc/{pid}").exists()
    assert class_counts(a_scene) == before
    widget = slicer.modules.MedNeXtSegWidget
    assert widget is not a_live_panel.widget
    until(lambda: widget.ui.modelList.count > 0)  # Slicer does not enter a panel that is open
    # Nothing old is found any more, not even as an attribute of the package.
    assert sys.modules["MedNeXtSegLib"] is not package
    for name, old in parts.items():
        assert sys.modules.get(name) is not old
        assert getattr(sys.modules["MedNeXtSegLib"], name.partition(".")[2], None) is not old


def test_the_module_loads_in_well_under_a_second(a_scene: Any) -> None:
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); import harness; harness.start();"
        "from pathlib import Path; begin = time.perf_counter();"
        "harness.load_module(Path(sys.argv[2])); loaded = time.perf_counter();"
        "import slicer; slicer.util.getModuleWidget('MedNeXtSeg'); shown = time.perf_counter();"
        "print(f'LOADED {loaded - begin:.3f} SHOWN {shown - loaded:.3f}', 'torch' in sys.modules,"
        "flush=True); import os; os._exit(0)"
    )
    module = ROOT / "MedNeXtSeg" / "MedNeXtSeg.py"
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(module)],
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("LOADED")]
    print(line)
    _loaded, load, _shown, show, torch = line.split()
    assert float(load) < 1
    assert float(load) + float(show) < 3  # the panel is made when it is opened first
    assert torch == "False"


def test_the_scene_is_closed_in_mid_run(a_live_panel: Any, a_volume: Any, a_scene: Any) -> None:
    ui = a_live_panel.ui
    a_volume("Head", a_head(), np.eye(4))
    choose(ui, "slow")
    until(lambda: ui.runButton.enabled)
    ui.runButton.click()
    settle()
    a_scene.Clear(0)
    until(lambda: idle(ui))
    assert "scene was closed" in ui.statusLabel.text
    assert not ui.runButton.enabled


def test_settings_come_back_with_a_saved_scene(
    a_live_panel: Any, a_volume: Any, a_scene: Any, tmp_path: Path
) -> None:
    ui = a_live_panel.ui
    volume = a_volume("Head", a_head(), np.eye(4))
    a_volume("Other", a_head(), np.eye(4))
    choose(ui, "broken")
    selector(ui, 0).setCurrentNode(volume)
    ui.qualityCombo.currentIndex = 2
    ui.uncertaintyCheck.checked = True
    file = tmp_path / "scene.mrml"
    a_scene.SetURL(str(file))
    assert a_scene.Commit()
    a_scene.Clear(0)
    settle()
    ui.qualityCombo.currentIndex = 0
    ui.uncertaintyCheck.checked = False
    choose(ui, "one")
    assert a_scene.Connect() in (0, 1)
    settle()
    assert "Model broken" in ui.modelList.currentItem().text()
    assert ui.qualityCombo.currentIndex == 2
    assert ui.uncertaintyCheck.checked
    node = selector(ui, 0).currentNode()
    assert node is not None
    assert node.GetName() == "Head"


def test_devices_with_free_memory(a_live_panel: Any) -> None:
    ui = a_live_panel.ui
    assert ui.deviceCombo.count == 2
    ui.optionsSection.collapsed = False
    until(lambda: "Pretended GPU" in ui.deviceCombo.itemText(1))
    assert ui.deviceCombo.itemText(1) == "Pretended GPU (cuda:0), 6.4 GB free"
    ui.qualityCombo.currentIndex = 2
    assert "eight times" in ui.qualityExplanation.text


def test_download_can_be_cancelled(a_live_panel: Any) -> None:
    ui = a_live_panel.ui
    ui.manageSection.collapsed = False
    until(lambda: ui.catalogueList.count == 1)
    assert not ui.downloadButton.enabled
    ui.catalogueList.setCurrentRow(0)
    assert "Download: 5.0 MB." in ui.catalogueDetails.text
    assert ui.downloadButton.enabled
    ui.downloadButton.click()
    until(lambda: ui.manageProgress.value == 500)
    assert ui.downloadButton.text == "&Cancel"
    ui.downloadButton.click()
    until(lambda: ui.downloadButton.text == "&Download")
    assert "Cancelled" in ui.manageStatus.text


def test_what_ships_cannot_be_removed(a_live_panel: Any) -> None:
    ui = a_live_panel.ui
    choose(ui, "one")
    assert not ui.removeButton.enabled
    choose(ui, "two")
    assert ui.removeButton.enabled


def test_batch_over_the_scene_skips_what_is_done(a_live_panel: Any, a_volume: Any) -> None:
    ui = a_live_panel.ui
    for name in ("First", "Second"):
        a_volume(name, a_head(), np.eye(4))
    settle()
    ui.batchButton.click()
    until(lambda: ui.batchButton.text == "Segment &all")
    assert ui.batchStatus.text == "2 of 2 done, 0 skipped, 0 failed."
    a_volume("Third", a_head(), np.eye(4))
    ui.batchButton.click()
    until(lambda: ui.batchButton.text == "Segment &all")
    assert ui.batchStatus.text == "1 of 3 done, 2 skipped, 0 failed."
    assert ui.batchTable.item(0, 1).text() == "Skipped: it is segmented already"


def test_batch_over_a_folder(a_live_panel: Any, a_volume: Any, tmp_path: Path) -> None:
    from MedNeXtSegLib.exporting import _write
    from MedNeXtSegLib.geometry import hardened_copy

    ui = a_live_panel.ui
    source, target = tmp_path / "Bilder", tmp_path / "Ergebnisse"
    source.mkdir()
    volume = a_volume("Head", a_head(), np.eye(4))
    for name in ("fall1", "fall2"):
        _write(hardened_copy(volume), source / f"{name}.nrrd")
    (source / "notes.txt").write_text("no image")
    ui.batchSourceCombo.currentIndex = 1
    ui.batchButton.click()
    assert ui.batchStatus.text == "Pick the folder with the images."
    ui.batchInputPath.currentPath = str(source)
    ui.batchOutputPath.currentPath = str(target)
    for wanted in ("2 of 2 done, 0 skipped, 0 failed.", "0 of 2 done, 2 skipped, 0 failed."):
        ui.batchButton.click()
        until(lambda: ui.batchButton.text == "Segment &all")
        assert ui.batchStatus.text == wanted
    assert sorted(f.name for f in target.iterdir()) == ["fall1.nii.gz", "fall2.nii.gz"]


def test_diagnostics_hold_no_name(a_live_panel: Any, a_volume: Any) -> None:
    ui, panel = a_live_panel.ui, a_live_panel.panel
    a_volume("Mueller^Anna", a_head(), np.eye(4))
    copied: list[str] = []
    panel.log.dialogs = type("Dialogs", (), {"to_clipboard": staticmethod(copied.append)})()
    client = a_live_panel.widget.logic.runs.context.client
    client.log.append("reading Mueller^Anna from /home/anna/Mueller^Anna/scan.nrrd")
    client.log.append(f"in {Path.home()}/patients/file.dcm")
    ui.copyDiagnosticsButton.click()
    until(lambda: copied)
    (text,) = copied
    assert "Mueller" not in text
    assert "patients" not in text
    assert "anna" not in text.lower()
    assert "torch 1.0" in text
    assert "Quality: balanced" in text


# ---- size, look, start -------------------------------------------------------------------------


def test_it_is_usable_at_350_pixels(a_live_panel: Any, a_volume: Any) -> None:
    ui = a_live_panel.ui
    a_volume("A volume whose name is much longer than anybody would want it to be in a panel")
    for name in ("optionsSection", "batchSection", "logSection", "manageSection", "cardSection"):
        getattr(ui, name).collapsed = False
    settle()
    assert ui.tabs.minimumSizeHint.width() <= 350
    ui.statusLabel.text = "word " * 80
    assert ui.tabs.minimumSizeHint.width() <= 350


def test_no_torch_in_slicers_process(a_live_panel: Any) -> None:
    assert_no_torch()


def test_the_module_loads_without_a_main_window(a_panel: Any) -> None:
    assert slicer.util.mainWindow() is None or os.environ.get("DISPLAY")


def test_sample_data_loads_offline(a_live_panel: Any, a_scene: Any) -> None:
    ui = a_live_panel.ui
    ui.sampleDataButton.click()
    until(lambda: ui.runButton.enabled)
    node = selector(ui, 0).currentNode()
    assert node.GetName().startswith("Colin27_T1")
    assert node.GetImageData().GetNumberOfPoints() > 1_000_000


def test_sample_data_is_registered_with_its_checksum(a_module: Any) -> None:
    from MedNeXtSegLib import sample_data

    sample_data.register(a_module.resourcePath("Icons"))
    (source,) = slicer.modules.sampleDataSources["MedNeXtSeg"]
    checksums = source["checksums"] if isinstance(source, dict) else source.checksums
    assert "SHA256:a009051127f64dc3dd554d5f5b589870ea72106d9642c21b4e7093e478cfc309" in str(
        checksums
    )

"""What may go wrong around a training: nothing is lost, nothing is left, no process outlives it."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import qt
import slicer
from finetune_fixtures import *  # noqa: F403 - fixtures
from finetune_fixtures import a_left_and_right, draw, epoch_of, idle, run_folders, train
from panel_fixtures import *  # noqa: F403 - fixtures
from panel_fixtures import ROOT, a_head, settle, until


@pytest.fixture
def an_endless_training(a_training_panel: Any, a_drawn_pair: tuple[Any, Any]) -> Any:
    """The panel in mid-training; it goes on until it is stopped."""
    ui = a_training_panel.ui
    ui.addPairsButton.click()
    ui.nameEdit.text = "Endless"
    ui.startButton.click()
    until(lambda: epoch_of(ui) >= 3)
    return a_training_panel


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def training_pid(panel: Any) -> int:
    return int(panel.logic.trainings.context.client.pid)


def test_the_scene_is_closed_in_mid_training(an_endless_training: Any, a_scene: Any) -> None:
    ui = an_endless_training.ui
    a_scene.Clear(0)
    settle(0.1)
    reached = epoch_of(ui)
    until(lambda: epoch_of(ui) > reached + 2)  # it goes on without the scene
    assert a_scene.GetFirstNodeByClass("vtkMRMLPlotChartNode") is None
    assert a_scene.GetFirstNodeByClass("vtkMRMLSegmentationNode") is None
    ui.startButton.click()
    until(lambda: idle(ui))
    assert ui.trainStatus.text.startswith("Done in ")


def test_the_volume_is_deleted_in_mid_training(an_endless_training: Any, a_scene: Any) -> None:
    ui = an_endless_training.ui
    a_scene.RemoveNode(slicer.util.getNode("Head"))
    reached = epoch_of(ui)
    until(lambda: epoch_of(ui) > reached + 2)
    ui.cancelButton.click()
    until(lambda: idle(ui))
    assert "It can be resumed" in ui.trainStatus.text


def test_the_volume_is_deleted_while_it_is_exported(
    a_training_panel: Any, a_drawn_pair: tuple[Any, Any], a_scene: Any
) -> None:
    ui = a_training_panel.ui
    ui.addPairsButton.click()
    until(lambda: ui.startButton.enabled)
    ui.startButton.click()
    a_scene.RemoveNode(a_drawn_pair[0])
    until(lambda: idle(ui))
    assert "Head was removed from the scene" in ui.trainStatus.text
    assert run_folders(a_training_panel) == []


def test_the_scene_is_closed_while_it_is_exported(
    a_training_panel: Any, a_drawn_pair: tuple[Any, Any], a_scene: Any
) -> None:
    ui = a_training_panel.ui
    ui.addPairsButton.click()
    until(lambda: ui.startButton.enabled)
    ui.startButton.click()
    a_scene.Clear(0)
    until(lambda: idle(ui))
    settle(0.2)
    assert run_folders(a_training_panel) == []
    assert not ui.startButton.enabled


def test_the_process_is_killed(an_endless_training: Any, a_scene: Any) -> None:
    ui = an_endless_training.ui
    os.kill(training_pid(an_endless_training), signal.SIGKILL)
    until(lambda: idle(ui))
    assert "ended unexpectedly" in ui.trainStatus.text
    assert a_scene.GetFirstNodeByClass("vtkMRMLPlotChartNode") is None
    ui.nameEdit.text = "Again"
    assert train(ui).startswith("Done in ")


def test_a_process_that_does_not_hear_is_killed(
    a_training_panel: Any, a_drawn_pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ui = a_training_panel.ui
    client = a_training_panel.logic.trainings.context.client
    monkeypatch.setattr(client, "_cancel_seconds", 0.5)
    ui.addPairsButton.click()
    ui.nameEdit.text = "Deaf"
    ui.startButton.click()
    until(lambda: epoch_of(ui) >= 2)
    pid = client.pid
    ui.cancelButton.click()
    assert not ui.cancelButton.enabled
    until(lambda: idle(ui))
    until(lambda: not lives(pid))


def test_reload_and_quit_leave_no_process_and_nothing_in_the_scene(
    an_endless_training: Any, a_scene: Any
) -> None:
    pid = training_pid(an_endless_training)
    assert lives(pid)
    assert a_scene.GetFirstNodeByClass("vtkMRMLPlotChartNode") is not None
    an_endless_training.widget.cleanup()
    settle(0.3)
    assert not lives(pid)
    assert a_scene.GetFirstNodeByClass("vtkMRMLPlotChartNode") is None
    (folder,) = run_folders(an_endless_training)
    assert (folder / "job.json").is_file()  # it can be resumed


def test_what_was_only_checked_is_removed_when_slicer_quits(
    a_training_panel: Any, a_drawn_pair: tuple[Any, Any]
) -> None:
    ui = a_training_panel.ui
    ui.addPairsButton.click()
    ui.checkButton.click()
    until(lambda: idle(ui))
    assert len(run_folders(a_training_panel)) == 1
    a_training_panel.widget.cleanup()
    assert run_folders(a_training_panel) == []


def test_closing_slicer_asks_in_mid_training(an_endless_training: Any) -> None:
    from MedNeXtSegLib.quit_guard import QuitGuard

    tab, ui = an_endless_training.tab, an_endless_training.ui
    asked: list[str] = []
    answer = [False]

    def confirm_quit(question: str) -> bool:
        asked.append(question)
        return answer[0]

    tab.dialogs = SimpleNamespace(confirm_quit=confirm_quit)
    window = qt.QMainWindow()
    window.show()
    guard = QuitGuard(window, tab.may_quit)
    guard.watch(True)
    assert not window.close()
    assert window.isVisible()
    assert "it can be resumed later" in asked[0]
    answer[0] = True
    assert window.close()
    ui.cancelButton.click()
    until(lambda: idle(ui))
    window.show()
    assert window.close()
    assert len(asked) == 2  # without a training nothing is asked
    guard.watch(False)


def test_two_trainings_at_once_are_refused(an_endless_training: Any) -> None:
    from MedNeXtSegLib.errors import UserError as Expected

    tab = an_endless_training.tab
    with pytest.raises(Exception, match="under way") as raised:
        tab._logic.start(tab.parameter(), False)
    assert type(raised.value).__name__ == Expected.__name__
    an_endless_training.ui.cancelButton.click()
    until(lambda: idle(an_endless_training.ui))


def test_quick_clicks_do_no_harm(a_training_panel: Any, a_drawn_pair: tuple[Any, Any]) -> None:
    ui = a_training_panel.ui
    ui.addPairsButton.click()
    ui.nameEdit.text = "Endless"
    ui.startButton.click()
    ui.startButton.click()
    ui.cancelButton.click()
    until(lambda: idle(ui))
    assert ui.trainStatus.text.startswith("Cancelled. Nothing is left of it.")
    assert run_folders(a_training_panel) == []


def test_observers_end_with_the_export(
    a_training_panel: Any, a_drawn_pair: tuple[Any, Any], a_scene: Any
) -> None:
    ui = a_training_panel.ui
    ui.addPairsButton.click()
    until(lambda: ui.startButton.enabled)
    ui.startButton.click()
    tags = list(a_training_panel.tab._logic.job._observers)
    assert len(tags) == 2
    until(lambda: idle(ui))
    assert all(a_scene.GetCommand(tag) is None for tag in tags)


# ---- privacy -------------------------------------------------------------------------------------

PATIENT = ("Mueller^Anna", "19560412", "MRN-4711", "Charite")


def test_nothing_of_the_patient_leaves_the_job_folder(
    a_training_panel: Any, a_volume: Any, a_scene: Any, tmp_path: Path
) -> None:
    """Names as DICOM loading gives them; what travels is the model, the log and diagnostics."""
    ui = a_training_panel.ui
    volume = a_volume("Mueller^Anna 19560412: t1 MRN-4711", a_head(), np.eye(4))
    for name, value in (("DICOM.instanceUIDs", "1.2.840.4711"), ("DICOM.PatientName", PATIENT[0])):
        volume.SetAttribute(name, value)
    volume.AddDefaultStorageNode()
    volume.GetStorageNode().SetFileName(str(tmp_path / "Charite" / "Mueller^Anna.nrrd"))
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(a_scene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Mueller^Anna (MRN-4711)")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(volume), patient)
    draw(volume, a_left_and_right(), "Mueller^Anna segmentation")
    ui.addPairsButton.click()
    assert train(ui).startswith("Done in ")
    (folder,) = run_folders(a_training_panel)
    job = (folder / "job.json").read_text()
    written = {path.name for path in folder.rglob("*")}
    case = json.loads((folder / "cases" / "case_001" / "case.json").read_text())
    del case["source"]  # stays in the private folder: it finds the nodes again
    headers = b"".join(
        path.read_bytes().partition(b"\n\n")[0] for path in folder.rglob("*.nrrd")
    ).decode("ascii", "replace")
    copied: list[str] = []
    a_training_panel.segment.log.dialogs = SimpleNamespace(to_clipboard=copied.append)
    client = a_training_panel.logic.trainings.context.client
    client.log.append("reading Mueller^Anna 19560412: t1 MRN-4711")
    a_training_panel.widget.ui.copyDiagnosticsButton.click()
    until(lambda: copied)
    a_training_panel.widget.ui.logSection.collapsed = False
    until(lambda: a_training_panel.widget.ui.logText.plainText)
    models = "".join(file.read_text() for file in Path(os.environ["MEDNEXT_MODELS"]).glob("*.json"))
    assert "Model one fine-tuned" in models
    assert "Training:" in copied[0]
    for what in (job, json.dumps(case), str(written), folder.name, headers, copied[0], models,
                 a_training_panel.widget.ui.logText.plainText):  # fmt: skip
        for word in PATIENT:
            assert word not in what


# ---- installation --------------------------------------------------------------------------------


def parts(name: str) -> Any:
    return sys.modules[f"MedNeXtSegLib.{name}"]


def test_what_training_needs_is_installed_after_asking(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("PRETEND_MISSING", "batchgeneratorsv2,pandas")
    panel = request.getfixturevalue("a_training_panel")
    request.getfixturevalue("a_drawn_pair")
    ui, calls, asked = panel.ui, [], []
    monkeypatch.setattr(parts("finetune_installation"), "_pip", calls.append)

    answer = [False]

    def confirm(question: str, extra: str) -> tuple[bool, bool]:
        asked.append(question)
        return answer[0], False

    panel.tab.install.dialogs = SimpleNamespace(confirm_installation=confirm)
    until(lambda: not ui.installTrainingButton.isHidden())
    ui.addPairsButton.click()
    ui.startButton.click()
    assert "nothing can be trained yet" in ui.trainStatus.text
    assert calls == []
    assert "batchgeneratorsv2" in asked[0]
    answer[0] = True
    monkeypatch.setenv("PRETEND_MISSING", "")
    ui.startButton.click()
    until(lambda: idle(ui))
    assert ui.trainStatus.text.startswith("Done in "), ui.trainStatus.text
    assert all(flag == "--no-deps" for flag, _requirement in calls)
    wanted = [requirement for _flag, requirement in calls]
    assert [one.split(">")[0] for one in wanted[-2:]] == ["pandas", "batchgeneratorsv2"]
    assert not [one for one in wanted if one.startswith(("torch", "numpy", "scipy", "SimpleITK"))]
    assert len(asked) == 2


def test_offline_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from MedNeXtSegLib import finetune_installation as installation
    from MedNeXtSegLib.errors import UserError

    def refuse(arguments: list[str]) -> None:
        raise RuntimeError("no route to host")

    monkeypatch.setattr(installation, "_pip", refuse)
    what = installation.MissingTraining(("pandas>=2",))
    with pytest.raises(UserError, match="could not be installed") as raised:
        installation.install_training(what, lambda sentence: None)
    assert "pip download" in raised.value.hint


def test_both_halves_need_the_same_for_training() -> None:
    """The list is the engine's; the module must not import the engine to know it."""
    from importlib.util import module_from_spec, spec_from_file_location

    from MedNeXtSegLib.finetune_installation import MODULES, WITHOUT_DEPENDENCIES

    file = ROOT / "Training" / "mednext_engine" / "training" / "requirements.py"
    spec = spec_from_file_location("training_requirements", file)
    engine = module_from_spec(spec)
    spec.loader.exec_module(engine)
    assert engine.WITHOUT_DEPENDENCIES == WITHOUT_DEPENDENCIES
    for name, _versions in WITHOUT_DEPENDENCIES:
        assert engine.MODULES[name] == MODULES.get(name, name)

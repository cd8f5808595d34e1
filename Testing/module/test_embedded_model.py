"""The whole way with nothing pretended: sample volume, embedded model, the engine's own worker."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import slicer
from panel_fixtures import *  # noqa: F403 - fixtures
from panel_fixtures import ROOT, assert_no_torch, until, voxels_in_world

from MedNeXtSegLib.sample_data import load_sample  # isort: skip

pytestmark = pytest.mark.skipif(
    not any((ROOT / "Resources" / "Models").glob("*/plans.json")), reason="no embedded model here"
)


@pytest.fixture
def a_real_panel(private_places: Path, a_panel: Any) -> Any:
    """The panel with the engine's own worker, once the embedded model is listed."""
    widget = a_panel if hasattr(a_panel, "ui") else a_panel.self()
    until(lambda: widget.ui.modelList.count > 0, 60)
    return widget


def test_click_to_segmentation(a_real_panel: Any, a_scene: Any) -> None:
    ui = a_real_panel.ui
    ui.sampleDataButton.click()
    until(lambda: ui.runButton.enabled)
    times = []
    for _click in range(2):
        started = time.monotonic()
        ui.runButton.click()
        until(lambda: ui.runButton.text == "&Segment", 300)
        times.append(time.monotonic() - started)
        assert ui.statusLabel.text.startswith("Done in "), ui.statusLabel.text
    print(f"first click {times[0]:.1f} s, second click {times[1]:.1f} s")
    first = slicer.util.getNode("Colin27_T1 segmentation")
    names = {
        first.GetSegmentation().GetNthSegment(i).GetName()
        for i in range(first.GetSegmentation().GetNumberOfSegments())
    }
    assert len(names) == 3
    # Inside the head: every voxel found is brighter than air, and the brain's white matter lies
    # around the origin of this atlas (Talairach-like space, millimetres).
    volume = slicer.util.getNode("Colin27_T1")
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    for name in names:
        points = voxels_in_world(first, name)
        assert len(points) > 10_000
        assert (points.min(axis=0) > np.array(bounds[::2]) - 1).all()
        assert (points.max(axis=0) < np.array(bounds[1::2]) + 1).all()
        assert np.abs(points.mean(axis=0)[0]) < 10  # both halves
    assert_no_torch()


def test_a_model_goes_out_and_comes_in_as_a_zip(a_real_panel: Any, tmp_path: Path) -> None:
    ui, panel = a_real_panel.ui, a_real_panel.panel
    file = tmp_path / "Modell für Anna.zip"

    class Dialogs:
        def file_to_save(self, title: str, name: str, kinds: str) -> str:
            return str(file)

        def file_to_open(self, title: str, kinds: str) -> str:
            return str(file)

        def confirm(self, question: str) -> bool:
            return True

    panel.manage.dialogs = Dialogs()
    ui.manageSection.collapsed = False
    assert not ui.removeButton.enabled  # it ships with the extension
    ui.exportButton.click()
    until(lambda: "exported" in ui.manageStatus.text, 60)
    assert file.stat().st_size > 100_000
    ui.importFileButton.click()
    until(lambda: ui.manageProgress.isHidden() and "export" not in ui.manageStatus.text, 90)
    assert "imported" in ui.manageStatus.text, ui.manageStatus.text
    until(lambda: ui.removeButton.enabled)  # the copy hides the one that ships
    ui.removeButton.click()
    until(lambda: "removed" in ui.manageStatus.text, 60)
    until(lambda: not ui.removeButton.enabled)
    assert ui.modelList.count == 1


def test_a_model_comes_in_as_a_folder(a_real_panel: Any, tmp_path: Path) -> None:
    ui, panel = a_real_panel.ui, a_real_panel.panel
    shipped = next(iter((ROOT / "Resources" / "Models").glob("*/plans.json"))).parent
    folder = tmp_path / "Modell von Jörg"
    shutil.copytree(shipped, folder)
    panel.manage.dialogs = SimpleNamespace(folder=lambda title: str(folder))
    ui.manageSection.collapsed = False
    ui.importFolderButton.click()
    until(lambda: ui.manageProgress.isHidden() and "import" in ui.manageStatus.text, 90)
    assert "was imported" in ui.manageStatus.text, ui.manageStatus.text
    until(lambda: ui.removeButton.enabled, 30)  # the copy hides the one that ships
    installed = list((tmp_path / "models").glob("*/plans.json"))
    assert len(installed) == 1
    assert folder.is_dir()  # it is copied, not moved


def test_a_folder_without_a_model_is_told(a_real_panel: Any, tmp_path: Path) -> None:
    ui, panel = a_real_panel.ui, a_real_panel.panel
    folder = tmp_path / "Photos"
    folder.mkdir()
    panel.manage.dialogs = SimpleNamespace(folder=lambda title: str(folder))
    ui.manageSection.collapsed = False
    ui.importFolderButton.click()
    until(lambda: ui.manageProgress.isHidden() and not panel.models_logic.changing, 90)
    assert "Photos" in ui.manageStatus.text
    assert ui.modelList.count == 1


def test_the_logic_for_scripts(private_places: Path, a_module: Any, a_scene: Any) -> None:
    from MedNeXtSeg import MedNeXtSegLogic

    volume = load_sample(a_scene)
    logic = MedNeXtSegLogic()
    ended: list[Any] = []
    stages: list[str] = []
    job = logic.segment(
        volume,
        quality="fast",
        wait=False,
        onProgress=lambda progress: stages.append(progress.stage),
        onFinished=ended.append,
    )
    assert not job.over
    until(lambda: job.over, 300)
    assert ended[0].state == "done", ended[0].message
    assert stages
    assert job.segmentation.GetSegmentation().GetNumberOfSegments() == 3
    logic.undo()
    assert a_scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    from MedNeXtSegLib.session import stop_shared_client

    stop_shared_client()


def test_the_self_test_of_the_module(private_places: Path, a_module: Any) -> None:
    from MedNeXtSeg import MedNeXtSegTest

    case = MedNeXtSegTest()
    case.delayDisplay = lambda *arguments, **keywords: None
    case.setUp()
    case.test_segment_sample()
    from MedNeXtSegLib.session import stop_shared_client

    stop_shared_client()

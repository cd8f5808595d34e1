"""What the tests of panel and logic share: workers, models and a way to wait for Qt."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import slicer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
if str(ROOT / "MedNeXtSeg") not in sys.path:
    sys.path.insert(0, str(ROOT / "MedNeXtSeg"))

HAD_TORCH = "torch" in sys.modules
"""Whether other tests of this process had imported torch before those of the module began."""


def assert_no_torch() -> None:
    """Slicer's process must never hold torch (`make test` runs these tests in one of their own)."""
    if HAD_TORCH:
        pytest.skip("torch was imported by tests of the engine in this process")
    assert "torch" not in sys.modules


def until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    """Lets Qt go on until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        slicer.app.processEvents()
        time.sleep(0.005)
        assert time.monotonic() < deadline, "It did not happen in time."


def settle(seconds: float = 0.1) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        slicer.app.processEvents()
        time.sleep(0.005)


@pytest.fixture
def private_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keeps workers away from the user's own models and logs, and from what others learned."""
    monkeypatch.setenv("MEDNEXT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MEDNEXT_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("MEDNEXT_LOGS", str(tmp_path / "logs"))
    monkeypatch.setenv("MEDNEXT_RUNS", str(tmp_path / "trainings"))
    return tmp_path


@pytest.fixture
def a_pretended_worker(private_places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever starts a worker starts `pretend_worker.py`."""
    import MedNeXtSegLib.worker_command

    monkeypatch.setattr(
        MedNeXtSegLib.worker_command, "worker_script", lambda: HERE / "pretend_worker.py"
    )


@pytest.fixture
def a_client(a_pretended_worker: None) -> Iterator[Any]:
    """A client of the pretended worker; its process ends with the test."""
    import qt

    from MedNeXtSegLib.qt_process import QtProcess
    from MedNeXtSegLib.worker_client import WorkerClient
    from MedNeXtSegLib.worker_command import worker_command

    client = WorkerClient(QtProcess, worker_command, qt.QTimer.singleShot)
    yield client
    client.stop()


@pytest.fixture
def a_context(a_client: Any, a_scene: Any, tmp_path: Path) -> Any:
    """What runs work with; temporary files go to a folder with a name of its own."""
    from MedNeXtSegLib.segment_job import Context

    logic = slicer.modules.segmentations.logic()
    return Context(a_client, a_scene, logic, str(tmp_path / "Ordner für Läufe"))


@pytest.fixture
def a_logic(a_context: Any) -> Any:
    """Segment, with the pretended worker."""
    from MedNeXtSegLib.segment_logic import SegmentLogic

    return SegmentLogic(a_context)


@pytest.fixture
def a_live_panel(private_places: Path, a_module: Any, request: pytest.FixtureRequest) -> Any:
    """The panel with the pretended worker, once it knows its models: `.ui`, `.panel`, `.widget`."""
    request.getfixturevalue("a_pretended_worker")  # loading the module loads its parts anew
    a_panel = request.getfixturevalue("a_panel")
    widget = a_panel if hasattr(a_panel, "ui") else a_panel.self()
    until(lambda: widget.ui.modelList.count > 0)
    return SimpleNamespace(ui=widget.ui, panel=widget.panel, widget=widget)


def a_head(shape: tuple[int, int, int] = (12, 14, 16)) -> np.ndarray:
    """Voxels [k, j, i]: 50 with a block of 150 that holds a block of 250, off the centre."""
    array = np.full(shape, 50, np.int16)
    array[2:8, 3:9, 4:12] = 150
    array[3:5, 4:6, 5:8] = 250
    return array


def class_counts(scene: Any) -> dict[str, int]:
    """How many nodes of each class there are: to compare before and after."""
    counts: dict[str, int] = {}
    for index in range(scene.GetNumberOfNodes()):
        name = scene.GetNthNode(index).GetClassName()
        counts[name] = counts.get(name, 0) + 1
    return counts


def voxels_in_world(segmentation: Any, name: str) -> np.ndarray:
    """The centres of a segment's voxels in the world (RAS, mm), sorted, (n, 3)."""
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    identifier = segmentation.GetSegmentation().GetSegmentIdBySegmentName(name)
    assert identifier, f"There is no segment {name}."
    image = slicer.vtkOrientedImageData()
    assert segmentation.GetBinaryLabelmapRepresentation(identifier, image)
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    to_world = slicer.util.arrayFromVTKMatrix(matrix)
    i0, i1, j0, j1, k0, k1 = image.GetExtent()
    if i0 > i1:
        return np.zeros((0, 3))
    scalars = vtk_to_numpy(image.GetPointData().GetScalars())
    array = scalars.reshape(k1 - k0 + 1, j1 - j0 + 1, i1 - i0 + 1)
    k, j, i = np.nonzero(array)
    points = np.c_[i + i0, j + j0, k + k0, np.ones(len(i))] @ to_world.T
    parent = segmentation.GetParentTransformNode()
    if parent is not None:
        assert parent.IsTransformToWorldLinear()
        up = vtk.vtkMatrix4x4()
        parent.GetMatrixTransformToWorld(up)
        points = points @ slicer.util.arrayFromVTKMatrix(up).T
    return in_order(points[:, :3])


def in_order(points: np.ndarray) -> np.ndarray:
    rounded = np.round(points, 4)
    return points[np.lexsort(rounded.T[::-1])]

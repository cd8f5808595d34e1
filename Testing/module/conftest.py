"""Fixtures of the module's tests. They read as nouns and work in Slicer and in the harness."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import harness
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "MedNeXtSeg" / "MedNeXtSeg.py"

NEED_NO_SLICER = {"test_cmake.py", "test_extension_files.py"}
missing = ""
try:
    the_harness = harness.start()
    import slicer  # after the start: the harness makes it what it is in Slicer
except ModuleNotFoundError as error:
    missing = str(error.name)
    the_harness = None
    collect_ignore = [
        path.name
        for path in Path(__file__).parent.glob("test_*.py")
        if path.name not in NEED_NO_SLICER
    ]


def pytest_report_header() -> str:
    if missing:
        return f"Most tests of the module are left out: there is no {missing} (requirements.txt)."
    return "module: real Slicer" if the_harness is None else "module: slicer-core and the harness"


@pytest.fixture(autouse=True)
def no_exception_in_a_slot() -> Iterator[None]:
    """PythonQt prints what a slot raises and goes on; here the test fails for it."""
    if the_harness is None:
        yield
        return
    from harness import signals

    signals.slot_errors.clear()
    yield
    raised, signals.slot_errors[:] = list(signals.slot_errors), []
    assert not raised, f"A slot raised {raised!r}"


@pytest.fixture
def expected_slot_errors() -> Iterator[list[BaseException]]:
    """The list of what slots raised, for tests that mean it; emptied afterwards."""
    from harness import signals

    yield signals.slot_errors
    signals.slot_errors.clear()


@pytest.fixture
def a_scene() -> Iterator[Any]:
    """The empty scene of this Slicer."""
    _clear()
    yield slicer.mrmlScene
    _clear()


def _clear() -> None:
    if the_harness is None:
        slicer.mrmlScene.Clear(0)
    else:
        the_harness.boot.clear()


@pytest.fixture
def a_volume(a_scene: Any) -> Callable[..., Any]:
    """Makes a scalar volume node: `a_volume("T1", array_kji, ijk_to_ras)`."""

    def make(
        name: str = "Volume", array: np.ndarray | None = None, ijk_to_ras: np.ndarray | None = None
    ) -> Any:
        if array is None:
            array = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4)
        matrix = None if ijk_to_ras is None else slicer.util.vtkMatrixFromArray(ijk_to_ras)
        return slicer.util.addVolumeFromArray(array, matrix, name)

    return make


@pytest.fixture
def a_volume_node(a_volume: Callable[..., Any]) -> Any:
    """A small volume, rotated, anisotropic and away from the origin."""
    angle = np.deg2rad(25)
    rotation = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = rotation @ np.diag([0.8, 1.1, 2.5])
    matrix[:3, 3] = (-12.0, 7.5, 30.0)
    return a_volume("Volume", None, matrix)


@pytest.fixture
def a_segmentation_node(a_scene: Any) -> Any:
    """An empty segmentation."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Segmentation")
    node.CreateDefaultDisplayNodes()
    return node


@pytest.fixture
def new_settings() -> None:
    """Settings without an entry."""
    if the_harness is not None:
        the_harness.application.new_settings()


@pytest.fixture
def a_module(a_scene: Any, new_settings: None) -> Iterator[Any]:
    """The module, loaded as Slicer does at start; unloaded afterwards as at its end."""
    if the_harness is None:
        yield slicer.modules.MedNeXtSegInstance
        return
    yield harness.load_module(MODULE)
    harness.unload_module("MedNeXtSeg")
    slicer.app.processEvents()


@pytest.fixture
def a_panel(a_module: Any) -> Any:
    """The module's widget, set up and entered."""
    widget = slicer.util.getModuleWidget("MedNeXtSeg")
    if the_harness is not None:
        slicer.modules.mednextseg.widgetRepresentation().enter()
    return widget


@pytest.fixture
def asking() -> Iterator[None]:
    """Dialogs are shown as outside of testing mode: for tests that answer them."""
    if the_harness is None:
        pytest.skip("A running Slicer cannot leave its testing mode.")
    kind = type(the_harness.application)
    kind.testing = False
    yield
    kind.testing = True


@pytest.fixture
def answers() -> Iterator[Answers]:
    """Answers dialogs while the test goes on: `answers.append("Yes")`; `answers.seen` are texts."""
    given = Answers()
    given.start()
    yield given
    given.stop()


class Answers(list):
    """Texts of the buttons to click, one for each message box that comes up."""

    def __init__(self) -> None:
        import qt

        super().__init__()
        self.seen: list[str] = []
        self._timer = qt.QTimer()
        self._timer.setInterval(20)
        self._timer.connect("timeout()", self._answer)

    def start(self) -> None:
        self._timer.start()

    def stop(self) -> None:
        self._timer.stop()

    def _answer(self) -> None:
        box = slicer.app.activeModalWidget()
        if not box:
            return
        text = box.text if box.inherits("QMessageBox") else box.windowTitle
        self.seen.append(text)
        wanted = self.pop(0) if self else None
        for button in box.findChildren("QPushButton") if wanted else ():
            if button.text.replace("&", "") == wanted and button.visible:
                button.click()
                return
        box.reject()


def wait_until(happened: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Lets events come until `happened()` says something true; fails after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        slicer.app.processEvents()
        answer = happened()
        if answer:
            return answer
        time.sleep(0.005)
    raise AssertionError(f"Did not happen within {seconds} seconds")


@pytest.fixture(name="wait_until")
def the_waiting() -> Callable[..., Any]:
    """`wait_until(lambda: …, seconds=30)`: runs the event loop until something is so."""
    return wait_until

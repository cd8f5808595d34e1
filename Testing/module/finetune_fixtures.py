"""What the tests of the tab "Fine-tune" share: drawn segments and a panel that can train them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import slicer
from panel_fixtures import a_head, until

COLORS = ((0.9, 0.2, 0.1), (0.1, 0.5, 0.9), (0.2, 0.8, 0.3), (0.8, 0.8, 0.1))


def draw(volume: Any, segments: Mapping[str, np.ndarray], name: str = "") -> Any:
    """A segmentation of `volume` with a segment for each mask [k, j, i], drawn on its grid."""
    node = slicer.mrmlScene.AddNewNodeByClass(
        "vtkMRMLSegmentationNode", name or f"{volume.GetName()} drawn"
    )
    node.CreateDefaultDisplayNodes()
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for (title, mask), color in zip(segments.items(), COLORS, strict=False):
        identifier = node.GetSegmentation().AddEmptySegment("", title, color)
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            mask.astype(np.uint8), node, identifier, volume
        )
    return node


def a_left_and_right(shape: tuple[int, int, int] = (12, 14, 16)) -> dict[str, np.ndarray]:
    """Two blocks, apart from each other."""
    left, right = np.zeros(shape, bool), np.zeros(shape, bool)
    left[2:8, 3:9, 2:6] = True
    right[2:8, 3:9, 9:14] = True
    return {"Left": left, "Right": right}


@pytest.fixture
def a_drawn_pair(a_volume: Callable[..., Any]) -> tuple[Any, Any]:
    """A volume and what was drawn on it."""
    matrix = np.diag([-1.0, -1.5, 2.0, 1.0])
    matrix[:3, 3] = (10, -20, 30)
    volume = a_volume("Head", a_head(), matrix)
    return volume, draw(volume, a_left_and_right())


@pytest.fixture
def a_training_panel(a_live_panel: Any) -> Any:
    """The panel with pretended workers: `.ui` of the tab, `.tab`, `.segment` and `.widget`."""
    widget = a_live_panel.widget
    until(lambda: widget.finetune._logic.directory)
    return SimpleNamespace(
        ui=widget.fineTuneUi, tab=widget.finetune, segment=widget.panel, widget=widget,
        tabs=widget.ui.tabs, logic=widget.logic,
    )  # fmt: skip


def idle(ui: Any) -> bool:
    return bool(ui.startButton.text == "S&tart" and ui.cancelButton.isHidden())


def train(ui: Any, seconds: float = 30) -> str:
    """Clicks Start and waits for the end; returns what the panel says then."""
    until(lambda: ui.startButton.enabled)
    ui.startButton.click()
    until(lambda: idle(ui), seconds)
    return str(ui.trainStatus.text)


def run_folders(panel: Any) -> list[Path]:
    return sorted(Path(panel.tab._logic.directory).iterdir())


def epoch_of(ui: Any) -> int:
    """The epoch that the panel shows; 0 before the first is over."""
    words = str(ui.factsLabel.text).split()
    return int(words[1]) if words[:1] == ["Epoch"] else 0


def texts(table: Any, row: int) -> list[str]:
    """What a row of a table says."""
    items = [table.item(row, column) for column in range(table.columnCount)]
    return [item.text() if item is not None else "" for item in items]

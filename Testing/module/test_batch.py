"""Which volumes make a case, and that every case of the scene is run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer
from panel_fixtures import *  # noqa: F403 - fixtures
from panel_fixtures import a_head, settle, until

from MedNeXtSegLib.channel_matching import cases_of  # isort: skip
from MedNeXtSegLib.inputs_panel import volumes_of_scene  # isort: skip
from MedNeXtSegLib.parameter import SegmentParameter  # isort: skip

BRATS = ["T1", "T1ce", "T2", "FLAIR"]


@pytest.mark.parametrize(
    ("channels", "names", "wanted"),
    [
        (["T1", "T2"], ["A_T1", "A_T2", "B_T1", "Atlas"], {"a": [0, 1], "b": [2, None]}),
        (["T1", "T2"], ["T2w 7", "T1w 7", "T1w 8", "T2w 8"], {"7": [1, 0], "8": [2, 3]}),
        (BRATS, ["P1 t1", "P1 t1 ce", "P1 t2", "P1 t2 flair"], {"p1": [0, 1, 2, 3]}),
        (BRATS, ["flair", "T2", "T1", "T1gd"], {"": [2, 3, 1, 0]}),
        (["T1", "T2"], ["A T1", "A T1 1", "A T1 1"], {"a": [0, None], "a 1": [None, None]}),
        (["T1", "T2"], ["Head", "Chest"], {}),
    ],
)
def test_cases_by_name(
    channels: list[str], names: list[str], wanted: dict[str, list[int | None]]
) -> None:
    assert cases_of(channels, names) == wanted


def test_a_model_of_two_channels_runs_case_by_case(a_live_panel: Any, a_volume: Any) -> None:
    ui, panel = a_live_panel.ui, a_live_panel.panel
    panel.models.choose("two")
    for name in ("Anna T1", "Anna T2", "Bert T1", "Localizer"):
        a_volume(name, a_head(), np.eye(4))
    settle()
    ui.batchButton.click()
    until(lambda: ui.batchButton.text == "Segment &all")
    assert ui.batchStatus.text == "1 of 2 done, 0 skipped, 1 failed."
    assert ui.batchTable.item(0, 1).text() == "Done: Anna T1 segmentation"
    assert ui.batchTable.item(1, 1).text() == "Not one volume is named for channel T2"
    ui.batchButton.click()
    until(lambda: ui.batchButton.text == "Segment &all")
    assert ui.batchStatus.text == "0 of 2 done, 1 skipped, 1 failed."


def test_names_that_tell_no_channel_are_asked_for(a_live_panel: Any, a_volume: Any) -> None:
    ui, panel = a_live_panel.ui, a_live_panel.panel
    panel.models.choose("two")
    a_volume("Head", a_head(), np.eye(4))
    settle()
    ui.batchButton.click()
    assert "The model needs T1, T2 for each case." in ui.batchStatus.text
    assert "'Case 1 T1'" in ui.batchStatus.text


def test_what_a_run_made_is_no_input(a_logic: Any, a_volume: Any, a_scene: Any) -> None:
    volume = a_volume("Head", a_head(), np.eye(4))
    parameter = SegmentParameter(a_logic.find_model("one"), [volume], uncertainty=True)
    a_logic.segment(parameter)
    assert len(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")) == 2
    assert volumes_of_scene() == [volume]

"""What may go wrong in mid-run: nothing of the scene changes, no process and no file is left."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from panel_fixtures import *  # noqa: F403 - fixtures
from panel_fixtures import a_head, class_counts, settle, until

from MedNeXtSegLib.errors import UserError  # isort: skip
from MedNeXtSegLib.job_folder import sweep  # isort: skip
from MedNeXtSegLib.parameter import SegmentParameter  # isort: skip
from MedNeXtSegLib.process import descendants, kill_tree  # isort: skip


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


@pytest.fixture
def a_running_job(a_logic: Any, a_volume: Any) -> Any:
    """A run that goes on until it is stopped."""
    volume = a_volume("Head", a_head(), np.eye(4))
    job = a_logic.start(SegmentParameter(a_logic.find_model("slow"), [volume]))
    settle()
    return job


def test_cancel_ends_within_two_seconds(a_running_job: Any, a_context: Any, a_scene: Any) -> None:
    before = class_counts(a_scene)
    pid = a_context.client.pid
    started = time.monotonic()
    a_running_job.cancel()
    outcome = a_running_job.wait()
    assert outcome.state == "cancelled"
    assert time.monotonic() - started < 2
    assert class_counts(a_scene) == before
    assert os.listdir(a_context.temporary_folder) == []
    assert lives(pid)  # it heard


def test_a_worker_that_does_not_hear_cancel_is_killed(
    a_logic: Any, a_volume: Any, a_context: Any
) -> None:
    volume = a_volume("Head", a_head(), np.eye(4))
    job = a_logic.start(SegmentParameter(a_logic.find_model("deaf"), [volume]))
    settle()
    pid = a_context.client.pid
    started = time.monotonic()
    job.cancel()
    until(lambda: job.over)
    assert 1.5 < time.monotonic() - started < 4
    assert job.outcome.state == "cancelled"
    until(lambda: not lives(pid))
    assert a_logic.segment(SegmentParameter(a_logic.find_model("one"), [volume])) is not None


def test_killing_ends_the_launchers_child_too(
    a_pretended_worker: None, monkeypatch: pytest.MonkeyPatch, request: Any
) -> None:
    monkeypatch.setenv("PRETEND_LAUNCHER", "1")
    client = request.getfixturevalue("a_client")
    client.start()
    until(lambda: client.pid)
    child = client.pid
    launcher = client._process.pid()
    assert child != launcher
    assert child in descendants([launcher])
    client.kill()
    until(lambda: not lives(child) and not lives(launcher))


def test_stop_leaves_no_process(a_client: Any) -> None:
    a_client.start()
    until(lambda: a_client.pid)
    pid = a_client.pid
    a_client.stop()
    assert not lives(pid)


def test_a_crash_is_told_and_the_next_run_works(
    a_logic: Any, a_volume: Any, a_scene: Any, a_context: Any
) -> None:
    volume = a_volume("Head", a_head(), np.eye(4))
    before = class_counts(a_scene)
    with pytest.raises(UserError, match="ended unexpectedly") as raised:
        a_logic.segment(SegmentParameter(a_logic.find_model("crash"), [volume]))
    assert "next run" in raised.value.hint
    assert class_counts(a_scene) == before
    assert os.listdir(a_context.temporary_folder) == []
    assert a_logic.segment(SegmentParameter(a_logic.find_model("one"), [volume])) is not None


def test_a_worker_killed_from_outside_is_told(a_running_job: Any, a_context: Any) -> None:
    kill_tree([a_context.client.pid])
    until(lambda: a_running_job.over)
    assert a_running_job.outcome.state == "failed"
    assert "ended unexpectedly" in a_running_job.outcome.message


def test_another_protocol_is_refused(
    a_pretended_worker: None, monkeypatch: pytest.MonkeyPatch, request: Any
) -> None:
    monkeypatch.setenv("PRETEND_OLD", "1")
    logic = request.getfixturevalue("a_logic")
    with pytest.raises(UserError):
        logic.models()
    assert any("update the extension" in line for line in logic.context.client.log)


def test_a_program_that_cannot_start_is_told(
    a_logic: Any, a_context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MedNeXtSegLib.process import Command

    monkeypatch.setattr(
        a_context.client, "_make_command", lambda: Command("/nowhere/PythonSlicer", ["x"], {})
    )
    with pytest.raises(UserError):
        a_logic.models()


def test_the_scene_is_closed(a_running_job: Any, a_scene: Any, a_context: Any) -> None:
    a_scene.Clear(0)
    until(lambda: a_running_job.over)
    assert a_running_job.outcome.state == "cancelled"
    assert "scene was closed" in a_running_job.outcome.message
    assert a_scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    assert os.listdir(a_context.temporary_folder) == []


def test_the_volume_is_deleted(a_running_job: Any, a_scene: Any) -> None:
    a_scene.RemoveNode(a_running_job.parameter.volumes[0])
    until(lambda: a_running_job.over)
    assert a_running_job.outcome.state == "cancelled"
    assert "Head was removed" in a_running_job.outcome.message


def test_another_node_is_deleted(a_running_job: Any, a_scene: Any, a_volume: Any) -> None:
    a_scene.RemoveNode(a_volume("Other"))
    settle()
    assert not a_running_job.over
    a_running_job.cancel()
    a_running_job.wait()


def test_two_runs_at_once_are_refused(a_running_job: Any, a_logic: Any) -> None:
    with pytest.raises(UserError, match="under way"):
        a_logic.start(a_running_job.parameter)
    a_running_job.cancel()
    a_running_job.wait()


def test_the_engines_error_is_passed_on(a_logic: Any, a_volume: Any, a_scene: Any) -> None:
    volume = a_volume("Head", a_head(), np.eye(4))
    before = class_counts(a_scene)
    with pytest.raises(UserError, match="The image is broken") as raised:
        a_logic.segment(SegmentParameter(a_logic.find_model("broken"), [volume]))
    assert raised.value.hint == "Take another one."
    assert class_counts(a_scene) == before


def test_the_disk_is_full(
    a_logic: Any, a_volume: Any, monkeypatch: pytest.MonkeyPatch, a_context: Any
) -> None:
    volume = a_volume("Head", a_head(), np.eye(4))
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(UserError, match="disk is full"):
        a_logic.segment(SegmentParameter(a_logic.find_model("one"), [volume]))
    assert os.listdir(a_context.temporary_folder) == []


@pytest.mark.skipif(os.name != "posix" or not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_write_that_fails_is_told(a_volume: Any) -> None:
    from MedNeXtSegLib.exporting import _write

    volume = a_volume("Head", a_head(), np.eye(4))
    with pytest.raises(UserError, match="could not be written"):
        _write(volume, Path("/proc/nowhere/channel0.nrrd"))


def test_folders_of_dead_processes_are_swept(tmp_path: Path) -> None:
    dead, mine, others = (
        tmp_path / "MedNeXtSeg-999999999-abc",
        tmp_path / f"MedNeXtSeg-{os.getpid()}-abc",
        tmp_path / "Something else",
    )
    for folder in (dead, mine, others):
        folder.mkdir()
        (folder / "channel0.nrrd").write_text("voxels")
    sweep(tmp_path)
    assert not dead.exists()
    assert mine.exists()
    assert others.exists()


def test_no_observer_is_left(
    a_logic: Any, a_volume: Any, a_scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = a_volume("Head", a_head(), np.eye(4))
    job = a_logic.start(SegmentParameter(a_logic.find_model("one"), [volume]))
    tags = list(job._observers)
    assert len(tags) == 2
    assert all(a_scene.GetCommand(tag) is not None for tag in tags)
    job.wait()
    assert all(a_scene.GetCommand(tag) is None for tag in tags)

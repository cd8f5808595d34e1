"""The worker's parts by themselves: lanes, what is kept, what the log hides, what is tidied up."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import mednext_engine
from mednext_engine.errors import InputError
from mednext_engine.jobs import doctor, server
from mednext_engine.jobs import protocol as p
from mednext_engine.jobs.keeper import Keeper, keep_limit
from mednext_engine.jobs.lanes import Lane, Outbox, Task
from mednext_engine.jobs.logs import Redaction
from mednext_engine.jobs.server import remove_leftovers
from mednext_engine.monitor import Monitor, Progress


def a_task(job="1", request=None):
    return Task(request or p.Models(job=job), Monitor())


# ---- lanes -----------------------------------------------------------------------------------


def test_a_lane_works_in_order_and_skips_what_was_cancelled():
    done = []
    lane = Lane("test", 10, lambda task: done.append(task.request.job))
    tasks = [a_task(name) for name in "abc"]
    for task in tasks:
        assert lane.add(task)
    assert tasks[1].cancel() is True
    lane.stop()
    lane.run()
    assert done == ["a", "c"]
    assert tasks[0].cancel() is False  # over: nobody is to answer for it again


def test_a_lane_takes_no_more_than_its_limit():
    lane = Lane("test", 2, lambda task: None)
    assert [lane.add(a_task(name)) for name in "abc"] == [True, True, False]


def test_a_running_task_is_stopped_by_its_monitor_and_answers_itself():
    task = a_task()
    assert task.begin()
    assert task.cancel() is False
    assert task.monitor.cancelled


def test_only_one_answers_a_task():
    task = a_task()
    assert [task.claim_answer() for _ in range(3)] == [True, False, False]


@pytest.fixture
def a_server(monkeypatch):
    """A server whose segmentation is one operation that hears nothing until it is released."""
    monkeypatch.setattr(server, "PATIENCE", 0.2)
    reading, writing = os.pipe()
    serving = server.Server(reading, writing, Redaction())
    serving.sent = []
    monkeypatch.setattr(serving, "send", serving.sent.append)
    yield serving
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("stage", ["Segmenting", "Writing"])
def test_a_job_deep_in_one_operation_is_answered_for_unless_it_writes(a_server, stage):
    deep, release = threading.Event(), threading.Event()

    def work(request, monitor):
        monitor.report(Progress(stage, 0.5))
        deep.set()
        release.wait(10)
        return {"written": True}

    a_server._answers.compute[p.Segment] = work
    thread = threading.Thread(target=a_server._compute.run)
    thread.start()
    a_server._take(p.Segment(job="1"))
    assert deep.wait(5)
    a_server._take(p.Cancel(job="1"))
    time.sleep(0.5)
    early = [one for one in a_server.sent if not isinstance(one, p.Progress)]
    a_server._take(p.Segment(job="2"))  # waits behind what still runs
    release.set()
    a_server._compute.stop()
    thread.join(10)
    answers = [one for one in a_server.sent if not isinstance(one, p.Progress)]
    result = p.Result(job="1", of="segment", value={"written": True})
    if stage == "Writing":
        assert early == []
        assert answers[0] == result
    else:
        assert early == [p.Cancelled(job="1")]
        assert result not in answers
        assert p.Progress(job="2", stage="waiting") in a_server.sent
    assert [one.job for one in answers] == ["1", "2"]


def test_nobody_waits_for_a_client_that_does_not_read():
    stuck, release = [], threading.Event()

    def write(line):
        stuck.append(line)
        release.wait(10)

    outbox = Outbox(write, lambda: None)
    outbox.start()
    started = time.monotonic()
    for _ in range(1000):
        outbox.put("x\n")
    assert time.monotonic() - started < 1.0
    assert outbox.backlog >= 998
    release.set()
    outbox.close(10)
    assert len(stuck) == 1000


# ---- what is kept ----------------------------------------------------------------------------


@pytest.fixture
def some_models(tmp_path):
    models = []
    for name in "abc":
        folder = tmp_path / name
        (folder / "fold_0").mkdir(parents=True)
        for file in ("plans.json", "dataset.json", "fold_0/checkpoint_final.pth"):
            (folder / file).write_text(name)
        plan = SimpleNamespace(configuration="3d_fullres")
        model = SimpleNamespace(
            path=folder, plan=plan, folds=("0",), checkpoint_name="checkpoint_final.pth"
        )
        models.append(model)
    return models


class AFakeSegmenter:
    closed = 0

    def __init__(self, model):
        self.model, self.memory_bytes = model, 40

    def close(self):
        AFakeSegmenter.closed += 1


def test_the_models_used_last_are_kept_within_the_bound(some_models):
    AFakeSegmenter.closed = 0
    a, b, c = some_models
    keeper = Keeper(AFakeSegmenter, limit=100)
    first = keeper.segmenter(a)
    keeper.segmenter(b)
    assert keeper.segmenter(a) is first
    keeper.segmenter(c)
    keeper.trim()  # 120 bytes: b, used longest ago, goes
    assert (len(keeper), AFakeSegmenter.closed, keeper.memory_bytes) == (2, 1, 80)
    assert keeper.segmenter(a) is first
    assert keeper.clear() == 2
    assert keeper.segmenter(a) is not first


def test_a_model_whose_files_changed_is_another_one(some_models):
    keeper = Keeper(AFakeSegmenter, limit=100)
    first = keeper.segmenter(some_models[0])
    checkpoint = some_models[0].path / "fold_0" / "checkpoint_final.pth"
    os.utime(checkpoint, ns=(5, 5))
    assert keeper.segmenter(some_models[0]) is not first
    assert len(keeper) == 1


def test_the_bound_can_be_said(monkeypatch):
    monkeypatch.setenv("MEDNEXT_KEEP_MB", "3")
    assert keep_limit() == 3 * 2**20
    monkeypatch.setenv("MEDNEXT_KEEP_MB", "much")
    with pytest.raises(InputError):
        keep_limit()


# ---- the log ---------------------------------------------------------------------------------


def test_the_log_hides_paths_names_and_their_parts_but_not_the_program():
    redaction = Redaction()
    redaction.hide("/archive/Doe^Jane/MRN-4711/t1.nii.gz")
    program = str(Path(mednext_engine.__file__).parent / "inference" / "engine.py")
    try:
        raise ValueError(f"cannot read Doe^Jane in {program}")
    except ValueError:
        import sys

        record = logging.LogRecord(
            "x", logging.ERROR, "x.py", 1, "failed on %s", ("MRN-4711",), sys.exc_info()
        )
    assert redaction.filter(record)
    shown = logging.Formatter("%(message)s").format(record)
    assert "Doe" not in shown
    assert "4711" not in shown
    assert program in shown
    assert "Traceback" in shown


# ---- tidying up ------------------------------------------------------------------------------


def test_only_half_written_results_of_the_job_are_removed(tmp_path):
    others = tmp_path / f".{os.getpid() + 1}-{'0' * 16}.nii.gz"
    kept = [others, tmp_path / "labels.nii.gz", tmp_path / ".hidden.nii.gz", tmp_path / ".abc.txt"]
    for path in kept:
        path.touch()
    request = p.Segment(job="1", output=str(tmp_path / "labels.nii.gz"))
    task = a_task(request=request)
    left = tmp_path / f".{os.getpid()}-{'0123456789abcdef'}.nii.gz"
    left.touch()
    remove_leftovers([task])
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_the_writers_of_results_use_names_that_are_recognised(tmp_path, monkeypatch):
    """What `inference.writing` calls its temporary files is what `remove_leftovers` looks for."""
    import numpy as np

    from mednext_engine.inference import writing
    from mednext_engine.inference.images import Volume

    seen = []
    monkeypatch.setattr(os, "replace", lambda a, b: seen.append(Path(a)))
    volume = Volume(np.zeros((1, 2, 3, 4), np.float32), (1.0, 1.0, 1.0))
    writing.write_labels(tmp_path / "x.nii.gz", np.zeros((2, 3, 4), np.uint8), volume)
    heads = [np.zeros((2, 3, 4), np.float32)]
    writing.write_probabilities(tmp_path / "x.npz", heads, 1, volume)
    assert len(seen) == 2
    for temporary in seen:
        temporary.touch()
    request = p.Segment(job="1", output=str(tmp_path / "x.nii.gz"))
    remove_leftovers([a_task(request=request)])
    assert list(tmp_path.iterdir()) == []


# ---- the doctor ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "wanted", "good"),
    [
        ("2.6.0", ">=2.6,!=2.9.*,<2.14", True),
        ("2.13.0+cpu", ">=2.6,!=2.9.*,<2.14", True),
        ("2.5.1", ">=2.6,!=2.9.*,<2.14", False),
        ("2.9.1+cu128", ">=2.6,!=2.9.*,<2.14", False),
        ("2.14.0", ">=2.6,!=2.9.*,<2.14", False),
        ("2.10.0", ">=2.6,<2.14", True),
        ("4", ">=4,<5", True),
        ("4.18.0rc1", ">=4.18,<5", True),
    ],
)
def test_versions_are_compared_as_numbers(version, wanted, good):
    assert doctor.satisfies(version, wanted) is good


def test_the_doctor_asks_for_what_the_package_declares():
    """An extension has no metadata, so the list stands twice; here the two are compared."""
    project = Path(mednext_engine.__file__).parents[1] / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    declared = dict(re.findall(r'^\s+"([A-Za-z-]+)([><=!][^"]*)"', text, re.MULTILINE))
    extra = re.findall(r'\["([a-z-]+)([><=!][^"]*)"\]', text)
    declared |= {name: versions for name, versions in extra if name == "openvino"}
    asked = {r.name: r.versions for r in doctor.REQUIREMENTS}
    assert asked == {name: declared[name] for name in asked}
    assert {r.name for r in doctor.REQUIREMENTS if r.required} <= set(declared)
    required = set(re.findall(r'^    "([A-Za-z-]+)[><=!]', text, re.MULTILINE))
    assert required == {r.name for r in doctor.REQUIREMENTS if r.required}


def test_what_is_missing_has_a_sentence_and_a_command(monkeypatch):
    from importlib import metadata

    def version(name):
        if name == "torch":
            raise metadata.PackageNotFoundError(name)
        return "2.9.0" if name == "numpy" else "0.1"

    monkeypatch.setattr(metadata, "version", version)
    missing = doctor.look_at(doctor.Requirement("torch", ">=2.6", "runs the networks"))
    assert missing["problem"] == "torch, which runs the networks, is not installed."
    assert missing["hint"] == 'pip install "torch>=2.6"'
    found = doctor.examine()
    assert found["usable"] is False
    assert any(sentence.startswith("torch") for sentence in found["problems"])


def test_openvino_will_do_for_mednexts(monkeypatch):
    from importlib import metadata

    real = metadata.version

    def version(name):
        if name == "torch":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    pytest.importorskip("openvino")
    monkeypatch.setattr(metadata, "version", version)
    found = doctor.examine()
    assert found["usable"] is True
    (problem,) = (p for p in found["problems"] if p.startswith("torch"))
    assert "OpenVINO" in problem

"""Segmentations by the real worker process: twice in a row, cancelled, killed, abandoned."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import SimpleITK as sitk
from job_fixtures import blocking, private_places, write_tiny_model, write_volume

from mednext_engine.jobs import protocol as p
from mednext_engine.jobs.client import Worker, WorkerLost
from mednext_engine.jobs.server import WRITING

QUICK = {"backend": "torch", "threads": 1}


@pytest.fixture(scope="module")
def a_model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def a_slow_model(tmp_path_factory):
    """Tens of seconds for `a_large_volume` in PyTorch, and more than one for each tile."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "slow", channels=16, patch=96)


@pytest.fixture(scope="module")
def a_volume(tmp_path_factory):
    return write_volume(tmp_path_factory.mktemp("volumes") / "head.nii.gz")


@pytest.fixture(scope="module")
def a_large_volume(tmp_path_factory):
    return write_volume(tmp_path_factory.mktemp("volumes") / "large.nrrd", (150, 150, 150))


@pytest.fixture
def a_worker(tmp_path):
    with Worker(environment=private_places(tmp_path)) as worker:
        worker.wait_ready()
        yield worker


def a_segment(job, volume, model, output, **options):
    return p.Segment(
        job=job,
        inputs=[str(volume)],
        output=str(output),
        model=str(model),
        options={**QUICK, **options},
    )


def wait_for_stage(worker, job, stage):
    while True:
        message = worker.receive(120)
        assert not isinstance(message, (p.Error, p.Result)), message
        if isinstance(message, p.Progress) and (message.job, message.stage) == (job, stage):
            return


def everything_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_labels_come_in_the_volume_s_grid_and_are_the_engine_s(
    a_worker, a_volume, a_model, tmp_path
):
    from mednext_engine.inference.engine import Segmenter
    from mednext_engine.inference.images import read_volume
    from mednext_engine.inference.options import Options
    from mednext_engine.models.folder import open_model

    steps = []
    request = a_segment("1", a_volume, a_model, tmp_path / "labels.nii.gz")
    result = a_worker.ask(request, 120, steps.append)
    assert isinstance(result, p.Result), result
    image, labels = sitk.ReadImage(str(a_volume)), sitk.ReadImage(result.value["output"])
    for fact in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert np.allclose(getattr(image, fact)(), getattr(labels, fact)(), atol=1e-5), fact
    here = Segmenter(open_model(a_model)).segment(
        read_volume(a_volume), Options(backend="torch", threads=1)
    )
    written = sitk.GetArrayFromImage(labels)
    assert np.array_equal(written, here.labels)
    assert result.value["present"] == [int(v) for v in np.unique(written) if v]
    assert result.value["present"], "a model that finds nothing tests nothing"
    assert [(one["value"], one["name"]) for one in result.value["labels"]] == [
        (1, "bright"),
        (2, "dark"),
    ]
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] <= fractions[-1] <= 1
    assert len({step.stage for step in steps}) >= 4
    assert steps[-1].stage == WRITING  # by this name the server knows that files may appear


def test_the_second_job_starts_no_python_and_loads_no_model(a_worker, a_volume, a_model, tmp_path):
    results = []
    for number in ("1", "2"):
        request = a_segment(number, a_volume, a_model, tmp_path / f"{number}.nii.gz")
        results.append(a_worker.ask(request, 120))
        assert psutil.Process(a_worker.process.pid).children() == []
    first, second = (result.value for result in results)
    assert (first["loaded"], second["loaded"]) == (True, False)
    stage = "Loading the network"  # which imports PyTorch here
    assert second["timings"]["Loading"] < 0.2
    assert second["timings"][stage] < 0.2 < first["timings"][stage]
    images = [sitk.ReadImage(one["output"]) for one in (first, second)]
    assert np.array_equal(*(sitk.GetArrayFromImage(image) for image in images))


def test_a_model_changed_on_disk_is_loaded_anew(a_worker, a_volume, tmp_path):
    from mednext_engine.models.folder import open_model

    model = write_tiny_model(tmp_path / "changing")
    assert a_worker.ask(a_segment("1", a_volume, model, tmp_path / "1.nii.gz"), 120).value["loaded"]
    checkpoint = open_model(model).checkpoint_path("0")
    checkpoint.write_bytes(
        open_model(write_tiny_model(tmp_path / "other", seed=5)).checkpoint_path("0").read_bytes()
    )
    os.utime(checkpoint, ns=(1, 1))
    second = a_worker.ask(a_segment("2", a_volume, model, tmp_path / "2.nii.gz"), 120)
    assert second.value["loaded"]
    before, after = (sitk.ReadImage(str(tmp_path / f"{n}.nii.gz")) for n in (1, 2))
    assert not np.array_equal(sitk.GetArrayFromImage(before), sitk.GetArrayFromImage(after))


def test_models_are_forgotten_when_asked_and_when_they_do_not_fit(a_volume, a_model, tmp_path):
    places = private_places(tmp_path)
    with Worker(environment=places) as worker:
        worker.wait_ready()
        worker.ask(a_segment("1", a_volume, a_model, tmp_path / "o.nii.gz"), 120)
        assert worker.ask(p.Unload(job="2")).value == {"unloaded": 1}
        assert worker.ask(p.Unload(job="3")).value == {"unloaded": 0}
        again = worker.ask(a_segment("4", a_volume, a_model, tmp_path / "o.nii.gz"), 120)
        assert again.value["loaded"]
    with Worker(environment={**places, "MEDNEXT_KEEP_MB": "0"}) as worker:
        worker.wait_ready()
        worker.ask(a_segment("1", a_volume, a_model, tmp_path / "o.nii.gz"), 120)
        assert worker.ask(p.Unload(job="2")).value == {"unloaded": 0}


def test_cancel_is_obeyed_within_two_seconds_in_the_middle_of_a_tile(
    a_worker, a_large_volume, a_slow_model, a_volume, a_model, tmp_path
):
    results = tmp_path / "results"
    results.mkdir()
    a_worker.send(a_segment("1", a_large_volume, a_slow_model, results / "labels.nii.gz"))
    wait_for_stage(a_worker, "1", "Segmenting")
    time.sleep(0.7)
    started = time.monotonic()
    a_worker.cancel("1")
    assert a_worker.wait("1", 30) == p.Cancelled(job="1")
    assert time.monotonic() - started < 2.0
    assert everything_in(results) == []
    after = a_worker.ask(a_segment("2", a_volume, a_model, results / "labels.nii.gz"), 120)
    assert isinstance(after, p.Result)


def test_one_job_at_a_time_and_questions_are_answered_meanwhile(
    a_worker, a_large_volume, a_slow_model, a_volume, a_model, tmp_path
):
    a_worker.send(a_segment("long", a_large_volume, a_slow_model, tmp_path / "long.nii.gz"))
    wait_for_stage(a_worker, "long", "Segmenting")
    for name in ("dropped", "kept"):
        a_worker.send(a_segment(name, a_volume, a_model, tmp_path / f"{name}.nii.gz"))
        wait_for_stage(a_worker, name, "waiting")
    started = time.monotonic()
    assert isinstance(a_worker.ask(p.Models(job="q1")), p.Result)
    assert isinstance(a_worker.ask(p.Doctor(job="q2")), p.Result)
    a_worker.cancel("dropped")
    assert a_worker.wait("dropped", 10) == p.Cancelled(job="dropped")
    assert time.monotonic() - started < 5.0
    again = a_worker.ask(a_segment("kept", a_volume, a_model, tmp_path / "x.nii.gz"))
    assert (again.code, again.message) == ("protocol", "A job 'kept' is under way.")
    a_worker.cancel("long")
    assert a_worker.wait("long", 10) == p.Cancelled(job="long")
    assert isinstance(a_worker.wait("kept", 120), p.Result)
    assert not (tmp_path / "dropped.nii.gz").exists()


def test_killed_in_mid_run_it_can_be_started_again(
    a_large_volume, a_slow_model, a_volume, a_model, tmp_path
):
    results = tmp_path / "results"
    results.mkdir()
    with Worker(environment=private_places(tmp_path)) as worker:
        worker.wait_ready()
        worker.send(a_segment("1", a_large_volume, a_slow_model, results / "labels.nii.gz"))
        wait_for_stage(worker, "1", "Segmenting")
        worker.process.kill()  # SIGKILL: it cannot do anything about it
        with pytest.raises(WorkerLost, match="ended"):
            worker.wait("1", 30)
    assert everything_in(results) == []
    with Worker(environment=private_places(tmp_path)) as worker:
        worker.wait_ready()
        result = worker.ask(a_segment("1", a_volume, a_model, results / "labels.nii.gz"), 120)
        assert isinstance(result, p.Result)
    assert everything_in(results) == ["labels.nii.gz"]


def test_it_ends_in_mid_run_when_the_client_vanishes(a_large_volume, a_slow_model, tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    with Worker(environment=private_places(tmp_path)) as worker:
        worker.wait_ready()
        worker.send(a_segment("1", a_large_volume, a_slow_model, results / "labels.nii.gz"))
        wait_for_stage(worker, "1", "Segmenting")
        started = time.monotonic()
        worker.process.stdin.close()
        assert worker.process.wait(10) == 0
        assert time.monotonic() - started < 3.0
    assert everything_in(results) == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"inputs": ["/nowhere/x.nii.gz"]}, "input"),
        ({"inputs": []}, "input"),
        ({"output": "/nowhere/labels.nii.gz"}, "output"),
        ({"options": {"step": 0.0}}, "input"),
        ({"options": {"device": "cuda:99"}}, "resources"),
        ({"options": {"roi": {"low": [1, 1, 1], "high": [0, 0, 0]}}}, "input"),
        ({"options": {"folds": ["7"]}}, "model"),
    ],
)
def test_what_cannot_be_done_is_an_error_with_a_sentence(
    a_worker, a_volume, a_model, tmp_path, change, code
):
    said = {"inputs": [str(a_volume)], "output": str(tmp_path / "o.nii.gz"), "options": QUICK}
    error = a_worker.ask(p.Segment(job="1", model=str(a_model), **{**said, **change}), 120)
    assert isinstance(error, p.Error)
    assert error.code == code, error
    assert error.message
    assert not list(tmp_path.glob("*.nii.gz"))


def test_without_torch_and_openvino_segment_says_so(a_volume, a_model, tmp_path):
    environment = private_places(tmp_path) | blocking(tmp_path / "site", "torch", "openvino")
    with Worker(environment=environment) as worker:
        worker.wait_ready()
        info = worker.ask(p.ModelInfo(job="1", model=str(a_model)))
        assert info.value["title"] == "Tiny"
        error = worker.ask(a_segment("2", a_volume, a_model, tmp_path / "o.nii.gz"))
        assert isinstance(error, p.Error)
        assert error.code == "dependency"
        assert "torch" in error.message.lower()


def test_no_socket_is_opened(a_volume, a_model, tmp_path):
    """With every backend that is installed. CI is unset: OpenVINO reports nothing where it is."""
    site = tmp_path / "site"
    site.mkdir()
    record = tmp_path / "sockets.txt"
    (site / "sitecustomize.py").write_text(
        "import sys\n"
        "def look(event, arguments):\n"
        "    if event.startswith('socket.'):\n"
        f"        open({str(record)!r}, 'a').write(event + '\\n')\n"
        "sys.addaudithook(look)\n"
    )
    environment = private_places(tmp_path) | {"PYTHONPATH": str(site)}
    kept = {k: v for k, v in os.environ.items() if k not in ("CI", "TF_BUILD", "JENKINS_URL")}
    subprocess.run(
        [sys.executable, "-c", "import socket; socket.socket().close()"],
        env={**kept, **environment},
        check=True,
    )
    assert "socket.__new__" in record.read_text(), "the watch itself does not work"
    record.unlink()
    silent = dict.fromkeys(("CI", "TF_BUILD", "JENKINS_URL"), "")
    with Worker(environment={**environment, **silent}) as worker:
        worker.wait_ready()
        for backend in ("torch", "auto"):
            request = a_segment(backend, a_volume, a_model, tmp_path / "o.nii.gz", backend=backend)
            assert isinstance(worker.ask(request, 120), p.Result)
        kinds = {
            connection.status for connection in psutil.Process(worker.process.pid).net_connections()
        }
        assert kinds == set()
    assert not record.exists(), record.read_text()

"""The worker as a real process: what it answers, what it survives, and when it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from job_fixtures import blocking, is_alive, private_places

import mednext_engine
from mednext_engine.jobs import protocol as p
from mednext_engine.jobs.client import Worker

PACKAGE = Path(mednext_engine.__file__).parent


@pytest.fixture
def a_running_worker(tmp_path):
    with Worker(environment=private_places(tmp_path)) as worker:
        worker.wait_ready()
        yield worker


def wait_for_end(pid, seconds):
    started = time.monotonic()
    while is_alive(pid):
        assert time.monotonic() - started < seconds, "the process still runs"
        time.sleep(0.05)


def test_it_says_who_it_is_before_anything_else(tmp_path):
    with Worker(environment=private_places(tmp_path)) as worker:
        ready = worker.wait_ready()
    assert ready == p.Ready(
        engine=mednext_engine.__version__,
        protocol=1,
        pid=worker.process.pid,
        python=sys.version.split()[0],
        log=str(tmp_path / "logs" / "worker.log"),
    )


def test_it_runs_as_a_script_from_anywhere_with_nothing_on_the_path(tmp_path):
    """As Slicer runs it: by its path, PYTHONPATH empty, in another folder. A module of ours called
    like one of Python's must not hide it: jobs/ must not be on the import path."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-S", str(PACKAGE / "jobs" / "worker.py")],
        input=b'{"v":1,"type":"shutdown","job":"1"}\n',
        capture_output=True,
        env={**environment, **private_places(tmp_path)},
        cwd=tmp_path,
        timeout=60,
        check=False,
    )
    replies = [p.decode(line, p.REPLIES) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert [type(r) for r in replies] == [p.Ready, p.Result]


def test_models_doctor_and_catalogue_need_no_torch(tmp_path):
    """With torch gone the worker still starts, says what is missing, and Segment fails in words."""
    environment = private_places(tmp_path) | blocking(tmp_path / "site", "torch", "openvino")
    with Worker(environment=environment) as worker:
        worker.wait_ready()
        models = worker.ask(p.Models(job="1"))
        assert isinstance(models, p.Result), models
        assert models.value["directory"] == str(tmp_path / "models")
        assert isinstance(worker.ask(p.Doctor(job="2")), p.Result)
        asked = worker.ask(p.Doctor(job="3", devices=True))
        assert asked.value["usable"] is False
        assert any("PyTorch" in problem for problem in asked.value["problems"])


def test_the_doctor_says_what_a_panel_needs(a_running_worker):
    value = a_running_worker.ask(p.Doctor(job="1")).value
    assert value["engine"] == mednext_engine.__version__
    assert value["usable"] is True
    assert {one["name"] for one in value["packages"]} >= {"torch", "numpy", "SimpleITK"}
    assert all(one["version"] for one in value["packages"] if one["required"])
    assert value["memory_total"] > value["memory_free"] > 0
    assert "devices" not in value  # torch was not loaded only to answer


def test_a_thousand_messages_are_answered_each_once(a_running_worker):
    names = [str(n) for n in range(1000)]
    for name in names:
        a_running_worker.send(p.Models(job=name))
    replies = [a_running_worker.receive(60) for _ in names]
    assert sorted((r.job for r in replies), key=int) == names
    assert {type(r) for r in replies} == {p.Result}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b"hello\n", "not a JSON object"),
        (b"\x00\xff\xfe{]\n", "not a JSON object"),
        (b'{"v":2,"type":"models","job":"x"}\n', "protocol version 2 came, this side speaks 1"),
        (b'{"v":1,"type":"dance","job":"x"}\n', "no message of type 'dance'"),
        (b'{"v":1,"type":"models","job":"x","a":NaN}\n', "not a JSON object"),
        (b'{"v":1,"type":"models","job":"' + b"x" * (2 * p.MAX_LINE) + b'"}\n', "longer than"),
    ],
)
def test_rubbish_is_refused_in_words_and_the_next_request_answered(
    a_running_worker, line, sentence
):
    a_running_worker.send_raw(line)
    error = a_running_worker.receive(30)
    assert isinstance(error, p.Error)
    assert error.code == "protocol"
    assert sentence in error.message
    assert isinstance(a_running_worker.ask(p.Models(job="next")), p.Result)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (p.ModelInfo(job="1", model="nobody"), "model"),
        (p.Remove(job="1", model="../../etc"), "model"),
        (p.Verify(job="1", model=""), "model"),
        (p.Import(job="1", path="/nowhere/model.zip"), "model"),
        (p.Export(job="1", model="x", path="relative.zip"), "input"),
        (p.Segment(job="1", inputs=["/x.nii"], output="relative.nii", model="x"), "input"),
        (p.Segment(job="1", inputs=[], output="/tmp/o.nii.gz", model="x"), "input"),
        (p.Segment(job="1", inputs=["/x.nii"], output="/tmp/o.nii.gz", model="nobody"), "model"),
    ],
    ids=lambda value: getattr(value, "type", value),
)
def test_errors_are_values(a_running_worker, request_, code):
    reply = a_running_worker.ask(request_)
    assert isinstance(reply, p.Error)
    assert reply.code == code
    assert code in p.ERROR_CODES
    assert "Traceback" not in reply.message + reply.hint
    assert isinstance(a_running_worker.ask(p.Models(job="2")), p.Result)


def test_a_job_s_name_is_free_again_when_it_is_over_and_a_cancel_too_late_says_nothing(
    a_running_worker,
):
    assert isinstance(a_running_worker.ask(p.Models(job="1")), p.Result)
    a_running_worker.cancel("1")
    a_running_worker.cancel("never heard of")
    assert isinstance(a_running_worker.ask(p.Models(job="1")), p.Result)


def test_it_ends_with_zero_when_asked_to(a_running_worker):
    assert a_running_worker.ask(p.Shutdown(job="1")) == p.Result(job="1", of="shutdown")
    assert a_running_worker.process.wait(10) == 0


def test_it_ends_when_stdin_closes(a_running_worker):
    a_running_worker.process.stdin.close()
    assert a_running_worker.process.wait(5) == 0


def test_it_ends_when_its_parent_is_killed(tmp_path):
    """The parent's pipe is held open by somebody else, so that only its death can be noticed."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    program = (
        "import os, subprocess, sys, time\n"
        "worker = subprocess.Popen([sys.executable, '-m', 'mednext_engine.jobs.worker'],\n"
        f"    stdin={reading}, stdout=subprocess.PIPE, pass_fds=[{reading}])\n"
        "print(worker.stdout.readline().decode(), flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        pass_fds=[reading, writing],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent), **private_places(tmp_path)},
    )
    try:
        pid = json.loads(parent.stdout.readline())["pid"]
        assert is_alive(pid)
        parent.kill()
        parent.wait()
        wait_for_end(pid, 5)
    finally:
        parent.kill()
        os.close(reading)
        os.close(writing)


def test_it_ends_when_the_process_it_was_told_of_is_gone(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    command = ("-m", "mednext_engine.jobs.worker", "--parent", str(other.pid))
    with Worker(command=command, environment=private_places(tmp_path)) as worker:
        worker.wait_ready()
        assert isinstance(worker.ask(p.Models(job="1")), p.Result)
        other.kill()
        other.wait()
        assert worker.process.wait(5) == 0


def test_what_libraries_print_does_not_reach_the_protocol(tmp_path):
    """A package that prints, in Python and below it, when it is imported."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "psutil.py").write_text(
        "import os\nprint('hello from Python')\nos.write(1, b'hello from below\\n')\n"
        "class virtual_memory:\n    total = 2**34\n    available = 2**33\n"
    )
    environment = private_places(tmp_path) | {"PYTHONPATH": str(tmp_path / "site")}
    with Worker(environment=environment, stderr=subprocess.PIPE) as worker:
        worker.wait_ready()
        value = worker.ask(p.Doctor(job="1")).value
        assert value["memory_total"] == 2**34  # the noisy package was used
        worker.close()
        noise = worker.process.stderr.read()
    assert b"hello from Python" in noise
    assert b"hello from below" in noise


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_the_log_is_private_and_names_no_file_of_the_patient(a_running_worker, tmp_path):
    a_running_worker.ask(
        p.Segment(
            job="1",
            inputs=["/data/Muster^Erika/1970-01-01.nii.gz"],
            output="/data/Muster^Erika/labels.nii.gz",
            model="nobody",
        )
    )
    log = tmp_path / "logs" / "worker.log"
    text = log.read_text()
    assert "segment: model after" in text
    assert "Muster" not in text
    assert "1970" not in text
    assert log.stat().st_mode & 0o077 == 0
    assert log.parent.stat().st_mode & 0o077 == 0


def test_what_was_answered_before_stdin_closed_is_still_said(tmp_path):
    """A script that pipes its requests in at once: `echo ... | worker`."""
    asked = b"".join(p.encode(p.Models(job=str(n))).encode() for n in range(3)) + b"rubbish\n"
    done = subprocess.run(
        [sys.executable, "-m", "mednext_engine.jobs.worker"],
        input=asked,
        capture_output=True,
        env={**os.environ, **private_places(tmp_path)},
        timeout=60,
        check=False,
    )
    replies = [p.decode(line, p.REPLIES) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert isinstance(replies[0], p.Ready)
    assert any(isinstance(reply, p.Error) for reply in replies)

"""Fine-tuning over the protocol, as the panel asks for it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from job_fixtures import blocking, private_places
from run_fixtures import a_job

from mednext_engine.finetuning.job import Job, write_job
from mednext_engine.jobs import protocol as p
from mednext_engine.jobs.client import Worker

SLOW = 240.0  # seconds that a busy computer may take


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("places")
    return {**private_places(root), "MEDNEXT_RUNS": str(root / "runs"), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Job:
    return a_job(tmp_path_factory.mktemp("data"), folder="Doe^Jane")


@pytest.fixture(scope="module")
def a_worker(places):
    with Worker(environment=places) as worker:
        worker.wait_ready()
        yield worker


@pytest.fixture
def job(a_worker, data, places, request) -> Job:
    """A job folder where the panel makes them, with a training longer than a test."""
    folder = Path(places["MEDNEXT_RUNS"]) / f"Doe^Jane {request.node.name}"
    options = replace(data.options, steps=200, preview_every=1000)
    job = replace(data, folder=folder, options=options)
    write_job(folder, job)
    return job


def with_steps(job: Job, steps: int, preview_every: int) -> Job:
    options = replace(job.options, steps=steps, preview_every=preview_every)
    job = replace(job, options=options)
    write_job(job.folder, job)
    return job


def until(worker: Worker, job: str, kind: type[p.Message]) -> list[p.Message]:
    """Everything about `job` up to and including the first message of `kind`."""
    heard: list[p.Message] = []
    deadline = time.monotonic() + SLOW
    while not heard or not isinstance(heard[-1], kind):
        message = worker.receive(deadline - time.monotonic())
        if message.job == job:
            heard.append(message)
            if isinstance(message, (p.Error, p.Result, p.Cancelled)):
                break
    return heard


def test_a_job_is_checked_in_words(a_worker, job):
    reply = a_worker.ask(p.CheckFinetune(a_worker.new_job(), job_folder=str(job.folder)), SLOW)
    assert isinstance(reply, p.Result), reply
    value = reply.value
    assert value["can_start"] is True
    assert [(label["name"], label["state"]) for label in value["labels"]] == [
        ("bright", "matched"),
        ("cavity", "new"),
        ("dark", "dropped"),
    ]
    assert value["validation"].endswith(".")
    estimate = value["estimate"]
    assert (estimate["patch"], estimate["batch"], estimate["steps"]) == ([16, 16, 16], 1, 200)
    assert estimate["seconds"] > 0
    assert estimate["memory_bytes"] > 0
    assert estimate["device"] == "cpu"
    for problem in value["problems"]:
        assert set(problem) == {"level", "case", "message", "hint"}
    assert not (job.folder / "run").exists()  # a check writes nothing


def test_what_cannot_be_checked_is_a_finding(a_worker, job):
    gone = tuple(replace(c, images=(c.images[0].with_name("gone.nii.gz"),)) for c in job.cases)
    write_job(job.folder, replace(job, cases=gone))
    reply = a_worker.ask(p.CheckFinetune(a_worker.new_job(), job_folder=str(job.folder)), SLOW)
    assert isinstance(reply, p.Result), reply
    assert reply.value["can_start"] is False
    assert "gone.nii.gz" in reply.value["problems"][0]["message"]


def test_a_training_tells_of_epochs_and_previews_and_gives_a_model(a_worker, job, places):
    job = with_steps(job, 4, 2)
    name = a_worker.new_job()
    a_worker.send(p.Finetune(name, job_folder=str(job.folder)))
    heard = until(a_worker, name, p.Result)
    assert isinstance(heard[-1], p.Result), heard[-1]
    value = heard[-1].value
    assert value["model"]["id"] == "Bright-things"
    assert [row["label"] for row in value["before_after"]] == ["bright", "cavity"]
    assert value["reason"] == "finished"
    assert value["held_out"].startswith("Measured on 1 volume")
    epochs = [m for m in heard if isinstance(m, p.Epoch)]
    assert [(e.epoch, e.epochs, e.step) for e in epochs] == [(n, 4, n) for n in (1, 2, 3, 4)]
    assert set(epochs[-1].dice) == {"bright", "cavity"}
    previews = [m for m in heard if isinstance(m, p.Preview)]
    assert previews
    assert previews[0].case == "case_1"
    fractions = [m.fraction for m in heard if isinstance(m, p.Progress)]
    assert fractions == sorted(fractions)
    listed = a_worker.ask(p.Models(a_worker.new_job()), SLOW)
    assert "Bright-things" in [model["id"] for model in listed.value["models"]]


def test_cancel_is_answered_within_two_seconds_and_the_run_goes_on_later(a_worker, job):
    name = a_worker.new_job()
    a_worker.send(p.Finetune(name, job_folder=str(job.folder)))
    assert isinstance(until(a_worker, name, p.Epoch)[-1], p.Epoch)
    asked = time.monotonic()
    a_worker.cancel(name)
    assert isinstance(until(a_worker, name, p.Cancelled)[-1], p.Cancelled)
    assert time.monotonic() - asked < 2.0
    name = a_worker.new_job()
    a_worker.send(p.Finetune(name, job_folder=str(job.folder), resume=True))
    again = until(a_worker, name, p.Epoch)[-1]
    assert isinstance(again, p.Epoch)
    a_worker.send(p.StopTraining(name))
    heard = until(a_worker, name, p.Result)
    assert isinstance(heard[-1], p.Result), heard[-1]
    assert heard[-1].value["reason"] == "stopped"
    epochs = [again.epoch, *(m.epoch for m in heard if isinstance(m, p.Epoch))]
    assert epochs == list(range(1, len(epochs) + 1))  # with those before the cancel: curves go on


def test_runs_are_listed_and_removed(a_worker, job, places):
    value = a_worker.ask(p.Runs(a_worker.new_job()), SLOW).value
    assert value["directory"] == places["MEDNEXT_RUNS"]
    assert Path(value["directory"]).stat().st_mode & 0o077 == 0
    (mine,) = [run for run in value["runs"] if run["folder"] == str(job.folder)]
    assert (mine["state"], mine["name"], mine["model"]) == ("new", "Bright things", None)
    large = {network["id"]: network for network in value["networks"]}["v1-l-k5"]
    assert (large["title"], large["parameters"]) == ("MedNeXt v1 L, kernel 5", 62_992_931)
    reply = a_worker.ask(p.RemoveRun(a_worker.new_job(), folder=str(job.folder)), SLOW)
    assert reply.value == {"removed": str(job.folder)}
    assert not job.folder.exists()
    reply = a_worker.ask(p.RemoveRun(a_worker.new_job(), folder=str(job.folder.parent)), SLOW)
    assert isinstance(reply, p.Error)
    assert reply.code == "input"


def test_no_name_comes_into_the_log(a_worker, job, places):
    job = with_steps(job, 1, 1000)
    (job.cases[0].images[0].parent / "x").touch()
    reply = a_worker.ask(p.Finetune(a_worker.new_job(), job_folder=str(job.folder)), SLOW)
    assert isinstance(reply, p.Result), reply
    wrong = p.Finetune(a_worker.new_job(), job_folder=str(job.folder / "Doe^John"))
    assert isinstance(a_worker.ask(wrong, SLOW), p.Error)
    log = (Path(places["MEDNEXT_LOGS"]) / "worker.log").read_text(encoding="utf-8")
    assert "finetune: result" in log
    assert "Doe" not in log


def test_without_torch_runs_are_listed_and_training_says_what_is_missing(places, data, tmp_path):
    environment = {**places, **blocking(tmp_path / "blocked", "torch")}
    with Worker(environment=environment) as worker:
        worker.wait_ready()
        assert isinstance(worker.ask(p.Runs(worker.new_job()), SLOW), p.Result)
        asked = p.Finetune(worker.new_job(), job_folder=str(data.folder))
        reply = worker.ask(asked, SLOW)
        assert isinstance(reply, p.Error)
        assert reply.code == "dependency"
        reply = worker.ask(p.CheckFinetune(worker.new_job(), job_folder=str(data.folder)), SLOW)
        assert reply.value["can_start"] is False
        assert "PyTorch" in reply.value["problems"][0]["message"]

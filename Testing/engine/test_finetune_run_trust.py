"""Whatever stops a fine-tuning ends in one sentence, and nothing of it is lost."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import SimpleITK as sitk
import torch
from run_fixtures import a_job

from mednext_engine.errors import Cancelled, InputError, OutputError, ResourceError
from mednext_engine.finetuning import run as running
from mednext_engine.finetuning.job import Job, read_job, write_job
from mednext_engine.finetuning.measure import Measured, digests_of, measure
from mednext_engine.finetuning.run import News, finetune
from mednext_engine.finetuning.runs import describe_run, locked, read_state
from mednext_engine.models.folder import open_model
from mednext_engine.monitor import Monitor

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Job:
    torch.set_num_threads(1)
    return a_job(tmp_path_factory.mktemp("data"), preview_every=1000)


@pytest.fixture
def job(data, tmp_path, monkeypatch) -> Job:
    """A job of its own, models of its own; segmenting whole volumes is left to other tests."""
    monkeypatch.setenv("MEDNEXT_MODELS", str(tmp_path / "models"))

    def measured(model, job, split, known, options, monitor, look=None, digests=None):
        found = digests_of(job, split, monitor)
        missing = [case for case in found if digests and digests[case] != found[case]]
        return Measured(dict.fromkeys(known, 0.5), digests=found, missing=missing)

    monkeypatch.setattr(running, "measure", measured)
    job = replace(data, folder=tmp_path / "job")
    write_job(job.folder, job)
    return job


def with_options(job: Job, **options) -> Job:
    job = replace(job, options=replace(job.options, **options))
    write_job(job.folder, job)
    return job


def state_of(job: Job) -> str:
    return describe_run(job.folder)["state"]


def test_out_of_memory_is_said_and_the_run_can_go_on(job, monkeypatch):
    from mednext_engine.training.stepper import Stepper

    def step(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with monkeypatch.context() as patched:
        patched.setattr(Stepper, "step", step)
        with pytest.raises(ResourceError, match="memory does not suffice"):
            finetune(job.folder)
    assert state_of(job) == "failed"
    assert "memory" in read_state(job.folder)["message"]
    made = finetune(job.folder, resume=True)
    assert made.reason == "finished"
    assert state_of(job) == "finished"


def test_a_full_disk_is_said_and_the_run_can_go_on(job, monkeypatch):
    real, calls = os.replace, []

    def replacing(source, target):
        if Path(target).name.startswith("checkpoint"):
            calls.append(target)
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replacing)
        with pytest.raises(OutputError, match=r"[Nn]o space|full") as caught:
            finetune(job.folder)
    assert calls
    assert "\n" not in caught.value.message
    assert state_of(job) == "failed"
    assert not list((job.run_folder).glob(".*"))  # nothing half-written
    assert finetune(job.folder, resume=True).reason == "finished"


def test_a_disk_that_is_full_for_prepared_arrays_is_said(job, monkeypatch):
    real = os.replace

    def replacing(source, target):
        if str(target).endswith(".npy"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replacing)
        with pytest.raises(OutputError):
            finetune(job.folder)
    assert finetune(job.folder, resume=True).reason == "finished"


def test_a_run_folder_that_cannot_be_made_is_said(job):
    job.run_folder.write_text("a file is in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        finetune(job.folder)
    assert state_of(job) == "new"


def test_a_models_directory_that_cannot_be_written_costs_no_training(job, tmp_path):
    (tmp_path / "models").write_text("a file is in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        finetune(job.folder)
    assert state_of(job) == "failed"
    (tmp_path / "models").unlink()
    epochs, earlier = [], []
    news = News(on_epoch=epochs.append, on_resumed=earlier.extend)
    made = finetune(job.folder, resume=True, news=news)
    assert epochs == []  # it was trained already
    assert [report.epoch for report in earlier] == [1, 2, 3, 4]
    assert made.reason == "finished"
    assert made.model.card.provenance["schedule"]["steps"] == 4
    assert made.model.path.parent == tmp_path / "models"


def brighter(path: Path) -> None:
    image = sitk.ReadImage(str(path))
    sitk.WriteImage(image + 1.0, str(path))


@pytest.mark.parametrize("spoil", [brighter, Path.unlink])
def test_a_case_that_changes_or_goes_meanwhile_costs_only_its_figure(
    job, tmp_path, monkeypatch, spoil
):
    monkeypatch.setattr(running, "measure", measure)  # the real one
    job = private_copies(job, tmp_path)

    def after_epoch(report):
        if report.epoch == 1:
            spoil(job.cases[1].images[0])

    monitor = Monitor()
    made = finetune(job.folder, monitor, news=News(on_epoch=after_epoch))
    assert [row["after"] for row in made.before_after] == [None, None]
    assert made.before_after[0]["before"] is not None
    assert "could not be read any more" in made.held_out
    assert any("case_1 were moved or changed" in note for note in monitor.notes)
    assert open_model(made.model.path).labels.names == ("background", "bright", "cavity")


def private_copies(job: Job, folder: Path) -> Job:
    """The job with image files of its own."""
    cases = []
    for case in job.cases:
        copy = folder / case.images[0].name
        copy.write_bytes(case.images[0].read_bytes())
        cases.append(replace(case, images=(copy,)))
    job = replace(job, cases=tuple(cases))
    write_job(job.folder, job)
    return job


def test_a_job_that_changed_is_not_resumed(job):
    monitor = Monitor()
    with pytest.raises(Cancelled):
        finetune(job.folder, monitor, news=News(on_epoch=lambda _: monitor.cancel()))
    assert state_of(job) == "interrupted"
    with_options(job, seed=7)
    with pytest.raises(InputError, match="was changed after this training began"):
        finetune(job.folder, resume=True)


def test_cancelled_and_resumed_it_goes_on_where_it_was(job):
    monitor, epochs = Monitor(), []

    def cancel_after_the_second(report):
        epochs.append(report.epoch)
        if report.epoch == 2:
            monitor.cancel()

    with pytest.raises(Cancelled):
        finetune(job.folder, monitor, news=News(on_epoch=cancel_after_the_second))
    info = describe_run(job.folder)
    assert (info["state"], info["fraction"], info["model"]) == ("interrupted", 0.5, None)
    earlier = []
    news = News(on_epoch=lambda report: epochs.append(report.epoch), on_resumed=earlier.extend)
    made = finetune(job.folder, resume=True, news=news)
    assert epochs == [1, 2, 3, 4]
    assert [report.epoch for report in earlier] == [1, 2]
    assert made.model.card.provenance["schedule"]["epochs"] == 4
    assert not list((job.run_folder / "prepared").glob("*.npy"))
    assert not list(job.run_folder.glob("checkpoint*"))


def test_two_runs_of_one_job_are_refused_and_a_dead_ones_lock_is_not(job):
    with locked(job.folder):
        assert state_of(job) == "running"
        with pytest.raises(InputError, match=f"already, by the process {os.getpid()}"):
            finetune(job.folder)
    (job.run_folder / "lock").write_text("4194300")  # left by a process that was killed
    assert state_of(job) == "new"
    assert finetune(job.folder).reason == "finished"


def test_stopping_keeps_the_best(job):
    stop = threading.Event()
    made = finetune(job.folder, stop=stop, news=News(on_epoch=lambda _: stop.set()))
    assert made.reason == "stopped"
    assert made.model.card.provenance["schedule"]["steps"] < 4


def test_errors_of_the_check_end_it_before_anything_is_written(job):
    cases = (replace(job.cases[0], labels=job.cases[0].labels.with_name("gone.nii.gz")),)
    write_job(job.folder, replace(job, cases=cases))
    with pytest.raises(InputError, match=r"case_0.*gone\.nii\.gz"):
        finetune(job.folder)
    assert state_of(job) == "new"


def test_without_a_package_that_training_needs_it_is_said(job, monkeypatch):
    from mednext_engine.errors import DependencyError
    from mednext_engine.training import requirements

    monkeypatch.setattr(requirements, "missing", lambda: ["batchgeneratorsv2>=0.3.5,<0.4"])
    with pytest.raises(DependencyError, match="needs packages that are missing: batchgenerators"):
        finetune(job.folder)


PROGRAM = """
import sys
from dataclasses import replace
from pathlib import Path
from mednext_engine.finetuning import start
from mednext_engine.finetuning.run import News, finetune
decide = start.decide
def often(*arguments):
    decided = decide(*arguments)
    return replace(decided, recipe=replace(decided.recipe, checkpoint_seconds=0.0))
start.decide = often
finetune(Path(sys.argv[1]), news=News(on_epoch=lambda r: print(r.epoch, flush=True)))
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_killed_and_resumed_the_curves_go_on(job, tmp_path):
    job = with_options(job, steps=20)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(job.folder)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 2:
            break
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    assert state_of(job) == "interrupted"
    epochs = []
    finetune(job.folder, resume=True, news=News(on_epoch=lambda r: epochs.append(r.epoch)))
    assert epochs[-1] == 10
    assert epochs[0] in (2, 3, 4, 5)  # not from the beginning
    rows = (job.run_folder / "curves.csv").read_text().splitlines()
    assert [int(row.split(",")[0]) for row in rows[1:]] == list(range(1, 11))
    assert not [p for p in job.run_folder.rglob(".*") if p.is_file()]
    assert json.loads((job.run_folder / "run.json").read_text())["state"] == "finished"


def test_a_job_read_back_is_the_same(job):
    assert read_job(job.folder).options == job.options

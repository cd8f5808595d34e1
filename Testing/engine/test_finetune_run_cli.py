"""`mednext finetune` from a data set to a model."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from job_fixtures import private_places, write_tiny_model
from run_fixtures import write_case

from mednext_engine.cli import exits, main


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder of pairs with names of labels, and a base model."""
    root = tmp_path_factory.mktemp("cli")
    write_tiny_model(root / "base", patch=16)
    for folder in ("images", "labels"):
        (root / "data" / folder).mkdir(parents=True)
    for number in range(2):
        image, labels = write_case(root / "made", f"head{number}", 4 * number)
        shutil.copy(image, root / "data" / "images" / f"head{number}.nii.gz")
        shutil.copy(labels, root / "data" / "labels" / f"head{number}.nii.gz")
    names = json.dumps({"labels": {"bright": 1, "cavity": 2}})
    (root / "data" / "labels.json").write_text(names)
    return root


@pytest.fixture
def places(tmp_path, monkeypatch) -> Path:
    for name, value in private_places(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MEDNEXT_RUNS", str(tmp_path / "runs"))
    return tmp_path


def arguments(root: Path, *more: str) -> list[str]:
    said = ["finetune", str(root / "data"), "--base", str(root / "base"), "--name", "Heads"]
    said += ["--preset", "quick", "--steps", "2", "--batch", "1", "--threads", "1"]
    return [*said, "--device", "cpu", "--preview-every", "0", *more]


def test_a_check_says_what_it_would_take(root, places, capsys):
    assert main(arguments(root, "--check-only")) == exits.OK
    shown = capsys.readouterr().out
    assert "bright  matched  bright" in shown
    assert "2 steps of 1 patches of 16 x 16 x 16 voxels on cpu" in shown
    assert "It can start." in shown
    assert not list((places / "models").iterdir())


def test_a_data_set_becomes_a_model(root, places, capsys):
    assert main(arguments(root, "--json", "--out", str(places / "own"))) == exits.OK
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    epochs = [line for line in lines if line["type"] == "epoch"]
    assert [line["epoch"] for line in epochs] == [1, 2]
    (result,) = [line for line in lines if line["type"] == "result"]
    assert result["path"] == str(places / "own")
    assert {row["label"] for row in result["before_after"]} == {"bright", "cavity"}
    assert (places / "own" / "report.md").is_file()
    assert main(arguments(root, "--resume")) == exits.INPUT
    assert "This run is finished" in capsys.readouterr().err


def test_what_cannot_be_meant_is_refused(root, places, capsys):
    assert main(arguments(root, "--resume")) == exits.INPUT
    assert "no run to go on with" in capsys.readouterr().err
    assert main(arguments(root, "--patch", "16,16")) == exits.USAGE
    assert main(arguments(root, "--steps", "0")) == exits.INPUT
    assert main(["finetune", str(root / "nothing")]) == exits.INPUT
    assert main(arguments(root, "--base", "nobody")) == exits.MODEL


def test_slices_are_told_to_the_job(root, places, capsys):
    told = ("--annotated", "slices", "--empty-beyond", "--check-only")
    main(arguments(root, *told))
    (case, *_) = sorted((places / "runs").glob("*/cases/*/case.json"))
    annotated = json.loads(case.read_text())["annotated"]
    assert (annotated["kind"], annotated["beyond"]) == ("slices", True)
    assert main(arguments(root, "--empty-beyond")) == exits.USAGE
    assert "--empty-beyond belongs to --annotated slices" in capsys.readouterr().err


def test_a_network_is_chosen_from_scratch_only(root, places, capsys):
    small = ("--network", "laptop-nano-k3")
    assert main(arguments(root, *small, "--check-only")) == exits.INPUT
    assert "only where none is taken over from a base model" in capsys.readouterr().err
    scratch = ["finetune", str(root / "data"), "--base", "none", "--name", "New", "--check-only"]
    assert main([*scratch, *small, "--patch", "16,16,16", "--device", "cpu"]) == exits.OK
    assert "bright  new" in capsys.readouterr().out


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_says_how_to_go_on(root, places):
    command = [sys.executable, "-m", "mednext_engine.cli", *arguments(root, "--steps", "100")]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 1 of"):
            break
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == exits.INTERRUPTED
    assert f"mednext finetune {places / 'runs' / 'Heads'} --resume" in said
    assert json.loads((places / "runs/Heads/run/run.json").read_text())["state"] == "interrupted"


def test_two_processes_share_one_training(root, places):
    """`torchrun` on a CPU: gloo. The first process makes the job and the model, and speaks."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    command += ["2", "-m", "mednext_engine.cli", *arguments(root, "--batch", "2", "--json")]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == exits.OK, done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [line["type"] for line in lines].count("result") == 1
    assert [line["epoch"] for line in lines if line["type"] == "epoch"] == [1, 2]
    assert [p.name for p in (places / "models").iterdir()] == ["Heads"]

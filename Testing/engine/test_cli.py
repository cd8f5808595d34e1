"""`mednext` as a process: what it prints, what it writes, and its exit codes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np
import pytest
import SimpleITK as sitk
from job_fixtures import blocking, private_places, write_tiny_model, write_volume

from mednext_engine.cli import main

QUICK = ("--backend", "torch", "--threads", "1")


@pytest.fixture(scope="module")
def a_model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def a_volume(tmp_path):
    return write_volume(tmp_path / "head.nii.gz")


@dataclass
class Ended:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def mednext(tmp_path, monkeypatch, capsys):
    """Runs the command line in this process, which has torch already."""
    monkeypatch.chdir(tmp_path)
    for name, value in private_places(tmp_path).items():
        monkeypatch.setenv(name, value)

    def run(*arguments, check=None, **environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        try:
            code = main([str(one) for one in arguments])
        except SystemExit as left:  # argparse
            code = left.code
        done = Ended(code, *capsys.readouterr())
        if check is not None:
            assert done.returncode == check, done.stderr + done.stdout
        return done

    return run


@pytest.fixture
def mednext_process(tmp_path):
    """Runs the command line in a process of its own."""

    def run(*arguments, check, **environment):
        done = subprocess.run(
            [sys.executable, "-m", "mednext_engine.cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, **private_places(tmp_path), **environment},
            cwd=tmp_path,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == check, done.stderr + done.stdout
        return done

    return run


def lines_of(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def labels_of(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


# ---- quick answers ---------------------------------------------------------------------------


def test_help_names_the_commands_and_the_exit_codes(mednext):
    shown = mednext("--help", check=0).stdout
    for word in ("segment", "models", "evaluate", "networks", "doctor", "130  stopped by Ctrl-C"):
        assert word in shown
    assert "torchrun" in mednext("segment", "--help", check=0).stdout


@pytest.mark.parametrize("command", [("--help",), ("models", "list"), ("segment", "--help")])
def test_quick_answers_do_not_wait_for_torch(mednext_process, tmp_path, command):
    """torch, where it cannot be imported, is not missed."""
    mednext_process(
        *command, check=0, **blocking(tmp_path / "site", "torch", "openvino", "SimpleITK")
    )


def test_doctor_says_what_there_is_and_ends_with_six_where_something_is_missing(
    mednext, mednext_process, tmp_path
):
    shown = mednext("doctor", check=0).stdout
    assert "Segment can run." in shown
    assert "torch" in shown
    found = json.loads(mednext("doctor", "--json", check=0).stdout)
    assert found["devices"][-1]["name"] == "cpu"
    site = tmp_path / "site"
    lacking = mednext_process("doctor", check=6, **blocking(site, "torch", "openvino"))
    assert "Segment cannot run yet." in lacking.stdout
    pytest.importorskip("openvino")
    enough = mednext_process("doctor", check=0, **blocking(site, "torch"))
    assert "Segment can run." in enough.stdout
    assert "PyTorch is installed but does not start" in enough.stdout


def test_networks_are_a_list_of_objects(mednext):
    """S with kernel 3 has 5.6 M parameters and 130 G multiply-accumulates (Roy et al. 2023)."""
    rows = json.loads(mednext("networks", "--json", check=0).stdout)
    small = next(r for r in rows if r["name"].endswith("S") and r["kernel_size"] == 3)
    assert small["parameters"] == pytest.approx(5.6e6, rel=0.02)
    assert small["gmacs"] == pytest.approx(130, rel=0.03)
    assert "v2 Wide" in {r["name"] for r in rows}


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("dance",), 2, "invalid choice"),
        (("segment", "head.nii.gz"), 2, "required: OUT"),
        (("segment", "head.nii.gz", "o.nii.gz", "--roi", "1,2"), 2, "a box is SPACE:LOW:HIGH"),
        (("segment", "head.nii.gz", "o.nii.gz", "--roi", "ras:1,1,1:0,2,2"), 2, "empty"),
        (("segment", "head.nii.gz", "o.txt/", "--picture", "x.jpg"), 2, "end in .png"),
        (("segment", "head.nii.gz", "o.nii.gz", "--step", "0"), 3, "The step must lie above 0"),
        (("segment", "nowhere.nii.gz", "o.nii.gz"), 3, "no file or folder"),
        (("segment", "rubbish.nii.gz", "o.nii.gz"), 3, "rubbish.nii.gz"),
        (("segment", "head.nii.gz", "o.nii.gz", "--device", "cuda:77"), 5, "no device cuda:77"),
        (("segment", "head.nii.gz", "o.nii.gz", "--folds", "7"), 4, "no fold '7'"),
    ],
)
def test_each_kind_of_fault_has_its_code_and_sentence(
    mednext, a_volume, a_model, tmp_path, arguments, code, sentence
):
    (tmp_path / "rubbish.nii.gz").write_bytes(b"rubbish")
    chosen = ("--model", a_model) if arguments[0] == "segment" else ()
    done = mednext(*arguments, *chosen, check=code)
    assert sentence in done.stderr
    assert not (tmp_path / "o.nii.gz").exists()


def test_an_unknown_model_is_named_with_those_there_are(mednext, a_volume):
    done = mednext("segment", a_volume, "o.nii.gz", "--model", "nobody", check=4)
    assert "There is no model 'nobody'" in done.stderr


@pytest.mark.skipif(
    os.name != "posix" or not hasattr(os, "geteuid") or os.geteuid() == 0,
    reason="needs a folder that cannot be written",
)
def test_no_permission_is_an_output_error(mednext, a_volume, a_model, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    mednext("segment", a_volume, "locked/o.nii.gz", "--model", a_model, *QUICK, check=7)


# ---- one volume ------------------------------------------------------------------------------


def test_one_volume_with_everything_one_may_ask_for(mednext, a_volume, a_model, tmp_path):
    done = mednext(
        "segment", a_volume, "out/labels.nrrd", "--model", a_model, *QUICK,
        "--uncertainty", "--probabilities", "--picture", "out/picture.png", check=0,
    )  # fmt: skip
    out = tmp_path / "out"
    names = ["labels.nrrd", "labels_probabilities.npz", "labels_uncertainty.nrrd", "picture.png"]
    assert sorted(p.name for p in out.iterdir()) == names
    image, labels = sitk.ReadImage(str(a_volume)), sitk.ReadImage(str(out / "labels.nrrd"))
    assert np.allclose(image.GetDirection(), labels.GetDirection(), atol=1e-5)
    with np.load(out / "labels_probabilities.npz") as archive:
        probabilities = archive["probabilities"]
    values = sitk.GetArrayFromImage(labels)
    assert probabilities.shape == (3, *values.shape)
    assert np.abs(probabilities.sum(0) - 1).max() < 1e-2
    assert (probabilities.argmax(0) == values).mean() > 0.999
    entropy = labels_of(out / "labels_uncertainty.nrrd")
    assert 0 <= entropy.min() < entropy.max() <= 1
    counted = int((values == 1).sum()) * 8 / 1000  # voxels of 2 x 2 x 2 mm
    assert f"{counted:.4g}" in done.stdout
    assert "bright" in done.stdout
    assert "head: Segmenting" in done.stderr  # plain lines, no bar


def test_machines_get_one_json_object_a_line(mednext, a_volume, a_model):
    done = mednext("segment", a_volume, "o.nii.gz", "--model", a_model, *QUICK, "--json", check=0)
    lines = lines_of(done)
    assert {line["type"] for line in lines} >= {"progress", "result"}
    result = lines[-1]
    assert result["type"] == "result"
    assert [label["name"] for label in result["labels"]] == ["bright", "dark"]
    failed = mednext("segment", "nowhere.nii", "o.nii", "--model", a_model, "--json", check=3)
    assert lines_of(failed)[-1]["code"] == "input"


def test_a_box_leaves_the_rest_background(mednext, a_volume, a_model, tmp_path):
    """I, J, K from 5 to 15: x, y and z of the array (z, y, x)."""
    box = "voxel:5,8,2:15,18,12"
    for name, more in (("whole", ()), ("box", ("--roi", box))):
        output = f"{name}.nii.gz"
        mednext("segment", a_volume, output, "--model", a_model, *QUICK, *more, check=0)
    whole, inside = labels_of(tmp_path / "whole.nii.gz"), labels_of(tmp_path / "box.nii.gz")
    part = (slice(2, 12), slice(8, 18), slice(5, 15))
    assert whole[part].any()
    assert np.array_equal(inside[part], whole[part])
    inside[part] = 0
    assert not inside.any()


def test_several_channels_by_option(mednext, tmp_path):
    model = write_tiny_model(tmp_path / "two", inputs=2)
    first, second = (write_volume(tmp_path / f"t{n}.nii.gz", seed=n) for n in (1, 2))
    mednext("segment", first, "o.nii.gz", "--channel", second, "--model", model, *QUICK, check=0)
    done = mednext("segment", first, "o2.nii.gz", "--model", model, *QUICK, check=3)
    assert "channel0, channel1" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "terminate"]
)
def test_a_signal_leaves_nothing_half_written(tmp_path, number, code):
    model = write_tiny_model(tmp_path / "slow", channels=16, patch=96)
    volume = write_volume(tmp_path / "large.nrrd", (150, 150, 150))
    (tmp_path / "out").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "mednext_engine.cli", "segment", volume, tmp_path / "out" / "o.nrrd",
         "--model", model, *QUICK, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **private_places(tmp_path)},
    )  # fmt: skip
    for line in process.stdout:
        if json.loads(line).get("stage") == "Segmenting":
            break
    time.sleep(0.5)
    process.send_signal(number)
    start = time.monotonic()
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - start < 5  # whatever layer runs; 1.5 s and the end of a process
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert list((tmp_path / "out").iterdir()) == []


# ---- many volumes ----------------------------------------------------------------------------


@pytest.fixture
def some_volumes(tmp_path):
    folder = tmp_path / "images"
    for seed, name in enumerate(("a_0000", "b_0000", "d")):
        write_volume(folder / f"{name}.nii.gz", seed=seed)
    (folder / "c.nii.gz").write_bytes(b"no image")
    return folder


def test_a_batch_goes_on_after_a_bad_case_and_skips_what_is_whole(
    mednext, some_volumes, a_model, tmp_path
):
    command = ("segment", some_volumes, "results", "--model", a_model, *QUICK)
    first = mednext(*command, check=1)
    results = tmp_path / "results"
    assert sorted(p.name for p in results.iterdir()) == ["a.nii.gz", "b.nii.gz", "d.nii.gz"]
    assert "3 done, 0 skipped, 1 failed" in first.stdout
    assert "failed: c" in first.stdout
    assert "c.nii.gz" in first.stderr
    write_volume(some_volumes / "c.nii.gz", seed=9)
    cut = results / "b.nii.gz"
    cut.write_bytes(cut.read_bytes()[:-20])
    before = (results / "a.nii.gz").stat().st_mtime_ns
    second = mednext(*command, "--json", check=0)
    summary = lines_of(second)[-1]
    assert (summary["done"], summary["skipped"], summary["failed"]) == (2, 2, [])
    assert (results / "a.nii.gz").stat().st_mtime_ns == before
    assert labels_of(cut).any()


def test_shares_of_a_batch_are_done_by_rank(mednext, some_volumes, a_model, tmp_path):
    (some_volumes / "c.nii.gz").unlink()
    command = ("segment", some_volumes, "results", "--model", a_model, *QUICK)
    first = mednext(*command, check=0, RANK="1", WORLD_SIZE="2")
    assert "Share 2 of 2: 1 of 3 cases." in first.stderr
    assert sorted(p.name for p in (tmp_path / "results").iterdir()) == ["b.nii.gz"]
    mednext(*command, check=0, RANK="0", WORLD_SIZE="2")
    names = sorted(p.name for p in (tmp_path / "results").iterdir())
    assert names == ["a.nii.gz", "b.nii.gz", "d.nii.gz"]


# ---- models ----------------------------------------------------------------------------------


def test_a_model_s_way_through_the_commands(mednext, a_model, a_volume, tmp_path):
    mednext("models", "import", a_model, "--name", "mine", check=0)
    listed = json.loads(mednext("models", "list", "--json", check=0).stdout)
    mine = next(m for m in listed["models"] if m["id"] == "mine")
    assert (mine["title"], mine["removable"]) == ("Tiny", True)
    assert "mine" in mednext("models", "list", check=0).stdout
    assert "bright" in mednext("models", "info", "mine", check=0).stdout
    assert "mine is sound" in mednext("models", "verify", "mine", check=0).stdout
    mednext("segment", a_volume, "o.nii.gz", "--model", "mine", *QUICK, check=0)
    mednext("models", "export", "mine", "mine.zip", check=0)
    mednext("models", "import", "mine.zip", check=4)  # it is there already
    mednext("models", "remove", "mine", check=2)  # nobody can be asked
    mednext("models", "remove", "mine", "--yes", check=0)
    mednext("models", "info", "mine", check=4)
    mednext("models", "import", "mine.zip", check=0)
    dataset = tmp_path / "models" / "mine" / "dataset.json"
    dataset.write_text(dataset.read_text().replace("bright", "bricht"))
    damaged = mednext("models", "verify", "mine", check=1)
    assert "dataset.json" in damaged.stdout


def test_the_catalogue_is_listed(mednext, tmp_path):
    done = mednext("models", "list", "--catalogue", "--json")
    if done.returncode == 70:
        pytest.skip("the catalogue is not here")
    entries = json.loads(done.stdout)["entries"]
    assert all(entry["license"] and entry["citation"] for entry in entries)
    mednext("models", "download", "nobody", check=4)


# ---- evaluation ------------------------------------------------------------------------------


def test_evaluate_gives_a_table_a_csv_and_json(mednext, tmp_path):
    """A cube shifted by one of its ten voxels of 2 mm: Dice 0.9, HD95 2 mm."""
    for folder, start in (("reference", 4), ("prediction", 5)):
        (tmp_path / folder).mkdir()
        values = np.zeros((20, 20, 20), np.uint8)
        values[start : start + 10, 4:14, 4:14] = 1
        image = sitk.GetImageFromArray(values)
        image.SetSpacing((2.0, 2.0, 2.0))
        sitk.WriteImage(image, str(tmp_path / folder / "case.nii.gz"))
    command = ("evaluate", "prediction", "reference", "--tolerance", "2")
    shown = mednext(*command, "--csv", "scores.csv", check=0).stdout
    assert "surface Dice at 2 mm" in shown
    with (tmp_path / "scores.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["case"], row["label"], row["dice"], row["hd95_mm"]) == ("case", "1", "0.9", "2.0")
    lines = lines_of(mednext(*command, "--json", check=0))
    assert lines[0]["surface_dice"] == 1.0
    assert lines[-1]["labels"][0]["dice"] == pytest.approx(0.9)
    bad = tmp_path / "prediction" / "case.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((9, 9, 9), np.uint8)), str(bad))
    assert "9 x 9 x 9 voxels" in mednext(*command, check=3).stderr

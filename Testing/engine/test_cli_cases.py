"""Which cases a command has, where results go, whose share a case is, what counts as done."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from mednext_engine.cli import exits
from mednext_engine.cli.cases import Case, Share, find_cases, find_share, is_complete
from mednext_engine.cli.exits import UsageError
from mednext_engine.errors import InputError


def some_files(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def shown(cases):
    return [(c.name, [p.name for p in c.inputs], c.output.name) for c in cases]


def test_one_file_to_one_file(tmp_path):
    some_files(tmp_path, "head.nrrd")
    cases, batch = find_cases(tmp_path / "head.nrrd", tmp_path / "out.mha", 1)
    assert (shown(cases), batch) == ([("head", ["head.nrrd"], "out.mha")], False)
    assert cases[0].uncertainty == tmp_path / "out_uncertainty.mha"
    assert cases[0].probabilities == tmp_path / "out_probabilities.npz"


def test_one_file_into_a_folder_keeps_its_name(tmp_path):
    some_files(tmp_path, "head.v2.nii.gz")
    cases, _ = find_cases(tmp_path / "head.v2.nii.gz", tmp_path / "results", 1)
    assert cases[0].output == tmp_path / "results" / "head.v2.nii.gz"


def test_further_channels_are_named_or_found_beside_the_first(tmp_path):
    some_files(tmp_path, "t1.nii.gz", "t2.nii.gz", "case_0000.nii.gz", "case_0001.nii.gz")
    out = tmp_path / "out.nii.gz"
    named, _ = find_cases(tmp_path / "t1.nii.gz", out, 2, [tmp_path / "t2.nii.gz"])
    assert shown(named) == [("t1", ["t1.nii.gz", "t2.nii.gz"], "out.nii.gz")]
    found, _ = find_cases(tmp_path / "case_0000.nii.gz", out, 2)
    assert shown(found) == [("case", ["case_0000.nii.gz", "case_0001.nii.gz"], "out.nii.gz")]


def test_a_folder_of_files_without_a_known_suffix_is_one_dicom_series(tmp_path):
    some_files(tmp_path / "series", "IM0001", "IM0002.dcm")
    cases, batch = find_cases(tmp_path / "series", tmp_path / "out.nii.gz", 1)
    assert (shown(cases), batch) == ([("series", ["series"], "out.nii.gz")], False)


def test_a_folder_of_images_is_a_batch_in_the_order_of_names(tmp_path):
    some_files(tmp_path / "in", "b.nrrd", "a_0000.nii.gz", "scan_2021.nii.gz", ".hidden.nii.gz")
    some_files(tmp_path / "in", "notes.txt")
    cases, batch = find_cases(tmp_path / "in", tmp_path / "out", 1, form=".mha")
    assert batch
    assert shown(cases) == [
        ("a", ["a_0000.nii.gz"], "a.mha"),
        ("b", ["b.nrrd"], "b.mha"),
        ("scan_2021", ["scan_2021.nii.gz"], "scan_2021.mha"),
    ]


def test_channels_in_a_folder_belong_together_and_a_missing_one_is_a_problem(tmp_path):
    names = ("a_0001.nii.gz", "a_0000.nii.gz", "b_0000.nii.gz", "c_0000.nii.gz", "c_0001.nii.gz")
    some_files(tmp_path / "in", *names, "c_0002.nii.gz")
    cases, _ = find_cases(tmp_path / "in", tmp_path / "out", 2)
    assert shown(cases)[0] == ("a", ["a_0000.nii.gz", "a_0001.nii.gz"], "a.nii.gz")
    assert [c.problem for c in cases] == [
        "",
        "The channel b_0001 is missing.",
        "c_0002 is too many: the model has 2 channels.",
    ]


def test_a_folder_of_dicom_folders_is_a_batch(tmp_path):
    some_files(tmp_path / "in", "two/IM1", "one/IM1", "empty_of_files/deeper/IM1")
    cases, batch = find_cases(tmp_path / "in", tmp_path / "out", 1)
    assert batch
    assert [c.name for c in cases] == ["one", "two"]


@pytest.mark.parametrize(
    ("source", "destination", "more", "error", "sentence"),
    [
        ("nowhere", "out", [], InputError, "no file or folder"),
        ("empty", "out", [], InputError, "no images and no DICOM folders"),
        ("in", "out.nii.gz", [], UsageError, "need a folder too"),
        ("in", "in", [], UsageError, "must not go into the folder"),
        ("in", "out", ["in/a.nii.gz"], UsageError, "--channel adds to a single image"),
        ("in/a.nii.gz", "in/a.nii.gz", [], UsageError, "must not overwrite"),
        ("twice", "out", [], InputError, "would both be written to a.nii.gz"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, source, destination, more, error, sentence):
    some_files(tmp_path / "in", "a.nii.gz", "b.nii.gz")
    some_files(tmp_path / "twice", "a.nii.gz", "a.nrrd")
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=sentence):
        find_cases(tmp_path / source, tmp_path / destination, 1, [tmp_path / m for m in more])


# ---- shares ----------------------------------------------------------------------------------


def test_shares_are_disjoint_and_complete(tmp_path):
    cases = [Case(str(n), (), tmp_path) for n in range(11)]
    shares = [[c.name for c in Share(i, 4).of(cases)] for i in range(4)]
    assert sorted(int(name) for share in shares for name in share) == list(range(11))
    assert [len(s) for s in shares] == [3, 3, 3, 2]


def slurm(task, low, high, count):
    values = {"ID": task, "MIN": low, "MAX": high, "COUNT": count}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("part", "environment", "expected"),
    [
        (None, {}, Share(0, 1)),
        (None, {"RANK": "2", "WORLD_SIZE": "8"}, Share(2, 8)),
        (None, slurm(5, 5, 12, 8), Share(0, 8)),
        (None, slurm(12, 5, 12, 8), Share(7, 8)),
        (None, slurm(6, 0, 9, 4), Share(2, 4)),  # --array=0-9:3
        (None, slurm(4, 4, 4, 1), Share(0, 1)),
        (None, {**slurm(1, 0, 2, 3), "RANK": "1", "WORLD_SIZE": "2"}, Share(3, 6)),
        ("2/8", {"RANK": "5", "WORLD_SIZE": "6"}, Share(1, 8)),
    ],
)
def test_the_share_is_told_by_the_option_or_the_launcher(part, environment, expected):
    assert find_share(part, environment) == expected


@pytest.mark.parametrize(
    ("part", "environment"),
    [
        ("0/8", {}),
        ("9/8", {}),
        ("1", {}),
        (None, {"RANK": "8", "WORLD_SIZE": "8"}),
        (None, {"RANK": "x", "WORLD_SIZE": "8"}),
        (None, slurm(7, 1, 7, 3) | {"SLURM_ARRAY_TASK_ID": "3"}),  # --array=1,3,7
        (None, {"SLURM_ARRAY_TASK_ID": "3"}),
    ],
)
def test_a_share_that_cannot_be_told_is_refused(part, environment):
    with pytest.raises(UsageError):
        find_share(part, environment)


# ---- what is done ----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_only_a_whole_result_is_done(tmp_path, suffix):
    whole = tmp_path / f"whole{suffix}"
    values = np.random.default_rng(0).integers(0, 200, (20, 21, 22), np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(whole), suffix != ".nii")
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    empty = tmp_path / f"empty{suffix}"
    empty.touch()
    assert is_complete(whole)
    assert not is_complete(cut)
    assert not is_complete(empty)
    assert not is_complete(tmp_path / f"absent{suffix}")
    assert not is_complete(whole, [tmp_path / "absent_uncertainty.nii.gz"])


# ---- what is documented ----------------------------------------------------------------------


def test_the_documented_exit_codes_are_those_there_are():
    page = Path(__file__).parents[2] / "Training" / "docs" / "command-line.md"
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == exits.MEANINGS

"""Job folders: what is written is read again, and what is not one is refused in words."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from finetune_case_fixtures import a_case, a_job, blocks

from mednext_engine.errors import InputError
from mednext_engine.finetuning.job import (
    Annotated,
    CaseFile,
    Job,
    JobLabel,
    JobOptions,
    read_job,
    write_job,
)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    folder = tmp_path / "job"
    case = a_case(folder, 1, blocks(), {"A": 1, "B": 2})
    return a_job(folder, [case], ["A", "B"])


def change(path: Path, **entries: Any) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **entries}))


def test_everything_comes_back(tmp_path: Path) -> None:
    folder = (tmp_path / "job").resolve()
    elsewhere = tmp_path / "data" / "image.nii.gz"
    inside = folder / "cases" / "case_001" / "labels.nrrd"
    case = CaseFile(
        "case_001",
        (elsewhere.resolve(),),
        inside,
        {"Left": 3, "Air": 7},
        Annotated("slices", axis=2, slices=(4, 9)),
        ignore=9,
        use="validate",
        overlaps=(("Left", "Air", 12),),
        source={"node": "vtkMRML1"},
    )
    box = CaseFile(
        "case_002", (inside,), inside, {}, Annotated("box", box=((0, 4), (1, 5), (-2, 6)))
    )
    labels = (
        JobLabel("Left", (255, 0, 3), "SCT~1", "Grey matter"),
        JobLabel("Right", base=None),
        JobLabel("Air", background=True),
    )
    options = JobOptions(
        spacing=(1.0, 1.5, 2.0), patch=(64, 64, 96), mirror=False, checkpointing=None, steps=100
    )
    job = Job(folder, "My model", "Base", "thorough", ("T1",), labels, (case, box), options)
    write_job(folder, job)
    assert read_job(folder) == job
    written = json.loads((folder / "cases/case_001/case.json").read_text())
    assert written["images"] == [str(elsewhere.resolve())]
    assert written["labels"] == "labels.nrrd"
    stored = json.loads((folder / "job.json").read_text())["labels"]
    assert stored[0]["base"] == "Grey matter"
    assert stored[1]["base"] is None  # a new class
    assert "base" not in stored[2]  # found by name


def test_classes_leave_the_drawn_background_out(job: Job) -> None:
    labels = (JobLabel("A"), JobLabel("Rest", background=True), JobLabel("B"))
    mixed = Job(job.folder, "x", None, "quick", ("MR",), labels, ())
    assert dict(mixed.class_values) == {"A": 1, "B": 2, "Rest": 0}


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_folders_belong_to_the_user_alone(job: Job, tmp_path: Path) -> None:
    write_job(tmp_path / "new", job)
    for path in ("new", "new/cases", "new/cases/case_001"):
        assert (tmp_path / path).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"version": 2}, "version 2"),
        ({"version": None}, "version"),
        ({"nmae": "x"}, "'nmae'"),
        ({"name": " "}, "empty"),
        ({"name": "a\nb"}, "control"),
        ({"preset": "fast"}, "quick, standard, thorough"),
        ({"channels": []}, "'channels'"),
        ({"cases": ["../case_001"]}, "plain name"),
        ({"cases": ["case_001", "case_001"]}, "twice"),
        ({"cases": ["case_404"]}, "case.json"),
        ({"labels": [{"name": "A"}, {"name": "A"}]}, "two labels named 'A'"),
        ({"labels": [{"name": "A", "color": [0, 0, 256]}]}, "colour of 'A'"),
        ({"labels": [{"name": "A", "colour": None}]}, "'colour'"),
        ({"options": {"step": 3}}, "'step'"),
        ({"options": {"steps": 0}}, "'steps'"),
        ({"options": {"steps": True}}, "'steps'"),
        ({"options": {"spacing": [1, 1]}}, "'spacing'"),
        ({"options": {"spacing": "native"}}, "base, own"),
        ({"options": {"mirror": "yes"}}, "'mirror'"),
        ({"options": {"seed": 1e400}}, "'seed'"),
    ],
)
def test_a_bad_job_is_refused(job: Job, entries: dict[str, Any], message: str) -> None:
    change(job.folder / "job.json", **entries)
    with pytest.raises(InputError, match=message):
        read_job(job.folder)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"images": []}, "'images'"),
        ({"images": ["../../../secret.nrrd"]}, "leads out"),
        ({"labels": "../../../secret.nrrd"}, "leads out"),
        ({"labels": ""}, "'labels' is empty"),
        ({"values": {"A": 1, "B": 1}}, "twice"),
        ({"values": {"A": 70000}}, "70000"),
        ({"annotated": {"kind": "some"}}, "everything, slices"),
        ({"annotated": {"kind": "box"}}, "gives none"),
        ({"annotated": {"kind": "box", "box": [[0, 0], [0, 1], [0, 1]]}}, "from 0 to 0"),
        ({"annotated": {"kind": "slices", "slices": [1]}}, "without their axis"),
        ({"annotated": {"kind": "slices", "axis": 3}}, "'axis'"),
        ({"use": "test"}, "auto, train, validate"),
        ({"overlaps": [["A", "B", -1]]}, "overlap"),
        ({"ignore": 0}, "'ignore'"),
    ],
)
def test_a_bad_case_is_refused_by_its_name(job: Job, entries: dict[str, Any], message: str) -> None:
    change(job.folder / "cases/case_001/case.json", **entries)
    with pytest.raises(InputError, match=message) as caught:
        read_job(job.folder)
    assert caught.value.message.startswith("case_001: ")


def test_a_link_does_not_lead_out_of_the_job(job: Job, tmp_path: Path) -> None:
    (tmp_path / "secret.nrrd").write_text("x")
    link = job.folder / "cases/case_001/link.nrrd"
    link.symlink_to(tmp_path / "secret.nrrd")
    change(job.folder / "cases/case_001/case.json", images=["link.nrrd"])
    with pytest.raises(InputError, match="leads out"):
        read_job(job.folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no job folder"):
        read_job(tmp_path / "nowhere")

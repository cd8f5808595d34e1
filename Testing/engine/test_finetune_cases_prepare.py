"""Cases as arrays in the plan's grid: labels lie where the image lies, on a real head too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from finetune_case_fixtures import a_case, a_job, a_plan, blocks, write_image

from mednext_engine.errors import Cancelled, InputError, OutputError
from mednext_engine.finetuning.checks import check_job
from mednext_engine.finetuning.facts import inspect_cases
from mednext_engine.finetuning.job import Annotated, CaseFile, Job
from mednext_engine.finetuning.label_matching import LabelPlan, match_labels
from mednext_engine.finetuning.preparation import (
    Prepared,
    open_prepared,
    prepare_cases,
    prepared_bytes,
)
from mednext_engine.finetuning.splitting import HeldOut, Split
from mednext_engine.models.folder import open_model
from mednext_engine.models.plan import Plan
from mednext_engine.models.resources import resource_path
from mednext_engine.monitor import Monitor

NAMES = ("Bar", "Rod")
VALUES = {"Bar": 1, "Rod": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "job"


def prepare(job: Job, plan: Plan, split: Split | None = None, orientation: str = "") -> Prepared:
    split = split or Split(tuple(case.id for case in job.cases), ())
    return prepare_cases(
        job, plan, matched(job), split, job.run_folder / "prepared", Monitor(), orientation
    )


def matched(job: Job) -> LabelPlan:
    return match_labels(job.labels, None)


def test_arrays_have_the_kinds_that_training_wants(folder: Path) -> None:
    job = a_job(folder, [a_case(folder, 1, blocks(), VALUES)], NAMES)
    prepared = prepare(job, a_plan())
    data, labels = prepared.train[0].open()
    assert (data.dtype, data.shape) == (np.float32, (1, 12, 14, 16))
    assert labels.dtype == np.int16
    assert np.array_equal(labels, blocks())
    assert float(data.mean()) == pytest.approx(0, abs=1e-4)  # z-scores
    assert prepared.surviving == {"case_001": 1.0}
    assert open_prepared(job.run_folder / "prepared") == prepared


def test_labels_follow_turns_and_the_crop(folder: Path) -> None:
    """The image holds its own labels as intensities, so that both must stay together."""
    drawn = blocks((12, 14, 16))
    drawn[3:5, 11:13, 2:5] = 2  # nothing is symmetric
    image = np.where(drawn > 0, drawn * 100.0, 10.0).astype(np.float32)
    image[:2], image[:, :, 15:] = 0, 0
    drawn[:2] = 0
    geometry = {
        "spacing": (2.0, 1.0, 1.0),
        "direction": (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    }
    case = a_case(folder, 1, drawn, VALUES, image=image, geometry=geometry)
    plan = a_plan(
        (1.0, 2.0, 1.0),
        normalization=("NoNormalization",),
        transpose_forward=(1, 2, 0),
        transpose_backward=(2, 0, 1),
    )
    job = a_job(folder, [case], NAMES)
    for orientation in ("", "RAS", "LPI"):
        data, labels = prepare(job, plan, orientation=orientation).train[0].open()
        assert data.shape[1:] == labels.shape
        # Splines blur across the borders, so that not every voxel says what it is.
        told = np.digitize(data[0], (55, 150))
        assert (told == labels).mean() > 0.93
        assert (told[labels > 0] == labels[labels > 0]).mean() > 0.85


def test_a_divided_case_is_never_known_twice(folder: Path) -> None:
    job = a_job(folder, [a_case(folder, 1, blocks(), VALUES)], NAMES)
    held = {"case_001": HeldOut(0, (5, 6), gap=1)}
    prepared = prepare(job, a_plan((3.0, 1.0, 1.0)), Split(("case_001",), ("case_001",), held))
    assert prepared.train[0].data == prepared.validation[0].data
    train, validation = prepared.train[0].open()[1], prepared.validation[0].open()[1]
    # Planes of 3 mm: 0-2, 3-5, 6-8, 9-11. Slices 5 and 6 validate, 4 and 7 are the gap.
    assert (validation >= 0).all(axis=(1, 2)).tolist() == [False, True, True, False]
    assert (train >= 0).all(axis=(1, 2)).tolist() == [True, False, False, True]
    assert not ((train >= 0) & (validation >= 0)).any()


def test_nothing_left_to_train_on(folder: Path) -> None:
    job = a_job(folder, [a_case(folder, 1, blocks(), VALUES)], NAMES)
    held = {"case_001": HeldOut(0, tuple(range(12)))}
    with pytest.raises(InputError, match=r"case_001: .*nothing annotated is left to train on"):
        prepare(job, a_plan(), Split(("case_001",), ("case_001",), held))


def test_a_case_deleted_in_mid_run(folder: Path) -> None:
    cases = [a_case(folder, n, blocks(), VALUES) for n in (1, 2)]
    job = a_job(folder, cases, NAMES)
    plan, where = a_plan(), job.run_folder / "prepared"
    prepared = prepare(job, plan)
    cases[1].images[0].unlink()
    assert open_prepared(where) == prepared  # what was prepared is enough to go on
    with pytest.raises(InputError, match="case_002: There is no file"):
        prepare(job, plan)
    assert open_prepared(where) is None


def test_damaged_arrays_are_not_resumed(folder: Path) -> None:
    job = a_job(folder, [a_case(folder, 1, blocks(), VALUES)], NAMES)
    where = job.run_folder / "prepared"
    prepared = prepare(job, a_plan())
    whole = prepared.train[0].labels.read_bytes()
    prepared.train[0].labels.write_bytes(whole[: len(whole) // 2])
    assert open_prepared(where) is None
    prepared.train[0].labels.write_bytes(whole)
    assert open_prepared(where) == prepared
    (where / "index.json").write_text("{")
    assert open_prepared(where) is None


def test_preparation_can_be_cancelled_and_leaves_nothing_to_resume(folder: Path) -> None:
    job = a_job(folder, [a_case(folder, 1, blocks(), VALUES)], NAMES)
    where = job.run_folder / "prepared"
    prepare(job, a_plan())
    monitor = Monitor()
    monitor.cancel()
    split = Split(("case_001",), ())
    with pytest.raises(Cancelled):
        prepare_cases(job, a_plan(), matched(job), split, where, monitor)
    assert open_prepared(where) is None


def test_a_full_disk_is_said_in_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = a_job(folder, [a_case(folder, 1, blocks(), VALUES)], NAMES)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OutputError, match=r"case_001_.*No space left on device"):
        prepare(job, a_plan())
    assert not list((job.run_folder / "prepared").iterdir())


def test_space_is_estimated_from_headers(folder: Path) -> None:
    cases = [a_case(folder, n, blocks(), VALUES, channels=2) for n in (1, 2)]
    job = a_job(folder, cases, NAMES, channels=("A", "B"))
    plan = a_plan(normalization=("ZScoreNormalization",) * 2, use_mask_for_norm=(False,) * 2)
    voxels = 12 * 14 * 16
    # Two channels of four bytes, two label maps of two.
    assert prepared_bytes(job, plan) == 2 * voxels * (2 * 4 + 2 * 2)


# --- a real head -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def head() -> Path:
    path: Path = resource_path("SampleData") / "Colin27_T1.nii.gz"
    return path


def a_head_case(folder: Path, head: Path) -> CaseFile:
    """Two boxes, left and right of the middle, drawn on every tenth axial slice."""
    image = sitk.ReadImage(str(head))
    labels = np.zeros(image.GetSize()[::-1], np.uint8)
    for z in range(60, 110, 10):
        labels[z, 90:120, 50:70], labels[z, 90:120, 110:130] = 1, 2
    path = folder / "cases/case_001/labels.nrrd"
    write_image(path, labels, (1, 1, 1), image.GetOrigin(), image.GetDirection())
    values = {"Box left": 1, "Box right": 2}
    return CaseFile("case_001", (head,), path, values, Annotated("slices"))


def test_ten_millimetre_slices_survive_the_embedded_models_plan(folder: Path, head: Path) -> None:
    model = open_model(resource_path("Models") / "BrainTissueMR")  # 2 mm, turned to RAS
    job = a_job(folder, [a_head_case(folder, head)], ("Box left", "Box right"))
    report = check_job(job, model.plan, base=model, orientation=model.orientation)
    assert report.can_start
    assert report.surviving["case_001"] > 0.99  # the image is zero in its outermost columns
    assert report.mirror_axes == (0, 1)
    split = report.split
    assert split is not None
    assert split.inside["case_001"] == HeldOut(0, (80,))
    prepared = prepare(job, model.plan, split, model.orientation)
    train = prepared.train[0].open()[1]
    validation = prepared.validation[0].open()[1]
    # Colin27 begins at z = 0 and is not zero there, so that plane i of 2 mm holds slices 2i, 2i+1.
    planes = np.flatnonzero((train >= 0).any(axis=(1, 2)))
    assert len(planes) == 4
    assert len(np.flatnonzero((validation >= 0).any(axis=(1, 2)))) == 1
    # 30 x 20 mm a box and slice: 15 x 10 voxels of 2 mm, give or take half a voxel at each edge.
    for label in (1, 2):
        assert (validation == label).sum() == pytest.approx(150, abs=25)
    # In the file x grows to the patient's right; turned to RAS too, so that the order stays.
    centre = {v: np.argwhere(train == v)[:, 2].mean() for v in (1, 2)}
    grows_right = sitk.ReadImage(str(head)).GetDirection()[0] < 0
    assert (centre[1] < centre[2]) == grows_right


def test_facts_of_a_real_head(folder: Path, head: Path) -> None:
    job = a_job(folder, [a_head_case(folder, head)], ("Box left", "Box right"))
    inspection = inspect_cases(job)
    (facts,) = inspection.facts
    assert facts.counts.tolist() == [5 * 217 * 181 - 2 * 3000, 3000, 3000]
    assert (facts.slice_axis, facts.slices) == (0, (60, 70, 80, 90, 100))
    assert inspection.median_spacing == (1.0, 1.0, 1.0)
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(head)))[60:110:10, 90:120]
    drawn = np.concatenate([values[:, :, 50:70].ravel(), values[:, :, 110:130].ravel()])
    found = inspection.foreground_intensity()["0"]
    assert found["mean"] == pytest.approx(drawn.mean(), rel=1e-5)
    assert found["std"] == pytest.approx(drawn.std(), rel=1e-5)
    assert found["percentile_99_5"] == pytest.approx(np.percentile(drawn, 99.5))

"""The check before training: each thing that can be wrong is said once, and at the right level."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from finetune_case_fixtures import a_case, a_job, a_pattern, a_plan, blocks, write_image

from mednext_engine.errors import Cancelled
from mednext_engine.finetuning.checks import CheckReport, Estimate, check_job
from mednext_engine.finetuning.facts import inspect_cases
from mednext_engine.finetuning.job import Annotated, CaseFile, JobLabel
from mednext_engine.models.labels import Labels
from mednext_engine.monitor import Monitor

NAMES = ("Bar", "Rod")
VALUES = {"Bar": 1, "Rod": 2}
ORDER = ["error", "warning", "info"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "job"


def check(folder: Path, *cases: CaseFile, **settings: Any) -> CheckReport:
    names = settings.pop("names", NAMES)
    options = {
        key: settings.pop(key) for key in ("channels", "labels", "previous") if key in settings
    }
    job = a_job(folder, cases, names, **options)
    report = check_job(job, settings.pop("plan", a_plan()), **settings)
    levels = [ORDER.index(problem.level) for problem in report.problems]
    assert levels == sorted(levels)
    return report


def case(folder: Path, number: int = 1, **settings: Any) -> CaseFile:
    labels = settings.pop("drawn", blocks())
    return a_case(folder, number, labels, settings.pop("values", VALUES), **settings)


def said(report: CheckReport, level: str, text: str, case: str | None = None) -> bool:
    """Whether exactly one problem of this level says so, with a hint where one can act."""
    found = [p for p in report.problems if text in p.message]
    assert len(found) == 1, [p.message for p in report.problems]
    assert level == "info" or found[0].hint
    assert case is None or found[0].case == case
    return found[0].level == level


def test_two_good_cases_have_nothing_to_complain_about(folder: Path) -> None:
    report = check(folder, case(folder, 1), case(folder, 2))
    assert report.problems == ()
    assert report.can_start
    assert report.surviving == {"case_001": 1.0, "case_002": 1.0}
    assert report.mirror_axes == (0, 1, 2)
    assert report.split is not None
    assert report.validation == report.split.sentence != ""
    assert [label.state for label in report.labels] == ["new", "new"]


def test_a_label_that_nobody_drew_is_an_error(folder: Path) -> None:
    report = check(folder, case(folder, 1), case(folder, 2), names=(*NAMES, "Disc"))
    assert said(report, "error", "No voxel of any case is labelled Disc")
    assert not report.can_start


def test_a_label_that_one_case_lacks_is_a_warning(folder: Path) -> None:
    report = check(folder, case(folder, 1), case(folder, 2, drawn=blocks(count=1)), case(folder, 3))
    assert said(report, "warning", "Not in this case: Rod", "case_002")
    assert report.can_start


def test_nothing_to_learn(folder: Path) -> None:
    assert said(check(folder, case(folder, 1), names=()), "error", "no label to learn")
    assert said(check(folder), "error", "no case to train on")


def test_values_without_a_name(folder: Path) -> None:
    report = check(folder, case(folder, 1), case(folder, 2, drawn=blocks(count=3)))
    # The third bar: 12 x 6 x 4 voxels.
    assert said(
        report, "warning", "values that no label of the job has: 3 (288 voxels)", "case_002"
    )


@pytest.mark.parametrize(
    ("geometry", "level", "text"),
    [
        ({"origin": (0.2, 0, 0)}, "error", "corners are up to 0.2 mm apart"),
        ({"spacing": (1.0, 1.0, 1.01)}, "error", "another grid"),
        ({"direction": (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0)}, "error", "another grid"),
        ({"origin": (0, 0, 0.01)}, "info", "0.01 mm apart; they are taken as the same"),
    ],
)
def test_grids_must_be_the_same(
    folder: Path, geometry: dict[str, Any], level: str, text: str
) -> None:
    bad = case(folder, 1)
    write_image(bad.labels, blocks(), **geometry)
    assert said(check(folder, bad, case(folder, 2)), level, text, "case_001")


def test_another_size(folder: Path) -> None:
    bad = case(folder, 1)
    write_image(bad.labels, blocks((12, 14, 17)))
    report = check(folder, bad, case(folder, 2))
    assert said(report, "error", "12 x 14 x 17 voxels (z, y, x), but the image has 12 x 14 x 16")


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.5, "not whole numbers, such as 1.5"), (-1, "-1"), (70000, "70000"), (np.nan, "NaN")],
)
def test_what_is_no_label_map(folder: Path, value: float, text: str) -> None:
    bad = case(folder, 1)
    drawn = blocks().astype(np.float32)
    drawn[0, 0, 0] = value
    write_image(bad.labels, drawn)
    assert said(check(folder, bad, case(folder, 2)), "error", text, "case_001")


def test_an_image_in_place_of_labels(folder: Path) -> None:
    bad = case(folder, 1)
    write_image(bad.labels, np.arange(12 * 14 * 16, dtype=np.uint16).reshape(12, 14, 16))
    report = check(folder, bad, case(folder, 2))
    assert said(report, "error", "2688 different values; 1024 labels", "case_001")


def test_images_that_cannot_be_used(folder: Path) -> None:
    holes = a_pattern()
    holes[3, 3, 3] = np.nan
    report = check(
        folder,
        case(folder, 1, image=holes),
        case(folder, 2, image=np.full((12, 14, 16), 7, np.float32)),
        case(folder, 3),
        case(folder, 4),
    )
    assert said(report, "error", "not finite", "case_001")
    assert said(report, "error", "constant", "case_002")
    assert report.surviving.keys() == {"case_003", "case_004"}


def test_files_that_are_not_there(folder: Path) -> None:
    gone, broken = case(folder, 1), case(folder, 2)
    gone.labels.unlink()
    broken.images[0].write_bytes(b"no image")
    report = check(folder, gone, broken, case(folder, 3))
    assert {p.case for p in report.problems if p.level == "error"} == {"case_001", "case_002"}


def test_a_wrong_number_of_channels(folder: Path) -> None:
    report = check(folder, case(folder, 1, channels=2), case(folder, 2))
    assert said(report, "error", "expects 1 image (MR), but 2 were given", "case_001")


def test_overlapping_segments(folder: Path) -> None:
    bad = case(folder, 1, overlaps=(("Bar", "Rod", 12), ("Rod", "Bar", 0)))
    assert said(check(folder, bad, case(folder, 2)), "warning", "Bar and Rod overlap in 12 voxels")


def test_labels_where_the_image_is_zero(folder: Path) -> None:
    image = a_pattern()
    image[:, :, :3] = 0  # the first bar begins at x = 1: 12 x 6 x 2 voxels are lost
    report = check(folder, case(folder, 1, image=image), case(folder, 2))
    assert said(report, "warning", "144 labelled voxels lie where the image is zero", "case_001")


def test_boxes_and_slices_beyond_the_image(folder: Path) -> None:
    box = Annotated("box", box=((0, 12), (0, 14), (0, 99)))
    slices = Annotated("slices", axis=0, slices=(1, 3, 5, 7, 9, 40))
    away = Annotated("box", box=((50, 60), (0, 5), (0, 5)))
    cases = [case(folder, n, annotated=a) for n, a in enumerate((box, slices, away), start=1)]
    report = check(folder, *cases, case(folder, 4))
    assert said(report, "warning", "1 annotated slice of 6 lie outside", "case_002")
    assert said(report, "error", "Nothing in this case is annotated", "case_003")
    assert [p.case for p in report.problems if "box reaches beyond" in p.message] == [
        "case_001",
        "case_003",
    ]


def test_few_slices(folder: Path) -> None:
    about = Annotated("slices", axis=0, slices=(2, 8))
    report = check(folder, case(folder, 1, annotated=about), case(folder, 2))
    assert said(report, "warning", "Only 2 slices of this case are annotated", "case_001")
    alone = Annotated("slices", axis=0, slices=(5,), beyond=True)
    report = check(folder, case(folder, 1, annotated=alone), case(folder, 2))
    assert said(report, "warning", "cannot be told where the structures end", "case_001")


def test_without_background_one_label_cannot_be_learnt(folder: Path) -> None:
    painted = Annotated("painted")
    cases = [case(folder, n, annotated=painted, values={"Bar": 1}) for n in (1, 2)]
    for c in cases:
        write_image(c.labels, blocks(count=1))
    assert said(check(folder, *cases, names=("Bar",)), "error", "Nothing is marked as background")
    labels = (JobLabel("Bar"), JobLabel("Rest", background=True))
    values = {"Bar": 1, "Rest": 2}
    cases = [case(folder, n, annotated=painted, values=values) for n in (1, 2)]
    assert check(folder, *cases, labels=labels).problems == ()


# --- against the plan ------------------------------------------------------------------------


def test_spacing_far_from_the_plan(folder: Path) -> None:
    plan = a_plan((1.0, 1.0, 2.1))
    report = check(folder, case(folder, 1), case(folder, 2), plan=plan)
    far = [p for p in report.problems if "far from the model's 1 x 1 x 2.1 mm" in p.message]
    assert [p.level for p in far] == ["warning", "warning"]
    assert not check(folder, case(folder, 1), case(folder, 2), plan=a_plan((1, 1, 2))).problems


def test_spacing_is_compared_in_the_plans_axes(folder: Path) -> None:
    geometry = {"spacing": (4.0, 1.0, 1.0)}
    cases = [case(folder, n, geometry=geometry) for n in (1, 2)]
    turned = a_plan((1.0, 1.0, 4.0), transpose_forward=(1, 2, 0), transpose_backward=(2, 0, 1))
    assert not check(folder, *cases, plan=turned).problems
    assert check(folder, *cases, plan=a_plan((1.0, 1.0, 4.0))).problems


def test_intensities_that_are_no_hounsfield_units(folder: Path) -> None:
    range_ = {"percentile_00_5": -50.0, "percentile_99_5": 250.0, "mean": 90.0, "std": 40.0}
    plan = a_plan(normalization=("CTNormalization",), intensity=(range_,))
    shifted = case(folder, 1, image=a_pattern() + 1000)
    report = check(folder, shifted, case(folder, 2), plan=plan)
    assert said(report, "warning", "the model expects -50 to 250 (HU)", "case_001")


def test_a_ct_for_an_mr_model(folder: Path) -> None:
    report = check(folder, case(folder, 1, image=a_pattern() - 900), case(folder, 2))
    assert said(report, "warning", "as a CT does", "case_001")


def test_labels_finer_than_the_plans_voxels(folder: Path) -> None:
    drawn = blocks(count=1)
    drawn[:, 11, 13] = 2  # a line one voxel thick
    cases = [case(folder, n, drawn=drawn) for n in (1, 2)]
    report = check(folder, *cases, plan=a_plan((2, 2, 2)))
    fine = [p for p in report.problems if "finer than its voxels: Rod" in p.message]
    assert len(fine) == 2
    assert report.surviving == {"case_001": 1.0, "case_002": 1.0}


def test_all_that_is_annotated_is_cropped_away(folder: Path) -> None:
    image = a_pattern()
    image[:5] = 0
    about = Annotated("slices", axis=0, slices=(0, 1, 2, 3, 4))
    report = check(folder, case(folder, 1, image=image, annotated=about), case(folder, 2))
    assert said(report, "error", "Nothing that is annotated lies where", "case_001")
    partly = Annotated("slices", axis=0, slices=(3, 4, 5, 6, 7, 8))
    report = check(folder, case(folder, 1, image=image, annotated=partly), case(folder, 2))
    assert said(report, "warning", "Only 67% of its annotated voxels", "case_001")
    assert report.surviving["case_001"] == pytest.approx(4 / 6)


def test_sides_forbid_mirroring_across_them(folder: Path) -> None:
    names, values = ("Bar left", "Bar right"), {"Bar left": 1, "Bar right": 2}
    cases = [case(folder, n, values=values) for n in (1, 2)]
    report = check(folder, *cases, names=names)
    assert said(report, "info", "Bar left and Bar right")
    assert report.mirror_axes == (0, 1)
    turned = a_plan(transpose_forward=(2, 0, 1), transpose_backward=(1, 2, 0))
    assert check(folder, *cases, names=names, plan=turned).mirror_axes == (1, 2)


# --- validation ------------------------------------------------------------------------------


def test_a_single_case_is_divided_and_it_is_said(folder: Path) -> None:
    report = check(folder, case(folder, 1))
    assert said(report, "warning", "There is only one case")
    assert report.can_start
    assert report.split is not None
    assert "case_001" in report.split.inside


def test_validation_on_what_was_trained_on(folder: Path) -> None:
    report = check(folder, *(case(folder, n, use="train") for n in (1, 2)))
    assert said(report, "warning", "on what was trained on")


def test_labels_on_one_side_only(folder: Path) -> None:
    cases = [case(folder, 1, use="validate"), case(folder, 2, drawn=blocks(count=1))]
    report = check(folder, *cases)
    assert said(report, "error", "Only what validates holds Rod")
    cases = [case(folder, 1), case(folder, 2, drawn=blocks(count=1), use="validate")]
    assert said(check(folder, *cases), "warning", "no figure can be given for it")


def test_one_image_on_both_sides(folder: Path) -> None:
    image = a_pattern()
    cases = [case(folder, n, image=image) for n in (1, 2)]
    cases[0] = case(folder, 1, image=image, use="validate")
    report = check(folder, *cases)
    assert said(report, "warning", "same image, but one validates the other", "case_002")
    cases = [case(folder, n, image=image) for n in (1, 2)]
    assert said(check(folder, *cases, case(folder, 3)), "info", "are the same image", "case_002")


# --- base model and machine ------------------------------------------------------------------


def a_base(labels: Labels, channels: tuple[str, ...] = ("MR",)) -> Any:
    return SimpleNamespace(labels=labels, channel_names=channels)


def test_labels_are_matched_to_the_base(folder: Path) -> None:
    base = a_base(Labels(("background", "Rod", "Disc"), (0, 1, 2)), ("T1", "T2"))
    report = check(folder, case(folder, 1), case(folder, 2), base=base)
    assert [(s.name, s.state) for s in report.labels] == [
        ("Bar", "new"),
        ("Rod", "matched"),
        ("Disc", "dropped"),
    ]
    assert said(report, "info", "2 channels and the job 1: the network's first layer is adapted")


def test_a_base_of_regions(folder: Path) -> None:
    base = a_base(Labels(("whole", "core"), (1, 2), ((1, 2), (2,)), (1, 2)))
    report = check(folder, case(folder, 1), case(folder, 2), base=base)
    assert said(report, "info", "regions that overlap, so its last layer is not kept")
    assert report.can_start


def test_a_mapping_to_nowhere(folder: Path) -> None:
    labels = (JobLabel("Bar", base="Bone"), JobLabel("Rod"))
    base = a_base(Labels(("background", "Rod"), (0, 1)))
    report = check(folder, case(folder, 1), case(folder, 2), labels=labels, base=base)
    assert said(report, "error", "'Bone', which the base model does not have")


def test_memory_disk_and_time(folder: Path) -> None:
    cases = [case(folder, n) for n in (1, 2)]
    estimate = Estimate(3 * 2**30, 2**30, 500 * 2**20, 100 * 2**20, 30 * 3600.0, "cuda:0")
    report = check(folder, *cases, estimate=estimate)
    assert said(report, "error", "about 3.0 GB of memory on cuda:0, but 1.0 GB are free")
    assert said(report, "error", "about 500 MB of disk space, but 100 MB are free")
    assert said(report, "warning", "about 30 hours on cuda:0")
    report = check(folder, *cases, estimate=Estimate(1, 2, 1, 2, 600.0, "cpu"))
    assert said(report, "info", "about 10 minutes on cpu")
    assert report.can_start


def test_the_check_can_be_cancelled(folder: Path) -> None:
    monitor = Monitor()
    monitor.cancel()
    with pytest.raises(Cancelled):
        check(folder, case(folder, 1), monitor=monitor)


def test_a_run_that_continues_another(folder: Path, tmp_path: Path) -> None:
    """The first run divided its only case; the second must not validate on what it learnt from."""
    index = {
        "version": 1,
        "train": ["case_001"],
        "validate": ["case_001"],
        "surviving": {"case_001": 1.0},
        "sources": {"case_001": ""},
        "sentence": "",
    }
    cases = [case(folder, n) for n in (1, 2)]
    job = a_job(folder, cases, NAMES)
    first, _ = inspect_cases(job).facts
    index["sources"] = {"case_001": first.digest}
    where = tmp_path / "before/run/prepared"
    where.mkdir(parents=True)
    (where / "index.json").write_text(json.dumps(index))
    report = check(folder, *cases, previous=tmp_path / "before")
    assert report.split is not None
    assert report.split.validate == ("case_002",)
    assert report.problems == ()
    cases = [case(folder, 1, use="validate"), case(folder, 2)]
    report = check(folder, *cases, previous=tmp_path / "before")
    assert said(report, "warning", "the run that this one continues was trained on it", "case_001")

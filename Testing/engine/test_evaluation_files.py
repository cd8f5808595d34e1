"""Label maps in files: pairing, geometry, tables, pictures."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest
import SimpleITK as sitk

from mednext_engine.errors import InputError, OutputError
from mednext_engine.evaluation.compare import (
    COLUMNS,
    pair_cases,
    score_case,
    summarise,
    write_csv,
)
from mednext_engine.evaluation.overlay import HEIGHT, MARGIN, overlay, write_picture


def a_file(path, values, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0), direction=None):
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    if direction is not None:
        image.SetDirection(direction)
    sitk.WriteImage(image, str(path), True)
    return path


@pytest.fixture
def two_labels():
    """Label 1: a 10 x 10 x 10 cube, label 2: a 2 x 10 x 10 plate, in (z, y, x)."""
    values = np.zeros((20, 20, 20), np.uint8)
    values[4:14, 4:14, 4:14] = 1
    values[15:17, 4:14, 4:14] = 2
    return values


def test_each_label_has_its_row_with_spacing_taken_from_the_file(tmp_path, two_labels):
    """SimpleITK's spacing is x, y, z: a shift along z is 3 mm."""
    shifted = np.where(two_labels == 1, 0, two_labels)
    shifted[5:15, 4:14, 4:14] = 1
    reference = a_file(tmp_path / "reference.nii.gz", two_labels, (1.0, 1.0, 3.0))
    prediction = a_file(tmp_path / "prediction.nrrd", shifted, (1.0, 1.0, 3.0))
    rows = score_case(prediction, reference, names={2: "plate"}, tolerance=1.0)
    assert [(r.case, r.label, r.name) for r in rows] == [
        ("reference", 1, ""),
        ("reference", 2, "plate"),
    ]
    assert rows[0].score.dice == pytest.approx(0.9)
    assert rows[0].score.hd95 == pytest.approx(3.0)
    assert rows[1].score.dice == 1.0
    assert rows[1].score.volume == pytest.approx(200 * 3 / 1000)


def test_ignored_voxels_count_nowhere(tmp_path, two_labels):
    """The prediction calls label 1 where the reference says 9, ignore; that is no fault."""
    reference = two_labels.copy()
    reference[4:9, 4:14, 4:14] = 9
    files = (a_file(tmp_path / "p.nii.gz", two_labels), a_file(tmp_path / "r.nii.gz", reference))
    assert score_case(*files, labels=[1])[0].score.dice == pytest.approx(2 * 500 / 1500)
    rows = score_case(*files, ignore=9)
    assert [r.label for r in rows] == [1, 2]
    assert rows[0].score.dice == 1.0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"spacing": (1.0, 1.0, 1.1)}, "different spacings"),
        ({"origin": (0.0, 0.5, 0.0)}, "different origins"),
        ({"direction": (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0)}, "different directions"),
    ],
)
def test_files_on_different_grids_are_not_compared(tmp_path, two_labels, change, sentence):
    reference = a_file(tmp_path / "r.nii.gz", two_labels)
    prediction = a_file(tmp_path / "p.nii.gz", two_labels, **change)
    with pytest.raises(InputError, match=sentence):
        score_case(prediction, reference)


def test_files_of_different_sizes_are_not_compared(tmp_path, two_labels):
    reference = a_file(tmp_path / "r.nii.gz", two_labels)
    prediction = a_file(tmp_path / "p.nii.gz", two_labels[:, :, :18])
    with pytest.raises(InputError, match="18 x 20 x 20 voxels and the reference 20 x 20 x 20"):
        score_case(prediction, reference)


def test_rounding_in_a_header_is_no_other_grid(tmp_path, two_labels):
    reference = a_file(tmp_path / "r.nii.gz", two_labels, (0.9, 0.9, 0.9), (-91.2, 3.3, 7.7))
    prediction = a_file(tmp_path / "p.nrrd", two_labels, (0.9 + 1e-7, 0.9, 0.9), (-91.2, 3.3, 7.7))
    assert score_case(prediction, reference)[0].score.dice == 1.0


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (np.full((4, 4, 4), 0.5, np.float32), "not whole numbers"),
        (np.full((4, 4, 4), np.nan, np.float32), "not whole numbers"),
        (np.full((4, 4, 4), -1, np.int16), "negative"),
    ],
)
def test_what_is_no_label_map_is_refused(tmp_path, values, sentence):
    path = a_file(tmp_path / "x.mha", values)
    with pytest.raises(InputError, match=sentence):
        score_case(path, path)


def test_labels_stored_as_floats_are_labels(tmp_path, two_labels):
    path = a_file(tmp_path / "x.nii.gz", two_labels.astype(np.float32))
    assert [r.score.dice for r in score_case(path, path)] == [1.0, 1.0]


def test_folders_pair_by_name_whatever_the_suffix(tmp_path, two_labels):
    for folder in ("p", "r"):
        (tmp_path / folder).mkdir()
    for name in ("b.nrrd", "a.nii.gz", "only_predicted.mha"):
        a_file(tmp_path / "p" / name, two_labels)
    for name in ("a.nii.gz", "b.nii.gz"):
        a_file(tmp_path / "r" / name, two_labels)
    pairs = pair_cases(tmp_path / "p", tmp_path / "r")
    assert [(n, p.name, r.name) for n, p, r in pairs] == [
        ("a", "a.nii.gz", "a.nii.gz"),
        ("b", "b.nrrd", "b.nii.gz"),
    ]
    a_file(tmp_path / "r" / "c.nii.gz", two_labels)
    with pytest.raises(InputError, match=r"1 of 3 references have no prediction .* c\."):
        pair_cases(tmp_path / "p", tmp_path / "r")
    with pytest.raises(InputError, match="is a file, the other is a folder"):
        pair_cases(tmp_path / "p", tmp_path / "r" / "a.nii.gz")
    with pytest.raises(InputError, match="does not exist"):
        pair_cases(tmp_path / "p", tmp_path / "nowhere")


def test_the_summary_says_what_was_missed_and_leaves_it_out_of_the_distance(tmp_path, two_labels):
    perfect = a_file(tmp_path / "perfect.nii.gz", two_labels)
    lacking = a_file(tmp_path / "lacking.nii.gz", np.where(two_labels == 2, 0, two_labels))
    rows = score_case(perfect, perfect) + score_case(lacking, perfect)
    one, two = summarise(rows)
    assert (one.cases, one.missed, one.dice, one.hd95_mm) == (2, 0, 1.0, 0.0)
    assert (two.cases, two.missed, two.dice, two.hd95_mm) == (2, 1, 0.5, 0.0)


def test_the_table_can_be_read_back(tmp_path, two_labels):
    perfect = a_file(tmp_path / "perfect.nii.gz", two_labels)
    lacking = a_file(tmp_path / "lacking.nii.gz", np.where(two_labels == 2, 0, two_labels))
    rows = score_case(lacking, perfect, labels=[1, 2, 3])
    write_csv(tmp_path / "table.csv", rows)
    with (tmp_path / "table.csv").open(newline="") as stream:
        read = list(csv.DictReader(stream))
    assert tuple(read[0]) == COLUMNS
    assert [(r["dice"], r["hd95_mm"]) for r in read] == [("1.0", "0.0"), ("0.0", "inf"), ("", "")]
    assert math.isnan(rows[2].score.dice)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []
    with pytest.raises(OutputError):
        write_csv(tmp_path / "no" / "table.csv", rows)


# ---- pictures --------------------------------------------------------------------------------


def a_head():
    """Brighter towards the patient's front (low y in LPS); label 1 fills the back, low quarter."""
    image = np.broadcast_to(np.arange(40, 0, -1, dtype=np.float32)[None, :, None], (20, 40, 30))
    labels = np.zeros(image.shape, np.uint8)
    labels[:10, 20:] = 1
    return np.ascontiguousarray(image), labels


def test_slices_have_true_proportions_and_the_front_is_up():
    """Voxels 2 x 1 x 1 mm: all of 40 mm height, widths 30, 30 and 40 mm."""
    image, labels = a_head()
    picture = overlay(image, labels, (2.0, 1.0, 1.0), {1: (255, 0, 0)}, center=(5, 20, 15))
    widths = [round(HEIGHT * mm / 40) for mm in (30, 30, 40)]
    assert picture.shape == (HEIGHT, sum(widths) + 2 * MARGIN, 3)
    assert picture.dtype == np.uint8
    axial = picture[:, : widths[0]]
    assert axial[10, 100].min() > 240  # the front, bright, unlabelled
    assert axial[-10, 100, 0] > axial[-10, 100, 1] + 80  # the back, labelled: red
    sagittal = picture[:, -widths[2] :]
    assert (sagittal[10, :, 0] == sagittal[10, :, 1]).all()  # the top has no label
    assert sagittal[-10, -10, 0] > sagittal[-10, -10, 1] + 80  # low and back


def test_the_picture_follows_the_patient_not_the_file():
    """The same head stored with y upside down (RAS) gives the same picture."""
    image, labels = a_head()
    turned = (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0)
    one = overlay(image, labels, (1, 1, 1), {1: (0, 255, 0)}, center=(5, 20, 15))
    flipped = [np.ascontiguousarray(a[:, ::-1, ::-1]) for a in (image, labels)]
    other = overlay(*flipped, (1, 1, 1), {1: (0, 255, 0)}, turned, center=(5, 19, 14))
    assert np.array_equal(one, other)


def test_a_picture_without_any_label_is_the_image():
    image, labels = a_head()
    picture = overlay(image, np.zeros_like(labels), (1, 1, 1), {})
    assert np.ptp(picture.astype(int), axis=2).max() == 0


def test_a_picture_is_a_png_that_reads_back(tmp_path):
    image, labels = a_head()
    picture = overlay(image, labels, (1, 1, 1), {1: (255, 0, 0)})
    write_picture(tmp_path / "x.png", picture)
    back = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "x.png")))
    assert np.array_equal(back, picture)
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]
    with pytest.raises(OutputError, match="png"):
        write_picture(tmp_path / "x.jpg", picture)
    with pytest.raises(OutputError, match="cannot be written"):
        write_picture(tmp_path / "no" / "x.png", picture)

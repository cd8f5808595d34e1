"""Annotation and the resampling of label maps; expected maps are worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mednext_engine.errors import InputError
from mednext_engine.finetuning.annotation import annotated_slices, known_voxels, training_labels
from mednext_engine.finetuning.case_file import Annotated, CaseFile
from mednext_engine.finetuning.counting import bounding_boxes, class_counts, slice_counts
from mednext_engine.finetuning.label_resampling import (
    resample_labels,
    surviving_share,
    volume_ratios,
)


def case(values: dict[str, int], **settings: Any) -> CaseFile:
    return CaseFile("case_001", (Path("i"),), Path("l"), values, **settings)


def column(*values: int) -> np.ndarray:
    """A label map of one voxel across, (z, 1, 1)."""
    return np.array(values, dtype=np.int16)[:, None, None]


# --- annotation ------------------------------------------------------------------------------


def test_everything_and_painted() -> None:
    drawn = column(0, 5, 7)
    values = {"A": 5, "Rest": 7, "Gone": 9}
    classes = {"A": 1, "Rest": 0}
    everything = training_labels(drawn, case(values), classes)
    assert everything.ravel().tolist() == [0, 1, 0]
    assert everything.dtype == np.int16
    painted = training_labels(drawn, case(values, annotated=Annotated("painted")), classes)
    assert painted.ravel().tolist() == [-1, 1, 0]


def test_an_ignore_value_is_unknown() -> None:
    found = training_labels(column(0, 1, 2, 3), case({"A": 1}, ignore=3), {"A": 1})
    assert found.ravel().tolist() == [0, 1, 0, -1]


def test_the_sparsest_axis_is_found() -> None:
    labels = np.zeros((20, 10, 10), np.uint8)
    labels[[3, 13]] = np.eye(10, dtype=np.uint8)
    assert annotated_slices(labels, Annotated("slices")) == (0, (3, 13))
    turned = np.moveaxis(labels, 0, 2)
    assert annotated_slices(turned, Annotated("slices")) == (2, (3, 13))
    known = known_voxels(turned, Annotated("slices"))
    assert known[:, :, [3, 13]].all()
    assert known.sum() == 200


def test_with_equal_counts_the_axis_with_gaps_is_taken() -> None:
    labels = np.zeros((20, 20, 2), np.uint8)
    labels[5:7, [3, 13], 0:2] = 1  # two z, two y, two x slices hold a label
    assert annotated_slices(labels, Annotated("slices")) == (1, (3, 13))


def test_given_slices_count_even_where_nothing_was_found() -> None:
    about = Annotated("slices", axis=0, slices=(1, 2, 50))
    labels = column(0, 1, 0, 0)
    assert annotated_slices(labels, about) == (0, (1, 2))
    assert known_voxels(labels, about).ravel().tolist() == [False, True, True, False]


def test_structures_that_end_where_the_slices_do_have_background_beyond() -> None:
    labels = column(0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 0, 0)
    about = Annotated("slices", axis=0, beyond=True)
    assert annotated_slices(labels, about) == (0, (5, 7, 10))
    # The widest gap is 3: from slice 2 down and from slice 13 up there is nothing.
    known = np.flatnonzero(known_voxels(labels, about).ravel())
    assert known.tolist() == [0, 1, 2, 5, 7, 10, 13, 14]
    near = column(0, 1, 1, 0)
    assert known_voxels(near, about).all()
    alone = column(0, 1, 0, 0)
    assert np.flatnonzero(known_voxels(alone, about).ravel()).tolist() == [1]


def test_slices_of_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="No slice holds a label"):
        known_voxels(column(0, 0), Annotated("slices"))


def test_a_box_is_cut_at_the_edge() -> None:
    about = Annotated("box", box=((-3, 2), (0, 1), (0, 9)))
    assert known_voxels(column(0, 0, 0), about).ravel().tolist() == [True, True, False]


# --- counting --------------------------------------------------------------------------------


def test_counts_by_slice() -> None:
    labels = np.full((2, 3, 4), -1, np.int16)
    labels[1, 0, :2] = 2
    labels[1, 2, 3] = 0
    assert class_counts(labels, 4).tolist() == [1, 0, 2, 0]
    z, y, x = slice_counts(labels, 4)
    assert z[2].tolist() == [0, 2]
    assert y[2].tolist() == [2, 0, 0]
    assert y[0].tolist() == [0, 0, 1]
    assert x[2].tolist() == [1, 1, 0, 0]
    assert bounding_boxes(labels) == {2: (slice(1, 2), slice(0, 1), slice(0, 2))}


# --- resampling ------------------------------------------------------------------------------


def test_halving_takes_the_larger_share_and_keeps_known_voxels() -> None:
    # pairs: (0 0) (0 1: equal, the label wins) (2 1: equal, the higher) (-1 1) (-1 -1) (0 -1)
    labels = column(0, 0, 0, 1, 2, 1, -1, 1, -1, -1, 0, -1)
    assert resample_labels(labels, (6, 1, 1)).ravel().tolist() == [0, 1, 2, 1, -1, 0]


def test_two_thirds() -> None:
    # New voxels cover [0, 1.5), [1.5, 3): voxel 1's centre, 1.5, lies in the second one.
    assert resample_labels(column(1, -1, -1), (2, 1, 1)).ravel().tolist() == [1, -1]
    assert resample_labels(column(-1, 1, -1), (2, 1, 1)).ravel().tolist() == [-1, 1]
    # The first: 1.0 of label 1 and 0.5 of label 2. The second: 0.5 of label 2, 1.0 of background,
    # where label 2, which would vanish, is kept.
    assert resample_labels(column(1, 2, 0), (2, 1, 1)).ravel().tolist() == [1, 2]
    assert resample_labels(column(1, 2, 2, 2, 0, 0), (4, 1, 1)).ravel().tolist() == [1, 2, 2, 0]


def test_finer_grids_repeat_what_is_known() -> None:
    labels = column(-1, 1, 0, -1)
    assert resample_labels(labels, (8, 1, 1)).ravel().tolist() == [-1, -1, 1, 1, 0, 0, -1, -1]


def test_finer_grids_round_corners_unless_the_image_is_not_interpolated() -> None:
    labels = np.zeros((2, 2, 1), np.int16)
    labels[0, 0] = 1
    # At (1, 1) of 4 x 4 the linear weight of the labelled corner is 0.75 x 0.75 = 0.5625.
    smooth = resample_labels(labels, (4, 4, 1))[:, :, 0]
    assert smooth.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    labels[0, 1] = 2
    labels[1, 0] = 3
    # At (1, 1): 9/16 of label 1; with weights of z taken nearest: 3/4 along y.
    assert resample_labels(labels, (4, 4, 1))[1, 1, 0] == 1
    three = column(1, 0, 0)
    assert resample_labels(three, (5, 1, 1)).ravel().tolist() == [1, 1, 0, 0, 0]


def test_slices_that_are_not_interpolated_keep_their_edges() -> None:
    labels = np.zeros((2, 2, 1), np.int16)
    labels[0, 0] = 1
    # At (3, 3) of 8 x 8 the linear weight is 0.625 along each axis: 0.39 of both, 0.625 of one.
    assert resample_labels(labels, (8, 8, 1))[3, 3, 0] == 0
    flat = resample_labels(labels, (8, 8, 1), nearest_axis=0)[:, :, 0]
    assert np.array_equal(np.argwhere(flat), [[z, y] for z in range(4) for y in range(4)])


def test_of_three_labels_the_largest_share_wins_where_none_reaches_a_half() -> None:
    labels = np.zeros((2, 2, 2), np.int16)
    labels.ravel()[:] = [1, 1, 1, 2, 2, 0, 0, 3]
    assert resample_labels(labels, (1, 1, 1)).ravel().tolist() == [1]


@pytest.mark.parametrize("spacing", [1.0, 1.5, 2.0, 3.0, 4.0, 0.8])
@pytest.mark.parametrize("first", [0, 3, 5])
def test_every_annotated_slice_survives(spacing: float, first: int) -> None:
    labels = np.full((50, 20, 20), -1, np.int16)
    slices = list(range(first, 50, 10))
    labels[slices] = 0
    for number, index in enumerate(slices, start=1):
        labels[index, 5:15, 5:15] = number
    new = tuple(round(n / spacing) for n in labels.shape)
    after = resample_labels(labels, new)
    assert surviving_share(labels, after) == 1.0
    for number, index in enumerate(slices, start=1):
        planes = np.flatnonzero((after == number).any(axis=(1, 2)))
        assert len(planes) >= 1
        # Nothing is known further away than the slice and the new voxel it lies in reach.
        centres = (planes + 0.5) * 50 / new[0]
        assert np.abs(centres - (index + 0.5)).max() <= 0.5 * max(50 / new[0], 1.0) + 1e-9
    known = np.flatnonzero((after >= 0).any(axis=(1, 2)))
    assert len(known) <= len(slices) * max(1, np.ceil(1 / spacing) + 1)


def test_other_ways_lose_slices() -> None:
    """What this is for: nearest-neighbour resampling to 2 mm keeps the odd slices only."""
    labels = np.full((50, 4, 4), -1, np.int16)
    labels[4::10] = 1
    nearest = labels[1::2]
    assert surviving_share(labels, nearest) == 0.0
    assert surviving_share(labels, resample_labels(labels, (25, 4, 4))) == 1.0


def test_a_line_thinner_than_the_new_voxels_does_not_vanish() -> None:
    labels = np.zeros((20, 20, 20), np.int16)
    labels[:, 7, 9] = 1  # a quarter of each new voxel it crosses
    labels[:, 12:18, 2:8] = 2
    after = resample_labels(labels, (10, 10, 10))
    assert np.argwhere(after == 1)[:, 1:].tolist() == [[3, 4]] * 10
    assert (after == 2).sum() == 10 * 3 * 3
    ratios = volume_ratios(labels, after)
    assert ratios[1] == pytest.approx(10 * 8 / 20)
    assert ratios[2] == pytest.approx(1.0)


def test_slabs_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.random.default_rng(1).integers(-1, 4, (23, 17, 19)).astype(np.int16)
    for shape in ((16, 11, 30), (40, 9, 19), (23, 5, 6)):
        whole = resample_labels(labels, shape)
        with monkeypatch.context() as patch:
            patch.setattr("mednext_engine.finetuning.label_resampling._SLAB", 2000)
            assert np.array_equal(resample_labels(labels, shape), whole)


def test_an_empty_map_stays_empty() -> None:
    nothing = np.full((4, 4, 4), -1, np.int16)
    after = resample_labels(nothing, (3, 5, 2))
    assert (after == -1).all()
    assert surviving_share(nothing, after) == 0.0


def test_full_maps_agree_with_nnunet_where_a_label_has_a_majority() -> None:
    default = pytest.importorskip("nnunetv2.preprocessing.resampling.default_resampling")
    z, y, x = np.meshgrid(*(np.arange(n) for n in (40, 44, 48)), indexing="ij")
    labels = np.zeros(z.shape, np.int16)
    labels[(z - 20) ** 2 + (y - 18) ** 2 + (x - 22) ** 2 < 12**2] = 1
    labels[(z - 24) ** 2 + (y - 28) ** 2 + (x - 26) ** 2 < 8**2] = 2
    theirs = default.resample_data_or_seg_to_shape(
        labels[None], (20, 22, 24), (1, 1, 1), (2, 2, 2), is_seg=True, order=1, order_z=0
    )[0]
    ours = resample_labels(labels, (20, 22, 24))
    # Halving, both average the same eight voxels; nnU-Net leaves background where three meet and
    # none has a half, and rounds equal shares either way.
    blocks = labels.reshape(20, 2, 22, 2, 24, 2)
    half = [(blocks == value).mean(axis=(1, 3, 5)) > 0.5 for value in (0, 1, 2)]
    assert np.array_equal(ours[np.any(half, axis=0)], theirs[np.any(half, axis=0)])
    assert np.count_nonzero(ours != theirs) > 0

"""Labels from logits: the same as interpolating every class and taking the largest."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.transform import resize

from mednext_engine.errors import Cancelled
from mednext_engine.inference import decide, sparse
from mednext_engine.inference.decide import decide_labels
from mednext_engine.inference.grid import linear_axes
from mednext_engine.inference.resampling import Scheme, make_scheme
from mednext_engine.inference.roi import network_region
from mednext_engine.models.labels import Labels
from mednext_engine.models.plan import Resampling
from mednext_engine.monitor import Monitor

LINEAR = Resampling(order=1)
ISO = (1.0, 1.0, 1.0)
SHAPES = [
    ((12, 20, 17), (19, 31, 24)),
    ((12, 20, 17), (25, 9, 17)),
    ((12, 20, 17), (7, 11, 9)),
    ((1, 20, 17), (3, 20, 30)),
    ((2, 3, 2), (9, 9, 9)),
    ((12, 20, 17), (12, 20, 17)),
]


def exclusive(count: int) -> Labels:
    return Labels(tuple(f"label {i}" for i in range(count)), tuple(range(count)))


def regions(order: tuple[int, ...]) -> Labels:
    names = tuple(f"region {i}" for i in range(len(order)))
    return Labels(names, order, tuple((1,) for _ in order), order)


def to_scheme(old, new, spec=LINEAR, current=ISO, target=ISO) -> Scheme:
    return make_scheme(old, new, spec, current, target)


def smooth_logits(heads: int, shape: tuple, seed: int = 0) -> np.ndarray:
    """Like a trained network's: large areas of agreement, and soft borders."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(heads, *shape))
    return (ndimage.gaussian_filter(noise, (0, 2, 2, 2)) * 40).astype(np.float32)


def rough_logits(heads: int, shape: tuple, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(heads, *shape)).astype(np.float32)


def upsampled(logits: np.ndarray, shape: tuple, order: int = 1) -> np.ndarray:
    """Every class at full size, by scikit-image in double precision."""
    each = [resize(c.astype(float), shape, order, mode="edge", anti_aliasing=False) for c in logits]
    return np.stack(each)


@pytest.fixture(params=["sparse", "dense"])
def way(request, monkeypatch) -> str:
    """Forces one of the two ways of deciding."""
    monkeypatch.setattr(decide, "_SPARSE_COST", 0 if request.param == "sparse" else 1e9)
    return request.param


@pytest.mark.parametrize("make", [smooth_logits, rough_logits])
@pytest.mark.parametrize(("old", "new"), SHAPES)
@pytest.mark.parametrize("heads", [2, 7])
def test_equals_the_largest_of_all_classes(way, make, old, new, heads) -> None:
    logits = make(heads, old)
    expected = upsampled(logits, new).argmax(0)
    found = decide_labels(logits, to_scheme(old, new), exclusive(heads))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_the_shortcut_is_what_runs_on_smooth_logits(monkeypatch) -> None:
    used = []
    whole = sparse.decide_mixed
    monkeypatch.setattr(decide, "decide_mixed", lambda *a: used.append(1) or whole(*a))
    monkeypatch.setattr(decide, "interpolate_rows", None)  # calling it would fail
    blocks = np.arange(27).reshape(3, 3, 3).repeat(8, 0).repeat(8, 1).repeat(8, 2)
    areas = np.stack([blocks == label for label in range(27)]).astype(np.float32)
    logits = ndimage.gaussian_filter(areas, (0, 1, 1, 1)) * 10 + 0.1 * rough_logits(27, (24,) * 3)
    found = decide_labels(logits, to_scheme((24,) * 3, (36,) * 3), exclusive(27))
    assert used
    np.testing.assert_array_equal(found, upsampled(logits, (36,) * 3).argmax(0))


def test_a_class_that_wins_at_no_corner_may_win_between(way) -> None:
    # Along x: A falls from 10 to -10, B rises, C is 5 everywhere: in the middle C wins.
    logits = np.array([[10, -10], [-10, 10], [5, 5]], dtype=np.float32).reshape(3, 1, 1, 2)
    logits = np.tile(logits, (1, 2, 2, 1))
    found = decide_labels(logits, to_scheme((2, 2, 2), (2, 2, 8)), exclusive(3))
    # Centres of the new voxels lie at -3/8, -1/8, 1/8, 3/8, ... : A = 7.5 at 1/8, 2.5 at 3/8.
    np.testing.assert_array_equal(found[0, 0], [0, 0, 0, 2, 2, 1, 1, 1])


def test_ties_go_to_the_lowest_class(way) -> None:
    logits = np.zeros((4, 3, 3, 3), dtype=np.float32)
    logits[0] = -1
    found = decide_labels(logits, to_scheme((3, 3, 3), (5, 6, 7)), exclusive(4))
    np.testing.assert_array_equal(found, 1)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("thick", [4, 25])
def test_thick_slices_take_the_nearest(way, axis: int, thick: int) -> None:
    old, new, spacing = [14, 14, 14], [20, 20, 20], [1.0, 1.0, 1.0]
    old[axis], new[axis], spacing[axis] = 9, thick, 5.0
    logits = smooth_logits(5, tuple(old))
    slices = np.moveaxis(logits, axis + 1, 1)
    pick = np.floor((np.arange(thick) + 0.5) * 9 / thick).astype(int)
    flat = np.stack([upsampled(slices[:, i], (20, 20)).argmax(0) for i in pick])
    scheme = to_scheme(old, new, LINEAR, spacing, ISO)
    found = decide_labels(logits, scheme, exclusive(5))
    np.testing.assert_array_equal(found, np.moveaxis(flat, 0, axis))


@pytest.mark.parametrize("make", [smooth_logits, rough_logits])
@pytest.mark.parametrize(("old", "new"), SHAPES)
def test_regions_are_written_in_order(way, make, old, new) -> None:
    logits = make(3, old)
    probable = 1 / (1 + np.exp(-upsampled(logits, new))) > 0.5
    expected = np.zeros(new, dtype=int)
    for value, region in zip((2, 1, 7), probable, strict=True):
        expected[region] = value
    found = decide_labels(logits, to_scheme(old, new), regions((2, 1, 7)))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_it_is(way, dtype: torch.dtype) -> None:
    logits = torch.from_numpy(smooth_logits(6, (10, 11, 12))).to(dtype)
    expected = upsampled(logits.float().numpy(), (15, 14, 20)).argmax(0)
    found = decide_labels(logits, to_scheme((10, 11, 12), (15, 14, 20)), exclusive(6))
    np.testing.assert_array_equal(found, expected)


def test_more_labels_than_a_byte_holds() -> None:
    logits = np.zeros((300, 2, 2, 2), dtype=np.float32)
    logits[299, 0] = 1
    logits[256, 1] = 1
    found = decide_labels(logits, to_scheme((2, 2, 2), (4, 2, 2)), exclusive(300))
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found[:, 0, 0], [299, 299, 256, 256])


def test_cubic_logits_are_interpolated_as_splines() -> None:
    logits = smooth_logits(4, (10, 11, 12))
    expected = upsampled(logits, (15, 14, 20), order=3).argmax(0)
    scheme = to_scheme((10, 11, 12), (15, 14, 20), Resampling(order=3))
    np.testing.assert_array_equal(decide_labels(logits, scheme, exclusive(4)), expected)


@pytest.mark.parametrize("labels", [exclusive(5), regions((1, 2, 3, 4, 5))])
@pytest.mark.parametrize("spacing", [ISO, (5.0, 1.0, 1.0)])
def test_a_region_needs_only_its_window_of_logits(way, labels, spacing) -> None:
    old, new = (14, 20, 17), (25, 30, 24)
    logits = smooth_logits(5, old)
    scheme = to_scheme(old, new, LINEAR, spacing, ISO)
    whole = decide_labels(logits, scheme, labels)
    region = (slice(7, 13), slice(0, 9), slice(11, 24))
    window = network_region(region, scheme)
    part = np.ascontiguousarray(logits[(slice(None), *window)])
    assert part.size < logits.size / 4
    found = decide_labels(part, scheme, labels, region=region, window=window)
    np.testing.assert_array_equal(found[region], whole[region])
    found[region] = 0
    assert not found.any()


def test_many_planes_are_decided_in_slabs(way, monkeypatch) -> None:
    monkeypatch.setattr(decide, "SLAB_VOXELS", 3 * 24 * 31)
    logits = smooth_logits(5, (12, 20, 17))
    expected = upsampled(logits, (19, 31, 24)).argmax(0)
    found = decide_labels(logits, to_scheme((12, 20, 17), (19, 31, 24)), exclusive(5))
    np.testing.assert_array_equal(found, expected)


def test_progress_and_cancel() -> None:
    reports = []
    monitor = Monitor(report=reports.append)
    logits = smooth_logits(3, (8, 8, 8))
    decide_labels(logits, to_scheme((8, 8, 8), (9, 9, 9)), exclusive(3), monitor)
    assert reports
    monitor.cancel()
    with pytest.raises(Cancelled):
        decide_labels(logits, to_scheme((8, 8, 8), (9, 9, 9)), exclusive(3), monitor)


def test_weights_of_an_axis_cover_every_new_voxel() -> None:
    (axis, _, _) = linear_axes(to_scheme((7, 7, 7), (200, 7, 7)))
    rows = np.zeros((200, 7))
    for band in axis.bands(0, 200):
        rows[band.rows, band.columns] = band.weights
    np.testing.assert_allclose(rows.sum(1), 1, rtol=1e-6)
    centres = (np.arange(200) + 0.5) * 7 / 200 - 0.5
    np.testing.assert_allclose(rows @ np.arange(7.0), np.clip(centres, 0, 6), atol=1e-5)

"""Resampling against scikit-image, scipy, PyTorch and nnU-Net, and numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.transform import resize

from mednext_engine.errors import UnsupportedModelError
from mednext_engine.inference.interpolation import (
    interpolation_matrix,
    linear_taps,
    nearest_indices,
)
from mednext_engine.inference.resampling import coarse_axis, compute_new_shape, resample
from mednext_engine.models.plan import Resampling

ISO = (1.0, 1.0, 1.0)
CUBIC = Resampling(order=3)


def skimage_resize(volume: np.ndarray, shape: tuple[int, ...], order: int) -> np.ndarray:
    return resize(volume.astype(float), shape, order, mode="edge", anti_aliasing=False)


def a_volume(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("order", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((20, 31, 17), (30, 25, 29)),
        ((20, 30, 18), (10, 15, 9)),  # halves: old voxels at equal distances
        ((12, 12, 12), (12, 19, 12)),
        ((1, 20, 2), (4, 7, 3)),
        ((9, 130, 7), (9, 200, 3)),  # more rows than one band
    ],
)
def test_equals_skimage(order: int, old: tuple, new: tuple) -> None:
    volume = a_volume(old)
    expected = skimage_resize(volume, new, order)
    found = resample(volume[None], new, Resampling(order=order), ISO, ISO)
    assert found.dtype == np.float32
    assert found.shape == (1, *new)
    np.testing.assert_allclose(found[0], expected, atol=1e-4 * np.ptp(volume))


def test_splines_do_not_leave_the_range_of_the_image() -> None:
    step = np.zeros((8, 8, 8), dtype=np.float32)
    step[:, :, 4:] = 1000.0
    found = resample(step[None], (16, 16, 16), CUBIC, ISO, ISO)
    assert found.min() == 0.0
    assert found.max() == 1000.0


def test_linear_weights_by_hand() -> None:
    # From two voxels to four: centres at -0.25, 0.25, 0.75 and 1.25 of the old indices.
    lower, weight = linear_taps(2, 4)
    np.testing.assert_array_equal(lower, [0, 0, 0, 0])
    np.testing.assert_allclose(weight, [0.0, 0.25, 0.75, 1.0])
    volume = np.array([10.0, 20.0], dtype=np.float32).reshape(1, 1, 1, 2)
    found = resample(volume, (1, 1, 4), Resampling(order=1), ISO, ISO)
    np.testing.assert_allclose(found.ravel(), [10.0, 12.5, 17.5, 20.0])


def test_nearest_by_hand() -> None:
    np.testing.assert_array_equal(nearest_indices(2, 5), [0, 0, 1, 1, 1])  # the tie rounds up
    np.testing.assert_array_equal(nearest_indices(6, 3), [1, 3, 5])
    np.testing.assert_array_equal(nearest_indices(6, 3, floor=True), [0, 2, 4])


@pytest.mark.parametrize("order", [0, 1, 3, 5])
def test_rows_of_weights_sum_to_one(order: int) -> None:
    np.testing.assert_allclose(interpolation_matrix(7, 23, order).sum(1), 1.0, atol=1e-12)


@pytest.mark.parametrize(
    ("current", "new", "force", "expected"),
    [
        ((1, 1, 1), (2, 2, 2), None, None),
        ((5, 1, 1), (1, 1, 1), None, 0),
        ((3, 1, 1), (1, 1, 1), None, None),  # three times is not more than three times
        ((1, 1, 1), (1, 4, 1), None, 1),
        ((5, 1, 1), (1, 1, 9), None, 0),  # the current spacing decides
        ((0.2, 1, 1), (1, 1, 1), None, None),  # two coarse axes
        ((5, 1, 1), (1, 1, 1), False, None),
        ((1, 1, 2), (1, 1, 1), True, 2),
        ((1, 1, 1), (1, 1, 1), True, None),
    ],
)
def test_which_axis_is_treated_apart(current, new, force, expected) -> None:
    assert coarse_axis(current, new, force) == expected


def test_new_shape_rounds_halves_to_even_like_nnunet() -> None:
    assert compute_new_shape((5, 7, 100), (0.5, 0.5, 3.0), (1.0, 1.0, 1.5)) == (2, 4, 200)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("thick", [3, 9, 14])
def test_thick_slices_are_resized_one_by_one(axis: int, thick: int) -> None:
    old, new = [12, 12, 12], [17, 17, 17]
    old[axis], new[axis] = 9, thick
    spacing = [1.0, 1.0, 1.0]
    spacing[axis] = 5.0
    volume = a_volume(tuple(old))
    slices = np.moveaxis(volume, axis, 0)
    sharp = np.stack([skimage_resize(s, (17, 17), 3) for s in slices])
    pick = np.floor((np.arange(thick) + 0.5) * 9 / thick).astype(int)  # the slice a centre is in
    expected = np.moveaxis(sharp[pick], 0, axis)
    found = resample(volume[None], new, CUBIC, spacing, ISO)[0]
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.ptp(volume))


def test_torch_resampling_is_pytorchs() -> None:
    volume = a_volume((9, 14, 11))
    spec = Resampling(function="resample_torch_fornnunet", order=1)
    tensor = torch.from_numpy(volume)[None, None]
    expected = torch.nn.functional.interpolate(tensor, (17, 10, 30), mode="trilinear")[0]
    found = resample(volume[None], (17, 10, 30), spec, ISO, ISO)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("mode", ["nearest-exact", "nearest"])
@pytest.mark.parametrize("planes", [5, 20])
def test_torch_resampling_of_thick_slices(mode: str, planes: int) -> None:
    volume = torch.from_numpy(a_volume((9, 14, 11)))
    spec = Resampling(function="resample_torch_fornnunet", order=1, aniso_axis_mode=mode)
    flat = torch.nn.functional.interpolate(volume[None], (20, 21), mode="bilinear")
    expected = torch.nn.functional.interpolate(flat[None], (planes, 20, 21), mode=mode)[0]
    found = resample(volume[None], (planes, 20, 21), spec, (5.0, 1.0, 1.0), ISO)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_without_resampling_nothing_happens() -> None:
    volume = a_volume((4, 5, 6))[None]
    spec = Resampling(function="no_resampling_hack")
    assert resample(volume, (8, 8, 8), spec, ISO, ISO) is volume
    assert resample(volume, (4, 5, 6), CUBIC, ISO, ISO) is volume


def test_the_input_is_left_as_it_is() -> None:
    volume = a_volume((6, 7, 8))
    kept = volume.copy()
    resample(volume[None], (9, 7, 5), CUBIC, (9.0, 1.0, 1.0), ISO)
    np.testing.assert_array_equal(volume, kept)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_number_types_come_back_in_single_precision(dtype: torch.dtype) -> None:
    volume = torch.from_numpy(a_volume((6, 7, 8))).to(dtype)
    found = resample(volume[None], (9, 7, 5), CUBIC, ISO, ISO)
    assert found.dtype == torch.float32
    expected = skimage_resize(volume.to(torch.float64).numpy(), (9, 7, 5), 3)
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_an_unknown_function_is_refused_in_words() -> None:
    with pytest.raises(UnsupportedModelError, match="my_resampling"):
        resample(
            a_volume((4, 4, 4))[None], (5, 5, 5), Resampling(function="my_resampling"), ISO, ISO
        )


@pytest.mark.parametrize(
    ("current", "new", "shape"),
    [
        (ISO, (0.7, 0.8, 0.9), (29, 25, 22)),
        ((4.0, 1.0, 1.0), (1.0, 0.8, 0.9), (80, 25, 22)),
        ((1.0, 0.9, 0.8), (6.0, 1.1, 1.2), (3, 16, 13)),
    ],
)
@pytest.mark.parametrize("order", [1, 3])
def test_equals_nnunet(current, new, shape, order: int) -> None:
    theirs = pytest.importorskip("nnunetv2.preprocessing.resampling.default_resampling")
    data = np.stack([a_volume((20, 20, 20), seed) for seed in range(2)])
    expected = theirs.resample_data_or_seg_to_shape(
        data, shape, current, new, is_seg=False, order=order, order_z=0, force_separate_z=None
    )
    found = resample(data, shape, Resampling(order=order), current, new)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.ptp(data))

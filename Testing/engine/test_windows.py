import math

import numpy as np
import pytest

from mednext_engine.inference.windows import (
    gaussian_weights,
    overlaps,
    window_positions,
    window_starts,
)


@pytest.mark.parametrize(
    ("size", "patch", "step", "starts"),
    [
        (64, 64, 0.5, [0]),
        (110, 64, 0.5, [0, 23, 46]),  # nnU-Net's own example: 46 voxels in two steps of at most 32
        (65, 64, 0.5, [0, 1]),
        (128, 64, 0.5, [0, 32, 64]),
        (129, 64, 0.5, [0, 22, 43, 65]),  # 65 / 3 = 21.67 and 43.33
        (128, 64, 1.0, [0, 64]),
        (100, 10, 0.9, [0, 9, 18, 27, 36, 45, 54, 63, 72, 81, 90]),
    ],
)
def test_starts_are_spread_evenly(size, patch, step, starts):
    assert window_starts(size, patch, step) == starts


def test_positions_are_the_product_in_order_of_the_first_axis():
    assert window_positions((4, 3, 2), (2, 3, 1), 1.0) == [
        (0, 0, 0),
        (0, 0, 1),
        (2, 0, 0),
        (2, 0, 1),
    ]


def test_windows_that_only_touch_a_region_do_not_matter():
    region = ((4, 8), (0, 2), (0, 2))
    assert overlaps((3, 0, 0), (2, 2, 2), region)
    assert not overlaps((2, 0, 0), (2, 2, 2), region)  # covers 2 and 3; the region begins at 4
    assert not overlaps((8, 0, 0), (2, 2, 2), region)
    assert overlaps((100, 100, 100), (1, 1, 1), None)


def test_gaussian_has_a_sigma_of_an_eighth_and_ten_at_the_centre():
    weights = gaussian_weights((16, 32, 8))
    assert weights.shape == (16, 32, 8)
    assert weights.dtype == np.float32
    assert weights[8, 16, 4] == 10
    # One sigma along each axis: 2, 4 and 1 voxels.
    assert weights[10, 16, 4] == pytest.approx(10 * math.exp(-0.5), rel=1e-6)
    assert weights[8, 20, 4] == pytest.approx(10 * math.exp(-0.5), rel=1e-6)
    assert weights[8, 16, 5] == pytest.approx(10 * math.exp(-0.5), rel=1e-6)
    assert weights.min() > 0


def test_gaussian_equals_a_filtered_impulse():
    from scipy.ndimage import gaussian_filter

    impulse = np.zeros((24, 17, 32))
    impulse[12, 8, 16] = 1
    reference = gaussian_filter(impulse, [3, 17 / 8, 4], mode="constant")
    reference *= 10 / reference.max()
    weights = gaussian_weights((24, 17, 32))
    inside = reference > 0
    assert np.allclose(weights[inside], reference[inside], rtol=1e-5)

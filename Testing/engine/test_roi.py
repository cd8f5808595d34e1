"""Regions of interest: from a box to voxels, to the network's grid, to tiles."""

from __future__ import annotations

import numpy as np
import pytest

from mednext_engine.errors import InputError
from mednext_engine.inference.images import Volume
from mednext_engine.inference.options import Box
from mednext_engine.inference.orientation import Reorientation
from mednext_engine.inference.preprocess import Frame
from mednext_engine.inference.resampling import Scheme
from mednext_engine.inference.roi import (
    image_region,
    network_region,
    target_region,
)
from mednext_engine.inference.windows import overlaps


def a_volume(**kwargs) -> Volume:
    """30 x 20 x 10 voxels (x, y, z) of 1 x 2 x 3 mm."""
    array = np.zeros((1, 10, 20, 30), dtype=np.float32)
    return Volume(array, (3.0, 2.0, 1.0), **kwargs)


def test_a_voxel_box_is_ijk_and_half_open() -> None:
    found = image_region(Box((4, 5, 6), (8, 7, 9), "voxel"), a_volume())
    assert found == (slice(6, 9), slice(5, 7), slice(4, 8))


def test_a_box_in_lps_by_hand() -> None:
    # Voxel i of x reaches from 100 + i - 0.5 to 100 + i + 0.5 mm; y from -2 i - 1 to ...
    volume = a_volume(origin=(100.0, 0.0, 0.0))
    found = image_region(Box((104.5, 9.0, 10.5), (108.5, 13.0, 16.5), "lps"), volume)
    assert found == (slice(4, 6), slice(5, 7), slice(5, 9))


def test_ras_is_lps_turned_round() -> None:
    volume = a_volume(origin=(100.0, 0.0, 0.0))
    lps = image_region(Box((104.0, 9.0, 10.0), (108.0, 14.0, 17.0), "lps"), volume)
    ras = image_region(Box((-108.0, -14.0, 10.0), (-104.0, -9.0, 17.0), "ras"), volume)
    assert ras == lps


def test_an_oblique_image_encloses_the_box() -> None:
    angle = np.deg2rad(30)
    c, s = np.cos(angle), np.sin(angle)
    volume = a_volume(direction=(c, -s, 0, s, c, 0, 0, 0, 1), origin=(3.0, -4.0, 5.0))
    box = Box((10.0, 8.0, 8.0), (18.0, 20.0, 20.0), "lps")
    z, y, x = image_region(box, volume)
    low, high = np.array(box.low), np.array(box.high)
    for index in np.ndindex(30, 20, 10):
        if (volume.to_lps(index) >= low).all() and (volume.to_lps(index) <= high).all():
            assert x.start <= index[0] < x.stop
            assert y.start <= index[1] < y.stop
            assert z.start <= index[2] < z.stop
    assert (x.stop - x.start) * (y.stop - y.start) * (z.stop - z.start) < 30 * 20 * 10 / 4


def test_a_box_is_clipped_and_one_outside_refused() -> None:
    assert image_region(Box((-5, 18, 0), (3, 99, 1)), a_volume()) == (
        slice(0, 1),
        slice(18, 20),
        slice(0, 3),
    )
    with pytest.raises(InputError, match="outside the image"):
        image_region(Box((30, 0, 0), (35, 5, 5)), a_volume())


def a_frame() -> Frame:
    """Plan axes are the image's x (turned round), z and y; cropped."""
    return Frame(
        orientation=Reorientation((2, 0, 1), (True, False, False)),
        shape_before_crop=(30, 10, 20),
        crop=(slice(5, 25), slice(2, 9), slice(0, 20)),
        spacing=(1.0, 3.0, 2.0),
        plan_spacing=(1.0, 1.0, 1.0),
        plan_shape=(20, 21, 40),
    )


def test_from_the_image_to_the_target_by_hand() -> None:
    region = (slice(1, 4), slice(6, 8), slice(4, 10))  # z, y, x
    # x 4..9 is 20..25 from the other end; minus the crop's start 5, cut at 25.
    assert target_region(region, a_frame()) == (slice(15, 20), slice(0, 2), slice(6, 8))


def test_target_region_is_what_the_view_shows() -> None:
    frame = a_frame()
    marked = np.zeros((10, 20, 30), dtype=bool)
    region = (slice(1, 4), slice(6, 8), slice(7, 13))
    marked[region] = True
    target = target_region(region, frame)
    expected = np.zeros(frame.shape_after_crop, dtype=bool)
    assert target is not None
    expected[target] = True
    np.testing.assert_array_equal(frame.view(marked), expected)


def test_a_region_where_the_image_is_zero_needs_nothing() -> None:
    assert target_region((slice(0, 2), slice(0, 20), slice(0, 30)), a_frame()) is None


def test_the_networks_voxels_by_hand() -> None:
    # From 10 to 20: new voxels 4 to 7 have their centres at 1.75, 2.25, 2.75, 3.25.
    scheme = Scheme((10, 10, 10), (20, 10, 5), (1, 1, 1))
    # From 10 to 5: new voxel 2 lies at 4.5.
    found = network_region((slice(4, 8), slice(3, 6), slice(2, 3)), scheme)
    assert found == (slice(1, 5), slice(3, 6), slice(4, 6))


def test_splines_reach_further() -> None:
    scheme = Scheme((100, 100, 100), (200, 100, 50), (3, 3, 3))
    found = network_region((slice(80, 120), slice(0, 10), slice(45, 50)), scheme)
    assert found == (slice(28, 72), slice(0, 22), slice(78, 100))


def test_tiles_that_matter() -> None:
    bounds = ((10, 20), (10, 20), (10, 20))
    patch = (8, 8, 8)
    assert overlaps((3, 10, 19), patch, bounds)
    assert not overlaps((2, 10, 12), patch, bounds)
    assert not overlaps((12, 12, 20), patch, bounds)

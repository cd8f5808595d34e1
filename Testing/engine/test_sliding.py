"""Averaging of windows against a plain accumulation of everything, with a made-up network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mednext_engine.errors import Cancelled
from mednext_engine.inference.sliding import Windows, pad_to_patch, predict_planes
from mednext_engine.inference.windows import gaussian_weights, window_positions
from mednext_engine.monitor import Monitor

PATCH = (8, 10, 6)
SHAPE = (21, 17, 15)


class Made:
    """Two outputs that depend on where in the window a voxel lies, so that averaging matters."""

    backend, head, outputs = "torch", None, 2

    def __init__(self) -> None:
        z, y, x = np.indices(PATCH, dtype=np.float32)
        self.place = z + 2 * y - x
        self.seen: list[np.ndarray] = []

    def run(self, tile: np.ndarray, monitor: Monitor) -> np.ndarray:
        monitor.check()
        self.seen.append(tile.copy())
        return np.stack([tile[0, 0] * self.place, tile[0, 0] + 3])


def an_image(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)


def collected(windows: Windows, data: np.ndarray, **kwargs: object) -> np.ndarray:
    parts, expected_start = [], 0
    for start, planes in predict_planes(Made(), data, windows, Monitor(), **kwargs):
        assert start == expected_start  # in order, without a gap
        expected_start += planes.shape[1]
        parts.append(planes.astype(np.float32))
    return np.concatenate(parts, 1)


def averaged(data: np.ndarray, step: float) -> np.ndarray:
    """Weighted sum over weight of all windows, in float64 and all at once."""
    weights = gaussian_weights(PATCH).astype(np.float64)
    total, weight = np.zeros((2, *data.shape[1:])), np.zeros(tuple(data.shape[1:]))
    network = Made()
    for position in window_positions(data.shape[1:], PATCH, step):
        box = tuple(slice(a, a + n) for a, n in zip(position, PATCH, strict=True))
        result = network.run(data[(None, slice(None), *box)], Monitor())
        total[(slice(None), *box)] += result * weights
        weight[box] += weights
    return total / weight


@pytest.mark.parametrize("step", [0.5, 0.3, 1.0])
def test_equal_to_accumulating_everything(step):
    data = an_image()
    result = collected(Windows(PATCH, step), data)
    np.testing.assert_allclose(result, averaged(data, step), rtol=1e-4, atol=1e-4)


def test_half_precision_keeps_three_digits():
    """Also at a window's corners, where weights are far below half precision's smallest number."""
    data = an_image()
    result = collected(Windows(PATCH), data, store_as="float16")
    np.testing.assert_allclose(result, averaged(data, 0.5), rtol=4e-3, atol=2e-2)


def test_one_window_is_the_network_itself():
    data = an_image(PATCH)
    result = collected(Windows(PATCH), data)
    np.testing.assert_array_equal(result, Made().run(data[None], Monitor()))


@pytest.mark.parametrize("region", [[(9, 13), (3, 9), (2, 7)], [(0, 2), (0, 2), (0, 2)]])
def test_a_region_is_as_in_the_whole_volume(region):
    data = an_image()
    whole = collected(Windows(PATCH), data)
    part = collected(Windows(PATCH, region=region), data)
    box = (slice(None), *(slice(a, b) for a, b in region))
    assert part.shape == whole.shape
    np.testing.assert_allclose(part[box], whole[box], rtol=1e-5)


def test_a_region_computes_only_the_windows_that_reach_it():
    windows = Windows(PATCH, region=[(20, 21), (16, 17), (14, 15)])
    assert windows.positions(SHAPE) == [(13, 7, 9)]  # the last window, which ends at the corner


class OnADevice(Made):
    """A network that takes and gives tensors, as on a GPU."""

    def run(self, tile: torch.Tensor, monitor: Monitor) -> torch.Tensor:
        return torch.from_numpy(super().run(tile.numpy(), monitor))


@pytest.mark.parametrize(("kind", "tolerance"), [("float32", 1e-5), ("float16", 1e-2)])
def test_tensors_are_averaged_alike(kind, tolerance):
    """Where the mean lies on the device too; its stand-in here is the CPU under another name."""
    data = an_image()
    expected = collected(Windows(PATCH), data)
    planes = predict_planes(
        OnADevice(), torch.from_numpy(data), Windows(PATCH), Monitor(), store_on="cpu:0",
        store_as=kind,
    )  # fmt: skip
    found = torch.cat([part.float().clone() for _, part in planes], 1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=tolerance, atol=tolerance)


def test_results_of_a_device_are_averaged_beside_it():
    data = an_image()
    found = predict_planes(OnADevice(), torch.from_numpy(data), Windows(PATCH), Monitor())
    parts = [part.copy() for _, part in found]
    np.testing.assert_allclose(np.concatenate(parts, 1), collected(Windows(PATCH), data))


def test_padding_is_even_and_zero():
    data, inside = pad_to_patch(np.ones((1, 5, 12, 3), np.float32), (8, 10, 6))
    assert data.shape == (1, 8, 12, 6)
    assert inside == (slice(1, 6), slice(0, 12), slice(1, 4))  # 3 missing: 1 before; 3 of 6: 1
    assert float(data.sum()) == 5 * 12 * 3
    assert bool((data[0][inside] == 1).all())


def test_mirrored_copies_are_averaged():
    """A network that gives a ramp: mirrored along z and turned back it is the reversed ramp."""

    class Ramp(Made):
        outputs = 1

        def run(self, tile: np.ndarray, monitor: Monitor) -> np.ndarray:
            self.seen.append(tile.copy())
            return np.broadcast_to(np.arange(8.0)[:, None, None], (1, *PATCH))

    network, data = Ramp(), an_image(PATCH)
    windows = Windows(PATCH, mirror_axes=(0, 2))
    assert windows.mirror_combinations() == [(), (0,), (2,), (0, 2)]
    ((_, planes),) = predict_planes(network, data, windows, Monitor())
    np.testing.assert_array_equal(planes, np.full((1, *PATCH), 3.5))  # mean of i and 7 - i
    np.testing.assert_array_equal(network.seen[1], np.flip(data[None], 2))
    np.testing.assert_array_equal(network.seen[3], np.flip(data[None], (2, 4)))


def test_progress_runs_to_the_end_and_cancel_stops():
    seen = []
    monitor = Monitor(lambda progress: seen.append(progress.fraction))
    with monitor.stage("Segmenting", 0.0, 1.0):
        list(predict_planes(Made(), an_image(), Windows(PATCH), monitor, share=(0.5, 0.5)))
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0)
    network = Made()
    monitor.cancel()
    with pytest.raises(Cancelled):
        list(predict_planes(network, an_image(), Windows(PATCH), monitor))
    assert not network.seen

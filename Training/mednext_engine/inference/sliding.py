"""Sliding-window prediction: one window after the other, averaged with Gaussian weights.

What a network gives for a window enters a running mean that is only as deep as one window. As soon
as no later window reaches a plane, the plane is handed on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from ..monitor import Monitor
from .arrays import Array, cast, clone, full, is_tensor, placed, to_numpy
from .parallel import side_by_side
from .runner import Runner, mirrored
from .windows import gaussian_weights, overlaps, window_positions

Region = Sequence[tuple[int, int]] | None

_PLANES = 8
"""Planes of one channel that are averaged at once: they stay in the processor's cache."""


@dataclass(frozen=True)
class Windows:
    """How a volume is cut: patch (z, y, x), step (share of it), mirrored axes, region or None."""

    patch: tuple[int, int, int]
    step: float = 0.5
    mirror_axes: tuple[int, ...] = ()
    region: Region = None

    def positions(self, shape: Sequence[int]) -> list[tuple[int, int, int]]:
        """Windows to compute for a volume of `shape`, which is at least the patch on each axis."""
        everywhere = window_positions(shape, self.patch, self.step)
        return [p for p in everywhere if overlaps(p, self.patch, self.region)]

    def mirror_combinations(self) -> list[tuple[int, ...]]:
        """All sets of mirrored axes, the empty one first, as in nnU-Net."""
        axes = self.mirror_axes
        return [c for n in range(len(axes) + 1) for c in combinations(axes, n)]


def pad_to_patch(data: Array, patch: Sequence[int]) -> tuple[Array, tuple[slice, slice, slice]]:
    """Pads (c, z, y, x) with zeros on both sides to at least `patch`; also where it was before."""
    before = [max(want - n, 0) // 2 for n, want in zip(data.shape[1:], patch, strict=True)]
    z, y, x = (slice(m, m + n) for m, n in zip(before, data.shape[1:], strict=True))
    size = tuple(max(n, want) for n, want in zip(data.shape[1:], patch, strict=True))
    if size == tuple(data.shape[1:]):
        return data, (z, y, x)
    padded = full((data.shape[0], *size), 0, "float32", data)
    padded[:, z, y, x] = data
    return padded, (z, y, x)


def predict_planes(
    runner: Runner,
    data: Array,
    windows: Windows,
    monitor: Monitor,
    *,
    store_on: str = "cpu",
    store_as: str = "float32",
    share: tuple[float, float] = (0.0, 1.0),
) -> Iterator[tuple[int, Array]]:
    """Averaged outputs of the network, a few planes at a time in order of the first axis.

    Args:
        runner: the network; its device must be that of `data`.
        data: (c, z, y, x) float32, at least the patch on each axis (`pad_to_patch`).
        store_on, store_as: device and type of the buffer, (outputs, patch, y, x).
        share: where this prediction begins in the running stage, and how much of it it is.

    Yields:
        The first plane's index and (outputs, planes, y, x) in `store_as`; planes that no window
        reaches (outside the region) are zero. It is a view that the next step overwrites.

    Raises:
        Cancelled, torch.OutOfMemoryError.
    """
    shape, patch = tuple(data.shape[1:]), windows.patch
    positions = windows.positions(shape)
    weights = placed(gaussian_weights(patch), store_on)
    combinations_ = windows.mirror_combinations()
    mean = full((runner.outputs, patch[0], *shape[1:]), 0, store_as, weights)
    weight = full((patch[0], *shape[1:]), 0, "float32", weights)

    def nothing(planes: int) -> Array:
        return _broadcast(full((), 0, store_as, weights), (runner.outputs, planes, *shape[1:]))

    base = positions[0][0]
    if base:  # a region that begins behind the first plane
        yield 0, nothing(base)
    for number, (z, y, x) in enumerate(positions):
        if z > base:
            yield base, mean[:, : z - base]
            _shift(mean, z - base)
            _shift(weight[None], z - base)
            base = z
        tile = data[None, :, z : z + patch[0], y : y + patch[1], x : x + patch[2]]
        result = mirrored(lambda t: runner.run(t, monitor), tile, combinations_)
        result = to_numpy(result) if store_on == "cpu" else result.to(store_on)
        rows, columns = slice(y, y + patch[1]), slice(x, x + patch[2])
        weight[:, rows, columns] += weights
        _blend(mean[:, :, rows, columns], result, weights / weight[:, rows, columns])
        monitor.advance(share[0] + share[1] * (number + 1) / len(positions))
    yield base, mean
    if base + patch[0] < shape[0]:
        yield base + patch[0], nothing(shape[0] - base - patch[0])


def _blend(mean: Array, result: Array, share: Array) -> None:
    """Takes `result` into the running weighted mean with its `share` of all weights so far.

    A mean, unlike a sum of weighted values, keeps its digits in half precision: the weights at a
    window's corner are eleven orders of magnitude below those at its centre.
    """
    if is_tensor(mean):
        kind = str(mean.dtype).rpartition(".")[2]
        share = cast(share, kind)
        for into, values in zip(mean, result, strict=True):
            into.lerp_(cast(values, kind), share)
        return

    def work(piece: tuple[int, int]) -> None:
        channel, start = piece
        planes = slice(start, start + _PLANES)
        into = mean[channel, planes]
        change = np.subtract(result[channel, planes], into, dtype=np.float32)
        change *= share[planes]
        into += change

    for _ in side_by_side(work, product(range(len(mean)), range(0, mean.shape[1], _PLANES))):
        pass


def _broadcast(value: Array, shape: tuple[int, ...]) -> Array:
    return value.expand(shape) if is_tensor(value) else np.broadcast_to(value, shape)


def _shift(buffer: Array, count: int) -> None:
    """Moves the buffer on by `count` planes."""
    keep = max(buffer.shape[1] - count, 0)
    for channel in buffer:
        if keep:
            channel[:keep] = clone(channel[count:])
        channel[keep:] = 0

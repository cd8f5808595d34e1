"""Sliding-window prediction: one window after the other, averaged with Gaussian weights.

What a network gives for a window enters a running mean that is only as deep as one window. As soon
as no later window reaches a plane, the plane is handed on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..monitor import Monitor
from .runner import Runner, mirrored
from .windows import gaussian_weights, overlaps, window_positions

Region = Sequence[tuple[int, int]] | None


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


def pad_to_patch(data: Tensor, patch: Sequence[int]) -> tuple[Tensor, tuple[slice, slice, slice]]:
    """Pads (c, z, y, x) with zeros on both sides to at least `patch`; also where it was before."""
    pads: list[int] = []
    inside = []
    for size, want in zip(data.shape[1:], patch, strict=True):
        missing = max(want - size, 0)
        pads = [missing // 2, missing - missing // 2, *pads]
        inside.append(slice(missing // 2, missing // 2 + size))
    padded = F.pad(data, pads) if any(pads) else data
    return padded, (inside[0], inside[1], inside[2])


def predict_planes(
    runner: Runner,
    data: Tensor,
    windows: Windows,
    monitor: Monitor,
    *,
    store_on: str = "cpu",
    store_as: torch.dtype = torch.float32,
    share: tuple[float, float] = (0.0, 1.0),
) -> Iterator[tuple[int, Tensor]]:
    """Averaged outputs of the network, a few planes at a time in order of the first axis.

    Args:
        runner: the network; its device must be that of `data`.
        data: (c, z, y, x) float32, at least the patch on each axis (`pad_to_patch`).
        store_on, store_as: device and type of the buffer, (outputs, patch, y, x).
        share: where this prediction begins in the running stage, and how much of it it is.

    Yields:
        The first plane's index and (outputs, planes, y, x) in `store_as`; planes that no window
        reaches (outside the region) are zero. The tensor is a view that the next step overwrites.

    Raises:
        Cancelled, torch.OutOfMemoryError.
    """
    shape, patch = tuple(data.shape[1:]), windows.patch
    positions = windows.positions(shape)
    weights = torch.from_numpy(gaussian_weights(patch)).to(store_on)
    combinations_ = windows.mirror_combinations()
    mean = torch.zeros((runner.outputs, patch[0], *shape[1:]), dtype=store_as, device=store_on)
    weight = torch.zeros((patch[0], *shape[1:]), device=store_on)
    nothing = mean.new_zeros(())
    base = positions[0][0]
    if base:  # a region that begins behind the first plane
        yield 0, nothing.expand(runner.outputs, base, *shape[1:])
    for number, (z, y, x) in enumerate(positions):
        if z > base:
            yield base, mean[:, : z - base]
            _shift(mean, z - base)
            _shift(weight[None], z - base)
            base = z
        tile = data[None, :, z : z + patch[0], y : y + patch[1], x : x + patch[2]]
        result = mirrored(lambda t: runner.run(t, monitor), tile, combinations_).to(store_on)
        rows, columns = slice(y, y + patch[1]), slice(x, x + patch[2])
        weight[:, rows, columns] += weights
        _blend(mean[:, :, rows, columns], result, weights / weight[:, rows, columns])
        monitor.advance(share[0] + share[1] * (number + 1) / len(positions))
    yield base, mean
    if base + patch[0] < shape[0]:
        yield (
            base + patch[0],
            nothing.expand(runner.outputs, shape[0] - base - patch[0], *shape[1:]),
        )


def _blend(mean: Tensor, result: Tensor, share: Tensor) -> None:
    """Takes `result` into the running weighted mean with its `share` of all weights so far.

    A mean, unlike a sum of weighted values, keeps its digits in half precision: the weights at a
    window's corner are eleven orders of magnitude below those at its centre.
    """
    if mean.dtype == torch.float32:
        mean.lerp_(result, share)
        return
    share = share.to(mean.dtype)
    for into, values in zip(mean, result, strict=True):  # one channel at a time stays in cache
        into.lerp_(values.to(mean.dtype), share)


def _shift(buffer: Tensor, count: int) -> None:
    """Moves the buffer on by `count` planes."""
    keep = buffer.shape[1] - count
    if keep <= 0:
        buffer.zero_()
        return
    for channel in buffer:
        channel[:keep] = channel[count:].clone()
        channel[keep:] = 0

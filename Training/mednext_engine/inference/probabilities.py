"""Probabilities and uncertainty at the image's grid, one class or a few planes at a time.

As nnU-Net, logits are interpolated first and turned into probabilities afterwards (softmax, or
sigmoid for regions). Memory does not grow with the number of classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from .arrays import Array, clone, empty, library, near, to_numpy
from .decide import slabs
from .grid import LinearAxis, expand_labels, interpolate_rows, linear_axes
from .resampling import Scheme, resample_volume

if TYPE_CHECKING:
    from ..monitor import Monitor


class Upsampler:
    """Planes of single classes at the target grid, whatever the scheme (z, y, x; float32)."""

    def __init__(self, logits: Array, scheme: Scheme) -> None:
        self.logits, self.scheme = near(logits), scheme
        self.axes: tuple[LinearAxis, ...] = linear_axes(scheme) if scheme.linear else ()
        self.shape = tuple(len(axis) for axis in self.axes) if scheme.linear else scheme.new_shape

    def __len__(self) -> int:
        return len(self.logits)

    def ranges(self) -> list[tuple[int, int]]:
        """Ranges of planes to go through; all at once for splines, which need whole volumes."""
        return list(slabs(self.shape)) if self.scheme.linear else [(0, self.shape[0])]

    def planes(self, head: int, start: int, stop: int) -> Array:
        if self.scheme.linear:
            return interpolate_rows(self.logits[head], self.axes, start, stop)
        return resample_volume(self.logits[head], self.scheme)[start:stop]

    def finish(self, values: Array) -> Array:
        """Repeats planes where the coarse axis does."""
        return expand_labels(values, self.axes) if self.axes else values


def class_probabilities(
    logits: Array, scheme: Scheme, regions: bool, monitor: Monitor | None = None
) -> Iterator[np.ndarray]:
    """The probability of one head after the other, (z, y, x) float32 of the target grid, 0 to 1.

    Args:
        logits: (heads, z, y, x) of the network's grid.
        scheme: from there to the target grid.
        regions: heads are independent (sigmoid) instead of exclusive (softmax).
    """
    source = Upsampler(logits, scheme)
    total = None if regions else _log_sum(source, monitor)
    for head in range(len(source)):
        values = empty(source.shape, "float32", source.logits)
        for number, (start, stop) in enumerate(source.ranges()):
            if monitor is not None and number == 0:
                monitor.advance(head / len(source))
            planes = source.planes(head, start, stop)
            if total is None:
                values[start:stop] = 0.5 + 0.5 * library(planes).tanh(0.5 * planes)
            else:
                values[start:stop] = library(planes).exp(planes - total[start:stop])
        yield to_numpy(source.finish(values))


def _log_sum(source: Upsampler, monitor: Monitor | None) -> Array:
    """log(sum(exp(logits))) at the target grid, the classes added one by one."""
    total = empty(source.shape, "float32", source.logits)
    for start, stop in source.ranges():
        largest = sum_ = None
        for head in range(len(source)):
            if monitor is not None:
                monitor.check()
            values = source.planes(head, start, stop)
            xp = library(values)
            if largest is None:
                largest, sum_ = clone(values), xp.ones_like(values)
                continue
            higher = xp.maximum(largest, values)
            sum_ = sum_ * xp.exp(largest - higher) + xp.exp(values - higher)
            largest = higher
        total[start:stop] = largest + library(largest).log(sum_)
    return total


def uncertainty(
    logits: Array, scheme: Scheme, regions: bool, monitor: Monitor | None = None
) -> np.ndarray:
    """Entropy of the probabilities, (z, y, x) float32 of the target grid: 0 certain, 1 no idea.

    For exclusive labels -sum(p log p) / log(labels); for regions the largest entropy of any
    region's yes or no, / log(2).
    """
    source = Upsampler(logits, scheme)
    result = empty(source.shape, "float32", source.logits)
    for start, stop in source.ranges():
        if monitor is not None:
            monitor.advance(start / source.shape[0])
        heads = (source.planes(head, start, stop) for head in range(len(source)))
        result[start:stop] = _binary_entropy(heads) if regions else _entropy(heads)
    library(result).clip(result, 0.0, 1.0, out=result)
    return to_numpy(source.finish(result))


def _entropy(heads: Iterator[Array]) -> Array:
    """log(s) - t / s with s = sum(exp(v)) and t = sum(v exp(v)), kept relative to the largest v."""
    largest = clone(next(heads))
    xp = library(largest)
    total = xp.ones_like(largest)
    weighted = xp.zeros_like(largest)  # sum of (v - largest) exp(v - largest)
    count = 1
    for values in heads:
        count += 1
        higher = xp.maximum(largest, values)
        shift = largest - higher
        scale = xp.exp(shift)
        weighted = (weighted + shift * total) * scale
        total *= scale
        difference = values - higher
        grown = xp.exp(difference)
        weighted += difference * grown
        total += grown
        largest = higher
    if count == 1:
        return xp.zeros_like(total)
    return (xp.log(total) - weighted / total) / math.log(count)


def _binary_entropy(heads: Iterator[Array]) -> Array:
    result: Array = None
    for values in heads:
        # The entropy of sigmoid(v) falls with |v|: log(1 + e^-a) + a e^-a / (1 + e^-a), a = |v|.
        xp = library(values)
        size = xp.abs(values)
        away = xp.exp(-size)
        entropy = (xp.log1p(away) + size * away / (1 + away)) / math.log(2)
        result = entropy if result is None else xp.maximum(result, entropy)
    if result is None:
        raise ValueError("A model has at least one head.")
    return result

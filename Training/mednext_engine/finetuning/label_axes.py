"""One axis of a label map and of the plan's grid: which voxels lie in which, and how much."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LabelAxis:
    """Old and new voxels along one axis, as boxes that cover the same length.

    Attributes:
        taps, weights: (n_out, k): old voxels that vote for each new one, and their shares (sum 1).
        owner: (n_in,), not decreasing: the new voxel that the centre of each old one lies in;
            below 0 or above the last where this is a part of an axis.
        source: (n_out,): the old voxel that each new centre lies in.
        coarser: whether the new voxels are wider, so that each owns an old one or more.
    """

    taps: np.ndarray
    weights: np.ndarray
    owner: np.ndarray
    source: np.ndarray
    coarser: bool

    def part(self, start: int, stop: int) -> tuple[LabelAxis, slice]:
        """The new voxels `start` to `stop`, and the old ones they need, counted from the first."""
        taps, weights = self.taps[start:stop], self.weights[start:stop]
        owned = np.flatnonzero((self.owner >= start) & (self.owner < stop))
        used = np.concatenate([taps[weights > 0], self.source[start:stop], owned])
        first, last = int(used.min()), int(used.max()) + 1
        part = LabelAxis(
            taps=np.clip(taps - first, 0, last - first - 1),
            weights=weights,
            owner=self.owner[first:last] - start,
            source=self.source[start:stop] - first,
            coarser=self.coarser,
        )
        return part, slice(first, last)

    def touched(self, side: slice) -> tuple[int, int]:
        """The range of new voxels that the old ones of `side` vote for."""
        voting = (self.taps >= side.start) & (self.taps < side.stop) & (self.weights > 0)
        found = np.flatnonzero(voting.any(1))
        return int(found[0]), int(found[-1]) + 1

    def weigh(self, values: np.ndarray, axis: int) -> np.ndarray:
        """The weighted sum of `values` (z, y, x) over each new voxel along `axis`, float32."""
        shape = [-1 if i == axis else 1 for i in range(3)]
        total = np.zeros((), np.float32)
        for taps, weights in zip(self.taps.T, self.weights.T, strict=True):
            if weights.any():
                term = values.take(taps, axis) * weights.reshape(shape)
                total = term if total.ndim == 0 else np.add(total, term, out=total)
        return total

    def known(self, known: np.ndarray, axis: int) -> np.ndarray:
        """Which new voxels along `axis` are known, where `known` says it of the old (bool)."""
        if not self.coarser:
            return known.take(self.source, axis)
        bounds = np.searchsorted(self.owner, np.arange(len(self.source) + 1))
        inside = tuple(slice(0, int(bounds[-1])) if i == axis else slice(None) for i in range(3))
        return np.asarray(np.logical_or.reduceat(known[inside], bounds[:-1], axis=axis))


def owner_indices(n_in: int, n_out: int) -> np.ndarray:
    """The new voxel that the centre of each old one lies in; in whole numbers, so exact."""
    return (2 * np.arange(n_in) + 1) * n_out // (2 * n_in)


def label_axis(n_in: int, n_out: int, nearest: bool) -> LabelAxis:
    """`n_in` old voxels on `n_out` new ones; `nearest`: finer new ones take one old voxel each."""
    source = owner_indices(n_out, n_in)
    if n_out < n_in:
        taps, weights = _overlaps(n_in, n_out)
    elif nearest or n_out == n_in:
        taps, weights = source[:, None], np.ones((n_out, 1))
    else:
        taps, weights = _linear(n_in, n_out)
    owner = owner_indices(n_in, n_out)
    return LabelAxis(taps, weights.astype(np.float32), owner, source, n_out < n_in)


def _overlaps(n_in: int, n_out: int) -> tuple[np.ndarray, np.ndarray]:
    """Old voxels within each wider new one, by the length they share."""
    ratio = n_in / n_out
    edges = np.arange(n_out + 1) * ratio
    first = np.floor(edges[:-1] + 1e-9).astype(np.int64)
    taps = first[:, None] + np.arange(math.ceil(ratio) + 1)
    length = np.minimum(taps + 1, edges[1:, None]) - np.maximum(taps, edges[:-1, None])
    weights = np.where((length > 1e-9) & (taps < n_in), length, 0.0) / ratio
    return np.clip(taps, 0, n_in - 1), weights


def _linear(n_in: int, n_out: int) -> tuple[np.ndarray, np.ndarray]:
    """The two old voxels that each new centre lies between."""
    place = np.clip((np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5, 0, n_in - 1)
    lower = np.minimum(np.floor(place).astype(np.int64), max(n_in - 2, 0))
    weight = place - lower
    upper = np.minimum(lower + 1, n_in - 1)
    return np.stack([lower, upper], 1), np.stack([1 - weight, weight], 1)

"""Labels without interpolating every class everywhere: exact shortcuts of linear interpolation.

Between the old voxels lie cells of up to 2 x 2 x 2 corners, and a linear interpolation is a mean of
the corners with weights that sum to one. So

- where all corners of a cell have the same winner, it wins everywhere in the cell;
- in a mixed cell with the winners A and B among its corners, some class is at least
  g = (A + B) / 2 everywhere; a class that lies below g at every corner lies below it everywhere in
  the cell and cannot win. Only the few others, the candidates, are interpolated.

In atlases of the brain 6 to 9 cells of a hundred are mixed, with two or three candidates each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .arrays import Array, part, take
from .grid import LinearAxis

if TYPE_CHECKING:
    from ..monitor import Monitor

_CHUNK = 2**16
_MARGIN = 1e-5
"""Classes this close to the bound (relative to it) stay candidates: rounding must not decide."""


def winners(logits: np.ndarray, monitor: Monitor | None = None) -> np.ndarray:
    """Index of the largest of `logits` (heads, z, y, x) at each voxel, the first of equals."""
    flat = logits.reshape(len(logits), -1)
    index = np.zeros(flat.shape[1], np.uint8 if len(logits) <= 2**8 else np.int16)
    for start in range(0, flat.shape[1], _CHUNK):
        if monitor is not None:
            monitor.check()
        here = flat[:, start : start + _CHUNK].astype(np.float32, copy=False)
        best, mine = here[0].copy(), index[start : start + _CHUNK]
        for head in range(1, len(here)):
            larger = here[head] > best
            if larger.any():  # most heads win nowhere near here
                mine[larger] = head
                np.maximum(best, here[head], out=best)
    return index.reshape(logits.shape[1:])


@dataclass(frozen=True)
class Cells:
    """Mixed cells of a slab and the new voxels in them.

    Attributes:
        grid: the cells along z, y, x that are mixed, each (cells,).
        corners: of each cell, the flat old voxels at its corners, (cells, 8), x fastest; along
            an axis with one neighbour the same voxel twice.
        first: of each cell, the first of its new voxels in the lists below; one more at the end.
        place: of each new voxel, its flat index in the slab's result.
        weights: of each new voxel, the weights of the upper neighbours, (voxels, 3), z, y, x.
    """

    grid: tuple[np.ndarray, ...]
    corners: np.ndarray
    first: np.ndarray
    place: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.corners)

    def voxels_of(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The new voxels in the cells `chosen`, and which of these (0, 1, ...) each is in."""
        starts = self.first[chosen]
        counts = self.first[chosen + 1] - starts
        rank = np.repeat(np.arange(len(counts)), counts)
        offset = starts - (counts.cumsum() - counts)
        return np.arange(len(rank)) + offset[rank], rank

    def interpolate(self, values: np.ndarray, voxels: np.ndarray) -> np.ndarray:
        """Values at new `voxels` from those at the corners of their cells, (voxels, 8)."""
        weights = self.weights[voxels]
        for axis in range(3):
            half = values.shape[1] // 2
            lower, upper = values[:, :half], values[:, half:]
            values = lower + (upper - lower) * weights[:, axis : axis + 1]
        return values[:, 0]


@dataclass(frozen=True)
class Slab:
    """New planes `start` to `stop` and the old voxels they need.

    Attributes:
        size: old voxels along z, y, x.
        lower: for each new plane, row and column, the lower neighbour among these.
        weights: of the upper ones.
        two: whether there are two neighbours along z, y and x.
    """

    size: tuple[int, ...]
    lower: tuple[np.ndarray, ...]
    weights: tuple[np.ndarray, ...]
    two: tuple[bool, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """New voxels along z, y, x."""
        return tuple(len(index) for index in self.lower)

    def extremes(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest of `index` (old z, y, x) among the corners of each cell."""
        lowest = highest = index
        for axis in range(3):
            if self.two[axis]:
                n = lowest.shape[axis]
                ends = (0, n - 1), (1, n)
                lowest = np.minimum(*(part(lowest, axis, *end) for end in ends))
                highest = np.maximum(*(part(highest, axis, *end) for end in ends))
        return lowest, highest

    def spread(self, cells: Array) -> Array:
        """What stands at each cell, (z, y, x), at each new voxel of that cell."""
        for axis, index in enumerate(self.lower):
            cells = take(cells, index, axis)
        return cells

    def strides(self) -> tuple[int, int, int]:
        return self.size[1] * self.size[2], self.size[2], 1

    def offsets(self) -> np.ndarray:
        """From a cell's first corner to all eight, in flat old voxels."""
        z, y, x = (s if two else 0 for s, two in zip(self.strides(), self.two, strict=True))
        return np.array([0, x, y, y + x, z, z + x, z + y, z + y + x])

    def cells(self, mixed: np.ndarray) -> Cells:
        """Lists the cells where `mixed` (cells along z, y, x), and the new voxels in them."""
        grid: tuple[np.ndarray, ...] = mixed.nonzero()
        starts, counts = [], []
        for axis, index in enumerate(self.lower):
            edges = np.searchsorted(index, np.arange(mixed.shape[axis] + 1))
            starts.append(edges[:-1])
            counts.append(np.diff(edges))
        held = [count[cell] for count, cell in zip(counts, grid, strict=True)]
        total = held[0] * held[1] * held[2]
        used = total > 0
        if not used.all():
            grid = tuple(cell[used] for cell in grid)
            held, total = [count[used] for count in held], total[used]
        base = sum(cell * step for cell, step in zip(grid, self.strides(), strict=True))
        first = np.concatenate([[0], total.cumsum()])
        rank = np.repeat(np.arange(len(total)), total)
        local = np.arange(len(rank)) - first[rank]
        place = np.zeros_like(local)
        weights = np.empty((len(rank), 3), np.float32)
        step = 1
        for axis in (2, 1, 0):
            extent = held[axis][rank]
            position = starts[axis][grid[axis]][rank] + local % extent
            local = local // extent
            place += position * step
            weights[:, axis] = self.weights[axis][position]
            step *= self.shape[axis]
        corners = np.asarray(base)[:, None] + self.offsets()
        return Cells(grid, corners, first, place, weights)


def make_slab(
    axes: Sequence[LinearAxis], start: int, stop: int
) -> tuple[Slab, tuple[slice, slice, slice]]:
    """The new planes `start` to `stop`, and which old voxels (z, y, x) they need."""
    ranges = [(start, stop), (0, len(axes[1])), (0, len(axes[2]))]
    z, y, x = (axis.span(a, b) for axis, (a, b) in zip(axes, ranges, strict=True))
    lower, weights = [], []
    for axis, (a, b), span in zip(axes, ranges, (z, y, x), strict=True):
        lower.append(axis.lower[a:b] - span.start)
        weights.append(axis.weight[a:b])
    size = tuple(span.stop - span.start for span in (z, y, x))
    return Slab(size, tuple(lower), tuple(weights), tuple(axis.two for axis in axes)), (z, y, x)


def bounds(flat: np.ndarray, cells: Cells, pair: np.ndarray) -> np.ndarray:
    """What a class must reach at some corner of a cell to be a candidate there, (cells, 8).

    Args:
        flat: (heads, old voxels of the slab).
        pair: two different winners among the corners of each cell, (cells, 2).
    """
    first, second = (
        flat[pair[:, i : i + 1], cells.corners].astype(np.float32, copy=False) for i in range(2)
    )
    return (first + second) / 2 - (_MARGIN * (np.abs(first) + np.abs(second)) + 1e-30)


def candidates_per_cell(
    flat: np.ndarray, cells: Cells, bound: np.ndarray, sample: int = 256
) -> float:
    """How many classes compete in a cell, estimated from some of the cells."""
    some = slice(0, None, max(1, len(cells) // sample))
    reached = flat[:, cells.corners[some]] >= bound[some]
    return float(reached.any(2).sum(0).mean())


def decide_mixed(flat: np.ndarray, slab: Slab, cells: Cells, bound: np.ndarray) -> np.ndarray:
    """The winners at the new voxels of mixed cells, (voxels,) int16; arguments as above."""
    near, lowest = _near_mixed(flat, cells, bound)
    number = np.full(flat.shape[1], -1, np.intp)
    number[cells.corners[:, 0]] = np.arange(len(cells))
    offsets = slab.offsets()
    best = np.full(len(cells.place), -np.inf, np.float32)
    index = np.zeros(len(best), np.int16)
    for head, values in enumerate(flat):
        hits = near[values[near] >= lowest]
        if not len(hits):
            continue
        # A corner outside the slab gives a wrong cell at worst, which its own bound sorts out; so
        # does the -1 of a voxel that is no cell's first corner.
        reached = np.zeros(len(cells), bool)
        reached[number[np.maximum(hits[:, None] - offsets, 0)]] = True
        touched = np.flatnonzero(reached)
        corners = values[cells.corners[touched]].astype(np.float32, copy=False)
        chosen = (corners >= bound[touched]).any(1)
        voxels, rank = cells.voxels_of(touched[chosen])
        mine = cells.interpolate(corners[chosen][rank], voxels)
        better = mine > best[voxels]
        voxels = voxels[better]
        best[voxels] = mine[better]
        index[voxels] = head
    return index


def _near_mixed(flat: np.ndarray, cells: Cells, bound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Old voxels at the corners of mixed cells, and the lowest bound of these cells at each."""
    lowest = np.full(flat.shape[1], np.inf, np.float32)
    for corner in range(8):  # within one, no voxel comes twice
        index = cells.corners[:, corner]
        lowest[index] = np.minimum(lowest[index], bound[:, corner])
    near = np.flatnonzero(lowest < np.inf)
    return near, lowest[near]


def decide_region(values: np.ndarray, cells: Cells) -> np.ndarray:
    """Places (flat, in the slab's result) in mixed cells where one region's logit is above 0."""
    corners = values[cells.corners].astype(np.float32, copy=False)
    counts = np.diff(cells.first)
    rank = np.repeat(np.arange(len(counts)), counts)
    voxels = np.arange(len(rank))
    return cells.place[cells.interpolate(corners[rank], voxels) > 0]

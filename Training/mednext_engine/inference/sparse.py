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

import torch

from .grid import LinearAxis

if TYPE_CHECKING:
    from ..monitor import Monitor

_CHUNK = 2**16
_MARGIN = 1e-5
"""Classes this close to the bound (relative to it) stay candidates: rounding must not decide."""


def winners(logits: torch.Tensor, monitor: Monitor | None = None) -> torch.Tensor:
    """Index of the largest of `logits` (heads, z, y, x) at each voxel, the first of equals."""
    flat = logits.flatten(1)
    kind = torch.uint8 if len(logits) <= 2**8 else torch.int16
    index = torch.zeros(flat.shape[1], dtype=kind, device=logits.device)
    for start in range(0, flat.shape[1], _CHUNK):
        if monitor is not None:
            monitor.check()
        part = flat[:, start : start + _CHUNK]
        best, mine = part[0].clone(), index[start : start + _CHUNK]
        for head in range(1, len(part)):
            larger = part[head] > best
            if larger.any():  # most heads win nowhere near here
                mine.masked_fill_(larger, head)
                torch.maximum(best, part[head], out=best)
    return index.view(logits.shape[1:])


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

    grid: tuple[torch.Tensor, ...]
    corners: torch.Tensor
    first: torch.Tensor
    place: torch.Tensor
    weights: torch.Tensor

    def __len__(self) -> int:
        return len(self.corners)

    def voxels_of(self, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The new voxels in the cells `chosen`, and which of these (0, 1, ...) each is in."""
        starts = self.first[chosen]
        counts = self.first[chosen + 1] - starts
        rank = torch.repeat_interleave(counts)
        offset = starts - (counts.cumsum(0) - counts)
        return torch.arange(len(rank), device=rank.device) + offset[rank], rank

    def interpolate(self, values: torch.Tensor, voxels: torch.Tensor) -> torch.Tensor:
        """Values at new `voxels` from those at the corners of their cells, (voxels, 8)."""
        weights = self.weights[voxels]
        for axis in range(3):
            lower, upper = values.chunk(2, 1)
            values = torch.lerp(lower, upper, weights[:, axis : axis + 1])
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
    lower: tuple[torch.Tensor, ...]
    weights: tuple[torch.Tensor, ...]
    two: tuple[bool, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """New voxels along z, y, x."""
        return tuple(len(index) for index in self.lower)

    def extremes(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Lowest and highest of `index` (old z, y, x) among the corners of each cell."""
        lowest = highest = index
        for axis in range(3):
            if self.two[axis]:
                n = lowest.shape[axis] - 1
                lowest = torch.minimum(lowest.narrow(axis, 0, n), lowest.narrow(axis, 1, n))
                highest = torch.maximum(highest.narrow(axis, 0, n), highest.narrow(axis, 1, n))
        return lowest, highest

    def spread(self, cells: torch.Tensor) -> torch.Tensor:
        """What stands at each cell, (z, y, x), at each new voxel of that cell."""
        for axis, index in enumerate(self.lower):
            cells = cells.index_select(axis, index)
        return cells

    def strides(self) -> tuple[int, int, int]:
        return self.size[1] * self.size[2], self.size[2], 1

    def offsets(self, device: torch.device) -> torch.Tensor:
        """From a cell's first corner to all eight, in flat old voxels."""
        z, y, x = (s if two else 0 for s, two in zip(self.strides(), self.two, strict=True))
        return torch.tensor([0, x, y, y + x, z, z + x, z + y, z + y + x], device=device)

    def cells(self, mixed: torch.Tensor) -> Cells:
        """Lists the cells where `mixed` (cells along z, y, x), and the new voxels in them."""
        grid: tuple[torch.Tensor, ...] = mixed.nonzero(as_tuple=True)
        starts, counts = [], []
        for axis, index in enumerate(self.lower):
            cells = torch.arange(mixed.shape[axis] + 1, device=index.device)
            edges = torch.searchsorted(index, cells)
            starts.append(edges[:-1])
            counts.append(edges.diff())
        held = [count[cell] for count, cell in zip(counts, grid, strict=True)]
        total = held[0] * held[1] * held[2]
        used = total > 0
        if not used.all():
            grid = tuple(cell[used] for cell in grid)
            held, total = [count[used] for count in held], total[used]
        base = sum(cell * step for cell, step in zip(grid, self.strides(), strict=True))
        first = torch.cat([total.new_zeros(1), total.cumsum(0)])
        rank = torch.repeat_interleave(total)
        local = torch.arange(len(rank), device=rank.device) - first[rank]
        place = torch.zeros_like(local)
        weights = torch.empty((len(rank), 3), device=rank.device)
        step = 1
        for axis in (2, 1, 0):
            extent = held[axis][rank]
            position = starts[axis][grid[axis]][rank] + local % extent
            local = local // extent
            place += position * step
            weights[:, axis] = self.weights[axis][position]
            step *= self.shape[axis]
        corners = torch.as_tensor(base)[:, None] + self.offsets(rank.device)
        return Cells(grid, corners, first, place, weights)


def make_slab(
    axes: Sequence[LinearAxis], start: int, stop: int, device: torch.device
) -> tuple[Slab, tuple[slice, slice, slice]]:
    """The new planes `start` to `stop`, and which old voxels (z, y, x) they need."""
    ranges = [(start, stop), (0, len(axes[1])), (0, len(axes[2]))]
    z, y, x = (axis.span(a, b) for axis, (a, b) in zip(axes, ranges, strict=True))
    lower, weights = [], []
    for axis, (a, b), span in zip(axes, ranges, (z, y, x), strict=True):
        lower.append(torch.from_numpy(axis.lower[a:b] - span.start).to(device))
        weights.append(torch.from_numpy(axis.weight[a:b]).to(device))
    size = tuple(span.stop - span.start for span in (z, y, x))
    return Slab(size, tuple(lower), tuple(weights), tuple(axis.two for axis in axes)), (z, y, x)


def bounds(flat: torch.Tensor, cells: Cells, pair: torch.Tensor) -> torch.Tensor:
    """What a class must reach at some corner of a cell to be a candidate there, (cells, 8).

    Args:
        flat: (heads, old voxels of the slab).
        pair: two different winners among the corners of each cell, (cells, 2).
    """
    first, second = (flat[pair[:, i : i + 1], cells.corners].float() for i in range(2))
    return (first + second) / 2 - (_MARGIN * (first.abs() + second.abs()) + 1e-30)


def candidates_per_cell(
    flat: torch.Tensor, cells: Cells, bound: torch.Tensor, sample: int = 256
) -> float:
    """How many classes compete in a cell, estimated from some of the cells."""
    some = slice(0, None, max(1, len(cells) // sample))
    reached = flat[:, cells.corners[some]].float() >= bound[some]
    return float(reached.any(2).sum(0, dtype=torch.float32).mean())


def decide_mixed(flat: torch.Tensor, slab: Slab, cells: Cells, bound: torch.Tensor) -> torch.Tensor:
    """The winners at the new voxels of mixed cells, (voxels,) int16; arguments as above."""
    near, lowest = _near_mixed(flat, cells, bound)
    number = torch.full((flat.shape[1],), -1, dtype=torch.int32, device=flat.device)
    number[cells.corners[:, 0]] = torch.arange(len(cells), dtype=torch.int32, device=flat.device)
    offsets = slab.offsets(flat.device)
    best = torch.full((len(cells.place),), -torch.inf, device=flat.device)
    index = torch.zeros(len(best), dtype=torch.int16, device=flat.device)
    for head, values in enumerate(flat):
        hits = near[values[near].float() >= lowest]
        if not len(hits):
            continue
        # A corner outside the slab gives a wrong cell at worst, which its own bound sorts out.
        touched = number[(hits[:, None] - offsets).clamp_min(0)].unique().long()
        touched = touched[touched >= 0]
        corners = values[cells.corners[touched]].float()
        chosen = (corners >= bound[touched]).any(1)
        voxels, rank = cells.voxels_of(touched[chosen])
        mine = cells.interpolate(corners[chosen][rank], voxels)
        better = mine > best[voxels]
        voxels = voxels[better]
        best[voxels] = mine[better]
        index[voxels] = head
    return index


def _near_mixed(
    flat: torch.Tensor, cells: Cells, bound: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Old voxels at the corners of mixed cells, and the lowest bound of these cells at each."""
    lowest = torch.full((flat.shape[1],), torch.inf, device=flat.device)
    for corner in range(8):  # within one, no voxel comes twice
        index = cells.corners[:, corner]
        lowest[index] = torch.minimum(lowest[index], bound[:, corner])
    near = (lowest < torch.inf).nonzero()[:, 0]
    return near, lowest[near]


def decide_region(values: torch.Tensor, cells: Cells) -> torch.Tensor:
    """Places (flat, in the slab's result) in mixed cells where one region's logit is above 0."""
    corners = values[cells.corners].float()
    rank = torch.repeat_interleave(cells.first.diff())
    voxels = torch.arange(len(rank), device=rank.device)
    return cells.place[cells.interpolate(corners[rank], voxels) > 0]

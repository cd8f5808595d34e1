"""Logits at the network's grid to labels at the image's, never holding all classes at full size.

nnU-Net interpolates every class to the image's grid and takes the largest (or, for regions, all
above one half). The same labels come cheaper: class by class with a running maximum, plane by
plane, and where all neighbours of a voxel agree without any interpolation (`sparse.py`).
Ties go to the lowest class, as in `argmax`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .arrays import Array, cast, clone, empty, full, is_tensor, library, near, put, to_numpy
from .grid import LinearAxis, expand_labels, interpolate_rows, linear_axes
from .parallel import side_by_side, workers
from .resampling import Scheme, make_scheme, resample_volume
from .sparse import (
    Slab,
    bounds,
    candidates_per_cell,
    decide_mixed,
    decide_region,
    make_slab,
    winners,
)

if TYPE_CHECKING:
    from ..models.plan import Plan
    from ..monitor import Monitor
    from .preprocess import Frame

SLAB_VOXELS = 2**20
"""New voxels decided at once; small enough to stay in the processor's caches and heap."""


_SPARSE_COST = 12
"""One interpolation at a single voxel takes as long as this many in whole planes (measured)."""


class Heads(Protocol):
    """What the output channels mean (`mednext_engine.models.labels.Labels`)."""

    @property
    def values(self) -> tuple[int, ...]: ...
    @property
    def has_regions(self) -> bool: ...


def scheme_back(frame: Frame, plan: Plan) -> Scheme:
    """How logits get from the network's grid to the target: the image, cropped, in plan axes."""
    return make_scheme(
        frame.plan_shape,
        frame.shape_after_crop,
        plan.resample_probabilities,
        frame.plan_spacing,
        frame.spacing,
    )


def decide_labels(
    logits: Array,
    scheme: Scheme,
    labels: Heads,
    monitor: Monitor | None = None,
    region: Sequence[slice] | None = None,
    window: Sequence[slice] | None = None,
) -> np.ndarray:
    """Labels of the target grid from `logits` of the network's grid.

    Args:
        logits: (heads, z, y, x) in plan axes, float32 or float16; or a tensor, also of bfloat16,
            on any device.
        scheme: from the network's grid to the target's (`scheme_back`).
        labels: the value each head writes, and whether heads are overlapping regions.
        region: only this box of the target grid is decided, the rest is 0 (background).
        window: the box of the network's grid that `logits` cover; None for all of it. It must
            hold `roi.network_region(region, scheme)`.

    Returns:
        uint8, or uint16 where a value needs it; (z, y, x) of the whole target grid.
    """
    source = near(logits)
    if scheme.linear:
        axes = linear_axes(scheme, region, window)
        decided = _decide_linear(source, axes, labels, monitor)
    else:
        if window is not None:
            raise ValueError("Splines need the logits of the whole grid.")
        decided = _decide_splines(source, scheme, labels, monitor)
        decided = decided if region is None else decided[tuple(region)]
    values = _values(decided, labels)
    if region is None:
        return values
    whole = np.zeros(scheme.new_shape, dtype=values.dtype)
    whole[tuple(region)] = values
    return whole


def decide_planes(
    logits: Array,
    scheme: Scheme,
    labels: Heads,
    region: Sequence[slice],
    window: Sequence[slice],
    monitor: Monitor | None = None,
) -> np.ndarray:
    """Labels of the box `region` of the target grid alone, from logits of the box `window`.

    As `decide_labels` for a linear scheme, without the rest of the target grid around it.
    """
    return _values(
        _decide_linear(logits, linear_axes(scheme, region, window), labels, monitor), labels
    )


def _decide_linear(
    logits: Array,
    axes: tuple[LinearAxis, LinearAxis, LinearAxis],
    labels: Heads,
    monitor: Monitor | None,
) -> Array:
    """Index of the winning head; of regions, one more than the last that is above zero."""
    shape = tuple(len(axis) for axis in axes)
    result = empty(shape, "uint8" if len(logits) < 2**8 - 1 else "int16", logits)
    on_cpu = not is_tensor(logits)

    def work(rows: tuple[int, int]) -> int:
        result[slice(*rows)] = _decide_slab(logits, axes, labels, rows, monitor)
        return rows[1]

    for done in side_by_side(work, slabs(shape, workers() if on_cpu else 1), on_cpu):
        if monitor is not None:
            monitor.advance(done / shape[0])
    return expand_labels(result, axes)


def _decide_slab(
    logits: Array,
    axes: Sequence[LinearAxis],
    labels: Heads,
    rows: tuple[int, int],
    monitor: Monitor | None,
) -> Array:
    """The same for new planes `rows`, the fastest way."""
    slab, box = make_slab(axes, *rows)
    interpolated = any(slab.two)
    decided: Array | None = None
    if labels.has_regions:
        if interpolated and _worthwhile(logits, slab):
            decided = _regions_of_slab(logits, axes, slab, box, rows)
    elif not interpolated or _worthwhile(logits, slab):
        inside = logits[:, box[0], box[1], box[2]]
        index = largest(iter(inside)) if is_tensor(logits) else winners(inside, monitor)
        decided = _labels_of_slab(logits, index, slab, box) if interpolated else slab.spread(index)
    if decided is None:
        planes = (interpolate_rows(volume, axes, *rows) for volume in _checked(logits, monitor))
        decided = last_positive(planes) if labels.has_regions else largest(planes)
    return decided


def _checked(logits: Array, monitor: Monitor | None) -> Iterator[Array]:
    for volume in logits:
        if monitor is not None:
            monitor.check()
        yield volume


def _worthwhile(logits: Array, slab: Slab) -> bool:
    """Whether to look for agreement first: not on GPUs, and not where the target is coarser."""
    return not is_tensor(logits) and 2 * math.prod(slab.shape) > math.prod(slab.size)


def _labels_of_slab(
    logits: Array, index: Array, slab: Slab, box: tuple[slice, slice, slice]
) -> Array | None:
    """The winners of a slab by the shortcut, or None where the dense way is faster."""
    lowest, highest = slab.extremes(index)
    mixed = lowest != highest
    share = float(slab.spread(mixed).sum()) / math.prod(slab.shape)
    if share * 2 * _SPARSE_COST > len(logits):
        return None
    decided = slab.spread(lowest).astype(np.int16)
    if not share:
        return decided
    flat = logits[:, box[0], box[1], box[2]].reshape(len(logits), -1)
    cells = slab.cells(mixed)
    pair = np.stack([lowest[cells.grid], highest[cells.grid]], 1).astype(np.intp)
    bound = bounds(flat, cells, pair)
    if share * candidates_per_cell(flat, cells, bound) * _SPARSE_COST > len(logits):
        return None
    decided.reshape(-1)[cells.place] = decide_mixed(flat, slab, cells, bound)
    return decided


def _regions_of_slab(
    logits: Array,
    axes: Sequence[LinearAxis],
    slab: Slab,
    box: tuple[slice, slice, slice],
    rows: tuple[int, int],
) -> Array:
    """The same for regions, each on its own: above zero, not above zero, or to be looked at."""
    decided = np.zeros(slab.shape, np.int16)
    for head, volume in enumerate(logits):
        lowest, highest = slab.extremes(volume[box] > 0)
        mixed = lowest != highest
        if float(slab.spread(mixed).sum()) * _SPARSE_COST > decided.size:
            put(decided, interpolate_rows(volume, axes, *rows) > 0, head + 1)
            continue
        put(decided, slab.spread(lowest), head + 1)
        cells = slab.cells(mixed)
        decided.reshape(-1)[decide_region(volume[box].reshape(-1), cells)] = head + 1
    return decided


def _decide_splines(logits: Array, scheme: Scheme, labels: Heads, monitor: Monitor | None) -> Array:
    def volumes() -> Iterator[Array]:
        for head, volume in enumerate(logits):
            if monitor is not None:
                monitor.advance(head / len(logits))
            yield resample_volume(volume, scheme)

    return last_positive(volumes()) if labels.has_regions else largest(volumes())


def slabs(shape: Sequence[int], sharing: int = 1) -> Iterator[tuple[int, int]]:
    """Ranges of planes of a grid of `shape`, about `SLAB_VOXELS` voxels each.

    Smaller ones, but not below an eighth, where they would not go round `sharing` threads.
    """
    plane = max(1, shape[1] * shape[2])
    fair = max(-(-shape[0] // sharing), SLAB_VOXELS // 8 // plane)
    planes = max(1, min(SLAB_VOXELS // plane, fair))
    for start in range(0, shape[0], planes):
        yield start, min(start + planes, shape[0])


def largest(heads: Iterator[Array]) -> Array:
    """Index of the largest of `heads`, the first of equals."""
    best = clone(next(heads))
    index = full(best.shape, 0, "int16", best)
    for head, values in enumerate(heads, start=1):
        put(index, values > best, head)
        library(best).maximum(best, values, out=best)
    return index


def last_positive(heads: Iterator[Array]) -> Array:
    """1 + index of the last of `heads` above zero (a probability above one half), 0 if none is."""
    first = next(heads)
    index = cast(first > 0, "int16")
    for head, values in enumerate(heads, start=1):
        put(index, values > 0, head + 1)
    return index


def _values(decided: Array, labels: Heads) -> np.ndarray:
    """Label values from what was decided."""
    values = (0, *labels.values) if labels.has_regions else labels.values
    kind = np.uint8 if max(values) < 2**8 else np.uint16
    index = to_numpy(decided)
    if values == tuple(range(len(values))):
        return index.astype(kind, copy=False)
    return np.asarray(values, dtype=kind)[index]

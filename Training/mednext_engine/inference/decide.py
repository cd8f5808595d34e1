"""Logits at the network's grid to labels at the image's, never holding all classes at full size.

nnU-Net interpolates every class to the image's grid and takes the largest (or, for regions, all
above one half). The same labels come cheaper: class by class with a running maximum, plane by
plane, and where all neighbours of a voxel agree without any interpolation (`sparse.py`).
Ties go to the lowest class, as in `argmax`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from .grid import LinearAxis, expand_labels, interpolate_rows, linear_axes
from .resampling import ResamplingSpec, Scheme, make_scheme, resample_volume

if TYPE_CHECKING:
    from ..monitor import Monitor

_SLAB_VOXELS = 2**21
"""New voxels decided at once; small enough to stay in the processor's caches and heap."""


class Heads(Protocol):
    """What the output channels mean (`mednext_engine.models.labels.Labels`)."""

    @property
    def values(self) -> tuple[int, ...]: ...
    @property
    def has_regions(self) -> bool: ...


def decide_labels(
    logits: torch.Tensor | np.ndarray,
    target_shape: Sequence[int],
    spec: ResamplingSpec,
    labels: Heads,
    current_spacing: Sequence[float],
    new_spacing: Sequence[float],
    monitor: Monitor | None = None,
    region: Sequence[slice] | None = None,
) -> np.ndarray:
    """Labels of the target grid from `logits` of the network's grid.

    Args:
        logits: (heads, z, y, x) in plan axes, float32, float16 or bfloat16, on any device.
        target_shape: voxels of the target grid (plan axes; the image after cropping).
        spec: the plan's resampling of probabilities.
        labels: the value each head writes, and whether heads are overlapping regions.
        current_spacing, new_spacing: mm, of the network's and of the target grid (plan axes).
        region: only this box of the target grid is decided, the rest is background.

    Returns:
        uint8, or uint16 where a value needs it; (z, y, x) of the whole target grid.
    """
    source = torch.from_numpy(logits) if isinstance(logits, np.ndarray) else logits
    scheme = make_scheme(source.shape[1:], target_shape, spec, current_spacing, new_spacing)
    if scheme.linear:
        decided = _decide_linear(source, linear_axes(scheme, region), labels, monitor)
    else:
        decided = _decide_splines(source, scheme, labels, monitor)
        if region is not None:
            decided = decided[tuple(region)]
    values = _values(decided, labels)
    if region is None:
        return values
    whole = np.zeros(scheme.new_shape, dtype=values.dtype)
    whole[tuple(region)] = values
    return whole


def _decide_linear(
    logits: torch.Tensor,
    axes: tuple[LinearAxis, LinearAxis, LinearAxis],
    labels: Heads,
    monitor: Monitor | None,
) -> torch.Tensor:
    """Index of the winning head, or of the last region above zero plus one."""
    shape = tuple(len(axis) for axis in axes)
    result = torch.empty(shape, dtype=_index_type(logits), device=logits.device)
    for start, stop in slabs(shape):
        if monitor is not None:
            monitor.advance(start / shape[0])
        planes = (interpolate_rows(volume, axes, start, stop) for volume in logits)
        result[start:stop] = _last_positive(planes) if labels.has_regions else _largest(planes)
    return expand_labels(result, axes)


def _decide_splines(
    logits: torch.Tensor, scheme: Scheme, labels: Heads, monitor: Monitor | None
) -> torch.Tensor:
    def volumes() -> Iterator[torch.Tensor]:
        for head, volume in enumerate(logits):
            if monitor is not None:
                monitor.advance(head / len(logits))
            yield resample_volume(volume, scheme)

    return _last_positive(volumes()) if labels.has_regions else _largest(volumes())


def slabs(shape: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ranges of planes that hold about `_SLAB_VOXELS` voxels of a grid of `shape` each."""
    planes = max(1, _SLAB_VOXELS // max(1, shape[1] * shape[2]))
    for start in range(0, shape[0], planes):
        yield start, min(start + planes, shape[0])


def _largest(heads: Iterator[torch.Tensor]) -> torch.Tensor:
    """Index of the largest of `heads`, the first of equals."""
    best = next(heads).clone()
    index = torch.zeros_like(best, dtype=torch.int16)
    for head, values in enumerate(heads, start=1):
        index.masked_fill_(values > best, head)
        torch.maximum(best, values, out=best)
    return index


def _last_positive(heads: Iterator[torch.Tensor]) -> torch.Tensor:
    """1 + index of the last of `heads` above zero (a probability above one half), 0 if none is."""
    first = next(heads)
    index = (first > 0).to(torch.int16)
    for head, values in enumerate(heads, start=1):
        index.masked_fill_(values > 0, head + 1)
    return index


def _index_type(logits: torch.Tensor) -> torch.dtype:
    return torch.uint8 if len(logits) < 2**8 - 1 else torch.int16


def _values(decided: torch.Tensor, labels: Heads) -> np.ndarray:
    """Label values from what was decided."""
    values = (0, *labels.values) if labels.has_regions else labels.values
    kind = np.uint8 if max(values) < 2**8 else np.uint16
    index = decided.cpu().numpy()
    if values == tuple(range(len(values))):
        return index.astype(kind, copy=False)
    return np.asarray(values, dtype=kind)[index]

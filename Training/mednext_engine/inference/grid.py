"""The way back from the network's grid to the image's, axis by axis, where it is linear.

Every new voxel takes one or two neighbours an axis. Both ways of deciding labels are built on
that: the dense one multiplies by matrices, the sparse one looks at the cells between neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .arrays import Array, cast, part, take
from .interpolation import Band, apply_matrix, linear_taps, nearest_indices
from .resampling import FLOOR, Scheme

_BAND_ROWS = 64


@dataclass(frozen=True)
class LinearAxis:
    """Neighbours and weights of the new voxels along one axis.

    Attributes:
        lower: index of the lower neighbour, int64, not decreasing.
        weight: of the neighbour above it, float32; unused with one neighbour.
        two: whether there are two neighbours (else only `lower`).
        expand: where new voxels along the axis repeat: which computed one each is; else None.
    """

    lower: np.ndarray
    weight: np.ndarray
    two: bool
    expand: np.ndarray | None = None
    _bands: dict[tuple[int, int], list[Band]] = field(default_factory=dict, init=False)

    def __len__(self) -> int:
        return len(self.lower)

    def span(self, start: int, stop: int) -> slice:
        """The old voxels that the new ones `start` to `stop` need."""
        return slice(int(self.lower[start]), int(self.lower[stop - 1]) + (2 if self.two else 1))

    def bands(self, start: int, stop: int) -> list[Band]:
        """The matrix of rows `start` to `stop`, in bands; columns count from `span(...).start`."""
        if (start, stop) not in self._bands:
            first = self.span(start, stop).start
            rows = range(start, stop, _BAND_ROWS)
            self._bands[start, stop] = [
                self._band(a, min(a + _BAND_ROWS, stop), start, first) for a in rows
            ]
        return self._bands[start, stop]

    def _band(self, start: int, stop: int, row: int, column: int) -> Band:
        span = self.span(start, stop)
        weights = np.zeros((stop - start, span.stop - span.start), dtype=np.float32)
        places = np.arange(stop - start), self.lower[start:stop] - span.start
        weights[places] = 1.0 - self.weight[start:stop]
        weights[places[0], places[1] + 1] += self.weight[start:stop]
        columns = slice(span.start - column, span.stop - column)
        return Band(slice(start - row, stop - row), columns, weights)


def linear_axes(
    scheme: Scheme,
    region: Sequence[slice] | None = None,
    window: Sequence[slice] | None = None,
) -> tuple[LinearAxis, LinearAxis, LinearAxis]:
    """The three axes (z, y, x) of a linear scheme, of the whole target or of `region` in it.

    Neighbours are counted from the start of `window`, a box of the old grid, where one is given.
    """
    z, y, x = (_axis(scheme, axis, region[axis] if region else None) for axis in range(3))
    if window is None:
        return z, y, x
    z, y, x = (
        replace(axis, lower=axis.lower - part.start)
        for axis, part in zip((z, y, x), window, strict=True)
    )
    return z, y, x


def _axis(scheme: Scheme, axis: int, region: slice | None) -> LinearAxis:
    n_in, n_out = scheme.shape[axis], scheme.new_shape[axis]
    region = region or slice(0, n_out)
    if n_in == n_out or n_in == 1:
        lower = np.minimum(np.arange(n_out), n_in - 1)[region]
        return _one_tap(lower)
    if scheme.orders[axis] <= 0:
        return _one_tap(nearest_indices(n_in, n_out, scheme.orders[axis] == FLOOR)[region])
    lower, weight = linear_taps(n_in, n_out)
    return LinearAxis(lower[region], weight[region], True)


def _one_tap(lower: np.ndarray) -> LinearAxis:
    unique, expand = np.unique(lower, return_inverse=True)
    repeated = len(unique) < len(lower)
    return LinearAxis(
        unique, np.zeros(len(unique), np.float32), False, expand if repeated else None
    )


def interpolate_rows(volume: Array, axes: Sequence[LinearAxis], start: int, stop: int) -> Array:
    """New planes `start` to `stop` (before `expand`) of `volume` (z, y, x), float32."""
    z, y, x = axes
    values = cast(volume[z.span(start, stop)], "float32")
    if z.two:
        values = apply_matrix(values, 0, z.bands(start, stop))
    else:
        values = _pick(values, 0, z.lower[start:stop] - z.lower[start])
    later = sorted(((1, y), (2, x)), key=lambda pair: len(pair[1]) / values.shape[pair[0]])
    for axis, taps in later:
        span = taps.span(0, len(taps))
        values = part(values, axis, span.start, span.stop)
        if taps.two:
            values = apply_matrix(values, axis, taps.bands(0, len(taps)))
        else:
            values = _pick(values, axis, taps.lower - taps.lower[0])
    return values


def _pick(values: Array, axis: int, index: np.ndarray) -> Array:
    return values if len(index) == values.shape[axis] else take(values, index, axis)


def expand_labels(labels: Array, axes: Sequence[LinearAxis]) -> Array:
    """Repeats planes, rows and columns of `labels` (z, y, x) where the axes say so."""
    for axis, taps in enumerate(axes):
        if taps.expand is not None:
            labels = take(labels, taps.expand, axis)
    return labels

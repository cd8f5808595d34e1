"""Labels plane by plane, while the windows still pass.

Averaged outputs of the network come in order of the first axis. Each group of new planes is
decided as soon as the old planes it is interpolated from are there; only those not yet needed are
kept. With many labels the head is applied here, to a few planes at a time (`head.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..models.labels import Labels
from .arrays import Array, clone, library
from .decide import decide_planes
from .grid import linear_axes
from .head import Head
from .resampling import Scheme

LARGEST_LOGITS_BYTES = 64 * 2**20
PLANES_AT_ONCE = 16


class Labeller:
    """Collects planes of the network's grid and writes labels of the target grid.

    Args:
        scheme: from the network's grid to the target's; must be linear (`Scheme.linear`).
        labels: what the heads mean.
        head: applied to what is fed, or None where logits are fed.
        region: only this box of the target grid is decided; the rest is background.
    """

    def __init__(
        self,
        scheme: Scheme,
        labels: Labels,
        head: Head | None = None,
        region: Sequence[slice] | None = None,
    ) -> None:
        self._scheme, self._labels, self._head = scheme, labels, head
        whole = tuple(slice(0, n) for n in scheme.new_shape)
        self._region = tuple(region) if region is not None else whole
        kind = np.uint8 if max((*labels.values, labels.num_heads)) < 2**8 else np.uint16
        self.result = np.zeros(scheme.new_shape, kind)
        self._last_needed = self._planes_needed()
        self._next = self._region[0].start
        self._planes: Array | None = None
        self._start = 0

    def _planes_needed(self) -> np.ndarray:
        """For each new plane of the region, the first old plane beyond those it needs."""
        axis = linear_axes(self._scheme, self._region)[0]
        needed = axis.lower + (2 if axis.two else 1)
        return needed if axis.expand is None else needed[axis.expand]

    def feed(self, start: int, planes: Array) -> None:
        """Takes (channels, k, y, x), the old planes from `start`; they follow those before."""
        for offset in range(0, planes.shape[1], PLANES_AT_ONCE):
            self._feed(start + offset, planes[:, offset : offset + PLANES_AT_ONCE])

    def _feed(self, start: int, planes: Array) -> None:
        if self._planes is not None:
            planes = library(planes).concatenate([self._planes, planes], 1)
            start = self._start
        end = start + planes.shape[1]
        while self._next < self._region[0].stop:
            ready = self._ready(start, end)
            if ready == self._next:
                break
            self._decide(slice(self._next, ready), start, planes)
            self._next = ready
        keep = self._first_kept(start, end)
        # A copy: what is fed is a view of a buffer that goes on changing.
        self._planes = clone(planes[:, keep - start :]) if keep < end else None
        self._start = keep

    def _ready(self, start: int, end: int) -> int:
        """The new planes up to this one can be decided, and not too many at once."""
        first = self._next - self._region[0].start
        ready = int(np.searchsorted(self._last_needed[first:], end, side="right"))
        if self._head is None or ready <= 1:
            return self._next + ready
        y, x = self._scheme.shape[1:]
        most = max(2, LARGEST_LOGITS_BYTES // (4 * self._head.classes * y * x))
        lowest = int(self._last_needed[first]) - 2
        limit = int(np.searchsorted(self._last_needed[first:], lowest + most, side="right"))
        return self._next + min(ready, max(1, limit))

    def _first_kept(self, start: int, end: int) -> int:
        if self._next >= self._region[0].stop:
            return end
        needed = int(self._last_needed[self._next - self._region[0].start])
        return min(max(needed - 2, start), end)

    def _decide(self, rows: slice, start: int, planes: Array) -> None:
        region = (rows, *self._region[1:])
        spans = [axis.span(0, len(axis)) for axis in linear_axes(self._scheme, region)]
        z, y, x = spans
        part = planes[:, z.start - start : z.stop - start, y, x]
        logits = self._head.apply(part) if self._head is not None else part
        self.result[region] = decide_planes(logits, self._scheme, self._labels, region, (z, y, x))

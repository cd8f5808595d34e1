"""Interpolation along one axis: nearest neighbours, linear weights and B-splines as matrices.

Interpolation by B-splines is linear in the samples, so along one axis it is a matrix of
`n_out` x `n_in` numbers: the splines' values at the new positions times the inverse of their
collocation matrix (M. Unser, "Splines: a perfect fit for signal and image processing", IEEE Signal
Processing Magazine 16(6), 1999). Voxels are boxes (half-pixel centres) and the edge voxel repeats
outside, which is `scipy.ndimage.zoom(mode="nearest", grid_mode=True)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .arrays import Array, alike, contiguous, empty, is_tensor, library
from .parallel import side_by_side

_EDGE_PADDING = 12
"""scipy repeats the edge voxel this often before it computes spline coefficients."""

_BAND_EPSILON = 1e-9
"""Weights below this (a spline's influence fades by 0.27 a voxel) are left out of the products."""


_PIECE = 2**19
"""Voxels multiplied at once by one of several threads."""


@dataclass(frozen=True)
class Band:
    """Rows `rows` of an interpolation matrix, without the columns that are zero there."""

    rows: slice
    columns: slice
    weights: np.ndarray  # float32, (rows, columns)


def positions(n_in: int, n_out: int) -> np.ndarray:
    """Where the new voxels' centres lie in old voxel indices (float64): voxels are boxes."""
    return (np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5


def nearest_indices(n_in: int, n_out: int, floor: bool = False) -> np.ndarray:
    """Index (int64) of the old voxel nearest to each new one; a half rounds up, as in scipy.

    With `floor` as PyTorch's "nearest": the voxel that holds the new one's lower edge.
    """
    if floor:
        return np.minimum(np.arange(n_out) * n_in // n_out, n_in - 1)
    return np.floor(np.clip(positions(n_in, n_out), 0, n_in - 1) + 0.5).astype(np.int64)


def linear_taps(n_in: int, n_out: int) -> tuple[np.ndarray, np.ndarray]:
    """Lower neighbour (int64, at most n_in - 2) and weight of the upper one (float32)."""
    place = np.clip(positions(n_in, n_out), 0, n_in - 1)
    lower = np.minimum(np.floor(place).astype(np.int64), max(n_in - 2, 0))
    return lower, (place - lower).astype(np.float32)


@lru_cache(maxsize=64)
def interpolation_matrix(n_in: int, n_out: int, order: int) -> np.ndarray:
    """The (n_out, n_in) matrix, float64, of spline interpolation with repeated edge voxels."""
    matrix = np.zeros((n_out, n_in))
    if order == 0:
        matrix[np.arange(n_out), nearest_indices(n_in, n_out)] = 1.0
    elif order == 1:
        lower, weight = linear_taps(n_in, n_out)
        matrix[np.arange(n_out), lower] += 1.0 - weight.astype(np.float64)
        matrix[np.arange(n_out), np.minimum(lower + 1, n_in - 1)] += weight
    else:
        padded = n_in + 2 * _EDGE_PADDING
        basis = _spline_rows(positions(n_in, n_out) + _EDGE_PADDING, padded, order)
        collocation = _spline_rows(np.arange(padded, dtype=float), padded, order)
        # coefficients = inverse(collocation) x padded samples, and padding repeats the edges
        full = np.linalg.solve(collocation.T, basis.T).T
        matrix = full[:, _EDGE_PADDING : _EDGE_PADDING + n_in].copy()
        matrix[:, 0] += full[:, :_EDGE_PADDING].sum(1)
        matrix[:, -1] += full[:, _EDGE_PADDING + n_in :].sum(1)
    matrix.setflags(write=False)
    return matrix


def _spline_rows(places: np.ndarray, size: int, order: int) -> np.ndarray:
    """B-spline basis of `order` at `places`, (places, size), mirrored at the outer edges."""
    rows = np.zeros((len(places), size))
    first = np.floor(places - (order - 1) / 2).astype(np.int64)
    for offset in range(order + 1):
        knot = first + offset
        mirrored = np.where(knot < 0, -1 - knot, knot)
        mirrored = np.where(mirrored >= size, 2 * size - 1 - mirrored, mirrored)
        np.add.at(rows, (np.arange(len(places)), mirrored), _bspline(places - knot, order))
    return rows


def _bspline(distance: np.ndarray, order: int) -> np.ndarray:
    """The centred cardinal B-spline, as a sum of truncated powers."""
    total = np.zeros_like(distance)
    for k in range(order + 2):
        power = np.maximum(distance + (order + 1) / 2 - k, 0.0) ** order
        total += (-1) ** k * math.comb(order + 1, k) * power
    return total / math.factorial(order)


@lru_cache(maxsize=64)
def interpolation_bands(n_in: int, n_out: int, order: int, rows: int = 64) -> tuple[Band, ...]:
    """The interpolation matrix cut into bands of `rows` new voxels."""
    matrix = interpolation_matrix(n_in, n_out, order)
    bands = []
    for start in range(0, n_out, rows):
        part = matrix[start : start + rows]
        used = np.flatnonzero(np.abs(part).max(0) > _BAND_EPSILON)
        columns = slice(int(used[0]), int(used[-1]) + 1)
        weights = part[:, columns].astype(np.float32)
        bands.append(Band(slice(start, start + len(part)), columns, weights))
    return tuple(bands)


def apply_matrix(volume: Array, axis: int, bands: Sequence[Band]) -> Array:
    """Multiplies `volume` (z, y, x), float32, along `axis` by the matrix that `bands` make up."""
    shape = list(volume.shape)
    first = bands[0].rows.start
    shape[axis] = bands[-1].rows.stop - first
    result = empty(shape, "float32", volume)
    source, target = contiguous(volume), result
    # Seen in two dimensions, but for y; pieces are runs along the axis that is left alone.
    if axis == 0:
        source, target = source.reshape(len(source), -1), target.reshape(shape[0], -1)
    elif axis == 2:
        source, target = source.reshape(-1, source.shape[2]), target.reshape(-1, shape[2])
    split = 1 if axis == 0 else 0
    xp = library(volume)
    placed = [
        (slice(b.rows.start - first, b.rows.stop - first), b.columns, alike(b.weights, volume))
        for b in bands
    ]

    def work(piece: slice) -> None:
        for rows, columns, weights in placed:
            if axis == 0:
                xp.matmul(weights, source[columns, piece], out=target[rows, piece])
            elif axis == 2:
                xp.matmul(source[piece, columns], weights.T, out=target[piece, rows])
            elif is_tensor(volume):
                target[piece, rows] = xp.matmul(weights, source[piece, columns])
            else:
                np.matmul(weights, source[piece, columns], out=target[piece, rows])

    for _ in side_by_side(work, _pieces(source, split), not is_tensor(volume)):
        pass
    return result


def _pieces(source: Array, split: int) -> list[slice]:
    """Even runs along the axis `split`, of about `_PIECE` voxels."""
    n, step = source.shape[split], source.shape[split]
    if not is_tensor(source):
        step = max(1, _PIECE * n // max(source.size, 1))
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]

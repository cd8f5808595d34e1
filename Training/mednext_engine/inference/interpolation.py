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
import torch

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
    weights: torch.Tensor  # float32, (rows, columns), on the CPU


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
        weights = torch.from_numpy(part[:, columns].astype(np.float32))
        bands.append(Band(slice(start, start + len(part)), columns, weights))
    return tuple(bands)


def apply_matrix(volume: torch.Tensor, axis: int, bands: Sequence[Band]) -> torch.Tensor:
    """Multiplies `volume` (z, y, x), float32, along `axis` by the matrix that `bands` make up."""
    shape = list(volume.shape)
    first = bands[0].rows.start
    shape[axis] = bands[-1].rows.stop - first
    result = volume.new_empty(shape)
    volume = volume.contiguous()
    # Seen as (outer, along the axis, inner); pieces are runs of the outer or, for z, of the inner.
    if axis == 0:
        source, target = volume.view(1, volume.shape[0], -1), result.view(1, shape[0], -1)
    elif axis == 1:
        source, target = volume, result
    else:
        source, target = volume.view(-1, volume.shape[2], 1), result.view(-1, shape[2], 1)
    split = 2 if axis == 0 else 0
    placed = [
        (slice(b.rows.start - first, b.rows.stop - first), b.columns, b.weights.to(volume.device))
        for b in bands
    ]

    def work(piece: tuple[int, int]) -> None:
        old = source.narrow(split, piece[0], piece[1] - piece[0])
        new = target.narrow(split, piece[0], piece[1] - piece[0])
        for rows, columns, weights in placed:
            if axis == 0:
                torch.mm(weights, old[0, columns], out=new[0, rows])
            elif axis == 1 and volume.device.type != "cpu":
                new[:, rows] = torch.matmul(weights, old[:, columns])
            elif axis == 1:  # one product a plane is what CPUs are fastest at
                for plane, filled in zip(old, new, strict=True):
                    torch.mm(weights, plane[columns], out=filled[rows])
            else:
                torch.mm(old[:, columns, 0], weights.T, out=new[:, rows, 0])

    for _ in side_by_side(work, _pieces(source, split), volume.device):
        pass
    return result


def _pieces(source: torch.Tensor, split: int) -> list[tuple[int, int]]:
    """Even runs along the axis `split`, of about `_PIECE` voxels."""
    n = source.shape[split]
    step = n
    if source.device.type == "cpu":
        step = max(1, _PIECE * n // max(source.numel(), 1))
    return [(start, min(start + step, n)) for start in range(0, n, step)]

"""One vocabulary for NumPy arrays, which the CPU works on, and tensors, which other devices have.

The two libraries share most names (`library(values).maximum`); here stands what they spell apart.
PyTorch is never imported by this module: where there is a tensor, it is loaded already. So where
OpenVINO runs the network, nothing loads it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = Any
"""A NumPy array, or a PyTorch tensor on whatever device."""


def is_tensor(values: Array) -> bool:
    return not isinstance(values, np.ndarray)


def library(values: Array) -> Any:
    """NumPy or PyTorch: whose kind `values` are."""
    return sys.modules["torch"] if is_tensor(values) else np


def near(values: Array) -> Array:
    """`values` as NumPy where they lie on the CPU (sharing memory where possible), else as is."""
    if not is_tensor(values) or values.device.type != "cpu":
        return values
    torch = library(values)
    values = values.detach()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()


def to_numpy(values: Array) -> np.ndarray:
    array: np.ndarray = values.cpu().numpy() if is_tensor(values) else values
    return array


def placed(values: np.ndarray, device: str) -> Array:
    """`values` where `device` works on them: as they are, or as a tensor there."""
    if device == "cpu":
        return values
    import torch

    return torch.from_numpy(np.ascontiguousarray(values)).to(device)


def alike(values: np.ndarray, like: Array) -> Array:
    """`values` of the kind and on the device of `like`."""
    if not is_tensor(like):
        return values
    return library(like).from_numpy(np.ascontiguousarray(values)).to(like.device)


def full(shape: Sequence[int], value: float, dtype: str, like: Array) -> Array:
    """A new array of the kind and on the device of `like`; `dtype` by name, such as "float32"."""
    if not is_tensor(like):
        # Untouched zeros take no memory.
        return np.zeros(shape, dtype) if value == 0 else np.full(shape, value, dtype)
    torch = library(like)
    return torch.full(tuple(shape), value, dtype=getattr(torch, dtype), device=like.device)


def empty(shape: Sequence[int], dtype: str, like: Array) -> Array:
    if not is_tensor(like):
        return np.empty(shape, dtype)
    torch = library(like)
    return torch.empty(tuple(shape), dtype=getattr(torch, dtype), device=like.device)


def cast(values: Array, dtype: str) -> Array:
    """`values` in another type; themselves where they have it already."""
    if is_tensor(values):
        return values.to(getattr(library(values), dtype))
    return values.astype(dtype, copy=False)


def clone(values: Array) -> Array:
    """A contiguous copy."""
    return values.clone() if is_tensor(values) else values.copy()


def contiguous(values: Array) -> Array:
    return values.contiguous() if is_tensor(values) else np.ascontiguousarray(values)


def take(values: Array, index: np.ndarray, axis: int) -> Array:
    """What stands at `index` along `axis`."""
    if is_tensor(values):
        return values.index_select(axis, alike(index, values))
    return np.take(values, index, axis)


def part(values: Array, axis: int, start: int, stop: int) -> Array:
    """`values` from `start` to `stop` along `axis`, a view."""
    return values[(slice(None),) * axis + (slice(start, stop),)]


def put(values: Array, where: Array, value: float) -> None:
    """Sets `values` to `value` where the mask says so."""
    if is_tensor(values):
        values.masked_fill_(where, value)
    else:
        np.copyto(values, value, where=where, casting="unsafe")

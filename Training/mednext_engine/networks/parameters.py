"""A MedNeXt's parameters without its module: their names and shapes, and NumPy arrays under them.

OpenVINO's graph needs no more than that (`inference.graph_mednext`), so PyTorch, which takes longer
to import than a small volume to segment, stays out of the process. Names and shapes are those of
`MedNeXt.state_dict()`; a test compares them for every configuration.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

NORM_EPS = 1e-5
RESPONSE_EPS = 1e-6
LEVELS = 9
DEPTH = 4

Shape = tuple[int, ...]


class MedNeXtParameters:
    """Arrays by the names of a MedNeXt's modules: `encoder.stem.weight`, `decoder.heads[0]`, ..."""

    encoder: Any
    decoder: Any

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        tree = _tree(arrays)
        self.encoder, self.decoder = tree.encoder, tree.decoder
        self.nbytes = sum(array.nbytes for array in arrays.values())


def is_mednext(network: Any) -> bool:
    """Whether `network` is a MedNeXt, as a module or by its parameters."""
    if isinstance(network, MedNeXtParameters):
        return True
    module = sys.modules.get(f"{__package__}.mednext")  # a module cannot be there without it
    return module is not None and isinstance(network, module.MedNeXt)


def _tree(arrays: Mapping[str, np.ndarray]) -> Any:
    """ "a.0.b": array -> an object whose a[0].b is the array; entries of lists are in order."""
    if "" in arrays:
        return arrays[""]
    groups: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        first, _, rest = name.partition(".")
        groups.setdefault(first, {})[rest] = array
    if all(name.isdigit() for name in groups):
        return [_tree(groups[name]) for name in sorted(groups, key=int)]
    return SimpleNamespace(**{name: _tree(group) for name, group in groups.items()})


def mednext_shapes(
    input_channels: int,
    num_classes: int,
    *,
    channels: int = 32,
    blocks: int | list[int] = 2,
    expansion: int | list[int] = 2,
    kernel_size: int = 3,
    grn: bool = False,
    resampling: str = "mednext",
    checkpointing: object = None,
    deep_supervision: bool = False,
) -> dict[str, Shape]:
    """Shape of every parameter; arguments as of `networks.MedNeXt`, which were checked before."""
    depth_of, ratio = _per_level(blocks), _per_level(expansion)
    widths = [channels * 2**i for i in range(DEPTH + 1)]
    shapes: dict[str, Shape] = {}

    def add(name: str, width: int, level: int, out: int, stride: str = "") -> None:
        if stride and resampling == "standard":
            kernel = (2,) * 3 if stride == "up" else (3,) * 3
            pair = (width, out) if stride == "up" else (out, width)
            shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (*pair, *kernel), (out,)
            return
        for key, shape in _block(width, ratio[level] * width, out, kernel_size, grn, stride):
            shapes[f"{name}.{key}"] = shape

    shapes["encoder.stem.weight"] = (channels, input_channels, 1, 1, 1)
    shapes["encoder.stem.bias"] = (channels,)
    for i, width in enumerate(widths):
        for block in range(depth_of[i]):
            add(f"encoder.stages.{i}.{block}", width, i, width)
        if i < DEPTH:
            add(f"encoder.down.{i}", width, i + 1, widths[i + 1], "down")
    for i in range(DEPTH):
        level, width = DEPTH + 1 + i, widths[DEPTH - 1 - i]
        add(f"decoder.up.{i}", 2 * width, level, width, "up")
        for block in range(depth_of[level]):
            add(f"decoder.stages.{i}.{block}", width, level, width)
    for i in range(DEPTH + 1 if deep_supervision else 1):
        shapes[f"decoder.heads.{i}.weight"] = (widths[i], num_classes, 1, 1, 1)
        shapes[f"decoder.heads.{i}.bias"] = (num_classes,)
    return shapes


def _per_level(value: int | list[int]) -> list[int]:
    return [value] * LEVELS if isinstance(value, int) else list(value)


def _block(
    width: int, hidden: int, out: int, kernel: int, grn: bool, stride: str
) -> Iterator[tuple[str, Shape]]:
    yield "depthwise.weight", (width, 1, kernel, kernel, kernel)
    yield "depthwise.bias", (width,)
    yield "norm.weight", (width,)
    yield "norm.bias", (width,)
    yield "expand.weight", (hidden, width, 1, 1, 1)
    yield "expand.bias", (hidden,)
    if grn:
        yield "grn.gamma", (1, hidden, 1, 1, 1)
        yield "grn.beta", (1, hidden, 1, 1, 1)
    yield "compress.weight", (out, hidden, 1, 1, 1)
    yield "compress.bias", (out,)
    if stride:
        first, second = (width, out) if stride == "up" else (out, width)
        yield "residual.weight", (first, second, 1, 1, 1)
        yield "residual.bias", (out,)

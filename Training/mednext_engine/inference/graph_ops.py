"""A few words for writing an OpenVINO graph from PyTorch parameters. Layout is (n, c, d, h, w)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from .openvino_runtime import ops, ov

SPACE = (2, 3, 4)
FLAT = [0, 0, 0]
ONE = [1, 1, 1]
Node = Any


def array(parameter: Any) -> np.ndarray:
    """A parameter, PyTorch's or NumPy's, as float32."""
    if not isinstance(parameter, np.ndarray):
        parameter = parameter.detach().float().cpu().numpy()
    return np.asarray(parameter, np.float32, order="C")


def constant(value: Any, dtype: Any = np.float32) -> Node:
    """A constant; weights that are float32 already are not copied."""
    return ops.constant(np.asarray(value, dtype=dtype, order="C"), shared_memory=True)


def integers(values: Sequence[int]) -> Node:
    return constant(values, np.int64)


def spatial(x: Node) -> list[int]:
    shape = x.get_output_partial_shape(0)
    return [shape[axis].get_length() for axis in SPACE]


def channels(x: Node) -> int:
    return int(x.get_output_partial_shape(0)[1].get_length())


def add_bias(x: Node, bias: np.ndarray | None) -> Node:
    return x if bias is None else ops.add(x, constant(bias.reshape(1, -1, 1, 1, 1)))


def pointwise(x: Node, weight: np.ndarray, bias: np.ndarray | None = None, stride: int = 1) -> Node:
    """A 1x1x1 convolution; `weight` is (out, in, 1, 1, 1)."""
    y = ops.convolution(x, constant(weight), [stride] * 3, FLAT, FLAT, ONE)
    return add_bias(y, bias)


def depthwise(
    x: Node, weight: np.ndarray, begin: list[int], end: list[int], stride: int = 1
) -> Node:
    """A depthwise convolution; `weight` is (c, 1, kd, kh, kw); zero padding `begin` and `end`."""
    return ops.group_convolution(x, constant(weight[:, None]), [stride] * 3, begin, end, ONE)


def standardise(x: Node, eps: float) -> Node:
    """Zero mean and unit variance over space, for each sample and channel."""
    return ops.mvn(x, integers(SPACE), True, eps, "inside_sqrt")


def pad_front(x: Node) -> Node:
    """One plane of zeros before the first of each spatial axis."""
    zero = ops.constant(0.0, dtype=np.float32)
    return ops.pad(x, integers([0, 0, 1, 1, 1]), integers([0] * 5), "constant", zero)


def root_of_squares(norms: Sequence[Node]) -> Node:
    """The norm of a vector from those of its parts."""
    if len(norms) == 1:
        return norms[0]
    return ops.sqrt(reduce(ops.add, [ops.multiply(norm, norm) for norm in norms]))


def crop(x: Node, size: Sequence[int]) -> Node:
    """Keeps the first `size` voxels of each spatial axis."""
    if spatial(x) == list(size):
        return x
    return ops.slice(x, integers(FLAT), integers(size), integers(ONE), integers(SPACE))


def spread(x: Node, offset: int) -> Node:
    """Doubles the size: voxel i goes to 2i + offset, everything else is zero.

    Nearest upsampling times a mask.
    """
    size = [2 * s for s in spatial(x)]
    y = ops.interpolate(
        x,
        integers(size),
        "nearest",
        "sizes",
        [0],
        [0],
        "asymmetric",
        "floor",
        False,
        -0.75,
        integers(SPACE),
    )
    mask = np.zeros((1, 1, *size), np.float32)
    mask[..., offset::2, offset::2, offset::2] = 1
    return ops.multiply(y, constant(mask))


def model(output: Node, source: Node) -> ov.Model:
    return ov.Model([output], [source], "network")

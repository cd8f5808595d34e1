"""A MedNeXt written directly as an OpenVINO graph: a tenth of a second, where tracing takes twelve.

What is folded, each exactly: the depthwise bias (the norm takes it away again), the norm's scale
and shift (into the expansion), the residual's bias of an up block (into the compression, which
lies in the same places), the transposed convolutions (see `spread`). The widest hidden layer is
computed in slabs, so that it never exists at once.
"""

from __future__ import annotations

from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np

from ..networks.layers import GlobalResponseNorm
from ..networks.mednext import MedNeXt, MedNeXtBlock
from .graph_ops import (
    SPACE,
    Node,
    array,
    channels,
    constant,
    crop,
    depthwise,
    integers,
    model,
    pad_front,
    pointwise,
    spatial,
    spread,
    standardise,
)
from .openvino_runtime import ops, ov

LARGEST_HIDDEN_BYTES = 640 * 2**20
"""A hidden layer above this is computed in slabs of `SLAB_BYTES`."""
LARGEST_GRN_BYTES = 96 * 2**20
"""The same with GRN, which would hold the layer twice, before and after it."""
SLAB_BYTES = 160 * 2**20


def mednext_graph(network: MedNeXt, size: tuple[int, int, int]) -> ov.Model:
    """The graph of `network` for one tile (1, c, *size); its head may have been taken off."""
    encoder, decoder = network.encoder, network.decoder
    source = ops.parameter([1, encoder.stem.in_channels, *size], np.float32)
    x = pointwise(source, array(encoder.stem.weight), array(encoder.stem.bias))
    x = _blocks(encoder.stages[0], x)
    skips = [x]
    for down, stage in zip(encoder.down, list(encoder.stages)[1:], strict=True):
        x = _blocks(stage, _down(down, x))
        skips.append(x)
    x = skips.pop()
    for up, stage in zip(decoder.up, decoder.stages, strict=True):
        skip = skips.pop()
        x = _blocks(stage, ops.add(crop(_up(up, x), spatial(skip)), skip))
    head: Any = decoder.heads[0]
    if hasattr(head, "weight"):
        x = pointwise(x, array(head.weight).swapaxes(0, 1), array(head.bias))
    return model(x, source)


def _blocks(stage: Any, x: Node) -> Node:
    for block in stage:
        kernel = array(block.depthwise.weight)
        half = [kernel.shape[-1] // 2] * 3
        x = ops.add(_expansion(block, depthwise(x, kernel, half, half)), x)
    return x


def _down(layer: Any, x: Node) -> Node:
    weight = array(layer.weight) if not isinstance(layer, MedNeXtBlock) else None
    if weight is not None:
        y = ops.convolution(x, constant(weight), [2] * 3, [1] * 3, [1] * 3, [1] * 3)
        return ops.add(y, constant(array(layer.bias).reshape(1, -1, 1, 1, 1)))
    kernel = array(layer.depthwise.weight)
    half = [kernel.shape[-1] // 2] * 3
    features = _expansion(layer, depthwise(x, kernel, half, half, stride=2))
    residual = layer.residual
    return ops.add(features, pointwise(x, array(residual.weight), array(residual.bias), stride=2))


def _up(layer: Any, x: Node) -> Node:
    weight = array(layer.weight) if not isinstance(layer, MedNeXtBlock) else None
    if weight is not None:
        y = ops.convolution_backprop_data(x, constant(weight), [2] * 3)
        return ops.add(y, constant(array(layer.bias).reshape(1, -1, 1, 1, 1)))
    # A transposed convolution is a convolution of the spread-out input with the flipped kernel.
    # One voxel less of padding at the end gives its 2n - 1 planes at once.
    kernel = np.flip(array(layer.depthwise.weight), (2, 3, 4))
    half = kernel.shape[-1] // 2
    features = depthwise(spread(x, 0), kernel, [half] * 3, [half - 1] * 3)
    features = pad_front(_expansion(layer, features, array(layer.residual.bias)))
    # The padded front plane shifts every voxel of the residual by one, from 2i to 2i + 1.
    shortcut = pointwise(x, array(layer.residual.weight).swapaxes(0, 1))
    return ops.add(features, spread(shortcut, 1))


def _expansion(block: MedNeXtBlock, x: Node, extra_bias: np.ndarray | float = 0.0) -> Node:
    """Norm, expansion, GELU, GRN, compression; `extra_bias` (c_out,) is added to the result."""
    weight, bias = array(block.expand.weight), array(block.expand.bias)
    bias = bias + weight[:, :, 0, 0, 0] @ array(block.norm.bias)
    weight = weight * array(block.norm.weight)[None, :, None, None, None]
    out, out_bias = array(block.compress.weight), array(block.compress.bias) + extra_bias
    x = standardise(x, block.norm.eps)

    def hidden(part: Node) -> Node:
        return ops.gelu(pointwise(part, weight, bias), "erf")

    if isinstance(block.grn, GlobalResponseNorm):
        out_bias = out_bias + out[:, :, 0, 0, 0] @ array(block.grn.beta).ravel()
        whole = _slabs(x, len(weight), LARGEST_GRN_BYTES)
        if len(whole) == 1:
            y = hidden(x)
            scale = _response(block.grn, ops.reduce_l2(y, integers(SPACE), True))
            return pointwise(ops.multiply(y, scale), out, out_bias)
        # The norm first, slab by slab, and the hidden layer a second time for what follows. The
        # second cut is another one, or OpenVINO would find the two equal and keep the first.
        squares = [ops.reduce_l2(hidden(part), integers(SPACE), True) for part in whole]
        norm = ops.sqrt(reduce(ops.add, [ops.multiply(n, n) for n in squares]))
        scale = _response(block.grn, norm)
        parts = _slabs(x, len(weight), LARGEST_GRN_BYTES, more=1)
        done = [pointwise(ops.multiply(hidden(p), scale), out, out_bias) for p in parts]
        return ops.concat(done, 2)
    done = [
        pointwise(hidden(part), out, out_bias)
        for part in _slabs(x, len(weight), LARGEST_HIDDEN_BYTES)
    ]
    return ops.concat(done, 2) if len(done) > 1 else done[0]


def _slabs(x: Node, hidden: int, largest: int, more: int = 0) -> list[Node]:
    """Cuts `x` along its first axis where the hidden layer would take more than `largest` bytes.

    Meant for the last up block, whose hidden layer is the largest tensor of all: twice as wide as
    its input, at full resolution. Elsewhere a cut would cost copies and save nothing. `more` asks
    for so many slabs more than needed.
    """
    planes, *plane = spatial(x)
    total = 4 * hidden * planes * int(np.prod(plane))
    if total <= largest:
        return [x]
    count = min(planes, -(-total // min(SLAB_BYTES, largest // 3)) + more)
    edges = [planes * i // count for i in range(count + 1)]
    return [
        ops.slice(x, integers([a]), integers([b]), integers([1]), integers([2]))
        for a, b in pairwise(edges)
    ]


def _response(grn: GlobalResponseNorm, norm: Node) -> Node:
    """What GRN multiplies each channel with, from its norm; the shift beta is left to the bias."""
    mean = ops.reduce_mean(norm, integers([1]), True)
    response = ops.divide(norm, ops.add(mean, constant(grn.eps)))
    gamma = array(grn.gamma).reshape(1, channels(norm), 1, 1, 1)
    return ops.add(ops.multiply(response, constant(gamma)), constant(1.0))

"""A MedNeXt written directly as an OpenVINO graph: a tenth of a second, where tracing takes twelve.

What is folded, each exactly: the depthwise bias (the norm takes it away again), the norm's scale
and shift (into the expansion), the residual's bias of an up block (into the compression, which
lies in the same places), the transposed convolutions (`graph_parity.py`). The largest layers are
computed in pieces, so that they never exist at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..networks.parameters import NORM_EPS, RESPONSE_EPS
from .graph_ops import (
    SPACE,
    Node,
    add_bias,
    array,
    channels,
    constant,
    crop,
    depthwise,
    integers,
    model,
    pad_front,
    pointwise,
    root_of_squares,
    spatial,
    spread,
    standardise,
)
from .graph_parity import interleaved, standardised_parities, transposed
from .openvino_runtime import ops, ov

LARGEST_HIDDEN_BYTES = 640 * 2**20
"""A hidden layer above this is computed in slabs of `SLAB_BYTES`."""
LARGEST_GRN_BYTES = 256 * 2**20
"""The same with GRN, which would hold the layer twice, before and after it."""
SLAB_BYTES = 160 * 2**20
LARGEST_UPSAMPLED_BYTES = 160 * 2**20
"""An up block whose transposed convolution gives more than this is computed in eight parts.

Elsewhere as a whole: it takes no memory to speak of, and many small layers take long to compile.
"""


def mednext_graph(network: Any, size: tuple[int, int, int]) -> ov.Model:
    """The graph of a MedNeXt for one tile (1, c, *size); its head may have been taken off.

    `network` is the module, or its parameters under the same names (`networks.parameters`).
    """
    encoder, decoder = network.encoder, network.decoder
    source = ops.parameter([1, encoder.stem.weight.shape[1], *size], np.float32)
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
        y = standardise(depthwise(x, kernel, half, half), NORM_EPS)
        x = ops.add(_Branch(block).whole(y), x)
    return x


def _down(layer: Any, x: Node) -> Node:
    if not hasattr(layer, "depthwise"):
        y = ops.convolution(x, constant(array(layer.weight)), [2] * 3, [1] * 3, [1] * 3, [1] * 3)
        return add_bias(y, array(layer.bias))
    kernel = array(layer.depthwise.weight)
    half = [kernel.shape[-1] // 2] * 3
    y = standardise(depthwise(x, kernel, half, half, stride=2), NORM_EPS)
    residual = layer.residual
    shortcut = pointwise(x, array(residual.weight), array(residual.bias), stride=2)
    return ops.add(_Branch(layer).whole(y), shortcut)


def _up(layer: Any, x: Node) -> Node:
    if not hasattr(layer, "depthwise"):
        y = ops.convolution_backprop_data(x, constant(array(layer.weight)), [2] * 3)
        return add_bias(y, array(layer.bias))
    branch = _Branch(layer, array(layer.residual.bias))
    kernel, eps = array(layer.depthwise.weight), NORM_EPS
    if kernel.shape[-1] == 1:
        kernel = np.pad(kernel, [(0, 0), (0, 0), (1, 1), (1, 1), (1, 1)])
    shortcut = pointwise(x, array(layer.residual.weight).swapaxes(0, 1))
    if 32 * channels(x) * int(np.prod(spatial(x))) <= LARGEST_UPSAMPLED_BYTES:
        y = branch.whole(standardise(transposed(x, kernel), eps))
        # The padded front plane shifts every voxel of the residual by one, from 2i to 2i + 1.
        return ops.add(pad_front(y), spread(shortcut, 1))
    parts = standardised_parities(x, kernel, eps)
    response = branch.response([part for _, part in parts(1)])
    done = {odd: branch.part(part, response) for odd, part in parts(2)}
    done[0, 0, 0] = ops.add(done[0, 0, 0], shortcut)
    return interleaved(done)


class _Branch:
    """The expanded branch behind its norm: expansion, GELU, GRN, compression.

    Args:
        block: whose weights are taken.
        extra_bias: (c_out,), added to the result.
    """

    def __init__(self, block: Any, extra_bias: np.ndarray | float = 0.0) -> None:
        weight = array(block.expand.weight)
        self._bias = array(block.expand.bias) + weight[:, :, 0, 0, 0] @ array(block.norm.bias)
        self._weight = weight * array(block.norm.weight)[None, :, None, None, None]
        self._out = array(block.compress.weight)
        self._out_bias = array(block.compress.bias) + extra_bias
        grn = getattr(block, "grn", None)
        self._grn: Any = grn if hasattr(grn, "gamma") else None
        if self._grn is not None:
            self._out_bias = (
                self._out_bias + self._out[:, :, 0, 0, 0] @ array(self._grn.beta).ravel()
            )

    def whole(self, x: Node) -> Node:
        """The branch of all of `x`, its hidden layer in slabs where that is large."""
        largest = LARGEST_HIDDEN_BYTES if self._grn is None else LARGEST_GRN_BYTES
        slabs = _slabs(x, len(self._weight), largest)
        if len(slabs) == 1:
            y = self._hidden(x)
            return self._compressed(y, self._response([y]))
        # GRN's hidden layer is computed for its norm alone, and once more for what follows: in
        # other slabs, or OpenVINO would find the two equal and keep the first.
        scale = self.response(slabs)
        if scale is not None:
            slabs = _slabs(x, len(self._weight), largest, more=1)
        return ops.concat([self.part(slab, scale) for slab in slabs], 2)

    def response(self, parts: Sequence[Node]) -> Node | None:
        """What GRN multiplies each hidden channel with, from all parts of its input."""
        return None if self._grn is None else self._response([self._hidden(p) for p in parts])

    def part(self, x: Node, response: Node | None) -> Node:
        """The branch of a part of its input."""
        return self._compressed(self._hidden(x), response)

    def _hidden(self, x: Node) -> Node:
        return ops.gelu(pointwise(x, self._weight, self._bias), "erf")

    def _compressed(self, hidden: Node, response: Node | None) -> Node:
        y = hidden if response is None else ops.multiply(hidden, response)
        return pointwise(y, self._out, self._out_bias)

    def _response(self, hidden: Sequence[Node]) -> Node | None:
        """GRN's factor of each channel; its shift beta is left to the bias."""
        if self._grn is None:
            return None
        norm = root_of_squares([ops.reduce_l2(part, integers(SPACE), True) for part in hidden])
        mean = ops.reduce_mean(norm, integers([1]), True)
        response = ops.divide(norm, ops.add(mean, constant(RESPONSE_EPS)))
        gamma = array(self._grn.gamma).reshape(1, -1, 1, 1, 1)
        return ops.add(ops.multiply(response, constant(gamma)), constant(1.0))


def _slabs(x: Node, hidden: int, largest: int, more: int = 0) -> list[Node]:
    """Cuts `x` along its first axis where the hidden layer would take more than `largest` bytes.

    A cut costs copies; where the layer is small it would save nothing. `more` asks for so many
    slabs more than needed.
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

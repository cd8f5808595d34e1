"""nnU-Net's U-Nets as OpenVINO graphs, from their modules by `torch.fx`; no model is run for it.

Only the handful of layers these networks have are known; another one is refused, and the engine
then runs the network in PyTorch.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.fx
from torch import nn

from .graph_ops import FLAT, Node, add_bias, array, channels, constant, model, standardise
from .openvino_runtime import ops, ov

NO_EFFECT = (nn.Identity, nn.Dropout, nn.Dropout3d)


class UnknownLayer(Exception):
    """The network has a layer that has no translation here."""


def traced_graph(network: nn.Module, inputs: int, size: tuple[int, int, int]) -> ov.Model:
    """The graph of `network` (in evaluation mode) for one tile (1, inputs, *size).

    Raises:
        UnknownLayer: a layer is not one of those a U-Net has, or it cannot be traced.
    """
    try:
        traced = torch.fx.symbolic_trace(network)
    except Exception as error:  # tracing runs foreign code and fails in many ways
        raise UnknownLayer(str(error)) from error
    modules = dict(traced.named_modules())
    source = ops.parameter([1, inputs, *size], np.float32)
    values: dict[torch.fx.Node, Node] = {}
    for node in traced.graph.nodes:
        given = [torch.fx.node.map_arg(a, values.__getitem__) for a in node.args]
        if node.op == "placeholder":
            values[node] = source
        elif node.op == "call_module":
            values[node] = _layer(modules[str(node.target)], given[0])
        elif node.op == "call_function" and node.target in _FUNCTIONS:
            axis = node.kwargs.get("dim", given[1] if len(given) > 1 else 1)
            values[node] = _FUNCTIONS[node.target](given[0], axis)
        elif node.op == "output":
            return model(_whole(given[0]), source)
        else:
            raise UnknownLayer(f"{node.op} {node.target}")
    raise UnknownLayer("no output")


@dataclass(frozen=True)
class _Together:
    """Feature maps one behind the other along the channels, which need not exist as one."""

    parts: tuple[Node, ...]


def _joined(parts: Sequence[Any], axis: int) -> Any:
    return _Together(tuple(parts)) if axis == 1 else ops.concat(list(parts), axis)


def _whole(x: Any) -> Node:
    return ops.concat(list(x.parts), 1) if isinstance(x, _Together) else x


_FUNCTIONS: dict[Any, Callable[[Any, Any], Node]] = {
    torch.cat: lambda parts, axis: _joined([_whole(p) for p in parts], int(axis)),
    operator.add: lambda a, b: ops.add(_whole(a), _whole(b)),
    operator.iadd: lambda a, b: ops.add(_whole(a), _whole(b)),
    torch.add: lambda a, b: ops.add(_whole(a), _whole(b)),
}


def _layer(layer: nn.Module, x: Any) -> Any:
    if isinstance(layer, NO_EFFECT):
        return x
    if type(layer) is not nn.Conv3d:
        x = _whole(x)
    for kind, translate in _LAYERS.items():
        if type(layer) is kind:
            return translate(layer, x)
    raise UnknownLayer(type(layer).__name__)


def _conv(layer: Any, x: Any) -> Node:
    """A convolution; of maps that stand together, the sum of one of each, which spares a copy."""
    if isinstance(layer.padding, str) or layer.groups != 1:
        raise UnknownLayer("a convolution with groups or named padding")
    pads, weight, first = list(layer.padding), array(layer.weight), 0
    total = None
    for part in x.parts if isinstance(x, _Together) else (x,):
        last = first + channels(part)
        some = constant(weight[:, first:last])
        y = ops.convolution(part, some, list(layer.stride), pads, pads, list(layer.dilation))
        total = _biased(layer, y) if total is None else ops.add(total, y)
        first = last
    return total


def _transposed(layer: Any, x: Node) -> Node:
    plain = layer.groups == 1 and not any(layer.output_padding) and set(layer.dilation) == {1}
    if not plain or any(layer.padding):
        raise UnknownLayer("a transposed convolution with groups, padding or dilation")
    return _biased(
        layer, ops.convolution_backprop_data(x, constant(array(layer.weight)), list(layer.stride))
    )


def _biased(layer: Any, y: Node) -> Node:
    return add_bias(y, array(layer.bias) if layer.bias is not None else None)


def _instance_norm(layer: Any, x: Node) -> Node:
    if layer.track_running_stats:
        raise UnknownLayer("an instance norm with running statistics")
    y = standardise(x, layer.eps)
    if not layer.affine:
        return y
    return add_bias(
        ops.multiply(y, constant(array(layer.weight).reshape(1, -1, 1, 1, 1))), array(layer.bias)
    )


def _batch_norm(layer: Any, x: Node) -> Node:
    scale = array(layer.weight) / np.sqrt(array(layer.running_var) + layer.eps)
    shift = array(layer.bias) - array(layer.running_mean) * scale
    return add_bias(ops.multiply(x, constant(scale.reshape(1, -1, 1, 1, 1))), shift)


def _average(layer: Any, x: Node) -> Node:
    triple = [[v] * 3 if isinstance(v, int) else list(v) for v in (layer.kernel_size, layer.stride)]
    if layer.ceil_mode or layer.padding not in (0, (0, 0, 0)):
        raise UnknownLayer("an average pooling with padding")
    return ops.avg_pool(x, triple[1], FLAT, FLAT, triple[0], False, "floor")


_LAYERS: dict[type[nn.Module], Callable[[Any, Node], Node]] = {
    nn.Conv3d: _conv,
    nn.ConvTranspose3d: _transposed,
    nn.InstanceNorm3d: _instance_norm,
    nn.BatchNorm3d: _batch_norm,
    nn.AvgPool3d: _average,
    nn.ReLU: lambda _, x: ops.relu(x),
    nn.GELU: lambda layer, x: ops.gelu(x, "erf" if layer.approximate == "none" else "tanh"),
    nn.LeakyReLU: lambda layer, x: ops.prelu(x, constant([layer.negative_slope])),
}

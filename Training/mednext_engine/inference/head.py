"""The last 1x1x1 layer of a segmentation network, taken off so that it can be applied last.

Averaging windows and resampling linearly are weighted means over voxels; a 1x1x1 layer is an affine
map over channels. The two commute, so with many labels it is the few features that are averaged and
resampled, and the head is applied slab by slab where labels are decided: the result is the same,
and memory and time no longer grow with the number of labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..errors import UnsupportedModelError
from .arrays import Array, alike, cast, empty, is_tensor, library
from .parallel import side_by_side

_PIECE = 2**16
"""Voxels that the head is applied to at once."""


@dataclass(frozen=True)
class Head:
    """logits = weight @ features + bias; `weight` is (classes, features), `bias` (classes,)."""

    weight: np.ndarray
    bias: np.ndarray

    @property
    def classes(self) -> int:
        return int(self.weight.shape[0])

    def apply(self, features: Array) -> Array:
        """(features, ...) of any floating type -> (classes, ...) float32."""
        flat = features.reshape(features.shape[0], -1)
        weight, bias = alike(self.weight, flat), alike(self.bias[:, None], flat)
        result = empty((self.classes, flat.shape[1]), "float32", flat)
        xp, step = library(flat), flat.shape[1] if is_tensor(flat) else _PIECE

        def work(start: int) -> None:
            part = result[:, start : start + step]
            xp.matmul(weight, cast(flat[:, start : start + step], "float32"), out=part)
            part += bias

        starts = range(0, flat.shape[1], max(step, 1))
        for _ in side_by_side(work, starts, not is_tensor(flat)):
            pass
        return result.reshape(-1, *features.shape[1:])


def take_off_head(network: Any) -> Head:
    """Removes the head of `network`, as `read_head` gives it; only its trunk is left."""
    head = read_head(network)
    layers, index = _layers(network)
    layers[index] = _nothing(layers[index])
    return head


def read_head(network: Any) -> Head:
    """The head of a network, which may be given by its parameters (`networks.parameters`).

    Raises:
        UnsupportedModelError: the network is not one of the known ones.
    """
    layers, index = _layers(network)
    layer: Any = layers[index] if layers is not None else None
    shape = tuple(layer.weight.shape) if hasattr(layer, "weight") else ()
    if len(shape) != 5 or shape[2:] != (1, 1, 1):
        raise UnsupportedModelError("The network's output layer is not a 1x1x1 convolution.")
    weight = _numbers(layer.weight)[..., 0, 0, 0]
    if hasattr(network.decoder, "heads"):  # a transposed convolution: (in, out, ...)
        weight = weight.T
    bias = layer.bias if layer.bias is not None else np.zeros(len(weight), np.float32)
    return Head(np.array(weight, np.float32, order="C"), np.array(_numbers(bias), np.float32))


def _layers(network: Any) -> tuple[Any, int]:
    """The list that holds the head, and where: nnU-Net's U-Nets keep the finest output last."""
    decoder = network.decoder
    if hasattr(decoder, "heads"):
        return decoder.heads, 0
    return getattr(decoder, "seg_layers", None), -1


def _numbers(parameter: Any) -> np.ndarray:
    if isinstance(parameter, np.ndarray):
        return parameter
    numbers: np.ndarray = parameter.detach().float().cpu().numpy()
    return numbers


def _nothing(layer: Any) -> Any:
    if isinstance(layer, SimpleNamespace):
        return SimpleNamespace()
    from torch import nn

    return nn.Identity()

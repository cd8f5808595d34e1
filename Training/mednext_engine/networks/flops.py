"""Size and cost of networks: parameters, and multiply-accumulates of their convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .registry import CONFIGURATIONS, Configuration

PATCH = (128, 128, 128)
CLASSES = 3


def count_parameters(network: nn.Module) -> int:
    """Number of trainable and frozen weights."""
    return sum(p.numel() for p in network.parameters())


def count_macs(network: nn.Module, input_channels: int, size: Sequence[int] = PATCH) -> int:
    """Multiply-accumulates of all convolutions for one input (1, input_channels, *size).

    A transposed convolution counts its kernel once per input voxel, any other once per output
    voxel. Norms and activations are left out, as in papers 000 and 001, whose "GFLOPs" are these
    numbers in 10^9. Nothing is computed if `network` lies on the meta device.
    """
    total = 0

    def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        weight: Any = layer.weight
        counted = inputs[0] if isinstance(layer, nn.ConvTranspose3d) else output
        total += math.prod(counted.shape[2:]) * weight.numel()

    convolutions = (m for m in network.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d))
    hooks = [m.register_forward_hook(add) for m in convolutions]
    device = next(network.parameters()).device
    try:
        with torch.no_grad():
            network(torch.empty((1, input_channels, *size), device=device))
    finally:
        for hook in hooks:
            hook.remove()
    return total


def count(configuration: Configuration) -> dict[str, Any]:
    """One row: 1 input channel, 3 classes, no deep-supervision heads, 128^3 voxels.

    Returns:
        `key`, `name`, `kernel_size`, `parameters`, `gmacs` (10^9 multiply-accumulates) and
        `paper` (False for our own small networks).
    """
    with torch.device("meta"):
        network = configuration.build(1, CLASSES)
    return {
        "key": configuration.key,
        "name": configuration.name,
        "kernel_size": configuration.kernel_size,
        "parameters": count_parameters(network),
        "gmacs": round(count_macs(network, 1) / 1e9, 1),
        "paper": configuration.paper,
    }


def count_all() -> list[dict[str, Any]]:
    """`count` of every named configuration, in the order of the registry."""
    return [count(configuration) for configuration in CONFIGURATIONS.values()]

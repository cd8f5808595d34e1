"""The last 1x1x1 layer of a segmentation network, taken off so that it can be applied last.

Averaging windows and resampling linearly are weighted means over voxels; a 1x1x1 layer is an affine
map over channels. The two commute, so with many labels it is the few features that are averaged and
resampled, and the head is applied slab by slab where labels are decided: the result is the same,
and memory and time no longer grow with the number of labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import UnsupportedModelError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Head:
    """logits = weight @ features + bias; `weight` is (classes, features), `bias` (classes,)."""

    weight: Tensor
    bias: Tensor

    @property
    def classes(self) -> int:
        return int(self.weight.shape[0])

    def apply(self, features: Tensor) -> Tensor:
        """(features, ...) of any floating type -> (classes, ...) float32."""
        import torch

        flat = features.reshape(features.shape[0], -1).float()
        weight, bias = self.weight.to(flat.device), self.bias.to(flat.device)
        return torch.addmm(bias[:, None], weight, flat).reshape(-1, *features.shape[1:])


def take_off_head(network: nn.Module) -> Head:
    """Replaces the head of `network` by nothing and returns it.

    Raises:
        UnsupportedModelError: the network is not one of the known ones.
    """
    import torch
    from torch import nn

    decoder: Any = network.decoder
    name = "heads" if hasattr(decoder, "heads") else "seg_layers"
    layers: Any = getattr(decoder, name, None)
    index = 0 if name == "heads" else -1  # nnU-Net's U-Nets keep the finest output last
    layer = layers[index] if isinstance(layers, nn.ModuleList) else None
    if not isinstance(layer, (nn.Conv3d, nn.ConvTranspose3d)) or set(layer.kernel_size) != {1}:
        raise UnsupportedModelError("The network's output layer is not a 1x1x1 convolution.")
    weight = layer.weight.detach().float()[..., 0, 0, 0]
    if isinstance(layer, nn.ConvTranspose3d):
        weight = weight.T
    bias = layer.bias.detach().float() if layer.bias is not None else torch.zeros(len(weight))
    layers[index] = nn.Identity()
    return Head(weight.contiguous(), bias)

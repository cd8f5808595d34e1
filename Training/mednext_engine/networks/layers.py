"""The two normalisations of a MedNeXt block, each safe in half precision and at any size."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ChannelNorm(nn.GroupNorm):
    """GroupNorm with one group a channel, (n, c, d, h, w) -> the same shape (paper 001, 2.1).

    Same parameters and function as `nn.GroupNorm(c, c)`, computed as an instance norm: PyTorch's
    CPU group norm loses precision with size in channels-last memory (3e-3 at 128^3), and refuses
    a single voxel, which is what a 16^3 input has at the bottleneck.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, input: Tensor) -> Tensor:
        # float16 cannot hold the variance of large activations; bfloat16 can.
        x = input.float() if input.dtype == torch.float16 else input
        cudnn = torch.backends.cudnn.enabled
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return torch.instance_norm(x, weight, bias, None, None, True, 0.1, self.eps, cudnn)


class GlobalResponseNorm(nn.Module):
    """Global response normalisation in 3D, (n, c, d, h, w) -> the same shape.

    After ConvNeXt V2 (Woo et al. 2023, section 3), as MedNeXt-v2 uses it (paper 000):
    g = ||x||_2 over space, n = g / (mean of g over channels + 1e-6), y = gamma * x * n + beta + x.
    gamma and beta start at zero, so a new layer is the identity.
    """

    eps = 1e-6

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        # A sum of squares over 128^3 voxels overflows float16 and starves bfloat16 of digits.
        wide = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
        norm = torch.linalg.vector_norm(x, dim=(2, 3, 4), keepdim=True, dtype=wide)
        response = norm / (norm.mean(dim=1, keepdim=True) + self.eps)
        scale = 1.0 + self.gamma * response
        return torch.addcmul(self.beta.to(x.dtype), x, scale.to(x.dtype))

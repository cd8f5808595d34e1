"""Norms and 1x1x1 convolutions of a MedNeXt block: exact at any size, safe in half precision.

On a CPU all of them keep channels-last memory, in which the depthwise convolutions are fast, and
the norms have backward passes of their own: fewer passes over memory than autograd's, same result.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

CHANNELS_LAST = torch.channels_last_3d
_SPACE = (2, 3, 4)


def eager_on_cpu(x: Tensor) -> bool:
    """Whether the CPU's own paths apply: nobody records the operations for another engine."""
    recorded = torch.jit.is_tracing() or torch.compiler.is_compiling()
    return x.device.type == "cpu" and x.is_floating_point() and not recorded


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Type to sum in: float16 overflows and bfloat16 runs out of digits over 128^3 voxels."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def _total(x: Tensor) -> Tensor:
    return x.sum(_SPACE, keepdim=True, dtype=_wide(x.dtype))


def _norm(x: Tensor) -> Tensor:
    # In two steps: PyTorch adds squares one after the other, which drifts over 10^6 voxels.
    slices = torch.linalg.vector_norm(x, dim=(3, 4), keepdim=True, dtype=_wide(x.dtype))
    return torch.linalg.vector_norm(slices, dim=2, keepdim=True)


class _ChannelNormFunction(torch.autograd.Function):
    """y = (x - mean) / sqrt(variance + eps) * weight + bias, per sample and channel.

    The deviations are kept in the type of x. Its rounded mean leaves them an offset, which is
    known and corrected for.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        voxels = x[0, 0].numel()
        mean = _total(x) / voxels
        near = mean.to(x.dtype)
        deviation, offset = x - near, mean - near
        variance = _norm(deviation).square() / voxels - offset.square()
        scale = torch.rsqrt(variance.clamp_min(0) + eps)
        ctx.save_for_backward(deviation, offset, scale, weight)
        gain = weight.view(1, -1, 1, 1, 1) * scale
        shift = bias.view(1, -1, 1, 1, 1) - gain * offset
        return torch.addcmul(shift.to(x.dtype), deviation, gain.to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        deviation, offset, scale, weight = ctx.saved_tensors
        voxels = deviation[0, 0].numel()
        grad = grad.contiguous(memory_format=CHANNELS_LAST)
        grad_bias = _total(grad)
        grad_weight = (_total(grad * deviation) - offset * grad_bias) * scale
        gain = weight.view(1, -1, 1, 1, 1) * scale
        slope = -gain * scale * grad_weight / voxels
        constant = -gain * grad_bias / voxels - slope * offset
        dtype = grad.dtype
        grad_x = torch.addcmul(constant.to(dtype), deviation, slope.to(dtype))
        grad_x.addcmul_(grad, gain.to(dtype))
        return grad_x, grad_weight.sum(0).flatten(), grad_bias.sum(0).flatten(), None


class ChannelNorm(nn.GroupNorm):
    """GroupNorm with one group a channel, (n, c, d, h, w) -> the same shape (paper 001, 2.1).

    Same parameters and function as `nn.GroupNorm(c, c)`, but that one loses precision with size in
    channels-last memory on a CPU (3e-3 at 128^3), and refuses a single voxel, which is what a
    16^3 input has at the bottleneck.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, input: Tensor) -> Tensor:
        # float16 cannot hold the variance of large activations; bfloat16 can.
        x = input.float() if input.dtype == torch.float16 else input
        if eager_on_cpu(x):
            x = x.contiguous(memory_format=CHANNELS_LAST)
            result: Tensor = _ChannelNormFunction.apply(x, self.weight, self.bias, self.eps)
            return result
        cudnn = torch.backends.cudnn.enabled
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return torch.instance_norm(x, weight, bias, None, None, True, 0.1, self.eps, cudnn)


class _GlobalResponseFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
        norm = _norm(x)
        mean = norm.mean(dim=1, keepdim=True) + eps
        ctx.save_for_backward(x, norm, mean, gamma)
        scale = 1.0 + gamma * (norm / mean)
        return torch.addcmul(beta.to(x.dtype), x, scale.to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, norm, mean, gamma = ctx.saved_tensors
        grad = grad.contiguous(memory_format=CHANNELS_LAST)
        response, projection = norm / mean, _total(grad * x)
        grad_response = projection * gamma
        shared = (grad_response * response).mean(dim=1, keepdim=True)
        # The gradient of ||x|| is x / ||x||; of an all-zero channel, zero as in autograd.
        along = torch.where(norm > 0, (grad_response - shared) / (mean * norm), 0.0)
        scale = 1.0 + gamma * response
        grad_x = (grad * scale.to(grad.dtype)).addcmul_(x, along.to(x.dtype))
        grad_gamma = (projection * response).sum(0, keepdim=True)
        return grad_x, grad_gamma, _total(grad).sum(0, keepdim=True), None


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
        if eager_on_cpu(x):
            result: Tensor = _GlobalResponseFunction.apply(x, self.gamma, self.beta, self.eps)
            return result
        norm = _norm(x)
        response = norm / (norm.mean(dim=1, keepdim=True) + self.eps)
        scale = 1.0 + self.gamma * response
        return torch.addcmul(self.beta.to(x.dtype), x, scale.to(x.dtype))


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """1x1x1 convolution as a matrix product; channels last in memory in and out."""
    return F.linear(x.permute(0, 2, 3, 4, 1), weight, bias).permute(0, 4, 1, 2, 3)


class PointwiseConv(nn.Conv3d):
    """1x1x1 convolution, (n, c, d, h, w) -> (n, c_out, ...), of stride 1 or 2."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, 1, stride)

    def forward(self, input: Tensor) -> Tensor:
        if not eager_on_cpu(input):
            return super().forward(input)
        step = self.stride[0]
        x = input[:, :, ::step, ::step, ::step] if step > 1 else input
        return _linear(x, self.weight.flatten(1), self.bias)

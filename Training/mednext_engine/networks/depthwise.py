"""Depthwise 3D convolutions that train fast on a CPU; everywhere else they are PyTorch's own.

Same modules, parameters and results. PyTorch runs the forward pass of a 3D depthwise convolution
well on a CPU in channels-last memory, but its two backward passes, and every transposed one, by a
path that is 10 to 80 times slower. Both are written here as convolutions of the fast kind:

- the gradient of the input, and a transposed convolution, is an ordinary convolution with the
  flipped kernel (of the input spread over every second voxel where the stride is 2);
- the gradient of a k x k x k kernel is, for each of its k planes, that of a 2D convolution
  over slices, which lie one behind the other in channels-last memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .layers import CHANNELS_LAST, eager_on_cpu


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    return F.conv3d(x, weight, bias, stride, weight.shape[-1] // 2, groups=x.shape[1])


def _convolve_transposed(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, size: Sequence[int]
) -> Tensor:
    """Adjoint of `_convolve` (plus bias); `size` (d, h, w) is that of the result."""
    if stride == 2:
        shape = (*x.shape[:2], *size)
        spread = torch.empty(shape, dtype=x.dtype, memory_format=CHANNELS_LAST).zero_()
        spread[:, :, ::2, ::2, ::2] = x
        x = spread
    return _convolve(x, weight.flip(2, 3, 4), bias, 1)


def _kernel_gradient(x: Tensor, grad: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Gradient of `weight` (c, 1, k, k, k) in `_convolve(x, weight)`, given that of its result."""
    channels, k = x.shape[1], weight.shape[-1]
    slices, grad_slices = x.permute(0, 2, 1, 3, 4), grad.permute(0, 2, 1, 3, 4)
    planes = []
    for tap in range(k):
        offset = tap - k // 2  # result slice i saw input slice stride * i + offset
        first = max(0, -(offset // stride))
        last = min(grad.shape[2] - 1, (x.shape[2] - 1 - offset) // stride)
        if last < first:
            planes.append(torch.zeros_like(weight[:, :, tap]))
            continue
        seen = slices[:, stride * first + offset : stride * last + offset + 1 : stride]
        due = grad_slices[:, first : last + 1]
        planes.append(
            torch.ops.aten.convolution_backward(
                due.flatten(0, 1), seen.flatten(0, 1), weight[:, :, tap], None,
                [stride] * 2, [k // 2] * 2, [1] * 2, False, [0] * 2, channels,
                [False, True, False],
            )[1]
        )  # fmt: skip
    return torch.stack(planes, 2)


class _Convolution(torch.autograd.Function):
    """`_convolve`, or with `transposed` its adjoint, with the backward passes of this file."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int, transposed: bool
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.transposed = stride, transposed
        if not transposed:
            return _convolve(x, weight, bias, stride)
        return _convolve_transposed(x, weight, bias, stride, [2 * n - 1 for n in x.shape[2:]])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=CHANNELS_LAST)
        grad_x = grad_weight = grad_bias = None
        wide, narrow = (grad, x) if ctx.transposed else (x, grad)
        if ctx.needs_input_grad[0]:
            if ctx.transposed:
                grad_x = _convolve(grad, weight, None, ctx.stride)
            else:
                grad_x = _convolve_transposed(grad, weight, None, ctx.stride, x.shape[2:])
        if ctx.needs_input_grad[1]:
            grad_weight = _kernel_gradient(wide, narrow, weight, ctx.stride)
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum((0, 2, 3, 4))
        return grad_x, grad_weight, grad_bias, None, None


def _run(module: nn.Conv3d | nn.ConvTranspose3d, x: Tensor, transposed: bool) -> Tensor:
    weight, bias = module.weight, module.bias
    if torch.is_autocast_enabled("cpu") and x.dtype != torch.float64:
        dtype = torch.get_autocast_dtype("cpu")
        x, weight = x.to(dtype), weight.to(dtype)
        bias = bias.to(dtype) if bias is not None else None
    x = x.contiguous(memory_format=CHANNELS_LAST)
    with torch.autocast("cpu", enabled=False):
        result: Tensor = _Convolution.apply(x, weight, bias, module.stride[0], transposed)
    return result


class DepthwiseConv(nn.Conv3d):
    """Depthwise convolution of stride 1 or 2 and padding k // 2, (n, c, d, h, w)."""

    def __init__(self, channels: int, kernel_size: int, stride: int) -> None:
        super().__init__(channels, channels, kernel_size, stride, kernel_size // 2, groups=channels)

    def forward(self, input: Tensor) -> Tensor:
        return _run(self, input, False) if eager_on_cpu(input) else super().forward(input)


class DepthwiseConvTranspose(nn.ConvTranspose3d):
    """Transposed depthwise convolution of stride 2: n voxels an axis become 2n - 1."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__(channels, channels, kernel_size, 2, kernel_size // 2, groups=channels)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is None and eager_on_cpu(input):
            return _run(self, input, True)
        return super().forward(input, output_size)

"""Depthwise convolutions with their own backward passes are PyTorch's own in every value."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mednext_engine.networks.depthwise import (
    DepthwiseConv,
    DepthwiseConvTranspose,
)

SIZES = [(4, 5, 6), (7, 1, 3), (2, 8, 1)]
KERNELS = [1, 3, 5, 7]


def pairs(kernel_size: int, kind: str) -> tuple[nn.Module, nn.Module]:
    """The layer under test and PyTorch's, with the same weights, in float64."""
    torch.manual_seed(kernel_size)
    k = kernel_size
    if kind == "up":
        ours: nn.Module = DepthwiseConvTranspose(6, k)
        theirs: nn.Module = nn.ConvTranspose3d(6, 6, k, 2, k // 2, groups=6)
    else:
        stride = 2 if kind == "down" else 1
        ours, theirs = DepthwiseConv(6, k, stride), nn.Conv3d(6, 6, k, stride, k // 2, groups=6)
    theirs.load_state_dict(ours.state_dict())
    return ours.double(), theirs.double()


def outputs(layer: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Result, gradient of the input, of the weight, and of the bias."""
    x = x.clone().requires_grad_()
    y = layer(x)
    (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
    return [y.detach(), x.grad, *(p.grad for p in layer.parameters())]


@pytest.mark.parametrize("kind", ["same", "down", "up"])
@pytest.mark.parametrize("kernel_size", KERNELS)
@pytest.mark.parametrize("size", SIZES)
def test_results_and_gradients_are_those_of_pytorch(kind, kernel_size, size):
    ours, theirs = pairs(kernel_size, kind)
    x = torch.randn(2, 6, *size, dtype=torch.float64)
    for mine, reference in zip(outputs(ours, x), outputs(theirs, x), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["same", "down", "up"])
def test_gradients_are_the_numerical_ones(kind):
    ours, _ = pairs(3, kind)
    x = torch.randn(1, 6, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ours, (x,))


@pytest.mark.parametrize("kind", ["same", "down", "up"])
def test_half_precision_stays_close_and_keeps_gradients_in_the_dtype_of_the_weights(kind):
    ours, theirs = (layer.float() for layer in pairs(3, kind))
    x = torch.randn(1, 6, 9, 8, 7)
    reference = outputs(theirs, x)
    with torch.autocast("cpu", torch.bfloat16):
        y = ours(x)
    assert y.dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        found = outputs(ours, x)
    for mine, expected in zip(found, reference, strict=True):
        assert (mine.float() - expected).norm() < 0.02 * expected.norm() + 1e-3
    assert all(p.grad.dtype == torch.float32 for p in ours.parameters())


def test_frozen_weights_get_no_gradient_and_pass_one_on():
    ours, _ = pairs(3, "same")
    ours.requires_grad_(False)
    x = torch.randn(1, 6, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    ours(x).sum().backward()
    assert x.grad is not None
    assert ours.weight.grad is None


@pytest.mark.parametrize("kind", ["same", "up"])
def test_a_trace_holds_only_operations_of_pytorch(kind):
    ours, theirs = pairs(3, kind)
    x = torch.randn(1, 6, 5, 4, 3, dtype=torch.float64)
    traced = torch.jit.trace(ours, x)
    assert "PythonOp" not in str(traced.inlined_graph)
    larger = torch.randn(1, 6, 8, 7, 9, dtype=torch.float64)
    torch.testing.assert_close(traced(larger), theirs(larger))

"""Norms and 1x1x1 convolutions against PyTorch's own and against formulas worked out here."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mednext_engine.networks.layers import ChannelNorm, GlobalResponseNorm, PointwiseConv

LAYOUTS = [torch.contiguous_format, torch.channels_last_3d]


def randomised(layer: torch.nn.Module, dtype: torch.dtype = torch.float64) -> torch.nn.Module:
    torch.manual_seed(1)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    return layer.to(dtype)


def gradients(function, x, *parameters):
    """Result of `function(x)` and the gradients of a fixed weighted sum of it."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = function(x)
    (y * torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view(y.shape)).sum().backward()
    return [y.detach(), x.grad, *(p.grad for p in parameters)]


def response_norm_by_hand(x, gamma, beta):
    """Sum over voxels and mean over channels, loop by loop."""
    result = torch.empty_like(x)
    for sample in range(x.shape[0]):
        norms = [x[sample, c].pow(2).sum().sqrt() for c in range(x.shape[1])]
        mean = sum(norms) / len(norms) + 1e-6
        for c, norm in enumerate(norms):
            value = x[sample, c]
            result[sample, c] = gamma[0, c] * value * (norm / mean) + beta[0, c] + value
    return result


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(3, 4, 5), (2, 1, 1)])
def test_channel_norm_equals_group_norm(layout, size):
    norm = randomised(ChannelNorm(4))
    other = torch.nn.GroupNorm(4, 4).double()
    other.load_state_dict(norm.state_dict())
    x = (torch.randn(2, 4, *size, dtype=torch.float64) * 3 + 7).contiguous(memory_format=layout)
    ours = gradients(norm, x, *norm.parameters())
    theirs = gradients(other, x.contiguous(), *other.parameters())
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-9, atol=1e-9)


def test_channel_norm_of_one_voxel_is_its_bias():
    norm = randomised(ChannelNorm(3))
    y = norm(torch.randn(1, 3, 1, 1, 1, dtype=torch.float64))
    torch.testing.assert_close(y.flatten(), norm.bias)


def test_channel_norm_stays_precise_over_a_large_patch_far_from_zero():
    x = (torch.randn(1, 2, 96, 96, 96) * 2 + 30).contiguous(memory_format=torch.channels_last_3d)
    expected = F.instance_norm(x.double())
    assert (ChannelNorm(2)(x) - expected).abs().max() < 2e-5


def test_channel_norm_in_bfloat16_has_no_offset_from_rounding_its_mean():
    x = (torch.randn(1, 2, 32, 32, 32) + 20.3).bfloat16()
    y = ChannelNorm(2)(x)
    expected = F.instance_norm(x.double())
    assert y.dtype == torch.bfloat16
    assert (y.double() - expected).abs().max() < 0.03
    assert (y.double() - expected).mean().abs() < 1e-3


def test_channel_norm_in_float16_does_not_overflow():
    x = (torch.randn(1, 2, 8, 8, 8) * 3e4).clamp(-6e4, 6e4).half()
    y = ChannelNorm(2)(x)
    torch.testing.assert_close(y.double(), F.instance_norm(x.double()), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("layer", [ChannelNorm(3), GlobalResponseNorm(3)])
def test_norms_pass_the_gradient_check(layer):
    layer = randomised(layer)
    x = torch.randn(2, 3, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    first, second = (p.detach().requires_grad_() for p in layer.parameters())
    names = [name for name, _ in layer.named_parameters()]

    def function(x, first, second):
        state = dict(zip(names, (first, second), strict=True))
        return torch.func.functional_call(layer, state, (x,))

    assert torch.autograd.gradcheck(function, (x, first, second))


def test_global_response_norm_worked_by_hand():
    """Channel norms 5 and 15 have the mean 10, so the factors are 1 + 2*0.5 and 1 + 2*1.5."""
    layer = GlobalResponseNorm(2).double()
    torch.nn.init.constant_(layer.gamma, 2.0)
    torch.nn.init.constant_(layer.beta, 1.0)
    x = torch.tensor([[3.0, 4.0], [9.0, 12.0]], dtype=torch.float64).view(1, 2, 2, 1, 1)
    expected = torch.tensor([[7.0, 9.0], [37.0, 49.0]], dtype=torch.float64)
    torch.testing.assert_close(layer(x).view(2, 2), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_global_response_norm_equals_the_formula_and_its_gradients(layout):
    layer = randomised(GlobalResponseNorm(5))
    x = torch.randn(2, 5, 3, 4, 2, dtype=torch.float64).contiguous(memory_format=layout)
    gamma, beta = (p.detach().clone().requires_grad_() for p in (layer.gamma, layer.beta))
    ours = gradients(layer, x, layer.gamma, layer.beta)
    theirs = gradients(lambda x: response_norm_by_hand(x, gamma, beta), x, gamma, beta)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-9, atol=1e-9)


def test_a_new_global_response_norm_is_the_identity():
    x = torch.randn(1, 4, 3, 3, 3)
    assert torch.equal(GlobalResponseNorm(4)(x), x)


def test_global_response_norm_of_an_empty_channel_has_finite_gradients():
    layer = randomised(GlobalResponseNorm(2), torch.float32)
    x = torch.zeros(1, 2, 2, 2, 2, requires_grad=True)
    layer(x).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_global_response_norm_sums_half_precision_in_float32():
    """40^3 voxels of 100: the sum of squares, 6.4e8, is no float16, but the response is 1."""
    layer = GlobalResponseNorm(2)
    torch.nn.init.ones_(layer.gamma)
    x = torch.full((1, 2, 40, 40, 40), 100.0, dtype=torch.float16)
    assert torch.equal(layer(x), torch.full_like(x, 200.0))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pointwise_convolution_equals_conv3d(stride, layout):
    layer = randomised(PointwiseConv(3, 5, stride))
    weight, bias = (p.detach().clone().requires_grad_() for p in layer.parameters())
    x = torch.randn(2, 3, 4, 5, 3, dtype=torch.float64).contiguous(memory_format=layout)
    ours = gradients(layer, x, *layer.parameters())
    theirs = gradients(lambda x: F.conv3d(x, weight, bias, stride), x, weight, bias)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("layer", [ChannelNorm(4), GlobalResponseNorm(4), PointwiseConv(4, 2)])
def test_a_trace_holds_only_operations_of_pytorch(layer):
    traced = torch.jit.trace(layer, torch.randn(1, 4, 3, 4, 5))
    assert "PythonOp" not in str(traced.inlined_graph)
    x = torch.randn(1, 4, 6, 2, 3)
    torch.testing.assert_close(traced(x), layer(x), rtol=1e-5, atol=1e-5)

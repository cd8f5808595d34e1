"""A MedNeXt v2 forward and backward pass made for training on a CPU core, batch of one.

Same parameters and function as `mednext_engine.networks.MedNeXt`, several times faster there: all
tensors are (d, h, w, c) in bfloat16, so 1x1x1 convolutions are matrix products; norm and GRN are
folded into the next product; strided and transposed depthwise convolutions become ordinary ones;
three loops are compiled from `depthwise.cpp` where a compiler is found (else PyTorch does them).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LANE = 16


@cache
def _extension() -> Any | None:
    """The compiled loops, or None without a compiler."""
    from torch.utils import cpp_extension

    source = str(Path(__file__).with_name("depthwise.cpp"))
    try:
        return cpp_extension.load(
            "brain_tissue_loops", [source], extra_cflags=["-O3", "-march=native", "-ffast-math"]
        )
    except (OSError, RuntimeError) as error:
        print(f"no compiled loops, training will be slower: {error}")
        return None


def _conv(x: Tensor, weight: Tensor) -> Tensor:
    """Depthwise 3x3x3 convolution without bias of (d, h, w, c), stride 1, padding 1."""
    channels_last = x.unsqueeze(0).permute(0, 4, 1, 2, 3)
    y = F.conv3d(channels_last, weight, padding=1, groups=x.shape[-1])
    return y.permute(0, 2, 3, 4, 1).squeeze(0).contiguous()


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _conv(x, weight.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        grad_x = _conv(grad, weight.flip(2, 3, 4).to(x.dtype))
        extension = _extension()
        if extension is not None and x.dtype == torch.bfloat16 and x.shape[-1] % LANE == 0:
            taps = extension.depthwise_weight_gradient(x, grad)
            return grad_x, taps.t().reshape(weight.shape).to(weight.dtype)
        first, second = (t.permute(3, 0, 1, 2).unsqueeze(0).float() for t in (x, grad))
        grad_w = torch.ops.aten.convolution_backward(
            second,
            first,
            weight.float(),
            None,
            [1] * 3,
            [1] * 3,
            [1] * 3,
            False,
            [0] * 3,
            x.shape[-1],
            [False, True, False],
        )[1]
        return grad_x, grad_w.to(weight.dtype)


class _Moments(torch.autograd.Function):
    """Mean and mean square of each channel of (rows, c), float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x)
        extension = _extension()
        if extension is not None and x.dtype == torch.bfloat16 and x.shape[-1] % LANE == 0:
            total = extension.moments(x) / x.shape[0]
            return total[0], total[1]
        wide = x.float()
        return wide.mean(0), wide.square().mean(0)

    @staticmethod
    def backward(ctx: Any, grad_mean: Tensor, grad_square: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        n = x.shape[0]
        shift, scale = grad_mean / n, 2 * grad_square / n
        extension = _extension()
        if extension is not None and x.dtype == torch.bfloat16 and x.shape[-1] % LANE == 0:
            return extension.affine(x, scale.contiguous(), shift.contiguous())
        return torch.addcmul(shift.to(x.dtype), x, scale.to(x.dtype))


def _block(block: nn.Module, x: Tensor) -> Tensor:
    """One MedNeXt block on (d, h, w, c)."""
    stride = block.stride
    c = x.shape[-1]
    weight = block.depthwise.weight
    if stride == "up":
        size = [2 * s - 1 for s in x.shape[:3]]
        stuffed = x.new_zeros(*size, c)
        stuffed[::2, ::2, ::2] = x
        features = _Depthwise.apply(stuffed, weight.flip(2, 3, 4))
    else:
        features = _Depthwise.apply(x, weight)
        if stride == "down":
            features = features[::2, ::2, ::2].contiguous()
    shape = features.shape[:3]
    rows = features.reshape(-1, c)
    # The norm cancels the depthwise bias, so it is left out (its gradient is zero).
    mean, square = _Moments.apply(rows)
    scale = block.norm.weight * torch.rsqrt((square - mean * mean).clamp_min(0) + block.norm.eps)
    shift = block.norm.bias - mean * scale
    expand = block.expand.weight.flatten(1)
    bias = expand @ shift + block.expand.bias
    hidden = F.gelu(F.linear(rows, (expand * scale).to(x.dtype), bias.to(x.dtype)))
    compress = block.compress.weight.flatten(1)
    response = (_Moments.apply(hidden)[1] * rows.shape[0] + 1e-12).sqrt()
    response = response / (response.mean() + block.grn.eps)
    gain = 1 + block.grn.gamma.flatten() * response
    bias = compress @ block.grn.beta.flatten() + block.compress.bias
    out = F.linear(hidden, (compress * gain).to(x.dtype), bias.to(x.dtype)).view(*shape, -1)
    if stride is None:
        return out + x
    if stride == "down":
        short = F.linear(x[::2, ::2, ::2].contiguous(), *_pointwise(block.residual, x))
        return out + short
    weight, offset = block.residual.weight, block.residual.bias
    short = F.linear(x, weight.flatten(1).t().to(x.dtype).contiguous())
    full = out + offset.to(x.dtype)
    full[::2, ::2, ::2] += short
    return F.pad(full, (0, 0, 1, 0, 1, 0, 1, 0))


def _pointwise(conv: nn.Module, like: Tensor) -> tuple[Tensor, Tensor]:
    return conv.weight.flatten(1).to(like.dtype), conv.bias.to(like.dtype)


def forward(network: nn.Module, image: Tensor, dtype: torch.dtype = torch.bfloat16) -> list[Tensor]:
    """Logits (classes, d, h, w) float32 of (d, h, w); sizes are multiples of 16. Finest first."""
    encoder, decoder = network.encoder, network.decoder
    x = F.linear(image.unsqueeze(-1).to(dtype), *_pointwise(encoder.stem, image.to(dtype)))
    skips = []
    for level, stage in enumerate(encoder.stages):
        if level:
            x = _block(encoder.down[level - 1], x)
        for block in stage:
            x = _block(block, x)
        skips.append(x)
    scales = [skips.pop()]
    for up, stage in zip(decoder.up, decoder.stages, strict=True):
        x = skips.pop() + _block(up, scales[-1])
        for block in stage:
            x = _block(block, x)
        scales.append(x)
    outputs = []
    for head, scale in zip(decoder.heads, reversed(scales), strict=False):
        weight = head.weight.flatten(1).t()
        logits = F.linear(scale, weight.to(dtype), head.bias.to(dtype))
        outputs.append(logits.float().permute(3, 0, 1, 2))
    return outputs

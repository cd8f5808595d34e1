"""The expanded branch of a block without its hidden layer in memory, for inference on a CPU.

Norm -> expansion -> GELU -> [GRN] -> compression is the same small computation at every voxel, but
for the norms' statistics. Those known, the norm becomes part of the expansion's weights and GRN
part of the compression's, and the rest is done some thousand voxels at a time, in the cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from .layers import CHANNELS_LAST, GlobalResponseNorm, PointwiseConv, eager_on_cpu

if TYPE_CHECKING:
    from .mednext import MedNeXtBlock

SLAB_VALUES = 2**20
"""Hidden values at a time: 4 MiB, which the processor's caches hold."""


def applies(x: Tensor) -> bool:
    """Whether the short way may be taken: nothing is recorded, neither gradients nor a graph."""
    double = x.dtype == torch.float64  # kept for checks against the plain way
    return not torch.is_grad_enabled() and eager_on_cpu(x) and not double


def expansion(block: MedNeXtBlock, x: Tensor) -> Tensor:
    """(n, c, d, h, w) -> (n, c_out, d, h, w), equal to the block's branch layer by layer."""
    x = x.contiguous(memory_format=CHANNELS_LAST)
    channels = block.compress.out_channels
    result = torch.empty((len(x), *x.shape[2:], channels), dtype=_dtype(x))
    for sample, into in zip(x, result, strict=True):
        rows = sample.permute(1, 2, 3, 0).flatten(0, 2).to(result.dtype)
        _branch(block, rows, into.flatten(0, 2))
    return result.permute(0, 4, 1, 2, 3)


def _dtype(x: Tensor) -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def _branch(block: MedNeXtBlock, rows: Tensor, into: Tensor) -> None:
    """`rows` is (voxels, c), `into` (voxels, c_out), of one type."""
    weight, bias = _with_norm(block, rows)
    out, out_bias = block.compress.weight.flatten(1).float(), _bias(block.compress)
    step = max(1, SLAB_VALUES // len(weight))
    with torch.autocast("cpu", enabled=False):
        if isinstance(block.grn, GlobalResponseNorm):
            out, out_bias = _with_response(block.grn, out, out_bias, rows, weight, bias, step)
        out, out_bias = out.to(rows.dtype), out_bias.to(rows.dtype)
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            into[part] = F.linear(F.gelu(F.linear(rows[part], weight, bias)), out, out_bias)


def _bias(layer: PointwiseConv) -> Tensor:
    return torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias.float()


def _with_norm(block: MedNeXtBlock, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (hidden, c) and bias of the expansion with the norm of these rows in front of it."""
    # Means of slabs first: one sum over 10^6 float32 values loses digits.
    slabs = rows.split(2**14)
    mean = torch.stack([s.sum(0, dtype=torch.float64) for s in slabs]).sum(0) / len(rows)
    near = mean.to(rows.dtype)
    squares = [(s - near).float().square_().sum(0).double() for s in slabs]
    variance = torch.stack(squares).sum(0) / len(rows) - (mean - near).square()
    scale = torch.rsqrt(variance.clamp_min(0) + block.norm.eps).float()
    gain = block.norm.weight.float() * scale
    weight = block.expand.weight.flatten(1).float()
    bias = _bias(block.expand) + weight @ (block.norm.bias.float() - gain * mean.float())
    return (weight * gain).to(rows.dtype), bias.to(rows.dtype)


def _with_response(
    grn: GlobalResponseNorm,
    out: Tensor,
    out_bias: Tensor,
    rows: Tensor,
    weight: Tensor,
    bias: Tensor,
    step: int,
) -> tuple[Tensor, Tensor]:
    """Weight and bias of the compression with GRN in front of it.

    The hidden layer is computed for its norm and thrown away: to do it twice is quicker than to
    write it to memory and read it again, and takes no memory.
    """
    total = torch.zeros(len(weight), dtype=torch.float64)
    for start in range(0, len(rows), step):
        hidden = F.gelu(F.linear(rows[start : start + step], weight, bias))
        total += hidden.float().square_().sum(0).double()
    norm = total.sqrt().float()
    scale = 1.0 + grn.gamma.float().flatten() * norm / (norm.mean() + grn.eps)
    return out * scale, out_bias + out @ grn.beta.float().flatten()

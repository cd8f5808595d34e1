"""The expanded branch of a block trained on a CPU without its hidden layer in memory.

Same function and gradients as norm -> expansion -> GELU -> [GRN] -> compression, layer by layer,
but nothing of the hidden layer, which is the widest of the network, is kept or written: both passes
go through the voxels in slabs that fit the processor's caches, and the backward pass computes the
hidden layer anew. What the norms' gradients need of all voxels comes for free, because the layers
around them are linear:

- of sum(dy * x) over voxels, per channel, with dy = dh W: the column sums of W * (dh^T x), and
  dh^T x is the gradient of W anyway;
- of sum(du * g), per hidden channel, with du = dz W': the column sums of W' * (dz^T g), likewise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .layers import CHANNELS_LAST, GlobalResponseNorm, eager_on_cpu
from .side_by_side import side_by_side

if TYPE_CHECKING:
    from .mednext import MedNeXtBlock

SLAB_VALUES = 2**18
"""Hidden values at a time: four arrays of 1 MiB live at once."""
MOST_PIECES = 16
_SMALLEST_PIECE = 1024  # voxels


def applies(x: Tensor) -> bool:
    """Whether gradients are recorded by a CPU, one operation after the other."""
    return torch.is_grad_enabled() and eager_on_cpu(x) and x.dtype != torch.float16


def expansion(block: MedNeXtBlock, x: Tensor) -> Tensor:
    """(n, c, d, h, w) -> (n, c_out, d, h, w), equal to the block's branch layer by layer."""
    grn = block.grn if isinstance(block.grn, GlobalResponseNorm) else None
    if torch.is_autocast_enabled("cpu") and x.dtype != torch.float64:
        x = x.to(torch.get_autocast_dtype("cpu"))
    result: Tensor = _Branch.apply(
        x.contiguous(memory_format=CHANNELS_LAST),
        block.norm.weight,
        block.norm.bias,
        block.expand.weight.flatten(1),
        block.expand.bias,
        None if grn is None else grn.gamma.flatten(),
        None if grn is None else grn.beta.flatten(),
        block.compress.weight.flatten(1),
        block.compress.bias,
        block.norm.eps,
        GlobalResponseNorm.eps,
    )
    return result


class _Statistics(NamedTuple):
    """Of one sample; `near` is the mean in the type of x, `offset` what its rounding left out."""

    near: Tensor  # (c,)
    offset: Tensor  # (c,)
    scale: Tensor  # (c,), 1 / standard deviation
    norm: Tensor | None  # (hidden,), of GELU's result


class _Weights(NamedTuple):
    norm_weight: Tensor
    norm_bias: Tensor
    expand: Tensor  # (hidden, c)
    expand_bias: Tensor
    gamma: Tensor | None
    beta: Tensor | None
    compress: Tensor  # (c_out, hidden)
    compress_bias: Tensor


def _rows(x: Tensor) -> Tensor:
    """One sample (c, d, h, w), channels last in memory, as (voxels, c): a view."""
    return x.permute(1, 2, 3, 0).flatten(0, 2)


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _pieces(voxels: int) -> list[slice]:
    """Shares of the voxels, at most `MOST_PIECES`: by the size alone, so that sums repeat."""
    count = min(MOST_PIECES, -(-voxels // _SMALLEST_PIECE))
    step = -(-voxels // count)
    return [slice(start, min(start + step, voxels)) for start in range(0, voxels, step)]


def _slabs(piece: slice, hidden: int) -> Iterator[slice]:
    step = max(1, SLAB_VALUES // hidden)
    for start in range(piece.start, piece.stop, step):
        yield slice(start, min(start + step, piece.stop))


def _sum(parts: Sequence[Tensor], dtype: torch.dtype | None = None) -> Tensor:
    return torch.stack(list(parts)).sum(0, dtype=dtype)


def _statistics(rows: Tensor, eps: float) -> _Statistics:
    # Sums of slabs in float32, added in float64: one sum over 10^6 values loses digits.
    count, wide = len(rows), _wide(rows)
    pieces = _pieces(count)

    def sums(piece: slice) -> Tensor:
        return _sum([s.sum(0, dtype=wide) for s in rows[piece].split(2**13)], torch.float64)

    mean = _sum(side_by_side(sums, pieces)) / count
    near = mean.to(rows.dtype)
    offset = mean - near

    def squares(piece: slice) -> Tensor:
        slabs = rows[piece].split(2**13)
        return _sum([(s - near).to(wide).square_().sum(0) for s in slabs], torch.float64)

    variance = _sum(side_by_side(squares, pieces)) / count - offset.square()
    scale = torch.rsqrt(variance.clamp_min(0) + eps)
    return _Statistics(near, offset.to(wide), scale.to(wide), None)


def _folded(w: _Weights, s: _Statistics) -> tuple[Tensor, Tensor]:
    """Expansion of x - near, with the norm in its weight (hidden, c) and bias."""
    gain = w.norm_weight * s.scale
    bias = w.expand_bias + w.expand @ (w.norm_bias - gain * s.offset)
    return w.expand * gain, bias


def _response(gamma: Tensor, norm: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """GRN's normalised response, its mean and its factor, per hidden channel."""
    mean = norm.mean() + eps
    response = norm / mean
    return response, mean, 1.0 + gamma * response


def _forward_sample(
    w: _Weights, rows: Tensor, into: Tensor, eps: float, grn_eps: float
) -> _Statistics:
    s = _statistics(rows, eps)
    dtype, pieces = rows.dtype, _pieces(len(rows))
    weight, bias = (t.to(dtype) for t in _folded(w, s))
    out, out_bias = w.compress, w.compress_bias

    def hidden(slab: slice) -> Tensor:
        return F.gelu(F.linear(rows[slab] - s.near, weight, bias))

    def squares(piece: slice) -> Tensor:
        total = torch.zeros(len(weight), dtype=torch.float64)
        for slab in _slabs(piece, len(weight)):
            values = hidden(slab)
            total += values.to(_wide(values)).square_().sum(0)
        return total

    if w.gamma is not None and w.beta is not None:
        norm = _sum(side_by_side(squares, pieces)).sqrt().to(_wide(rows))
        s = s._replace(norm=norm)
        scale = _response(w.gamma, norm, grn_eps)[2]
        out, out_bias = out * scale, out_bias + out @ w.beta
    back, out_bias = out.to(dtype).t(), out_bias.to(dtype)

    def write(piece: slice) -> None:
        for slab in _slabs(piece, len(weight)):
            torch.addmm(out_bias, hidden(slab), back, out=into[slab])

    side_by_side(write, pieces)
    return s


class _Response(NamedTuple):
    """GRN in the backward pass, per hidden channel."""

    scale: Tensor  # factor of the hidden value in the forward pass
    along: Tensor  # factor of the hidden value in its own gradient
    d_gamma: Tensor
    d_beta: Tensor


def _backward_response(
    w: _Weights, norm: Tensor, outer: Tensor, total: Tensor, eps: float
) -> _Response:
    """`outer` (c_out, hidden) is the sum of gradient x hidden value, `total` that of gradients."""
    assert w.gamma is not None  # noqa: S101 (for the type checker)
    response, mean, scale = _response(w.gamma, norm, eps)
    projection = (w.compress * outer).sum(0)
    d_response = projection * w.gamma
    shared = (d_response * response).mean()
    # The gradient of ||g|| is g / ||g||; of an all-zero channel, zero as in autograd.
    along = torch.where(norm > 0, (d_response - shared) / (mean * norm), 0.0)
    return _Response(scale, along, projection * response, total @ w.compress)


def _backward_sample(
    w: _Weights, rows: Tensor, s: _Statistics, grad: Tensor, into: Tensor, grn_eps: float
) -> list[Tensor | None]:
    """Writes the gradient of `rows` to `into`; returns those of the weights, in their order."""
    dtype, wide, pieces = rows.dtype, _wide(rows), _pieces(len(rows))
    weight, bias = (t.to(dtype) for t in _folded(w, s))
    gain = w.norm_weight * s.scale
    count = len(weight)

    def outer_product(piece: slice) -> tuple[Tensor, Tensor]:
        found = torch.zeros_like(w.compress)
        for slab in _slabs(piece, count):
            found += grad[slab].t() @ F.gelu(F.linear(rows[slab] - s.near, weight, bias))
        return found, grad[piece].sum(0, dtype=wide)

    parts = side_by_side(outer_product, pieces)
    outer, total = (_sum(p) for p in zip(*parts, strict=True))  # (c_out, hidden), (c_out,)
    grn = None
    if s.norm is not None:
        grn = _backward_response(w, s.norm, outer, total, grn_eps)
    along = None if grn is None else grn.along.to(dtype)
    back = (w.compress if grn is None else w.compress * grn.scale).to(dtype)
    narrow = (w.expand * gain).to(dtype)

    def inward(piece: slice) -> tuple[Tensor, Tensor]:
        found, d_bias = torch.zeros_like(w.expand), torch.zeros_like(w.expand_bias)
        for slab in _slabs(piece, count):
            near = rows[slab] - s.near
            before = F.linear(near, weight, bias)
            d_hidden = grad[slab] @ back
            if along is not None:
                d_hidden.addcmul_(F.gelu(before), along)
            d_hidden = torch.ops.aten.gelu_backward(d_hidden, before)
            found += d_hidden.t() @ near
            d_bias += d_hidden.sum(0, dtype=wide)
            torch.mm(d_hidden, narrow, out=into[slab])
        return found, d_bias

    parts = side_by_side(inward, pieces)
    inner, d_bias = (_sum(p) for p in zip(*parts, strict=True))  # (hidden, c), (hidden,)
    # The norm: of dy = d_hidden W, sums over voxels of dy and of dy * deviation.
    d_norm_bias = d_bias @ w.expand
    inner -= torch.outer(d_bias, s.offset)
    product = (w.expand * inner).sum(0)
    slope = (-gain * s.scale.square() * product / len(rows)).to(dtype)
    constant = (-gain * d_norm_bias / len(rows) - slope * s.offset).to(dtype)

    def correct(piece: slice) -> None:
        for slab in _slabs(piece, count):
            into[slab].addcmul_(rows[slab] - s.near, slope).add_(constant)

    side_by_side(correct, pieces)
    d_expand = inner * gain + torch.outer(d_bias, w.norm_bias)
    first = [product * s.scale, d_norm_bias, d_expand, d_bias]
    if grn is None or w.beta is None:
        return [*first, None, None, outer, total]
    d_compress = outer * grn.scale + torch.outer(total, w.beta)
    return [*first, grn.d_gamma, grn.d_beta, d_compress, total]


class _Branch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *arguments: Any) -> Tensor:
        *weights, eps, grn_eps = arguments
        w = _Weights(*weights)
        shape = (len(x), len(w.compress), *x.shape[2:])
        result = torch.empty(shape, dtype=x.dtype, memory_format=CHANNELS_LAST)
        with torch.autocast("cpu", enabled=False):
            ctx.statistics = [
                _forward_sample(w, _rows(sample), _rows(into), eps, grn_eps)
                for sample, into in zip(x, result, strict=True)
            ]
        ctx.grn_eps = grn_eps
        ctx.save_for_backward(x, *weights)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        w = _Weights(*weights)
        grad = grad.to(x.dtype).contiguous(memory_format=CHANNELS_LAST)
        grad_x = torch.empty_like(x, memory_format=CHANNELS_LAST)
        sums: list[Tensor | None] = [None] * len(weights)
        with torch.autocast("cpu", enabled=False):
            for index, s in enumerate(ctx.statistics):
                found = _backward_sample(
                    w, _rows(x[index]), s, _rows(grad[index]), _rows(grad_x[index]), ctx.grn_eps
                )
                sums = [
                    b if a is None or b is None else a + b for a, b in zip(sums, found, strict=True)
                ]
        return (grad_x, *sums, None, None)

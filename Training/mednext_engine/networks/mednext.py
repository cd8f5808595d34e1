"""MedNeXt v1 and v2 (papers 001 and 000): one block in three uses, one U-shaped network.

Tensors are (n, c, d, h, w). Levels are numbered as in the papers: 1-4 encoder, 5 bottleneck,
6-9 decoder; per-level settings are given in that order. v2 differs from v1 by `grn` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from . import streamed, streamed_training
from .depthwise import DepthwiseConv, DepthwiseConvTranspose
from .layers import ChannelNorm, GlobalResponseNorm, PointwiseConv

LEVELS = 9
DEPTH = 4
SMALLEST_INPUT = 2**DEPTH

Checkpointing = Literal["block", "expansion"] | None
Resampling = Literal["mednext", "standard"]


def add_in_safe_precision(x: Tensor, y: Tensor) -> Tensor:
    """Residual sum; in float32 where float16 could overflow along a deep residual stream."""
    if torch.float16 in (x.dtype, y.dtype):
        return x.float() + y.float()
    return x + y


class MedNeXtBlock(nn.Module):
    """Depthwise conv -> norm -> expansion -> GELU -> [GRN] -> compression, plus a residual.

    Paper 001, sections 2.1 and 2.2. (n, c, d, h, w) -> (n, c_out, ...) with the same size
    (`stride` None), half of it rounded up ("down"), or twice it ("up").
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        expansion: int,
        kernel_size: int,
        *,
        grn: bool = False,
        stride: Literal["down", "up"] | None = None,
        checkpointing: Checkpointing = None,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.checkpointing = checkpointing
        hidden = expansion * in_channels
        self.depthwise: nn.Module
        if stride == "up":
            self.depthwise = DepthwiseConvTranspose(in_channels, kernel_size)
        else:
            self.depthwise = DepthwiseConv(in_channels, kernel_size, 2 if stride else 1)
        self.norm = ChannelNorm(in_channels)
        self.expand = PointwiseConv(in_channels, hidden)
        self.grn = GlobalResponseNorm(hidden) if grn else nn.Identity()
        self.compress = PointwiseConv(hidden, out_channels)
        self.residual: nn.Module = nn.Identity()
        if stride == "up":
            self.residual = nn.ConvTranspose3d(in_channels, out_channels, 1, 2)
        elif stride == "down":
            self.residual = PointwiseConv(in_channels, out_channels, 2)

    def _expansion(self, x: Tensor) -> Tensor:
        if streamed.applies(x):
            return streamed.expansion(self, x)
        if streamed_training.applies(x):
            return streamed_training.expansion(self, x)
        return self.compress(self.grn(F.gelu(self.expand(self.norm(x)))))

    def _block(self, x: Tensor) -> Tensor:
        features = self.depthwise(x)
        kept = torch.is_grad_enabled() and not streamed_training.applies(features)
        if self.checkpointing == "expansion" and kept:
            features = checkpoint(self._expansion, features, use_reentrant=False)
        else:
            features = self._expansion(features)
        shortcut = self.residual(x)
        if self.stride == "up":
            # Transposed convolutions of stride 2 give 2n - 1 planes: the missing one goes in front.
            features = F.pad(features, (1, 0, 1, 0, 1, 0))
            shortcut = F.pad(shortcut, (1, 0, 1, 0, 1, 0))
        return add_in_safe_precision(shortcut, features)

    def forward(self, x: Tensor) -> Tensor:
        if self.checkpointing == "block" and torch.is_grad_enabled():
            return checkpoint(self._block, x, use_reentrant=False)
        return self._block(x)


def _resampler(
    in_channels: int, level_args: dict[str, Any], kind: Resampling, up: bool
) -> nn.Module:
    """The layer between two levels; "standard" is the ablation of paper 001, table 1 (right)."""
    out_channels = in_channels // 2 if up else in_channels * 2
    if kind == "standard":
        if up:
            return nn.ConvTranspose3d(in_channels, out_channels, 2, 2)
        return nn.Conv3d(in_channels, out_channels, 3, 2, 1)
    return MedNeXtBlock(in_channels, out_channels, stride="up" if up else "down", **level_args)


def _stage(channels: int, blocks: int, level_args: dict[str, Any]) -> nn.Sequential:
    return nn.Sequential(*(MedNeXtBlock(channels, channels, **level_args) for _ in range(blocks)))


def fit(x: Tensor, size: Sequence[int]) -> Tensor:
    """Crops or zero-pads the far end of each spatial axis of (n, c, d, h, w) to `size`."""
    pads: list[int] = []
    for have, want in zip(reversed(x.shape[2:]), reversed(size), strict=True):
        pads += [0, want - have]
    return F.pad(x, pads) if any(pads) else x


class Encoder(nn.Module):
    """Stem and levels 1-5. Returns the five feature maps, finest first."""

    def __init__(
        self,
        input_channels: int,
        channels: int,
        blocks: Sequence[int],
        levels: Sequence[dict[str, Any]],
        resampling: Resampling,
    ) -> None:
        super().__init__()
        self.stem = PointwiseConv(input_channels, channels)
        widths = [channels * 2**i for i in range(DEPTH + 1)]
        self.stages = nn.ModuleList(
            _stage(widths[i], blocks[i], levels[i]) for i in range(DEPTH + 1)
        )
        self.down = nn.ModuleList(
            _resampler(widths[i], levels[i + 1], resampling, up=False) for i in range(DEPTH)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [self.stages[0](self.stem(x))]
        for down, stage in zip(self.down, list(self.stages)[1:], strict=True):
            features.append(stage(down(features[-1])))
        return features


class Decoder(nn.Module):
    """Levels 6-9 and the heads. `deep_supervision` may be switched at any time, as nnU-Net does.

    Index 0 of `up` and `stages` is the coarsest level, index 0 of `heads` the finest output.
    Heads beyond the finest exist only when deep supervision was on at construction; a state dict
    of the other mode loads all the same: surplus heads are ignored, missing ones stay as they are.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        blocks: Sequence[int],
        levels: Sequence[dict[str, Any]],
        resampling: Resampling,
        deep_supervision: bool,
    ) -> None:
        super().__init__()
        self.deep_supervision = deep_supervision
        widths = [channels * 2**i for i in range(DEPTH, -1, -1)]
        first = DEPTH + 1
        self.up = nn.ModuleList(
            _resampler(widths[i], levels[first + i], resampling, up=True) for i in range(DEPTH)
        )
        self.stages = nn.ModuleList(
            _stage(widths[i + 1], blocks[first + i], levels[first + i]) for i in range(DEPTH)
        )
        heads = DEPTH + 1 if deep_supervision else 1
        self.heads = nn.ModuleList(
            nn.ConvTranspose3d(channels * 2**i, num_classes, 1) for i in range(heads)
        )
        self.register_load_state_dict_pre_hook(_reconcile_heads)

    def forward(self, features: list[Tensor]) -> Tensor | list[Tensor]:
        x = features[-1]
        scales = [x]
        for up, stage, skip in zip(self.up, self.stages, reversed(features[:-1]), strict=True):
            x = stage(add_in_safe_precision(skip, fit(up(x), skip.shape[2:])))
            scales.append(x)
        if not self.deep_supervision:
            return self.heads[0](x)
        return [head(scale) for head, scale in zip(self.heads, reversed(scales), strict=True)]


def _reconcile_heads(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Drops deep-supervision heads the module lacks, keeps its own where the state lacks them."""
    own = {f"{prefix}heads.{k}": v for k, v in module.heads.state_dict().items()}  # type: ignore[union-attr]
    auxiliary = [k for k in state if k.startswith(f"{prefix}heads.") and k not in own]
    for key in auxiliary:
        del state[key]
    for key, value in own.items():
        if not key.startswith(f"{prefix}heads.0."):
            state.setdefault(key, value)


class MedNeXt(nn.Module):
    """MedNeXt v1 (`grn=False`) and v2 (`grn=True`): (n, c, d, h, w) -> (n, classes, d, h, w).

    With deep supervision the output is a list of five, finest first, each half the size of the
    one before (paper 001, figure 1a). Any input of at least 16 voxels an axis works; multiples of
    16 give the official network's result. The class path `mednext_engine.networks.MedNeXt` and
    these arguments are what a model's `plans.json` stores: they only ever grow.

    Args:
        input_channels: channels of the image.
        num_classes: output channels (labels, background included, or regions).
        channels: C, width of the first level; level i has C * 2^i.
        blocks: B, blocks at each of the 9 levels, or one number for all.
        expansion: R, expansion ratio at each of the 9 levels, or one number for all. Layers
            between levels take the ratio of the level they lead to.
        kernel_size: odd size of the depthwise kernels.
        grn: global response normalisation in every block.
        resampling: "mednext" (paper) or "standard" (plain strided and transposed convolutions).
        checkpointing: gradient checkpointing of whole blocks ("block") or of their expanded branch
            only ("expansion"), for all levels or for each of the 9; equal in result, less memory.
        deep_supervision: five outputs in place of one.

    Raises:
        ValueError: a per-level list is not of length 9, or a number is out of range.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        channels: int = 32,
        blocks: int | Sequence[int] = 2,
        expansion: int | Sequence[int] = 2,
        kernel_size: int = 3,
        grn: bool = False,
        resampling: Resampling = "mednext",
        checkpointing: Checkpointing | Sequence[Checkpointing] = None,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0 or kernel_size < 1:
            raise ValueError(f"kernel_size must be odd and positive, not {kernel_size}")
        if min(input_channels, num_classes, channels) < 1:
            raise ValueError("input_channels, num_classes and channels must be positive")
        if resampling not in ("mednext", "standard"):
            raise ValueError(f"resampling must be 'mednext' or 'standard', not {resampling!r}")
        depth_of = _per_level(blocks, "blocks")
        levels = [
            {"expansion": r, "kernel_size": kernel_size, "grn": grn, "checkpointing": c}
            for r, c in zip(
                _per_level(expansion, "expansion"), _checkpointing(checkpointing), strict=True
            )
        ]
        self.encoder = Encoder(input_channels, channels, depth_of, levels, resampling)
        self.decoder = Decoder(
            num_classes, channels, depth_of, levels, resampling, deep_supervision
        )

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        if min(x.shape[2:]) < SMALLEST_INPUT:
            size = tuple(x.shape[2:])
            raise ValueError(f"MedNeXt needs at least {SMALLEST_INPUT} voxels an axis, not {size}")
        return self.decoder(self.encoder(x))


def _per_level(value: int | Sequence[int], name: str) -> list[int]:
    values = [value] * LEVELS if isinstance(value, int) else list(value)
    if len(values) != LEVELS or any(not isinstance(v, int) or v < 1 for v in values):
        raise ValueError(f"{name} must be a positive number or {LEVELS} of them, not {value!r}")
    return values


def _checkpointing(value: Checkpointing | Sequence[Checkpointing]) -> list[Checkpointing]:
    one = value is None or isinstance(value, str)
    values: list[Any] = [value] * LEVELS if one else list(value)  # type: ignore[arg-type]
    if len(values) != LEVELS or any(v not in (None, "block", "expansion") for v in values):
        raise ValueError(f"checkpointing must be None, 'block' or 'expansion', not {value!r}")
    return values

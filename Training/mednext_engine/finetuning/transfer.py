"""The network that a fine-tuning starts with: what of the base model is kept, and what is new.

Everything of equal shape is copied. Of the heads, rows of classes that the base has are kept and
new classes get new rows (paper 002, section 4). Where the number of channels differs, the first
layer's weights are replicated over the channels and divided, so that its response keeps its scale
(table 8). With UpKern (paper 001, section 2.3) small kernels are enlarged first, between two
networks of equal heads; then head and stem are adapted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import ModelError, UnsupportedModelError
from ..networks.mednext import MedNeXt
from ..networks.registry import MEDNEXT, build_network
from ..networks.upkern import upkern

if TYPE_CHECKING:
    from ..models.folder import Model
    from .label_matching import LabelPlan

NEW_ROW_STD = 0.01
"""Spread of a new class's weights: it starts undecided, beside rows that are trained."""
_HEADS = {"decoder.heads.": 1, "decoder.seg_layers.": 0}
"""Where heads are, and along which axis of their weights the classes lie: MedNeXt's are transposed
convolutions, nnU-Net's U-Nets have plain ones."""
HEADS = tuple(_HEADS)
RAREST = 1e-4  # share of voxels below which a class starts no less likely
_ENCODER = ("encoder.", "decoder.encoder.")  # nnU-Net's decoders hold their encoder too


@dataclass(frozen=True)
class HeadRows:
    """`sources[i]`: rows of the base's head whose mean row `i` starts from; none: a new row."""

    sources: tuple[tuple[int, ...], ...]


def head_rows(label_plan: LabelPlan, base_names: Sequence[str]) -> HeadRows:
    """Which rows of the base's head (of classes `base_names`) each row of the new one starts from.

    What the base told apart and the new model does not is background now. So the background row
    becomes the mean of all rows that mean background: it forgets that such places were none.
    Where no structure is kept, it starts anew as they do: large trained weights beside small new
    ones would decide every voxel, and take longer to unlearn than to learn.
    """
    if all(row is None for row in label_plan.base_rows[1:]):
        return HeadRows(((),) * label_plan.num_classes)
    sources: list[tuple[int, ...]] = [() if r is None else (r,) for r in label_plan.base_rows]
    if sources[0]:
        dropped = [base_names.index(name) for name in label_plan.dropped if name in base_names]
        sources[0] = (*sources[0], *(row for row in dropped if row not in sources[0]))
    return HeadRows(tuple(sources))


def initial_network(
    network_class: str,
    kwargs: Mapping[str, Any],
    channels: Sequence[str],
    num_classes: int,
    *,
    base: Model | None = None,
    rows: HeadRows | None = None,
    encoder_only: bool = False,
    shares: Sequence[float] | None = None,
    seed: int = 0,
) -> nn.Module:
    """The network to train, on the CPU in fp32, with heads for deep supervision.

    Args:
        network_class, kwargs: as in a plan; a kernel size above the base's asks for UpKern.
        channels: names of the image's channels.
        num_classes: background included.
        base: the model to start from; its first fold is taken. None: from scratch.
        rows: needed with a base.
        encoder_only: the decoder starts anew, heads of known classes included.
        shares: of the annotated voxels, a class each. New rows start as likely as that, so that the
            first steps are not spent on learning that most voxels are background.
        seed: of what is new.

    Raises:
        ModelError: the base's weights belong to another network.
        UnsupportedModelError: UpKern for what is no MedNeXt.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(network_class, dict(kwargs), len(channels), num_classes, True)
        if base is not None:
            weights = _base_weights(base, network_class, kwargs)
            order = _channel_order(base.channel_names, channels)
            state = network.state_dict()
            first = _first_layer(state)
            with torch.no_grad():
                for key, new in state.items():
                    if encoder_only and not key.startswith(_ENCODER):
                        continue
                    if key in first and key in weights:
                        _fill_channels(new, weights[key], order)
                    else:
                        _adapt(key, new, weights.get(key), rows or HeadRows(()))
        if shares is not None:
            kept = HeadRows(()) if base is None or encoder_only else rows or HeadRows(())
            _start_as_likely_as(network, shares, kept)
    return network.train()


def _start_as_likely_as(network: nn.Module, shares: Sequence[float], kept: HeadRows) -> None:
    """Sets the biases of new rows of all heads to the logarithm of their class's share."""
    logits = torch.tensor([math.log(max(share, RAREST)) for share in shares])
    for row, sources in enumerate(kept.sources):
        if sources:
            logits[row] = math.nan
    for name, parameter in network.named_parameters():
        if name.startswith(HEADS) and parameter.ndim == 1:
            new = torch.isfinite(logits)
            with torch.no_grad():
                parameter[new] = logits[new]


def _base_weights(base: Model, network_class: str, kwargs: Mapping[str, Any]) -> dict[str, Tensor]:
    """The base's state dict in fp32, its kernels enlarged where the new network's are larger."""
    weights = {k: _float(v) for k, v in base.weights(base.default_folds[0]).items()}
    own = base.plan.network_kwargs
    if network_class != base.plan.network_class:
        raise ModelError("A fine-tuned model has the network of its base model.")
    if network_class != MEDNEXT:
        if kwargs != own:
            raise UnsupportedModelError(
                "UpKern enlarges the kernels of MedNeXt; this base model is another network.",
                "Switch UpKern off.",
            )
        return weights
    if kwargs["kernel_size"] == own.get("kernel_size", 3):
        return weights
    arguments = {**own, "kernel_size": kwargs["kernel_size"], "checkpointing": None}
    outputs = base.labels.num_heads
    large = build_network(network_class, arguments, len(base.channel_names), outputs, True)
    if isinstance(large, MedNeXt):
        upkern(weights, large)
    return {k: v for k, v in large.state_dict().items() if k in weights}


def _float(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _channel_order(old: Sequence[str], new: Sequence[str]) -> list[int] | None:
    """Where each new channel is among the old ones; None where they are not the same channels."""
    names = [name.strip().casefold() for name in old]
    wanted = [name.strip().casefold() for name in new]
    if len(old) != len(new):
        return None
    if sorted(names) == sorted(wanted) and len(set(names)) == len(names):
        return [names.index(name) for name in wanted]
    return list(range(len(old)))  # other names for the same channels


def _adapt(key: str, new: Tensor, old: Tensor | None, rows: HeadRows) -> None:
    """Fills `new`, a weight of the network to train, from the base's weight of that name."""
    place = next((axis for prefix, axis in _HEADS.items() if key.startswith(prefix)), None)
    if place is not None:
        if old is not None:
            _fill_head(new, old, rows, 0 if new.ndim == 1 else place)
        return
    if old is None or new.shape != old.shape:
        found = "is missing" if old is None else f"has the shape {list(old.shape)}"
        raise ModelError(
            f"The base model's weights do not fit its network: '{key[:100]}' {found}, "
            f"and {list(new.shape)} is needed."
        )
    new.copy_(old)


def _fill_head(new: Tensor, old: Tensor, rows: HeadRows, axis: int) -> None:
    """Rows of known classes from `old`, small new ones elsewhere; biases of those are 0."""
    if axis == 1 and new.shape[0] != old.shape[0]:
        raise ModelError("The base model's head has another number of features.")
    nn.init.zeros_(new) if new.ndim == 1 else nn.init.normal_(new, std=NEW_ROW_STD)
    for row, sources in enumerate(rows.sources):
        if sources:
            kept = old.index_select(axis, torch.tensor(sources)).mean(axis)
            new.select(axis, row).copy_(kept)


def _first_layer(state: Mapping[str, Tensor]) -> set[str]:
    """Names of the first convolution, which sees the channels; nnU-Net's networks have several."""
    weights = [(k, v) for k, v in state.items() if k.startswith(_ENCODER) and v.ndim == 5]
    return {k for k, v in weights if v.data_ptr() == weights[0][1].data_ptr()}


def _fill_channels(new: Tensor, old: Tensor, order: list[int] | None) -> None:
    """Weights (out, in, ...) of another number, or another order, of input channels."""
    if order is not None and new.shape == old.shape:
        new.copy_(old[:, order])
    elif new.shape[0] != old.shape[0] or new.shape[2:] != old.shape[2:]:
        raise ModelError("The base model's first layer is not that of its network.")
    else:
        new.copy_(old.sum(1, keepdim=True).expand_as(new) / new.shape[1])

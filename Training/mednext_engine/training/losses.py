"""Dice + cross-entropy with unknown voxels, and deep supervision, as nnU-Net 2.8.1 weighs them.

Logits are (n, c, z, y, x), labels (n, z, y, x) with -1 for unknown. What is unknown has no share in
any sum, so its gradient is exactly zero; a patch without any annotated voxel has a loss of -1 and
no gradient at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

SMOOTH = 1e-5
UNKNOWN = -1


class _DiceAndCrossEntropy(torch.autograd.Function):
    """One softmax for both terms; keeps the probabilities and nothing else of that size.

    Dice: nnU-Net's MemoryEfficientSoftDiceLoss (batch_dice False, do_bg False, smooth 1e-5).
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        n, classes = logits.shape[:2]
        rows = _rows(logits)
        flat = labels.reshape(n, -1, 1).long()
        known = flat >= 0
        index = flat.clamp_min(0)
        log_total = torch.logsumexp(rows, 2, keepdim=True)
        annotated = known.sum().clamp_min(1)
        own = rows.gather(2, index) - log_total  # log-probability of the right class
        entropy = -(own * known).sum(dtype=torch.float32) / annotated
        probabilities = (rows - log_total).exp_().mul_(known)
        predicted = probabilities.sum(1)
        shared = own.exp().mul_(known)
        hit, truth = (_by_class(values, index, classes) for values in (shared, known))
        total = (truth + predicted + SMOOTH).clamp_min(1e-8)
        dice = (2 * hit + SMOOTH) / total
        ctx.save_for_backward(probabilities, index, known, dice, total, annotated)
        ctx.like = logits
        return entropy - dice[:, 1:].mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        probabilities, index, known, dice, total, annotated = ctx.saved_tensors
        n, classes = dice.shape
        share = 1.0 / (n * (classes - 1))
        # d(-Dice)/dp: the same for all voxels of a class, but for the voxels that are of it.
        everywhere = dice / total * share
        where_true = -2.0 / total * share
        everywhere[:, 0] = 0
        where_true[:, 0] = 0
        slope = everywhere[:, None, :]
        own_slope = where_true.gather(1, index[..., 0])[..., None]
        own = probabilities.gather(2, index)
        # Softmax backward: p (g - sum of p g); the cross-entropy adds (p - y) / annotated.
        mean_slope = torch.matmul(probabilities, everywhere[..., None]) + own * own_slope
        result = (slope - mean_slope).add_(1.0 / annotated).mul_(probabilities)
        at_truth = (own * own_slope - 1.0 / annotated) * known
        result.scatter_add_(2, index, at_truth)
        result.mul_(grad)
        like = ctx.like
        return result.transpose(1, 2).reshape(n, classes, *like.shape[2:]).to(like.dtype), None


def _by_class(values: Tensor, index: Tensor, classes: int) -> Tensor:
    """Sums of (n, voxels, 1) by the class of each voxel: (n, c) float32."""
    n = len(values)
    bins = index + torch.arange(n, device=index.device).view(n, 1, 1) * classes
    wide = torch.float32 if values.device.type == "mps" else torch.float64
    sums = torch.bincount(bins.flatten(), values.to(wide).flatten(), n * classes)
    return sums.view(n, classes).float()


def _rows(logits: Tensor) -> Tensor:
    """(n, voxels, c) float32; no copy of channels-last logits."""
    return logits.permute(0, 2, 3, 4, 1).flatten(1, 3).float()


def dice_and_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy minus the mean soft Dice of the classes 1 ... over (n, c, z, y, x).

    nnU-Net's DC_and_CE_loss with an ignore label: both terms weigh one; the Dice is taken for each
    patch and class, the cross-entropy over all annotated voxels of the batch.
    """
    loss: Tensor = _DiceAndCrossEntropy.apply(logits, labels)
    return loss


def dice_and_binary_cross_entropy(
    logits: Tensor, labels: Tensor, regions: Sequence[Sequence[int]]
) -> Tensor:
    """nnU-Net's DC_and_BCE_loss: head r says whether a voxel's label is one of `regions[r]`."""
    known = (labels >= 0)[:, None]
    truth = torch.stack([torch.isin(labels, labels.new_tensor(list(r))) for r in regions], 1)
    truth = truth.float()
    logits = logits.float()
    each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    entropy = (each * known).sum() / known.sum().clamp_min(1)
    probabilities = torch.sigmoid(logits) * known
    space = (2, 3, 4)
    hit = (probabilities * truth).sum(space)
    total = (truth * known).sum(space) + probabilities.sum(space)
    return entropy - ((2 * hit + SMOOTH) / (total + SMOOTH)).mean()


def supervision_weights(outputs: int) -> list[float]:
    """1, 1/2, 1/4 ... for the outputs, finest first, the last one 0, so that they add up to one."""
    if outputs == 1:
        return [1.0]
    weights = [0.5**i for i in range(outputs - 1)]
    return [w / sum(weights) for w in weights] + [0.0]


def coarser_labels(labels: Tensor, size: Sequence[int]) -> Tensor:
    """(n, z, y, x) at a coarser `size`: the voxel nearest to each centre, as nnU-Net takes it.

    Where that voxel is unknown, another one of the same place is taken if one is known, so that
    single annotated slices teach the coarse outputs too (nnU-Net loses half of them a level).
    """
    result = labels
    for axis, wanted in enumerate(size, start=1):
        have = labels.shape[axis]
        if have != wanted:
            centres = (torch.arange(wanted, device=labels.device) + 0.5) * (have / wanted)
            result = result.index_select(axis, centres.long().clamp_max(have - 1))
    if result.shape == labels.shape or not bool((result < 0).any()):
        return result
    return torch.where(result < 0, _any_known(labels, size), result)


def _any_known(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Along each axis in turn: the first known voxel of those that one of `size` stands for."""
    for axis, wanted in enumerate(size, start=1):
        have = labels.shape[axis]
        if have % wanted:
            return labels.new_full((len(labels), *size), UNKNOWN)
        places = labels.unflatten(axis, (wanted, have // wanted))
        taken = places.select(axis + 1, 0)
        for offset in range(1, have // wanted):
            taken = torch.where(taken < 0, places.select(axis + 1, offset), taken)
        labels = taken
    return labels

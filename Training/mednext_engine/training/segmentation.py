"""Segmentation as a task of the loop: nnU-Net's patches and loss, Dice on held-out voxels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .augmentation import Augmentation, SpatialDraw
from .cases import UNKNOWN, TrainingCase
from .distributed import Group
from .losses import (
    coarser_labels,
    dice_and_binary_cross_entropy,
    dice_and_cross_entropy,
    supervision_weights,
)
from .randomness import SampleRandomness
from .recipe import Recipe
from .sampling import cut, draw_corner, wants_foreground
from .task import Batch, Check, Forward, Validation
from .validation import Counts, Window, choose_windows


@dataclass(frozen=True)
class SegmentationTask:
    """Patches of labelled volumes, Dice + cross-entropy, Dice on held-out voxels.

    Attributes:
        num_classes: classes of softmax, background included; or the number of regions.
        class_names: of the classes 1 ... (background is not among them), or of the regions.
        regions: for each region the label values (1 ...) that belong to it; None for softmax.
    """

    train_cases: tuple[TrainingCase, ...]
    validation_cases: tuple[TrainingCase, ...]
    num_classes: int
    class_names: tuple[str, ...]
    regions: tuple[tuple[int, ...], ...] | None = None
    _windows: dict[tuple[object, ...], tuple[Window, ...]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def sampler(self, recipe: Recipe) -> PatchSampler:
        return PatchSampler(self.train_cases, recipe)

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """Of (n, c, z, y, x) and its labels (n, z, y, x), weighted over all outputs."""
        image, labels = batch
        outputs = network(image)
        if isinstance(outputs, Tensor):
            outputs = [outputs]
        total = image.new_zeros(())
        for weight, logits in zip(supervision_weights(len(outputs)), outputs, strict=True):
            if weight:
                part = self.loss_of_output(logits, coarser_labels(labels, logits.shape[2:]))
                total = total + weight * part
        return total

    def loss_of_output(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Of one output (n, classes, z, y, x) and labels (n, z, y, x) of its size."""
        if self.regions is not None:
            return dice_and_binary_cross_entropy(logits, labels, self.regions)
        return dice_and_cross_entropy(logits, labels)

    def validate(
        self, network: nn.Module, recipe: Recipe, group: Group, forward: Forward, check: Check
    ) -> Validation | None:
        """Loss and Dice over `choose_windows`; the goal is the mean Dice of the classes present.

        Equal Dice (none is found at the beginning) is told apart by the loss.
        """
        windows = self._windows_of(recipe)
        if not windows:
            return None
        counts, losses = Counts(self.num_classes), [0.0, 0.0]
        for window in windows[group.rank :: group.world]:
            check()
            image, labels = self._read(window, recipe)
            logits = forward(network, image)
            labels = labels.to(logits.device)
            losses[0] += float(self.loss_of_output(logits, labels))
            losses[1] += 1
            counts.add(*self._masks(logits[0], labels[0]))
        sums = group.total([*losses, *counts.table.ravel().tolist()])
        counts.table = counts.table * 0 + torch.tensor(sums[2:]).view(3, -1).numpy()
        return self._judge(sums[0] / sums[1], counts.dice())

    def _judge(self, loss: float, dice: list[float | None]) -> Validation:
        named = dice if self.regions is not None else dice[1:]
        scores = {n: d for n, d in zip(self.class_names, named, strict=True) if d is not None}
        mean = sum(scores.values()) / len(scores) if scores else 0.0
        below = 1e-6 / (1.0 + math.exp(min(loss, 50.0)))  # in (0, 1e-6), larger for smaller losses
        return Validation(loss, scores, mean + below)

    def _masks(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted and true (classes, known voxels) of (classes, z, y, x) and (z, y, x)."""
        known = labels >= 0
        truth, scores = labels[known].long(), logits[:, known]
        if self.regions is not None:
            inside = [torch.isin(truth, truth.new_tensor(list(r))) for r in self.regions]
            return scores > 0, torch.stack(inside)
        classes = torch.arange(self.num_classes, device=logits.device)[:, None]
        return scores.argmax(0)[None] == classes, truth[None] == classes

    def _windows_of(self, recipe: Recipe) -> tuple[Window, ...]:
        key = (recipe.patch_size, recipe.validation_windows)
        if key not in self._windows:
            self._windows[key] = choose_windows(self.validation_cases, *key)
        return self._windows[key]

    def _read(self, window: Window, recipe: Recipe) -> tuple[Tensor, Tensor]:
        data, labels = self.validation_cases[window.case].open()
        image = cut(data, window.corner, recipe.patch_size, 0)
        marks = cut(labels, window.corner, recipe.patch_size, UNKNOWN)
        return torch.from_numpy(image)[None], torch.from_numpy(marks)[None]


class PatchSampler:
    """Cuts and augments patches (`Sampler`): image (c, z, y, x) float32, labels (z, y, x) int16."""

    def __init__(self, cases: tuple[TrainingCase, ...], recipe: Recipe) -> None:
        self.cases, self.recipe = cases, recipe
        self.augmentation = (
            Augmentation(recipe.patch_size, recipe.mirror_axes, recipe.masked_channels)
            if recipe.augment
            else None
        )
        for case in cases:
            case.open()
            _ = case.locations  # found here, not by several threads at once

    def __call__(self, step: int, index: int) -> Batch:
        recipe, patch = self.recipe, self.recipe.patch_size
        randomness = SampleRandomness(recipe.seed, step, index)
        generator = randomness.generator
        case = self.cases[generator.integers(len(self.cases))]
        foreground = wants_foreground(index, recipe.batch_size, recipe.foreground, generator)
        data, labels = case.open()
        where = case.locations
        corner = draw_corner(labels.shape, patch, where, foreground, generator)
        draw = SpatialDraw(patch, None)
        if self.augmentation is not None:
            draw = self.augmentation.draw(len(data), randomness)
        # The middle of what is cut is the patch itself, whatever is cut around it.
        first = [c - (s - p) // 2 for c, s, p in zip(corner, draw.size, patch, strict=True)]
        image = torch.from_numpy(cut(data, first, draw.size, 0))
        marks = torch.from_numpy(cut(labels, first, draw.size, UNKNOWN))[None]
        if self.augmentation is not None:
            image, marks = self.augmentation.apply(image, marks, draw, randomness)
        if where.complete:
            marks = marks.clamp_min(0)
        return image, marks[0]

"""Segmentation as a task of the training loop (skeleton)."""

from __future__ import annotations

from dataclasses import dataclass

from .cases import TrainingCase


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

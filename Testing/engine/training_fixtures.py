"""Synthetic cases, a tiny network and recipes for tests of the training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mednext_engine.networks import MedNeXt
from mednext_engine.training import Phase, Recipe, SegmentationTask, TrainingCase


def sphere_case(
    folder: Path,
    name: str,
    seed: int,
    size: int = 24,
    annotated_slices: slice | None = None,
) -> TrainingCase:
    """A bright ball of a third of the volume's side in noise; label 1 inside it."""
    generator = np.random.default_rng(seed)
    centre = generator.uniform(0.4 * size, 0.6 * size, 3)[:, None, None, None]
    inside = ((np.indices((size,) * 3) - centre) ** 2).sum(0) < (size / 4) ** 2
    data = (2 * inside + generator.normal(0, 0.5, inside.shape)).astype(np.float32)
    labels = inside.astype(np.int16)
    if annotated_slices is not None:
        known = labels[annotated_slices].copy()
        labels[:] = -1
        labels[annotated_slices] = known
    return stored_case(folder, name, data[None], labels)


def stored_case(folder: Path, name: str, data: np.ndarray, labels: np.ndarray) -> TrainingCase:
    folder.mkdir(parents=True, exist_ok=True)
    case = TrainingCase(name, folder / f"{name}_data.npy", folder / f"{name}_labels.npy")
    np.save(case.data, data)
    np.save(case.labels, labels)
    return case


def tiny_network(classes: int = 2, channels: int = 2) -> MedNeXt:
    torch.manual_seed(0)
    return MedNeXt(1, classes, channels=channels, blocks=1, expansion=2, deep_supervision=True)


def sphere_task(folder: Path, cases: int = 2) -> SegmentationTask:
    train = tuple(sphere_case(folder, f"train{i}", i) for i in range(cases))
    return SegmentationTask(train, (sphere_case(folder, "held_out", 9),), 2, ("ball",))


def short_recipe(steps: int = 4, **changes: object) -> Recipe:
    settings: dict[str, object] = {
        "patch_size": (16, 16, 16),
        "phases": (Phase("all", steps, 0, 1e-3),),
        "steps_per_epoch": 2,
        "threads": 1,
        "device": "cpu",
    }
    return Recipe(**{**settings, **changes})  # type: ignore[arg-type]

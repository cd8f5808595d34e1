"""The one training loop, which fine-tuning and pre-training share.

What a batch is, its loss and its validation come from a task (`task.Task`); the loop knows nothing
of labels. Names below are looked up on first use, so that importing this package loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cases import TrainingCase
    from .control import Control, EpochReport, StepReport
    from .loop import Outcome, train
    from .memory import Fit, choose_patch, seconds_per_step, training_bytes
    from .recipe import Phase, Recipe
    from .segmentation import SegmentationTask
    from .state import load_weights

_HOMES = {
    "TrainingCase": "cases",
    "Control": "control",
    "EpochReport": "control",
    "StepReport": "control",
    "Outcome": "loop",
    "train": "loop",
    "Fit": "memory",
    "choose_patch": "memory",
    "seconds_per_step": "memory",
    "training_bytes": "memory",
    "Phase": "recipe",
    "Recipe": "recipe",
    "SegmentationTask": "segmentation",
    "load_weights": "state",
}

__all__ = [
    "Control",
    "EpochReport",
    "Fit",
    "Outcome",
    "Phase",
    "Recipe",
    "SegmentationTask",
    "StepReport",
    "TrainingCase",
    "choose_patch",
    "load_weights",
    "seconds_per_step",
    "train",
    "training_bytes",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)

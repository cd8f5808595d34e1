"""The training loop (skeleton)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .control import Control, EpochReport
from .recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

Reason = Literal["finished", "plateau", "stopped"]


@dataclass(frozen=True)
class Outcome:
    """What a training leaves. Weights are on the CPU, float32; seconds are wall time, all parts."""

    best_weights: dict[str, Tensor]
    last_weights: dict[str, Tensor]
    best_epoch: int
    epochs: int
    steps: int
    skipped: int
    seconds: float
    reason: Reason
    curves: tuple[EpochReport, ...]


def train(
    network: nn.Module,
    task: Any,
    recipe: Recipe,
    folder: Path,
    control: Control,
    resume: bool = False,
) -> Outcome:
    """Trains `network` in place and returns its best and last weights."""
    raise NotImplementedError

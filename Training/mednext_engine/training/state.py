"""Checkpoints of a training (skeleton)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LATEST = "checkpoint_latest.pth"
BEST = "checkpoint_best.pth"


def load_weights(path: Path) -> dict[str, Tensor]:
    """The network's weights of a run's checkpoint, on the CPU. Raises ModelError."""
    raise NotImplementedError

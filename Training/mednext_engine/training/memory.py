"""Memory and time that a training takes (skeleton)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .recipe import Checkpointing, Precision

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Fit:
    """Sizes with which a training fits a device; `note` says what was reduced, or is empty."""

    patch_size: tuple[int, int, int]
    batch_size: int
    checkpointing: Checkpointing
    bytes: int
    note: str


def training_bytes(
    network: nn.Module,
    patch_size: Sequence[int],
    batch_size: int,
    *,
    device: str = "cpu",
    precision: Precision = "auto",
    checkpointing: Checkpointing = None,
    optimizer: str = "adamw",
) -> int:
    """Peak bytes of one training step, weights and optimiser included."""
    raise NotImplementedError


def choose_patch(
    network: nn.Module,
    patch_size: Sequence[int],
    batch_size: int,
    free_bytes: int,
    *,
    device: str = "cpu",
    precision: Precision = "auto",
    checkpointing: Checkpointing = None,
    optimizer: str = "adamw",
) -> Fit:
    """The wanted sizes, or the nearest that fit: first checkpointing, then batch, then patch.

    Raises:
        ResourceError: not even the smallest patch fits.
    """
    raise NotImplementedError


def seconds_per_step(
    network: nn.Module,
    patch_size: Sequence[int],
    batch_size: int,
    *,
    device: str = "cpu",
    precision: Precision = "auto",
) -> float:
    """Estimated seconds of a step, from two real ones on a smaller patch."""
    raise NotImplementedError

"""What the loop asks of a task: a sample, a loss, a validation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from .recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .distributed import Group

Batch = tuple["Tensor", ...]
Check = Callable[[], None]


@dataclass(frozen=True)
class Validation:
    """Result of a validation.

    Attributes:
        loss: mean over the windows.
        scores: by name, in the order of the curves (Dice by class).
        goal: what the best weights have most of.
    """

    loss: float
    scores: dict[str, float]
    goal: float


class Sampler(Protocol):
    """Makes samples. Called in threads; holds nothing that a call changes."""

    def __call__(self, step: int, index: int) -> Batch:
        """Sample `index` (0 ... recipe.batch_size - 1) of step `step`: tensors without a batch
        axis. It follows from the recipe's seed, `step` and `index` alone."""
        ...


class Task(Protocol):
    """A training task: segmentation here, restoration of masked patches in pre-training."""

    def sampler(self, recipe: Recipe) -> Sampler:
        """What makes the samples of a run with `recipe`."""
        ...

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """Loss of a batch (each tensor with a batch axis in front), ready for backward."""
        ...

    def validate(
        self, network: nn.Module, recipe: Recipe, group: Group, forward: Forward, check: Check
    ) -> Validation | None:
        """Judges the network (in evaluation mode); None where there is nothing to judge it by.

        With several processes each does its part, and all return the same. `check` is called
        between windows: it raises where the run was cancelled.
        """
        ...


Forward = Callable[["nn.Module", "Tensor"], "Tensor"]
"""Runs the network on a CPU tensor (n, c, z, y, x) on the run's device and in its precision; the
finest output in float32, on the device."""

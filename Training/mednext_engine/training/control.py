"""What a training says while it runs, and how it is told to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..monitor import Monitor


@dataclass(frozen=True)
class StepReport:
    """One optimiser step. `loss` is NaN where the step was skipped; seconds are wall time."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    seconds: float
    seconds_left: float | None


@dataclass(frozen=True)
class EpochReport:
    """One epoch. `dice` holds the classes that the validation cases have; empty without any."""

    epoch: int
    epochs: int
    step: int
    train_loss: float
    validation_loss: float | None
    dice: dict[str, float]
    learning_rate: float
    seconds_left: float | None
    memory_bytes: int
    best: bool


def _ignore_step(_: StepReport) -> None:
    return None


def _ignore_epoch(_: EpochReport) -> None:
    return None


def _ignore_earlier(_: Sequence[EpochReport]) -> None:
    return None


@dataclass
class Control:
    """The run's line to the person.

    Attributes:
        monitor: progress, notes, and cancel: `Cancelled` ends the run, its checkpoint stays.
        stop: set from any thread, it ends the run in order: the best weights are its result.
        on_step, on_epoch: called in the training's thread.
        on_resumed: the epochs that a resumed run had before, once, so that curves go on.
    """

    monitor: Monitor = field(default_factory=Monitor)
    stop: threading.Event = field(default_factory=threading.Event)
    on_step: Callable[[StepReport], None] = _ignore_step
    on_epoch: Callable[[EpochReport], None] = _ignore_epoch
    on_resumed: Callable[[Sequence[EpochReport]], None] = _ignore_earlier

"""The training loop: rate, step, validate, keep the best, save, stop; in that order."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import Cancelled, OutputError, ResourceError
from .batches import Batches, choose_threads
from .control import Control, EpochReport, StepReport
from .curves import write_curves
from .device import free_cached_memory, memory_in_use, out_of_memory
from .distributed import Group, joined
from .errors import TrainingError
from .recipe import Recipe
from .relief import set_checkpointing, steps_down
from .schedule import learning_rate, phase_at, warmed_up_after
from .state import BEST, LATEST, Progress, load_best, load_latest, save_best, save_latest
from .stepper import Stepper
from .task import Task

if TYPE_CHECKING:
    from torch import Tensor, nn

Reason = Literal["finished", "plateau", "stopped"]
MOST_SKIPPED = 20
"""Steps in a row without a usable loss after which a run has failed."""


@dataclass(frozen=True)
class Outcome:
    """What a training leaves.

    Attributes:
        best_weights, last_weights: state dicts on the CPU.
        best_epoch: 1 ...; 0 where the run was stopped before the end of its first epoch.
        skipped: steps without a usable loss.
        seconds: wall time of all parts of the run.
        curves: one report an epoch.
    """

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
    task: Task,
    recipe: Recipe,
    folder: Path,
    control: Control,
    resume: bool = False,
) -> Outcome:
    """Trains `network` in place, on the recipe's device.

    `folder` receives the checkpoints (`state.LATEST`, `state.BEST`) and the curves. A resumed run
    goes on from the latest checkpoint as if it had not been interrupted, bit for bit on a CPU with
    the same number of threads. Under `torchrun` all processes call this with equal arguments.

    Raises:
        Cancelled: `control.monitor` was cancelled; the checkpoint is of the step before.
        InputError: a case or the checkpoint cannot be used.
        OutputError: the folder cannot be written.
        ResourceError: memory does not suffice for the smallest step.
        TrainingError: many steps in a row had a loss that is no number.
    """
    with joined(recipe) as group:
        run = _Run(network, task, recipe, folder, control, group)
        run.start(resume)
        return run.train()


class _Run:
    """A run in progress."""

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        recipe: Recipe,
        folder: Path,
        control: Control,
        group: Group,
    ) -> None:
        self.task, self.folder, self.control, self.group = task, folder, control, group
        self.wanted = self.recipe = recipe  # as asked for, and as memory allows
        self.progress = Progress()
        self.best: dict[str, Tensor] | None = None
        self.phase = -1
        self.durations: deque[float] = deque(maxlen=50)
        self.judging = 0.0  # seconds of the last validation
        self.began = self.saved = time.monotonic()
        self.weight = 1.0
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"The folder of the training cannot be written ({error.strerror})."
            ) from error
        set_checkpointing(network, recipe.checkpointing)
        self.stepper = Stepper(network, recipe, group, self.check)

    def check(self) -> None:
        """Raises where the run was cancelled. Several processes agree on that between steps."""
        if self.group.world == 1:
            self.control.monitor.check()

    def start(self, resume: bool) -> None:
        """Takes over the latest checkpoint, if there is one; else clears what another run left."""
        if resume and (self.folder / LATEST).is_file():
            self._resume()
        elif self.group.first:
            for name in (LATEST, BEST):
                (self.folder / name).unlink(missing_ok=True)
        self.group.wait()

    def _resume(self) -> None:
        self.progress, content = load_latest(self.folder, self.wanted)
        sizes = self.progress
        z, y, x = sizes.patch_size
        self.recipe = replace(
            self.wanted,
            patch_size=(z, y, x),
            batch_size=sizes.batch_size,
            checkpointing=sizes.checkpointing,  # type: ignore[arg-type]
        )
        set_checkpointing(self.stepper.network, self.recipe.checkpointing)
        self.stepper.load(content)
        best = load_best(self.folder)
        if best is not None:
            self.best = best[0]
        if self.group.first and self.progress.curves:
            self.control.on_resumed(tuple(self.progress.curves))

    def train(self) -> Outcome:
        self.began = time.monotonic() - self.progress.seconds
        self.saved = time.monotonic()
        reason: Reason | None = None
        try:
            while reason is None:
                with self._batches() as batches:
                    reason = self._steps(batches)
        except Cancelled:
            self.stepper.optimizer.zero_grad(set_to_none=True)
            self._save()
            raise
        self._save()
        progress, last = self.progress, self.stepper.weights()
        return Outcome(
            best_weights=last if self.best is None else self.best,
            last_weights=last,
            best_epoch=progress.best_epoch,
            epochs=progress.epoch,
            steps=progress.step,
            skipped=progress.skipped,
            seconds=progress.seconds,
            reason=reason,
            curves=tuple(progress.curves),
        )

    def _batches(self) -> Batches:
        recipe, device = self.recipe, self.group.device
        share = self.group.share(recipe.batch_size)
        self.weight = len(share) * self.group.world / recipe.batch_size
        threads = choose_threads(recipe.threads, device)
        sampler = self.task.sampler(recipe)
        return Batches(sampler, share, self.progress.step, threads, device.type == "cuda")

    def _steps(self, batches: Batches) -> Reason | None:
        """Steps until the run ends, and why it does; None where smaller batches are needed."""
        progress, recipe = self.progress, self.recipe
        while True:
            if progress.step == min((progress.epoch + 1) * recipe.steps_per_epoch, recipe.steps):
                self._end_epoch()
                if self._on_plateau():
                    return "plateau"
            if progress.step >= recipe.steps:
                return "finished"
            if self._told_to_stop():
                if not progress.best_epoch:
                    self._end_epoch()
                return "stopped"
            if not self._step(batches):
                return None
            if time.monotonic() - self.saved >= recipe.checkpoint_seconds:
                self._save()

    def _step(self, batches: Batches) -> bool:
        """One step; False where memory did not suffice and the sizes were changed."""
        began = time.monotonic()
        progress, phases = self.progress, self.recipe.phases
        index, _ = phase_at(phases, progress.step)
        if index != self.phase:
            self.stepper.train_part(phases[index].trains)
            self.phase = index
        rate = learning_rate(phases, progress.step)
        batch = batches.take(self.check)
        try:
            loss = self.stepper.step(self.task, batch, rate, self.weight)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            loss = None
        if loss is None:  # outside the handler, whose traceback holds on to the step's tensors
            self._relieve()
            return False
        self._count(loss)
        self.durations.append(time.monotonic() - began)
        self._report_step(loss, rate, phases[index].name)
        return True

    def _count(self, loss: float) -> None:
        progress = self.progress
        progress.step += 1
        if math.isfinite(loss):
            progress.losses.append(loss)
            progress.in_a_row = 0
            return
        progress.skipped += 1
        progress.in_a_row += 1
        if progress.skipped == 1:
            self.control.monitor.note("A step whose loss was no number was left out.")
        if progress.in_a_row >= MOST_SKIPPED:
            raise TrainingError(
                f"The loss was no number in {MOST_SKIPPED} steps in a row.",
                "Choose a lower learning rate, or full precision (fp32).",
            )

    def _relieve(self) -> None:
        """Next smaller sizes. Raises ResourceError where there are none."""
        self.stepper.optimizer.zero_grad(set_to_none=True)
        free_cached_memory(self.group.device)
        network = self.stepper.network
        smaller = None if self.group.world > 1 else next(steps_down(network, self.recipe), None)
        if smaller is None:
            raise ResourceError(
                "The memory does not suffice for this training.",
                "Choose a smaller patch, batch or network, or gradient checkpointing.",
            )
        self.recipe, sentence = smaller
        set_checkpointing(network, self.recipe.checkpointing)
        self.control.monitor.note(f"Memory ran out. {sentence}")

    def _told_to_stop(self) -> bool:
        """Whether to end in order; raises where the run was cancelled. All processes agree."""
        control = self.control
        stop, cancel = self.group.total(
            [float(control.stop.is_set()), float(control.monitor.cancelled)]
        )
        if cancel:
            raise Cancelled()
        return stop > 0

    def _report_step(self, loss: float, rate: float, phase: str) -> None:
        step, steps = self.progress.step, self.recipe.steps
        left = self._seconds_left()
        if self.group.first:
            report = StepReport(step, steps, loss, rate, self.durations[-1], left)
            self.control.on_step(report)
            try:
                self.control.monitor.advance(step / steps, f"{phase}: step {step} of {steps}")
            except Cancelled:
                if self.group.world == 1:
                    raise
                # Else left to `_told_to_stop`, in which all processes take part.

    def _seconds_left(self) -> float | None:
        if not self.durations:
            return None
        step, recipe = self.progress.step, self.recipe
        typical = sorted(self.durations)[len(self.durations) // 2]
        return typical * (recipe.steps - step) + self.judging * (
            recipe.epochs - self.progress.epoch
        )

    def _end_epoch(self) -> None:
        """Validates, keeps the best weights, writes the curves, reports."""
        progress, recipe = self.progress, self.recipe
        began = time.monotonic()
        self.stepper.network.eval()
        result = self.task.validate(
            self.stepper.network, recipe, self.group, self.stepper.forward, self.check
        )
        self.judging = time.monotonic() - began
        progress.epoch += 1
        goal = float(progress.epoch) if result is None else result.goal  # else the latest is best
        best = goal > progress.best_goal
        if best:
            progress.best_goal, progress.best_epoch = goal, progress.epoch
            self.best = self.stepper.weights()
            if self.group.first:
                save_best(self.folder, self.best, progress.epoch)
        losses, progress.losses = progress.losses, []
        report = EpochReport(
            epoch=progress.epoch,
            epochs=recipe.epochs,
            step=progress.step,
            train_loss=sum(losses) / len(losses) if losses else math.nan,
            validation_loss=None if result is None else result.loss,
            dice={} if result is None else dict(result.scores),
            learning_rate=learning_rate(recipe.phases, max(progress.step - 1, 0)),
            seconds_left=self._seconds_left(),
            memory_bytes=memory_in_use(self.group.device),
            best=best,
        )
        progress.curves.append(report)
        if self.group.first:
            write_curves(self.folder, progress.curves)
            self.control.on_epoch(report)

    def _on_plateau(self) -> bool:
        """No better epoch for as long as the recipe waits, counted from the last warm-up on."""
        patience, progress = self.recipe.patience_epochs, self.progress
        if patience is None or progress.step >= self.recipe.steps:
            return False
        warm = warmed_up_after(self.recipe.phases) / self.recipe.steps_per_epoch
        return progress.epoch - max(progress.best_epoch, warm) >= patience

    def _save(self) -> None:
        progress, recipe = self.progress, self.recipe
        progress.seconds = time.monotonic() - self.began
        progress.patch_size, progress.batch_size = recipe.patch_size, recipe.batch_size
        progress.checkpointing = recipe.checkpointing
        if self.group.first:
            save_latest(self.folder, self.wanted, progress, self.stepper.state())
        self.saved = time.monotonic()

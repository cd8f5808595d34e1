"""How a network is trained: sizes, phases, rates. Plain values, no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..errors import InputError

Part = Literal["all", "decoder", "decoder+stem"]
Optimizer = Literal["adamw", "sgd"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Checkpointing = Literal["finest", "expansion", "block"] | None
"""Nothing; expansion branches of the two finest levels; all of them; whole blocks (slowest)."""


@dataclass(frozen=True)
class Phase:
    """Steps with one schedule and one choice of what is trained (paper 002, section 4).

    Attributes:
        name: shown to the person.
        steps: optimiser steps, warm-up included.
        warmup: of these, steps in which the rate rises linearly from `start` to `peak`.
        peak: highest learning rate.
        start: rate that the warm-up rises from.
        poly: after the warm-up, polynomial decay to zero at the end of the phase; else constant.
        trains: "all"; "decoder" keeps the encoder, its stem included, as it is; "decoder+stem"
            trains the stem too.
    """

    name: str
    steps: int
    warmup: int
    peak: float
    start: float = 0.0
    poly: bool = True
    trains: Part = "all"


@dataclass(frozen=True)
class Recipe:
    """Everything a run is determined by, beside its network and its data.

    Attributes:
        patch_size: voxels in plan axes (z, y, x), multiples of 16 for MedNeXt.
        batch_size: patches a step, over all processes together (as in nnU-Net).
        steps_per_epoch: steps between two validations.
        phases: one after the other.
        fresh: beginnings of the names of parameters that start anew in a network that was trained;
            their rate is `fresh_factor` times that of the phase.
        weight_decay, momentum: nnU-Net's; momentum (Nesterov) of SGD only.
        gradient_clip: largest norm of all gradients together.
        mirror_axes: spatial axes (0 to 2) along which patches may be mirrored.
        foreground: share of patches centred on a labelled structure (nnU-Net: 0.33).
        masked_channels: channels that the plan normalises inside the non-zero mask: their zeros
            stay zero whatever the augmentation does (nnU-Net's MaskImageTransform).
        augment: False for tests and for over-fitting on purpose.
        precision: of the passes; "auto" is bf16 on a GPU that has it, else fp16 there, else fp32.
        checkpointing: gradient checkpointing to begin with; None leaves the network as it is.
        threads: threads that augment; None chooses.
        patience_epochs: end the run after so many epochs without a better one; None never does.
        checkpoint_seconds: longest time between two checkpoints.
        validation_windows: most windows that a validation looks at.
    """

    patch_size: tuple[int, int, int]
    phases: tuple[Phase, ...]
    batch_size: int = 2
    steps_per_epoch: int = 250
    optimizer: Optimizer = "adamw"
    fresh: tuple[str, ...] = ()
    fresh_factor: float = 1.0
    weight_decay: float = 3e-5
    momentum: float = 0.99
    gradient_clip: float = 12.0
    mirror_axes: tuple[int, ...] = (0, 1, 2)
    foreground: float = 0.33
    masked_channels: tuple[int, ...] = ()
    augment: bool = True
    precision: Precision = "auto"
    checkpointing: Checkpointing = None
    seed: int = 0
    threads: int | None = None
    device: str = "auto"
    compile: bool = False
    patience_epochs: int | None = None
    checkpoint_seconds: float = 240.0
    validation_windows: int = 32

    def __post_init__(self) -> None:
        if len(self.patch_size) != 3 or min(self.patch_size) < 1:
            raise InputError(f"A patch has three sizes, not {self.patch_size}.")
        if self.batch_size < 1 or self.steps_per_epoch < 1 or not self.phases:
            raise InputError("A training needs at least one patch, one step and one phase.")
        for phase in self.phases:
            if not 0 <= phase.warmup <= phase.steps or phase.steps < 1 or phase.peak <= 0:
                raise InputError(f"The phase '{phase.name}' has impossible steps or rates.")
        if any(axis not in (0, 1, 2) for axis in self.mirror_axes):
            raise InputError(f"Patches cannot be mirrored along the axes {self.mirror_axes}.")

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    @property
    def epochs(self) -> int:
        return -(-self.steps // self.steps_per_epoch)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint or a report."""
        return asdict(self)

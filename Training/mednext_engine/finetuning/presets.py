"""How long a fine-tuning is and what its learning rate does: presets and their phases.

Phases and proportions are those of the S3D paper (paper 002, section 4, tables 3 and 10): its full
schedule is 275k steps with two warm-ups of 12.5k, 1/22 each; its shortest, 37.5k steps with a third
each, already beats training from scratch. The peak rate after pre-training is a tenth of the rate
from scratch (table 3), and MedNeXt's rate from scratch is 1e-3 with AdamW (paper 001, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..training.recipe import Phase

LONG_WARMUP = 12_500 / 275_000
SHORT_WARMUP = 12_500 / 37_500
SHORT_BELOW = 10_000
"""Steps below which a new decoder is warmed up in the proportions of the paper's shortest schedule:
it has all to learn, and with 1/22 of a thousand steps it would have 45."""
FROM_SCRATCH = {"adamw": 1e-3, "sgd": 1e-2}
"""Peak rates from scratch: MedNeXt's (paper 001) and nnU-Net's own."""
FINE_TUNING = 0.1  # of the rate from scratch: best in every row of paper 002, table 3
FINE_TUNING_STEPS = 37_500
"""The paper's shortest schedule (table 10). In fewer steps a tenth of the rate gets a network
nowhere: the rate then rises as the steps become fewer, up to the rate from scratch."""
EPOCHS_AT_LEAST = 10


@dataclass(frozen=True)
class Preset:
    """`steps` in all; an epoch, after which there is a point in the curves, has `per_epoch`."""

    steps: int
    per_epoch: int


PRESETS = {
    "quick": Preset(1_000, 50),
    "standard": Preset(7_500, 150),
    "thorough": Preset(37_500, 250),
}


def chosen_preset(name: str, steps: int | None = None) -> Preset:
    """The preset, or one of another length: its epochs then shrink so that curves still show."""
    preset = PRESETS[name]
    if steps is None:
        return preset
    return Preset(steps, max(1, min(preset.per_epoch, steps // EPOCHS_AT_LEAST)))


def warmup_steps(steps: int, transfer: str) -> int:
    """Length of one warm-up in a run of `steps`."""
    short = transfer == "encoder" and steps < SHORT_BELOW
    return max(1, round(steps * (SHORT_WARMUP if short else LONG_WARMUP)))


def phases(steps: int, transfer: str, optimizer: str) -> tuple[Phase, ...]:
    """What is trained when, and at which rate (paper 002, section 4).

    Args:
        steps: of all phases together.
        transfer: "encoder": a new decoder is warmed up with the encoder frozen, then everything is,
            then the rate falls as a polynomial (the paper's best row). "whole": one warm-up.
            "scratch": no warm-up, the full rate at once, as nnU-Net and MedNeXt do.
        optimizer: "adamw" or "sgd".
    """
    from ..training.recipe import Phase

    peak = FROM_SCRATCH[optimizer]
    if transfer == "scratch":
        return (Phase("From scratch", steps, warmup=0, peak=peak),)
    peak *= fine_tuning_factor(steps)
    warmup = min(warmup_steps(steps, transfer), steps)
    if transfer == "whole" or steps < 2:
        return (Phase("Whole network", steps, warmup=warmup, peak=peak),)
    return (
        Phase("Decoder", warmup, warmup=warmup, peak=peak, poly=False, trains="decoder"),
        Phase("Whole network", steps - warmup, warmup=min(warmup, steps - warmup), peak=peak),
    )


def fine_tuning_factor(steps: int) -> float:
    """The peak rate of a fine-tuning, as a share of the rate from scratch."""
    return min(1.0, FINE_TUNING * max(1.0, FINE_TUNING_STEPS / steps))


def fresh_factor(steps: int) -> float:
    """How much faster what is new (the heads) learns than the rest: at the rate from scratch."""
    return 1.0 / fine_tuning_factor(steps)


def patience(steps: int, per_epoch: int) -> int:
    """Epochs without a better validation after which a training ends: a quarter of them all."""
    return max(EPOCHS_AT_LEAST, steps // per_epoch // 4)

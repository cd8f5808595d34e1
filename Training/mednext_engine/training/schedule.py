"""Learning rate and trained part at each step: warm-ups and polynomial decay (paper 002, 4)."""

from __future__ import annotations

from collections.abc import Sequence

from .recipe import Phase

EXPONENT = 0.9
"""Of nnU-Net's PolyLR."""


def phase_at(phases: Sequence[Phase], step: int) -> tuple[int, int]:
    """Index of the phase that `step` (0 ...) is in, and the step within it; the last one stays."""
    for index, phase in enumerate(phases[:-1]):
        if step < phase.steps:
            return index, step
        step -= phase.steps
    return len(phases) - 1, step


def learning_rate(phases: Sequence[Phase], step: int) -> float:
    """Rate of optimiser step `step` (0 ...).

    In a warm-up of w steps, step i has start + (peak - start) (i + 1) / w, so that no step is lost
    at a rate of zero; after it, peak (1 - (i - w) / (n - w))^0.9, where n is the phase's length.
    """
    index, within = phase_at(phases, step)
    phase = phases[index]
    if within < phase.warmup:
        return phase.start + (phase.peak - phase.start) * (within + 1) / phase.warmup
    if not phase.poly:
        return phase.peak
    decayed = min((within - phase.warmup) / max(phase.steps - phase.warmup, 1), 1.0)
    return phase.peak * float((1.0 - decayed) ** EXPONENT)


def warmed_up_after(phases: Sequence[Phase]) -> int:
    """Steps until the last warm-up is over; before it, no plateau is one."""
    done = ends = 0
    for phase in phases:
        if phase.warmup:
            ends = done + phase.warmup
        done += phase.steps
    return ends

"""A long job made of parts, each with a monitor of its own."""

from __future__ import annotations

from dataclasses import replace

from ..monitor import Monitor, Progress


def part_of(monitor: Monitor, start: float, end: float) -> Monitor:
    """A monitor for the part of a job from fraction `start` to `end`.

    It is cancelled with the whole, and shares its notes and timings. What a part says of each of
    its steps is not a sentence to keep, so that only notes go on.
    """

    def report(progress: Progress) -> None:
        fraction = start + (end - start) * min(max(progress.fraction, 0.0), 1.0)
        note = progress.note if progress.note in monitor.notes else ""
        monitor.report(replace(progress, fraction=fraction, note=note))

    return Monitor(
        report=report,
        timings=monitor.timings,
        notes=monitor.notes,
        _cancelled=monitor._cancelled,
    )


def quiet_part_of(monitor: Monitor) -> Monitor:
    """A monitor that is cancelled with the whole and says nothing."""
    return Monitor(_cancelled=monitor._cancelled)

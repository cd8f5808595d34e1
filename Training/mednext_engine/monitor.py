"""Progress and cancel: the one thing a long job is given to speak and to listen with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .errors import Cancelled


@dataclass(frozen=True)
class Progress:
    """One report. `fraction` is of the whole job, 0 to 1; times are in seconds."""

    stage: str
    fraction: float
    seconds_left: float | None = None
    note: str = ""


def _silent(_: Progress) -> None:
    return None


@dataclass
class Monitor:
    """Reports progress to `report` and raises `Cancelled` from `check` once `cancel` was called.

    `cancel` may be called from any thread. A job calls `check` at least a few times a second.
    `timings` collects seconds per stage; `notes` collects sentences the person should read
    (a step down, a choice of device).
    """

    report: Callable[[Progress], None] = _silent
    timings: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _span: tuple[float, float] = (0.0, 1.0)
    _stage: str = ""
    _stage_started: float = 0.0

    def cancel(self) -> None:
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def check(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled()

    @contextmanager
    def stage(self, name: str, start: float, end: float) -> Iterator[None]:
        """Times a stage that covers the job from fraction `start` to `end`."""
        self.check()
        self._stage, self._span = name, (start, end)
        self._stage_started = time.monotonic()
        self.report(Progress(name, start))
        try:
            yield
        finally:
            passed = time.monotonic() - self._stage_started
            self.timings[name] = self.timings.get(name, 0.0) + passed

    def advance(self, within: float, note: str = "") -> None:
        """Reports `within` (0 to 1) of the running stage, with the time this stage still takes."""
        self.check()
        passed = time.monotonic() - self._stage_started
        left = passed * (1.0 - within) / within if within > 0.02 else None
        start, end = self._span
        self.report(Progress(self._stage, start + (end - start) * within, left, note))

    def note(self, sentence: str) -> None:
        """Records a sentence for the person, and shows it with the next report."""
        self.notes.append(sentence)
        self.report(Progress(self._stage, self._span[0], None, sentence))

"""Ctrl-C and the signal to terminate: the running job is stopped in order, nothing is left."""

from __future__ import annotations

import signal
import sys
from types import FrameType, TracebackType
from typing import Any

from ..monitor import Monitor
from . import exits


class Interrupt:
    """While in its `with`, the first signal cancels the guarded monitor; a second one breaks off
    as usual (KeyboardInterrupt)."""

    def __init__(self) -> None:
        self.happened = False
        self.exit_code = exits.INTERRUPTED
        self._monitor: Monitor | None = None
        self._before: dict[int, Any] = {}

    def guard(self, monitor: Monitor) -> Monitor:
        """The monitor that a signal cancels, at once if one has come already."""
        self._monitor = monitor
        if self.happened:
            monitor.cancel()
        return monitor

    def __enter__(self) -> Interrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.happened:
            raise KeyboardInterrupt
        self.happened = True
        if number == signal.SIGTERM:
            self.exit_code = exits.TERMINATED
        sys.stderr.write("\nStopping; what is done stays.\n")
        if self._monitor is not None:
            self._monitor.cancel()

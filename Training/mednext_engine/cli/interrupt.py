"""Ctrl-C and the signal to terminate: the running job is stopped in order, nothing is left."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

from ..atomic import remove_unfinished
from ..monitor import Monitor
from . import exits


class Interrupt:
    """While in its `with`, the first signal cancels the guarded monitor; a second one breaks off
    as usual (KeyboardInterrupt).

    Args:
        patience: seconds the job gets to stop; then the process ends all the same, and what it was
            writing is removed. None: as long as it takes.
    """

    def __init__(self, patience: float | None = None) -> None:
        self.happened = False
        self.exit_code = exits.INTERRUPTED
        self._monitor: Monitor | None = None
        self._before: dict[int, Any] = {}
        self._patience = patience
        self._stopped = threading.Event()

    def guard(self, monitor: Monitor) -> Monitor:
        """The monitor that a signal cancels, at once if one has come already."""
        self._monitor = monitor
        if self.happened:
            monitor.cancel()
        return monitor

    def __enter__(self) -> Interrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        if self._patience is not None:
            # Python runs handlers between two lines of its own, so never within a layer of a
            # network. What the system writes here is read by a thread at once.
            self._inner, self._outer = socket.socketpair()
            self._outer.setblocking(False)
            signal.set_wakeup_fd(self._outer.fileno(), warn_on_full_buffer=False)
            threading.Thread(target=self._watch, args=(self._patience,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        if self._patience is not None:
            signal.set_wakeup_fd(-1)
            self._outer.close()
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

    def _watch(self, patience: float) -> None:
        number = self._inner.recv(1)
        if number and self._monitor is not None:
            self._monitor.cancel()
        if number and not self._stopped.wait(patience):
            remove_unfinished()
            os._exit(exits.TERMINATED if number[0] == signal.SIGTERM else exits.INTERRUPTED)
        self._inner.close()

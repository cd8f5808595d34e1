"""Asks before Slicer is closed in mid-training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt


class QuitGuard(qt.QObject):
    """Watches a window; where `may_close` says no, the window stays open.

    Slicer may end without closing its window (a script, the system): the training process ends
    with it then, and the training can be resumed.
    """

    def __init__(self, window: Any, may_close: Callable[[], bool]) -> None:
        super().__init__()
        self._window, self._may_close = window, may_close
        window.installEventFilter(self)

    def eventFilter(self, watched: Any, event: Any) -> bool:
        if event.type() != qt.QEvent.Close or self._may_close():
            return False
        event.ignore()
        return True

    def stop(self) -> None:
        self._may_close = lambda: True
        if self._window:
            self._window.removeEventFilter(self)

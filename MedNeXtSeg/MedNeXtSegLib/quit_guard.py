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
        self._watching = False

    def watch(self, wanted: bool) -> None:
        """Looks at the window's events only while it is wanted: there are many of them."""
        if wanted == self._watching or not self._window:
            return
        self._watching = wanted
        if wanted:
            self._window.installEventFilter(self)
        else:
            self._window.removeEventFilter(self)

    def eventFilter(self, watched: Any, event: Any) -> bool:
        if event.type() != qt.QEvent.Close or self._may_close():
            return False
        event.ignore()
        return True

"""`deleteLater` as code in Slicer meets it, which always runs inside the application's loop.

Tests run outside of any loop. Qt would then delete in the first nested one: a message box that
says `deleteLater` before `exec_`, as Slicer's own do, would close at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import shiboken6
from PySide6.QtCore import QObject

_LOOPS = {
    "exec", "question", "information", "warning", "critical", "about", "getText", "getItem",
    "getInt", "getDouble", "getOpenFileName", "getOpenFileNames", "getSaveFileName",
    "getExistingDirectory",
}  # fmt: skip
_waiting: list[QObject] = []
_depth = 0


def delete_later(inner: QObject) -> None:
    """Inside a loop Qt knows best; outside, the object goes with the next `processEvents`."""
    if _depth:
        inner.deleteLater()
    else:
        _waiting.append(inner)


@contextmanager
def around(name: str) -> Iterator[None]:
    """Counts the loops a call enters; deletes what waits once events have been processed."""
    global _depth
    enters = name in _LOOPS
    _depth += enters
    try:
        yield
    finally:
        _depth -= enters
    if name == "processEvents" and not _depth:
        while _waiting:
            inner = _waiting.pop()
            if shiboken6.isValid(inner):
                shiboken6.delete(inner)

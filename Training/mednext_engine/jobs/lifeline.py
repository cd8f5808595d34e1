"""Whether the process that started us still lives, asked without any package."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

INTERVAL = 0.5  # seconds


class Process:
    """Another process, to be asked whether it lives. On Windows a handle keeps its number ours."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._handle = _open_windows(pid) if sys.platform == "win32" else None

    def alive(self) -> bool:
        if sys.platform == "win32":
            return _alive_windows(self._handle)
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


class Parent:
    """The parent at the time of asking first; orphans are given another one on POSIX systems."""

    def __init__(self) -> None:
        self._pid = os.getppid()
        self._process = Process(self._pid)

    def alive(self) -> bool:
        if sys.platform == "win32":
            return self._process.alive()
        return os.getppid() == self._pid


def watch(pid: int | None, gone: Callable[[], None]) -> None:
    """Calls `gone`, once and from a thread of its own, when the parent or process `pid` ended."""
    watched: list[Parent | Process] = [Parent()]
    if pid is not None:
        watched.append(Process(pid))

    def look() -> None:
        while all(one.alive() for one in watched):
            time.sleep(INTERVAL)
        gone()

    threading.Thread(target=look, name="lifeline", daemon=True).start()


if sys.platform == "win32":
    import ctypes

    _SYNCHRONIZE = 0x00100000
    _TIMEOUT = 0x00000102

    def _open_windows(pid: int) -> int | None:
        kernel = ctypes.windll.kernel32
        kernel.OpenProcess.restype = ctypes.c_void_p
        return kernel.OpenProcess(_SYNCHRONIZE, False, pid)

    def _alive_windows(handle: int | None) -> bool:
        if not handle:
            return False
        wait = ctypes.windll.kernel32.WaitForSingleObject
        return wait(ctypes.c_void_p(handle), 0) == _TIMEOUT

else:

    def _open_windows(pid: int) -> int | None:
        return None

    def _alive_windows(handle: int | None) -> bool:
        return False

"""A process as the worker's client needs it, and how to end one for good.

`WorkerProcess` is small on purpose: in Slicer it is a QProcess (`qt_process`), in a script or a
test it may be something else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Command:
    """What to start: program, arguments and the whole environment."""

    program: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


class WorkerProcess(Protocol):
    """A running child. The callbacks are called on the main thread only."""

    on_output: Callable[[bytes], None]
    on_log: Callable[[bytes], None]
    on_end: Callable[[str], None]  # once, with how it ended, in words

    def start(self, command: Command) -> None: ...

    def write(self, data: bytes) -> bool:
        """False when the child does not listen any more."""
        ...

    def close_input(self) -> None: ...

    def wait(self, milliseconds: int) -> None:
        """Lets callbacks come, for about this long; returns early when something came."""
        ...

    def running(self) -> bool: ...

    def pid(self) -> int: ...

    def kill(self) -> None: ...


MakeProcess = Callable[[], WorkerProcess]


def kill_tree(pids: Iterable[int]) -> None:
    """Ends processes and all of their descendants at once.

    PythonSlicer is a launcher whose child does the work: killing the launcher alone would leave
    the work running.
    """
    wanted = {pid for pid in pids if pid > 0}
    if not wanted:
        return
    if os.name == "nt":
        for pid in wanted:
            _run(["taskkill", "/PID", str(pid), "/T", "/F"])
        return
    for pid in (*descendants(wanted), *wanted):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def descendants(pids: Iterable[int]) -> list[int]:
    """The children of `pids`, their children and so on (POSIX), the youngest first."""
    children: dict[int, list[int]] = {}
    for line in _run(["ps", "-A", "-o", "pid=,ppid="]).splitlines():
        numbers = line.split()
        if len(numbers) == 2 and all(n.isdigit() for n in numbers):
            children.setdefault(int(numbers[1]), []).append(int(numbers[0]))
    found: list[int] = []
    waiting = list(pids)
    while waiting:
        for child in children.get(waiting.pop(), []):
            if child not in found:
                found.append(child)
                waiting.append(child)
    return found[::-1]


def alive(pid: int) -> bool:
    """Whether a process of this number runs (POSIX; elsewhere yes, to be on the safe side)."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            check=False,
            timeout=10,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("ascii", "replace")

"""What the worker has to do: tasks, and lanes in which they are done one after the other."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any

from ..monitor import Monitor
from .protocol import Request


class Task:
    """One request on its way from waiting over running to over, with the monitor that stops it.

    `stop` is for a training: when set, it ends in order and keeps its best.
    """

    def __init__(self, request: Request, monitor: Monitor) -> None:
        self.request = request
        self.monitor = monitor
        self.stop = threading.Event()
        self.stage = ""
        self._state = "waiting"
        self._answered = False
        self._lock = threading.Lock()

    @property
    def waiting(self) -> bool:
        return self._state == "waiting"

    def begin(self) -> bool:
        """False when it was cancelled while it waited."""
        with self._lock:
            if self._state != "waiting":
                return False
            self._state = "running"
            return True

    def cancel(self) -> bool:
        """Stops it; True when it had not begun, so that nobody else will answer for it."""
        with self._lock:
            self.monitor.cancel()
            if self._state != "waiting":
                return False
            self._state = "over"
            return True

    def claim_answer(self) -> bool:
        """True for the one who is to send the answer; whoever comes later must not."""
        with self._lock:
            first, self._answered = not self._answered, True
            return first

    def finish(self) -> None:
        with self._lock:
            self._state = "over"


class Lane:
    """Does tasks one after the other, in the thread that calls `run`.

    `limit` is how many may wait. A lane that runs nothing and has nothing waiting is idle.
    """

    def __init__(self, name: str, limit: int, work: Callable[[Task], None]) -> None:
        self.name = name
        self._work = work
        self._waiting: queue.Queue[Task | None] = queue.Queue()
        self._limit = limit
        self._idle = threading.Event()
        self._idle.set()

    def add(self, task: Task) -> bool:
        """False when too many are waiting."""
        if self._waiting.qsize() >= self._limit:
            return False
        self._waiting.put(task)
        return True

    @property
    def busy(self) -> bool:
        return not self._idle.is_set() or not self._waiting.empty()

    def run(self) -> None:
        """Works until `stop` is called and the running task is done."""
        while (task := self._waiting.get()) is not None:
            self._idle.clear()
            try:
                if task.begin():
                    self._work(task)
            finally:
                task.finish()
                self._idle.set()

    def start(self) -> None:
        """Runs in a thread of its own, which does not keep the process alive."""
        threading.Thread(target=self.run, name=self.name, daemon=True).start()

    def stop(self) -> None:
        self._waiting.put(None)

    def wait_idle(self, seconds: float) -> bool:
        return self._idle.wait(seconds)


class Registry:
    """The tasks that are not over, by the name of their job."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}
        self._lock = threading.Lock()

    def add(self, task: Task) -> bool:
        """False when a job of that name is under way."""
        with self._lock:
            return self._tasks.setdefault(task.request.job, task) is task

    def remove(self, task: Task) -> None:
        with self._lock:
            if self._tasks.get(task.request.job) is task:
                del self._tasks[task.request.job]

    def find(self, job: str) -> Task | None:
        with self._lock:
            return self._tasks.get(job)

    def all(self) -> list[Task]:
        with self._lock:
            return list(self._tasks.values())


class Outbox:
    """Sends lines from a thread of its own, so that nobody waits for a client that does not read.

    `lost` is called, in that thread, when the client is gone.
    """

    def __init__(self, write: Callable[[bytes], Any], lost: Callable[[], None]) -> None:
        self._write = write
        self._lost = lost
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def backlog(self) -> int:
        return self._lines.qsize()

    def put(self, line: str) -> None:
        self._lines.put(line.encode("ascii"))

    def close(self, seconds: float) -> None:
        """Sends what is left, for at most `seconds`."""
        self._lines.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(seconds)

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while (line := self._lines.get()) is not None:
                self._write(line)
            return
        self._lost()

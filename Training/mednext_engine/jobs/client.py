"""A worker of one's own, for scripts and tests: start it, ask it, listen, stop it for good.

    with Worker() as worker:
        reply = worker.ask(protocol.Segment(job="1", inputs=[...], output=..., model=...))

Slicer's panel does the same with a QProcess; it needs `protocol` only.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from ..errors import EngineError
from . import protocol as p

Outcome = p.Result | p.Error | p.Cancelled


class WorkerLost(EngineError):
    """The worker ended, or did not answer in time."""

    code = "worker"


class Worker:
    """A worker process and what it says.

    Args:
        python: the interpreter; by default this one.
        command: what follows the interpreter; by default the worker's module.
        environment: variables to add to, or replace in, this process's own.
        stderr: where its log lines go; by default nowhere.
    """

    def __init__(
        self,
        python: str = sys.executable,
        command: Sequence[str] = ("-m", "mednext_engine.jobs.worker"),
        environment: Mapping[str, str] | None = None,
        stderr: IO[bytes] | int = subprocess.DEVNULL,
    ) -> None:
        package_root = str(Path(__file__).resolve().parents[2])
        variables = {**os.environ, "PYTHONUTF8": "1", **(environment or {})}
        paths = [package_root, variables.get("PYTHONPATH", "")]
        variables["PYTHONPATH"] = os.pathsep.join(p for p in paths if p)
        self.process = subprocess.Popen(
            [python, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=variables,
            start_new_session=os.name == "posix",
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        self._said: queue.Queue[p.Message | p.MessageError | None] = queue.Queue()
        self._serial = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def new_job(self) -> str:
        """A name that no job of this worker has yet."""
        self._serial += 1
        return str(self._serial)

    def wait_ready(self, seconds: float = 30.0) -> p.Ready:
        """The first message. Raises WorkerLost."""
        message = self.receive(seconds)
        if not isinstance(message, p.Ready):
            raise WorkerLost(f"The worker began with {message!r} instead of 'ready'.")
        return message

    def send(self, request: p.Request) -> None:
        self.send_raw(p.encode(request).encode("ascii"))

    def send_raw(self, data: bytes) -> None:
        """Bytes as they are. Raises WorkerLost when the worker does not listen any more."""
        stream = self.process.stdin
        if stream is None:
            raise WorkerLost("The worker has no stdin.")
        try:
            stream.write(data)
            stream.flush()
        except (OSError, ValueError):
            raise WorkerLost("The worker does not listen any more.") from None

    def receive(self, seconds: float) -> p.Message:
        """The next message. Raises WorkerLost after `seconds`, or when the worker ended."""
        try:
            message = self._said.get(timeout=seconds)
        except queue.Empty:
            raise WorkerLost(f"The worker said nothing for {seconds:g} s.") from None
        if message is None:
            self._said.put(None)
            raise WorkerLost(f"The worker ended (exit code {self.process.poll()}).")
        if isinstance(message, p.MessageError):
            raise message
        return message

    def wait(
        self,
        job: str,
        seconds: float = 60.0,
        on_progress: Callable[[p.Progress], None] | None = None,
    ) -> Outcome:
        """The answer to `job`, whatever it is; messages of other jobs are dropped."""
        deadline = time.monotonic() + seconds
        while True:
            message = self.receive(max(0.0, deadline - time.monotonic()))
            if message.job != job:
                continue
            if isinstance(message, p.Progress):
                if on_progress is not None:
                    on_progress(message)
            elif isinstance(message, (p.Result, p.Error, p.Cancelled)):
                return message

    def ask(
        self,
        request: p.Request,
        seconds: float = 60.0,
        on_progress: Callable[[p.Progress], None] | None = None,
    ) -> Outcome:
        """Sends a request and waits for its answer."""
        self.send(request)
        return self.wait(request.job, seconds, on_progress)

    def cancel(self, job: str) -> None:
        self.send(p.Cancel(job))

    def close(self, seconds: float = 5.0) -> int | None:
        """Closes stdin, on which the worker ends by itself; kills it after `seconds`."""
        with contextlib.suppress(OSError):
            if self.process.stdin is not None:
                self.process.stdin.close()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.process.poll()

    def kill(self) -> None:
        """Ends the process and all of its children at once."""
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        else:
            subprocess.run(
                ["taskkill", "/PID", str(self.process.pid), "/T", "/F"],
                capture_output=True,
                check=False,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        self.process.kill()
        self.process.wait(10)

    def _listen(self) -> None:
        reader = p.LineReader(p.REPLIES)
        stream = self.process.stdout
        while stream is not None and (data := os.read(stream.fileno(), 1 << 16)):
            for message in reader.feed(data):
                self._said.put(message)
        self._said.put(None)

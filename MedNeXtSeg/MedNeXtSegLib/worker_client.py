"""The client of the worker: one resident process, asked by messages, restarted when it dies.

Everything happens on the main thread: requests are written, replies arrive as callbacks. The
process starts with the first request. A job that does not stop within some seconds of being
cancelled is stopped by killing the process; it starts again with the next request.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from slicer.i18n import tr as _

from mednext_engine.jobs import protocol as p

from .errors import UserError
from .process import Command, MakeProcess, WorkerProcess, kill_tree

CANCEL_SECONDS = 2.0
STOP_SECONDS = 1.5
LOG_LINES = 400
LOST = "worker"  # the code of an error that says the worker ended; the protocol has no such code

Reply = p.Result | p.Error | p.Cancelled
News = p.Epoch | p.Preview  # what a training tells in mid-run, beside its progress
Schedule = Callable[[int, Callable[[], None]], None]  # milliseconds, what to do then


@dataclass
class Job:
    """One request under way. `reply` is None until it is over."""

    id: str
    request: p.Request
    on_end: Callable[[Reply], None]
    on_progress: Callable[[p.Progress], None]
    on_news: Callable[[News], None] = lambda news: None
    reply: Reply | None = None
    cancelled: bool = False

    @property
    def over(self) -> bool:
        return self.reply is not None


class WorkerClient:
    """Asks the worker and hands its replies to who asked.

    Args:
        make_process: makes a process that was not started yet.
        make_command: what to start; asked anew at each start.
        schedule: calls something later on the main thread (`qt.QTimer.singleShot` in Slicer).
        cancel_seconds: how long a cancelled job may take before the process is killed.
    """

    def __init__(
        self,
        make_process: MakeProcess,
        make_command: Callable[[], Command],
        schedule: Schedule,
        cancel_seconds: float = CANCEL_SECONDS,
    ) -> None:
        self._make_process = make_process
        self._cancel_seconds = cancel_seconds
        self._make_command = make_command
        self._schedule = schedule
        self._process: WorkerProcess | None = None
        self._reader = p.LineReader(p.REPLIES)
        self._jobs: dict[str, Job] = {}
        self._serial = 0
        self._stopped = False
        self.ready: p.Ready | None = None
        self.log: collections.deque[str] = collections.deque(maxlen=LOG_LINES)
        self.on_lost: Callable[[str], None] = lambda sentence: None
        self.on_failed: Callable[[str, str], None] = lambda message, hint: None

    # ---- asking ------------------------------------------------------------------------------

    def ask(
        self,
        request: p.Request,
        on_end: Callable[[Reply], None] = lambda reply: None,
        on_progress: Callable[[p.Progress], None] = lambda progress: None,
        on_news: Callable[[News], None] = lambda news: None,
    ) -> Job:
        """Sends a request; its job name is chosen here. `on_end` is called exactly once.

        Raises UserError when the worker cannot be started or does not listen.
        """
        self._serial += 1
        request = replace(request, job=str(self._serial))
        job = Job(request.job, request, on_end, on_progress, on_news)
        process = self._running_process()
        self._jobs[job.id] = job
        if not process.write(p.encode(request).encode("ascii")):
            self._jobs.pop(job.id, None)
            raise UserError(
                _("The worker does not listen."),
                _("Try again; the log has what it said last."),
            )
        return job

    def wait(self, job: Job, seconds: float | None = None) -> Reply:
        """Waits until `job` is over, letting callbacks come. Raises UserError after `seconds`."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while job.reply is None:
            if self._process is None:
                self._finish(job.id, p.Error(job.id, LOST, _("The worker ended.")))
                continue
            self._process.wait(50)
            if deadline is not None and time.monotonic() > deadline and job.reply is None:
                self.cancel(job)
                raise UserError(
                    _("The worker gave no answer within {seconds} s.").format(
                        seconds=round(seconds)
                    )
                )
        return job.reply

    def cancel(self, job: Job) -> None:
        """Asks to stop; after `cancel_seconds` without an answer the worker is killed."""
        if job.over or job.cancelled:
            return
        job.cancelled = True
        process = self._process
        if process is None or not process.write(p.encode(p.Cancel(job.id)).encode("ascii")):
            self._kill()
            return
        self._schedule(int(self._cancel_seconds * 1000), lambda: self._insist(job, process))

    def stop_training(self, job: Job) -> None:
        """Asks a training to end now and keep its best; it answers with its result."""
        if not job.over and self._process is not None:
            self._process.write(p.encode(p.StopTraining(job.id)).encode("ascii"))

    def _insist(self, job: Job, process: WorkerProcess) -> None:
        if not job.over and self._process is process:
            self.log.append("The job did not stop in time; the worker was ended.")
            self._kill()

    # ---- the process -------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running()

    @property
    def pid(self) -> int:
        """The worker's own number once it is ready (a launcher may stand before it), else 0."""
        return self.ready.pid if self.ready is not None else 0

    def start(self) -> None:
        """Starts the worker if it does not run, so that the first request need not wait."""
        self._running_process()

    def stop(self) -> None:
        """Ends the worker and waits for it, for about `STOP_SECONDS` at most; no callbacks any
        more. Used when the module is reloaded or Slicer quits."""
        self._stopped = True
        self._jobs.clear()
        process, self._process = self._process, None
        if process is None:
            return
        process.on_output = process.on_log = lambda data: None
        process.on_end = lambda how: None
        process.close_input()
        deadline = time.monotonic() + (STOP_SECONDS if self.ready else 0.0)
        while process.running() and time.monotonic() < deadline:
            process.wait(20)
        self._end_for_good(process)

    def kill(self) -> None:
        """Ends the worker at once, as if it had crashed; jobs under way fail."""
        self._kill()

    def _running_process(self) -> WorkerProcess:
        if self._process is not None and self._process.running():
            return self._process
        if self._process is not None:
            self._lost(_("it ended without a word"))
        self._stopped = False
        self.ready = None
        self._reader = p.LineReader(p.REPLIES)
        process = self._make_process()
        process.on_output = self._hear
        process.on_log = self._note
        process.on_end = lambda how: self._ended(process, how)
        self._process = process
        process.start(self._make_command())
        if self._process is not process:
            raise UserError(
                _("The worker could not be started."),
                self.log[-1] if self.log else _("The log may say why."),
            )
        return process

    def _kill(self) -> None:
        process = self._process
        if process is not None:
            # What still comes while it ends must not count as an answer.
            process.on_output = lambda data: None
            process.on_end = lambda how: None
            self._end_for_good(process)
            self._lost(_("it was ended"))

    def _end_for_good(self, process: WorkerProcess) -> None:
        if process.running():
            kill_tree([process.pid(), self.pid])
            process.kill()

    def _ended(self, process: WorkerProcess, how: str) -> None:
        if self._process is process:
            self._lost(how)

    def _lost(self, how: str) -> None:
        """The process is gone: whoever waits for an answer is told."""
        self.log.append(f"The worker ended: {how}.")
        self._process, self.ready = None, None
        sentence = _("The worker ended unexpectedly ({how}).").format(how=how)
        unexpected = False
        for job in list(self._jobs.values()):
            if job.cancelled:
                self._finish(job.id, p.Cancelled(job.id))
            else:
                unexpected = True
                hint = _("It starts again by itself with the next run. The log may say more.")
                self._finish(job.id, p.Error(job.id, LOST, sentence, hint))
        if unexpected or not self._jobs:
            self.on_lost(sentence)

    # ---- hearing -----------------------------------------------------------------------------

    def _hear(self, data: bytes) -> None:
        for message in self._reader.feed(data):
            if isinstance(message, p.MessageError):
                self.log.append(f"A line of the worker was refused: {message.message}")
                self._finish(
                    message.job,
                    p.Error(message.job, message.code, message.message, message.hint),
                )
            elif isinstance(message, p.Ready):
                self._welcome(message)
            elif isinstance(message, p.Progress):
                job = self._jobs.get(message.job)
                if job is not None and not job.cancelled:
                    self._call(job.on_progress, message)
            elif isinstance(message, (p.Epoch, p.Preview)):
                job = self._jobs.get(message.job)
                if job is not None and not job.cancelled:
                    self._call(job.on_news, message)
            elif isinstance(message, (p.Result, p.Error, p.Cancelled)):
                self._finish(message.job, message)

    def _welcome(self, message: p.Ready) -> None:
        self.ready = message
        if message.protocol != p.VERSION:
            self.log.append(
                f"The worker speaks protocol {message.protocol}, the module {p.VERSION}: "
                "update the extension and restart Slicer."
            )
            self._kill()

    def _finish(self, name: str, reply: Reply) -> None:
        job = self._jobs.pop(name, None)
        if job is None or job.over:
            if isinstance(reply, p.Error):
                self.log.append(f"{reply.code}: {reply.message}")
            return
        if job.cancelled and isinstance(reply, p.Error) and reply.code == LOST:
            reply = p.Cancelled(name)
        job.reply = reply
        if not self._stopped:
            self._call(job.on_end, reply)

    def _call(self, function: Callable[[Any], None], message: Any) -> None:
        """A callback that fails must cost neither other callbacks nor be lost in a Qt slot."""
        try:
            function(message)
        except UserError as error:
            self.on_failed(error.message, error.hint)
        except Exception as error:
            logging.exception("MedNeXt Segmentation: a reply could not be handled")
            self.on_failed(f"{type(error).__name__}: {error}", "")

    def _note(self, data: bytes) -> None:
        with contextlib.suppress(ValueError):
            for line in data.decode("utf-8", "replace").splitlines():
                if line.strip():
                    self.log.append(line.rstrip())

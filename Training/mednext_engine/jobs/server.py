"""The resident process: reads requests, does them in three lanes, answers.

Threads: one reads stdin and must never wait, so that a cancel is heard at once; one writes stdout;
one asks whether the parent lives; one answers questions; one changes models; the main thread
segments. When nobody listens any more (stdin closed, parent gone, stdout broken) the process ends
within about two seconds, in the middle of a job too.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import re
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from .. import __version__, errors, monitor
from . import protocol as p
from .answers import Answer, Answers
from .lanes import Lane, Outbox, Registry, Task
from .logs import Redaction, logger

GRACE = 1.2  # seconds that running jobs get to tidy up when nobody listens any more
PATIENCE = 0.7  # seconds that a cancelled segmentation gets to answer by itself
LAST_WORDS = 0.3  # seconds to send what was said before stdin was closed
WRITING = "Writing"  # the engine's name of the stage in which files appear
PROGRESS_INTERVAL = 0.1  # seconds between reports of one stage
MAX_SEGMENT_WAITING = 64
MAX_WAITING = 10_000
MAX_BACKLOG = 200  # lines waiting for a slow client, beyond which progress is not reported

_TEMPORARY = re.compile(rf"\.{os.getpid()}-[0-9a-f]{{16}}\.(nii\.gz|nii|nrrd|mha|npz)")


class Server:
    """Serves one client over two file descriptors, `source` and `sink`."""

    def __init__(self, source: int, sink: int, redaction: Redaction, log: str = "") -> None:
        self._source = source
        self._log = log
        self._redaction = redaction
        self._answers = Answers(log, redaction.hide)
        self._tasks = Registry()
        self._leaving = threading.Lock()
        self._outbox = Outbox(lambda line: _write_all(sink, line), self.leave)
        self._compute = Lane("compute", MAX_SEGMENT_WAITING, self._perform)
        self._files = Lane("files", MAX_WAITING, self._perform)
        self._questions = Lane("questions", MAX_WAITING, self._perform)

    def run(self) -> int:
        """Serves until `shutdown`; returns the exit code. Leaves the process when orphaned."""
        self._outbox.start()
        self._files.start()
        self._questions.start()
        self.send(
            p.Ready(
                engine=__version__,
                pid=os.getpid(),
                python=platform.python_version(),
                log=self._log,
            )
        )
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        self._compute.run()
        self._files.wait_idle(GRACE)
        self._outbox.close(GRACE)
        return 0

    def send(self, reply: p.Reply) -> None:
        try:
            self._outbox.put(p.encode(reply))
        except p.MessageError as error:
            logger.error("A reply cannot be sent: %s", error)
            self._outbox.put(p.encode(p.Error(reply.job, error.code, error.message, error.hint)))

    def leave(self) -> None:
        """Ends the process because nobody listens. Called from any thread; does not return."""
        self._leaving.acquire()  # whoever comes second waits for the end
        tasks = self._tasks.all()
        for task in tasks:
            task.cancel()
        deadline = time.monotonic() + GRACE
        for lane in (self._compute, self._files):
            lane.wait_idle(max(0.0, deadline - time.monotonic()))
        remove_leftovers(task for task in tasks if isinstance(task.request, p.Segment))
        logger.info("Nobody listens any more; the worker ends.")
        self._outbox.close(LAST_WORDS)
        os._exit(0)

    # ---- reading -----------------------------------------------------------------------------

    def _read(self) -> None:
        reader = p.LineReader(p.REQUESTS)
        while data := _read_some(self._source):
            for message in reader.feed(data):
                if isinstance(message, p.MessageError):
                    logger.warning("A line was refused: %s", message.message)
                    self.send(p.Error(message.job, message.code, message.message, message.hint))
                else:
                    self._take(message)
        self.leave()

    def _take(self, request: p.Message) -> None:
        if isinstance(request, p.Cancel):
            self._cancel(request.job)
        elif isinstance(request, p.StopTraining):
            self._stop_training(request.job)
        elif isinstance(request, p.Shutdown):
            self._shutdown(request)
        elif isinstance(request, p.Request):
            self._accept(request)

    def _accept(self, request: p.Request) -> None:
        lane = self._lane(request)
        task = Task(request, monitor.Monitor())
        task.monitor.report = self._reporter(task)
        self._hide(request)
        if not self._tasks.add(task):
            self.send(p.Error(request.job, "protocol", f"A job {request.job!r} is under way."))
            return
        if isinstance(request, (p.Segment, p.Finetune)) and lane.busy:
            self.send(p.Progress(request.job, stage="waiting", fraction=0.0))
        if not lane.add(task):
            self._tasks.remove(task)
            self.send(
                p.Error(request.job, "busy", "Too many jobs are waiting.", "Wait for one to end.")
            )

    def _cancel(self, job: str) -> None:
        task = self._tasks.find(job)
        if task is None:
            return
        if task.cancel():
            self._answer_cancelled(task)
        elif isinstance(task.request, (p.Segment, p.Finetune, p.CheckFinetune)):
            timer = threading.Timer(PATIENCE, self._answer_for, [task])
            timer.daemon = True
            timer.start()

    def _stop_training(self, job: str) -> None:
        """A training that has not begun has no best to keep."""
        task = self._tasks.find(job)
        if task is not None and isinstance(task.request, p.Finetune):
            task.stop.set()
            if task.waiting:
                self._cancel(job)

    def _answer_for(self, task: Task) -> None:
        """Answers a cancelled job that is in the middle of one large operation.

        A convolution of a large tile, or the preparation of a network, cannot be broken off. The
        job ends behind it: nothing is written, because every stage looks at the monitor first. In
        the stage that writes, the answer is what comes of it.
        """
        if task.stage != WRITING:
            self._answer_cancelled(task)

    def _answer_cancelled(self, task: Task) -> None:
        if task.claim_answer():
            self._tasks.remove(task)
            self.send(p.Cancelled(task.request.job))

    def _shutdown(self, request: p.Shutdown) -> None:
        for task in self._tasks.all():
            self._cancel(task.request.job)
        for lane in (self._questions, self._files):
            lane.stop()
        self._compute.wait_idle(10 * GRACE)
        self.send(p.Result(request.job, of=request.type))
        self._compute.stop()

    def _hide(self, request: p.Request) -> None:
        """Keeps what may name a patient out of the log."""
        for name in ("job_folder", "folder"):
            if path := getattr(request, name, ""):
                self._redaction.hide(path)
        if isinstance(request, p.Segment):
            outputs = (request.output, request.uncertainty_output, request.probabilities_output)
            for path in (*request.inputs, *outputs):
                if path:
                    self._redaction.hide(path)

    # ---- doing -------------------------------------------------------------------------------

    def _lane(self, request: p.Request) -> Lane:
        if type(request) in self._answers.compute or isinstance(request, p.Finetune):
            return self._compute
        return self._files if type(request) in self._answers.files else self._questions

    def _answer(self, request: p.Request) -> Answer:
        for table in (self._answers.compute, self._answers.files, self._answers.questions):
            if type(request) in table:
                return table[type(request)]
        raise errors.ProtocolError(f"Nothing answers a {request.type} request.")

    def _perform(self, task: Task) -> None:
        request = task.request
        started = time.monotonic()
        reply: p.Reply
        try:
            if isinstance(request, p.Finetune):
                value = self._answers.finetune(task, lambda news: self._tell(task, news))
            else:
                value = self._answer(request)(request, task.monitor)
            reply = p.Result(request.job, of=request.type, value=value)
        except errors.Cancelled:
            reply = p.Cancelled(request.job)
        except BaseException as error:
            reply = self._failure(request, error)
        logger.info(
            "%s: %s after %.1f s",
            request.type,
            reply.code if isinstance(reply, p.Error) else reply.type,
            time.monotonic() - started,
        )
        if task.claim_answer():
            self._tasks.remove(task)
            self.send(reply)

    def _tell(self, task: Task, news: p.Reply) -> None:
        """Sends what a job says on its way, unless it was answered already."""
        if not task.monitor.cancelled:
            self.send(news)

    def _failure(self, request: p.Request, error: BaseException) -> p.Error:
        """The error as a value; the traceback goes to the log only."""
        logger.error("%s failed", request.type, exc_info=error)
        if isinstance(error, errors.EngineError):
            return p.Error(request.job, error.code, error.message, error.hint)
        if isinstance(error, MemoryError):
            return p.Error(
                request.job,
                "resources",
                "The memory of this computer does not suffice.",
                "Close other programs, or segment a region of interest.",
            )
        if isinstance(error, ImportError) and not (error.name or "").startswith("mednext_engine"):
            return p.Error(
                request.job,
                "dependency",
                f"A package that is needed cannot be imported: {error.name or 'unknown'}.",
                "`mednext doctor`, or the panel, says what to install.",
            )
        return p.Error(
            request.job,
            "internal",
            f"MedNeXtSeg failed in a way it does not know ({type(error).__name__}).",
            f"Please report it with the log {self._log}." if self._log else "",
        )

    def _reporter(self, task: Task) -> Callable[[monitor.Progress], None]:
        """Reports at most every `PROGRESS_INTERVAL`, but every new stage and every note."""
        last: tuple[str, float] = ("", 0.0)

        def report(progress: monitor.Progress) -> None:
            nonlocal last
            task.stage = progress.stage
            if task.monitor.cancelled:
                return
            now = time.monotonic()
            routine = progress.stage == last[0] and not progress.note
            early = now - last[1] < PROGRESS_INTERVAL
            if routine and (early or self._outbox.backlog > MAX_BACKLOG):
                return
            last = (progress.stage, now)
            left = progress.seconds_left
            known = left is not None and math.isfinite(left)
            self.send(
                p.Progress(
                    task.request.job,
                    stage=progress.stage,
                    fraction=round(min(1.0, max(0.0, float(progress.fraction))), 4),
                    seconds_left=round(float(left), 1) if known and left is not None else None,
                    note=progress.note,
                )
            )

        return report


def remove_leftovers(tasks: Iterable[Task]) -> None:
    """Removes half-written results of jobs that must be left: this process's temporary files in
    the folders of their outputs."""
    for task in tasks:
        request = task.request
        paths = (getattr(request, name, None) for name in _OUTPUTS)
        for folder in {Path(path).parent for path in paths if path}:
            with contextlib.suppress(OSError):
                for file in folder.iterdir():
                    if _TEMPORARY.fullmatch(file.name):
                        file.unlink()


_OUTPUTS = ("output", "uncertainty_output", "probabilities_output")


def _read_some(source: int) -> bytes:
    try:
        return os.read(source, 1 << 16)
    except OSError:
        return b""


def _write_all(sink: int, line: bytes) -> None:
    view = memoryview(line)
    while view:
        view = view[os.write(sink, view) :]

"""The worker's process in Slicer: a QProcess, whose signals arrive on the main thread."""

from __future__ import annotations

from collections.abc import Callable

import qt
import slicer
from slicer.i18n import tr as _

from .process import Command


class QtProcess:
    """See `process.WorkerProcess`."""

    def __init__(self) -> None:
        self.on_output: Callable[[bytes], None] = lambda data: None
        self.on_log: Callable[[bytes], None] = lambda data: None
        self.on_end: Callable[[str], None] = lambda how: None
        self._ended = False
        self._process = qt.QProcess()
        self._connections = (
            ("readyReadStandardOutput()", self._read_output),
            ("readyReadStandardError()", self._read_log),
            ("finished(int,QProcess::ExitStatus)", self._finished),
            ("errorOccurred(QProcess::ProcessError)", self._failed),
        )
        for signal, slot in self._connections:
            self._process.connect(signal, slot)

    def start(self, command: Command) -> None:
        environment = qt.QProcessEnvironment()
        for name, value in command.environment.items():
            environment.insert(name, value)
        self._process.setProcessEnvironment(environment)
        self._process.start(command.program, list(command.arguments))

    def write(self, data: bytes) -> bool:
        if not self.running():
            return False
        return int(self._process.write(qt.QByteArray(data))) == len(data)

    def close_input(self) -> None:
        if self.running():
            self._process.closeWriteChannel()

    def wait(self, milliseconds: int) -> None:
        if self.running():
            self._process.waitForReadyRead(milliseconds)
        slicer.app.processEvents()

    def running(self) -> bool:
        return not self._ended and self._process.state() != qt.QProcess.NotRunning

    def pid(self) -> int:
        return int(self._process.processId()) if self.running() else 0

    def kill(self) -> None:
        if self.running():
            self._process.kill()
            self._process.waitForFinished(2000)

    def _read_output(self) -> None:
        data = self._process.readAllStandardOutput().data()
        if data:
            self.on_output(data)

    def _read_log(self) -> None:
        data = self._process.readAllStandardError().data()
        if data:
            self.on_log(data)

    def _finished(self, code: int, status: object) -> None:
        self._read_output()
        self._read_log()
        crashed = status == qt.QProcess.CrashExit
        self._end(
            _("it was killed or crashed") if crashed else _("exit code {code}").format(code=code)
        )

    def _failed(self, error: object) -> None:
        if error == qt.QProcess.FailedToStart:
            self._end(
                _("it could not be started: {reason}").format(reason=self._process.errorString())
            )

    def _end(self, how: str) -> None:
        if self._ended:
            return
        self._ended = True
        # A connection to a bound method keeps this object alive; none is needed any more.
        for signal, slot in self._connections:
            self._process.disconnect(signal, slot)
        self._process.deleteLater()
        self.on_end(how)

"""The one worker of this Slicer, shared by the panel and by scripts."""

from __future__ import annotations

import qt
import slicer

from .qt_process import QtProcess
from .worker_client import WorkerClient
from .worker_command import worker_command

_client: WorkerClient | None = None


def shared_client() -> WorkerClient:
    """The client of this session's worker; the process starts with the first request."""
    global _client
    if _client is None:
        _client = WorkerClient(QtProcess, worker_command, qt.QTimer.singleShot)
        slicer.app.connect("aboutToQuit()", stop_shared_client)
    return _client


def stop_shared_client() -> None:
    """Ends the worker: at reload and when Slicer quits. The next `shared_client` is a new one."""
    global _client
    client, _client = _client, None
    if client is not None:
        slicer.app.disconnect("aboutToQuit()", stop_shared_client)
        client.stop()

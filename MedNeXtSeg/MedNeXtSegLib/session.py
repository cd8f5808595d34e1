"""The workers of this Slicer, shared by the panel and by scripts: one segments, one trains."""

from __future__ import annotations

import qt
import slicer

from .qt_process import QtProcess
from .worker_client import WorkerClient
from .worker_command import worker_command

TRAINING_CANCEL_SECONDS = 20.0  # an epoch's end is written, a large step runs to its own
_client: WorkerClient | None = None
_training_client: WorkerClient | None = None


def shared_client() -> WorkerClient:
    """The client of this session's worker; the process starts with the first request."""
    global _client
    if _client is None:
        _client = WorkerClient(QtProcess, worker_command, qt.QTimer.singleShot)
        slicer.app.connect("aboutToQuit()", stop_shared_client)
    return _client


def training_client() -> WorkerClient:
    """The client of the process that trains, so that Segment works meanwhile."""
    global _training_client
    shared_client()  # it is stopped together with that one
    if _training_client is None:
        _training_client = WorkerClient(
            QtProcess, worker_command, qt.QTimer.singleShot, TRAINING_CANCEL_SECONDS
        )
    return _training_client


def stop_shared_client() -> None:
    """Ends the workers: at reload and when Slicer quits. The next `shared_client` is a new one."""
    global _client, _training_client
    clients = (_client, _training_client)
    _client = _training_client = None
    if clients[0] is not None:
        slicer.app.disconnect("aboutToQuit()", stop_shared_client)
    for client in clients:
        if client is not None:
            client.stop()

"""The worker's log: to stderr and to a small private file, without what names a patient.

File names and paths carry names, dates of birth and record numbers more often than not, so what a
request said in words (paths, names) is replaced before a record is written.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path, PurePath

MAX_BYTES = 1_000_000
BACKUPS = 2
NAME = "mednext_engine"

logger = logging.getLogger(f"{NAME}.worker")


class Redaction(logging.Filter):
    """Replaces, in what a record says, every text that was told to `hide`.

    Names on the way to this program itself stay: they say where a fault lies, and of nobody's data.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ours = {*Path(__file__).parts, *Path(sys.prefix).parts}
        self._words: dict[str, None] = {}
        self._lock = threading.Lock()

    def hide(self, path: str) -> None:
        """Hides a path, its folders below the root and its name with and without suffixes."""
        pure = PurePath(path)
        parts = [p for p in pure.parts if p != pure.anchor and p not in self._ours]
        stems = [p.split(".")[0] for p in parts]
        with self._lock:
            for word in [path, *parts, *stems]:
                if len(word) > 2:
                    self._words[word] = None
            while len(self._words) > 2000:
                del self._words[next(iter(self._words))]

    def clean(self, text: str) -> str:
        with self._lock:
            words = sorted(self._words, key=len, reverse=True)
        for word in words:
            text = text.replace(word, "[hidden]")
        return text

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + logging.Formatter().formatException(record.exc_info)
            record.exc_info = record.exc_text = None
        record.msg, record.args = self.clean(message), None
        return True


class PrivateFile(RotatingFileHandler):
    """A rotating file that only its owner can read."""

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return TextIOWrapper(os.fdopen(descriptor, "ab"), encoding="utf-8", line_buffering=True)

    def doRollover(self) -> None:
        try:
            super().doRollover()
        except OSError:  # on Windows another worker may hold the file: let it grow
            self.stream = self.stream or self._open()


def log_directory() -> Path:
    """Where logs live, by the rules of each system; MEDNEXT_LOGS says otherwise."""
    if said := os.environ.get("MEDNEXT_LOGS"):
        return Path(said).expanduser()
    import platformdirs

    return platformdirs.user_log_path("MedNeXtSeg", appauthor=False)


def start_log() -> tuple[Redaction, str]:
    """Sends the package's log to stderr and to `worker.log`; returns what hides words in it and
    the file's path, empty where none can be written."""
    redaction = Redaction()
    shown = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    path = ""
    try:
        directory = log_directory()
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = PrivateFile(directory / "worker.log", maxBytes=MAX_BYTES, backupCount=BACKUPS)
        handlers.append(file)
        path = file.baseFilename
    except (ImportError, OSError) as error:
        sys.stderr.write(f"There is no log file: {error}\n")
    package = logging.getLogger(NAME)
    package.setLevel(logging.INFO)
    package.propagate = False
    for handler in handlers:
        handler.setFormatter(shown)
        handler.addFilter(redaction)
        package.addHandler(handler)
    logging.raiseExceptions = False
    return redaction, path

"""The exit codes of `mednext`, documented in `mednext --help`."""

from __future__ import annotations

from ..errors import EngineError

OK = 0
SOME_FAILED = 1
USAGE = 2
INPUT = 3
MODEL = 4
RESOURCES = 5
DEPENDENCY = 6
OUTPUT = 7
DOWNLOAD = 8
TRAINING = 9
INTERNAL = 70
INTERRUPTED = 130
TERMINATED = 143

MEANINGS = {
    OK: "done",
    SOME_FAILED: "at least one case of several failed, or a verification found problems",
    USAGE: "the command line is wrong",
    INPUT: "an image or an option cannot be used as it is",
    MODEL: "the model is broken, unknown or not supported",
    RESOURCES: "memory, disk or device do not suffice",
    DEPENDENCY: "a package is missing, or of an unusable version",
    OUTPUT: "the result cannot be written",
    DOWNLOAD: "a download failed",
    TRAINING: "a training cannot go on; what it has stays",
    INTERNAL: "a fault of this program",
    INTERRUPTED: "stopped by Ctrl-C; nothing half-written is left",
    TERMINATED: "stopped by a signal to terminate; nothing half-written is left",
}

_BY_ERROR = {
    "input": INPUT,
    "model": MODEL,
    "unsupported_model": MODEL,
    "resources": RESOURCES,
    "dependency": DEPENDENCY,
    "output": OUTPUT,
    "download": DOWNLOAD,
    "training": TRAINING,
    "cancelled": INTERRUPTED,
    "usage": USAGE,
}


class UsageError(EngineError):
    """The command line is wrong."""

    code = "usage"


def of_error(error: EngineError) -> int:
    """The exit code of an error of this package."""
    return _BY_ERROR.get(error.code, INTERNAL)


def described() -> str:
    """The table for `--help`."""
    return "\n".join(f"  {code:>3}  {meaning}" for code, meaning in MEANINGS.items())

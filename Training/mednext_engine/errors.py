"""The errors a person may meet: a stable code, one sentence that names the cause, a hint.

Only the command line turns them into exit codes and only the worker turns them into messages.
"""

from __future__ import annotations


class EngineError(Exception):
    """Base of everything this package raises on purpose.

    Args:
        message: one sentence for the person, naming the cause.
        hint: what to do next, one sentence; may be empty.
    """

    code = "error"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class InputError(EngineError):
    """The image (or its label map) cannot be used as it is."""

    code = "input"


class ModelError(EngineError):
    """The model folder, archive or checkpoint is broken, hostile or unknown."""

    code = "model"


class UnsupportedModelError(ModelError):
    """The model is sound, but of a kind that this engine does not run."""

    code = "unsupported_model"


class OutputError(EngineError):
    """The result could not be written; nothing half-written is left."""

    code = "output"


class ResourceError(EngineError):
    """Memory, disk or device do not suffice."""

    code = "resources"


class DependencyError(EngineError):
    """A package that this job needs is missing or of an unusable version."""

    code = "dependency"


class DownloadError(EngineError):
    """A download failed, was incomplete or did not match its checksum."""

    code = "download"


class ProtocolError(EngineError):
    """A message between Slicer and the worker was not understood."""

    code = "protocol"


class Cancelled(EngineError):
    """The person asked to stop; nothing was written."""

    code = "cancelled"

    def __init__(self, message: str = "Cancelled.", hint: str = "") -> None:
        super().__init__(message, hint)

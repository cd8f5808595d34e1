"""What is said between a face and the worker: every message and what it carries.

The lines themselves are `protocol`'s; faces import `protocol`, which has all names of this module.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from .values import SegmentOptions

VERSION = 1
MAX_LINE = (
    1 << 20
)  # bytes of one line, its end included: a result names labels, it carries no voxel
MAX_JOB = 64  # characters of a job's name

ERROR_CODES = (
    "input",  # the image or an option cannot be used as it is
    "model",  # the model is broken, hostile or unknown
    "unsupported_model",  # the model is sound, of a kind this engine does not run
    "output",  # the result could not be written
    "resources",  # memory, disk or device do not suffice
    "dependency",  # a package is missing, or of an unusable version
    "download",  # a download failed, was incomplete or did not match its checksum
    "protocol",  # a message was not understood
    "training",  # a training cannot go on; its last checkpoint stays
    "busy",  # too many jobs are waiting
    "error",  # another fault the engine names
    "internal",  # a fault of this program; the traceback is in the log
)


@dataclass(frozen=True)
class Message:
    """Base of all messages."""

    type: ClassVar[str] = ""
    job: str = ""


# ---- requests --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request(Message):
    """Base of what a client asks."""


@dataclass(frozen=True)
class Segment(Request):
    """Segment one volume. Answered by `Result` with a `SegmentValue`.

    `inputs` are absolute paths: one a channel, or one DICOM folder. `model` is the id of an
    installed model or the path of a model folder. The outputs are absolute paths of files; the
    map of uncertainty and the probabilities are written where a path is given.
    """

    type: ClassVar[str] = "segment"
    inputs: list[str] = field(default_factory=list)
    output: str = ""
    model: str = ""
    options: SegmentOptions = field(default_factory=SegmentOptions)
    uncertainty_output: str | None = None
    probabilities_output: str | None = None


@dataclass(frozen=True)
class Cancel(Request):
    """Stop the job named `job`, waiting or running. Of a job that is over or unknown: nothing."""

    type: ClassVar[str] = "cancel"


@dataclass(frozen=True)
class Models(Request):
    """List the installed models. Result: `{"models": [ModelSummary], "problems": [str],
    "directory": str}`; a sentence in `problems` for each folder that cannot be opened."""

    type: ClassVar[str] = "models"


@dataclass(frozen=True)
class Catalogue(Request):
    """List the models that can be downloaded. Result: `{"entries": [CatalogueEntry]}`."""

    type: ClassVar[str] = "catalogue"


@dataclass(frozen=True)
class ModelInfo(Request):
    """Everything about one model. Result: a `ModelSummary` with "card", the whole model card."""

    type: ClassVar[str] = "model_info"
    model: str = ""


@dataclass(frozen=True)
class Download(Request):
    """Download and install the catalogue's model `id`; what a cancelled or broken download has
    received is taken up by the next. Result: `{"model": ModelSummary, "notes": [str]}`."""

    type: ClassVar[str] = "download"
    id: str = ""
    replace: bool = False


@dataclass(frozen=True)
class Import(Request):
    """Install a model from a folder or a zip. Result: `{"model": ModelSummary, "notes": [str]}`.

    `name` is the id to install it under, by default its own; `replace` one that is there already.
    """

    type: ClassVar[str] = "import"
    path: str = ""
    name: str = ""
    replace: bool = False


@dataclass(frozen=True)
class Export(Request):
    """Write an installed model to one zip, which must not exist. Result: `{"path": str}`."""

    type: ClassVar[str] = "export"
    model: str = ""
    path: str = ""


@dataclass(frozen=True)
class Remove(Request):
    """Delete an installed model from this computer. Result: `{"removed": str}`."""

    type: ClassVar[str] = "remove"
    model: str = ""


@dataclass(frozen=True)
class Verify(Request):
    """Check a model's files against its sums. Result: `{"checked": int, "problems": [str]}`."""

    type: ClassVar[str] = "verify"
    model: str = ""


@dataclass(frozen=True)
class Doctor(Request):
    """What this computer has and lacks. Result: a `DoctorValue`.

    With `devices` the accelerators are asked too, which loads torch (seconds, the first time).
    """

    type: ClassVar[str] = "doctor"
    devices: bool = False


@dataclass(frozen=True)
class Unload(Request):
    """Forget the networks kept in memory. Result: `{"unloaded": int}`."""

    type: ClassVar[str] = "unload"


@dataclass(frozen=True)
class Shutdown(Request):
    """End the worker; a running job is cancelled. Result: `{}`, then the process exits with 0."""

    type: ClassVar[str] = "shutdown"


# ---- replies ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reply(Message):
    """Base of what the worker says."""


@dataclass(frozen=True)
class Ready(Reply):
    """Sent once, first. `log` is the path of the worker's log, empty where it could not be kept."""

    type: ClassVar[str] = "ready"
    engine: str = ""
    protocol: int = VERSION
    pid: int = 0
    python: str = ""
    log: str = ""


@dataclass(frozen=True)
class Progress(Reply):
    """`fraction` of the whole job, 0 to 1; `seconds_left` of the stage, where it can be told.

    `stage` is a short name ("waiting" while other jobs run first); `note` is a sentence for the
    person, mostly empty.
    """

    type: ClassVar[str] = "progress"
    stage: str = ""
    fraction: float = 0.0
    seconds_left: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Result(Reply):
    """The job is done. `of` is the type of the request, `value` what it promises."""

    type: ClassVar[str] = "result"
    of: str = ""
    value: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Error(Reply):
    """The job failed: a stable code, one sentence for the person, what to do next."""

    type: ClassVar[str] = "error"
    code: str = "internal"
    message: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Cancelled(Reply):
    """The job was stopped as asked; nothing was or will be written. Its last operation may still
    run to its end: another `Segment` then waits for it, as its progress says."""

    type: ClassVar[str] = "cancelled"

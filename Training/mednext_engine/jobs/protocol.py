"""The messages between a face (Slicer, a script) and the worker: one ASCII JSON object a line.

    {"v": 1, "type": "segment", "job": "7", "inputs": ["head.nii.gz"], "output": "out.nii.gz", ...}

Requests go to the worker's stdin; replies come from its stdout, which carries nothing else. `v` is
`VERSION`; a line of another version is refused in words. `job` is chosen by the client, names one
request and stands in every reply to it. Each request is answered by any number of `progress` and
then exactly one of `result`, `error`, `cancelled`. `cancel` names the job to stop and has no answer
of its own: the stopped job answers. Replies without a job (`""`) are `ready`, sent once at
start, and `error` about a line that named none.

This module is all that a face needs: below it are the standard library, `messages`,
`training_messages`, `values` and `errors`. Every field of a message is checked for its type when a
line is read, so that what comes out of `decode` can be used as it is. Errors are values:
`Error.code` is one of `ERROR_CODES`.
"""

from __future__ import annotations

import json
import math
import types
from dataclasses import fields
from functools import cache
from typing import Any, ClassVar, Union, cast, get_args, get_origin, get_type_hints

from ..errors import ProtocolError
from .messages import (
    ERROR_CODES,
    MAX_JOB,
    MAX_LINE,
    VERSION,
    Cancel,
    Cancelled,
    Catalogue,
    Doctor,
    Download,
    Error,
    Export,
    Import,
    Message,
    ModelInfo,
    Models,
    Progress,
    Ready,
    Remove,
    Reply,
    Request,
    Result,
    Segment,
    Shutdown,
    Unload,
    Verify,
)
from .training_messages import (
    CheckFinetune,
    Epoch,
    Finetune,
    Preview,
    RemoveRun,
    Runs,
    StopTraining,
)
from .values import (
    BeforeAfter,
    CatalogueEntry,
    CheckValue,
    DeviceInfo,
    DoctorValue,
    EstimateInfo,
    FinetuneValue,
    LabelInfo,
    LabelMatch,
    ModelSummary,
    NetworkInfo,
    PackageInfo,
    ProblemInfo,
    Roi,
    RunInfo,
    SegmentOptions,
    SegmentValue,
)

__all__ = [
    "ERROR_CODES",
    "MAX_JOB",
    "MAX_LINE",
    "REPLIES",
    "REQUESTS",
    "VERSION",
    "BeforeAfter",
    "Cancel",
    "Cancelled",
    "Catalogue",
    "CatalogueEntry",
    "CheckFinetune",
    "CheckValue",
    "DeviceInfo",
    "Doctor",
    "DoctorValue",
    "Download",
    "Epoch",
    "Error",
    "EstimateInfo",
    "Export",
    "Finetune",
    "FinetuneValue",
    "Import",
    "LabelInfo",
    "LabelMatch",
    "LineReader",
    "Message",
    "MessageError",
    "ModelInfo",
    "ModelSummary",
    "Models",
    "NetworkInfo",
    "PackageInfo",
    "Preview",
    "ProblemInfo",
    "Progress",
    "Ready",
    "Remove",
    "RemoveRun",
    "Reply",
    "Request",
    "Result",
    "Roi",
    "RunInfo",
    "Runs",
    "Segment",
    "SegmentOptions",
    "SegmentValue",
    "Shutdown",
    "StopTraining",
    "Unload",
    "Verify",
    "decode",
    "encode",
]


def _by_type(base: type[Message]) -> dict[str, type[Message]]:
    return {kind.type: kind for kind in base.__subclasses__()}


REQUESTS = _by_type(Request)
REPLIES = _by_type(Reply)


class MessageError(ProtocolError):
    """A line was refused. `job` is the job it named, or empty where it named none."""

    def __init__(self, message: str, hint: str = "", job: str = "") -> None:
        super().__init__(message, hint)
        self.job = job


def encode(message: Message) -> str:
    """One line, its end included. Raises MessageError for what JSON cannot say (NaN, objects) and
    for what is too long."""
    content = {f.name: getattr(message, f.name) for f in fields(message)}
    envelope = {"v": VERSION, "type": message.type, **content}
    try:
        line = json.dumps(envelope, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise MessageError(
            f"A {message.type} message holds what JSON cannot carry: {error}.", job=message.job
        ) from None
    if len(line) + 1 > MAX_LINE:
        raise MessageError(
            f"A {message.type} message of {len(line)} bytes is longer than {MAX_LINE}.",
            job=message.job,
        )
    return line + "\n"


def decode(line: str | bytes, kinds: dict[str, type[Message]]) -> Message:
    """Reads one line as one of `kinds` (`REQUESTS` in the worker, `REPLIES` in a client).

    Raises MessageError, naming the job where the line did, for anything that is not exactly a
    message of this version: not JSON, unknown version, type or field, a value of another type,
    a number that is not finite.
    """
    envelope = _parse(line)
    job = envelope.pop("job", "")
    if not isinstance(job, str) or len(job) > MAX_JOB:
        raise MessageError(f"A job's name is a text of at most {MAX_JOB} characters.")
    version = envelope.pop("v", None)
    if version != VERSION or isinstance(version, bool):
        raise MessageError(
            f"A message of protocol version {_shown(version)} came, this side speaks {VERSION}.",
            "Update the extension and restart Slicer, so that both sides are of one release.",
            job,
        )
    name = envelope.pop("type", None)
    kind = kinds.get(name) if isinstance(name, str) else None
    if kind is None:
        raise MessageError(f"There is no message of type {_shown(name)}.", job=job)
    if kinds is REQUESTS and not job:
        raise MessageError(f"A {name} request must name its job.")
    hints: dict[str, Any] = _hints(cast(Any, kind))
    for key, value in envelope.items():
        if key not in hints:
            raise MessageError(f"A {name} message has no field {_shown(key)}.", job=job)
        if not _fits(value, hints[key]):
            raise MessageError(f"{key!r} of a {name} message has the wrong type.", job=job)
    return kind(job=job, **envelope)


def _parse(line: str | bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        raise MessageError(f"A line is longer than {MAX_LINE} bytes.")
    text = line.decode("utf-8", "replace") if isinstance(line, bytes) else line
    try:
        envelope = json.loads(text, **_STRICT)
    except (ValueError, RecursionError):
        raise MessageError("A line is not a JSON object.") from None
    if not isinstance(envelope, dict):
        raise MessageError("A line is not a JSON object.")
    return envelope


def _refuse_constant(name: str) -> float:
    raise ValueError(name)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(digits)
    return number


def _bounded(digits: str) -> int:
    number = int(digits)
    if abs(number) >= 1 << 63:
        raise ValueError(digits)
    return number


_STRICT: dict[str, Any] = {
    "parse_constant": _refuse_constant,
    "parse_float": _finite,
    "parse_int": _bounded,
}


def _shown(value: object) -> str:
    """A foreign value, fit for a sentence."""
    text = ascii(value)
    return text if len(text) <= 40 else text[:37] + "..."


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {name: hint for name, hint in hints.items() if get_origin(hint) is not ClassVar}


def _fits(value: object, hint: Any) -> bool:
    """Whether a value read from JSON has the type that a message's field is declared with."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is list:
        return isinstance(value, list) and all(_fits(one, inner[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(one, inner[1]) for one in value.values())
    if hasattr(hint, "__total__"):  # a TypedDict
        known = _hints(hint)
        return isinstance(value, dict) and all(
            key in known and _fits(one, known[key]) for key, one in value.items()
        )
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


class LineReader:
    """Cuts what a pipe gives, in pieces of any size, into messages.

        reader = LineReader(REPLIES)
        for message in reader.feed(bytes_from_the_pipe): ...

    A refused line comes out as a MessageError in its place (returned, not raised), so that one bad
    line costs no good one. A line beyond `MAX_LINE` is dropped while it comes, never kept.
    """

    def __init__(self, kinds: dict[str, type[Message]]) -> None:
        self._kinds = kinds
        self._pieces: list[bytes] = []
        self._length = 0
        self._dropping = False

    def feed(self, data: bytes) -> list[Message | MessageError]:
        """The messages that `data` completes. Empty lines are ignored."""
        found: list[Message | MessageError] = []
        *ends, rest = data.split(b"\n")
        for end in ends:
            self._keep(end)
            if self._dropping:
                found.append(MessageError(f"A line is longer than {MAX_LINE} bytes."))
            else:
                line = b"".join(self._pieces).strip()
                if line:
                    found.append(self._decoded(line))
            self._pieces, self._length, self._dropping = [], 0, False
        self._keep(rest)
        return found

    def _keep(self, piece: bytes) -> None:
        self._length += len(piece)
        if self._length >= MAX_LINE:
            self._dropping, self._pieces = True, []
        elif piece and not self._dropping:
            self._pieces.append(piece)

    def _decoded(self, line: bytes) -> Message | MessageError:
        try:
            return decode(line, self._kinds)
        except MessageError as error:
            return error

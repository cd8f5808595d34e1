"""What a check found, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ERROR, WARNING, INFO = LEVELS = ("error", "warning", "info")


@dataclass(frozen=True)
class Problem:
    """One finding. `level` is "error" (training cannot start), "warning" or "info"; `case` the id
    it is about, "" for all; `message` one sentence, `hint` what to do."""

    level: str
    case: str
    message: str
    hint: str = ""


def error(case: str, message: str, hint: str = "") -> Problem:
    return Problem(ERROR, case, message, hint)


def warning(case: str, message: str, hint: str = "") -> Problem:
    return Problem(WARNING, case, message, hint)


def info(case: str, message: str, hint: str = "") -> Problem:
    return Problem(INFO, case, message, hint)


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names for a sentence, the first few of many."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def counted(number: int, what: str) -> str:
    """ "1 voxel", "2 voxels"."""
    return f"{number} {what}{'' if number == 1 else 's'}"

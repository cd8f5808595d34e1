"""Strict reading of what a job folder says: known keys only, bounded values, no path outside."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InputError, ModelError
from ..models.jsonfile import read_int, read_json, read_text

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
VERSION = 1


@contextmanager
def as_input_error(case: str = "") -> Iterator[None]:
    """Errors of reading JSON, said as errors of the input; `case` is named first."""
    try:
        yield
    except (ModelError, InputError) as error:
        message = f"{case}: {error.message}" if case else error.message
        raise InputError(message, error.hint) from None


def read_versioned(path: Path, keys: Collection[str]) -> dict[str, Any]:
    """A JSON object of format 1 that has no other keys than `keys` and "version".

    Raises:
        ModelError, InputError: no such file, no JSON object, another version, an unknown key.
    """
    raw = read_json(path)
    version = read_int(raw.get("version"), f"'version' of {path.name}", 1, 10**6)
    if version != VERSION:
        raise InputError(
            f"{path.name} has version {version}, which this program does not know.",
            "Update MedNeXtSeg.",
        )
    check_keys(raw, {*keys, "version"}, path.name)
    return raw


def check_keys(raw: Mapping[str, Any], known: Collection[str], what: str) -> None:
    """Raises InputError for a key that is not among `known`: a typing error would go unnoticed."""
    unknown = sorted(set(raw) - set(known))
    if unknown:
        raise InputError(
            f"{what} has an entry '{unknown[0][:60]}', which this program does not know.",
            f"Known are: {', '.join(sorted(known))}.",
        )


def read_id(value: Any, what: str) -> str:
    """Letters, digits, "_" and "-", at most 64: safe as a folder's name on every system."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise InputError(
            f"{what} is not a plain name.", "Use letters, digits, '_' and '-', at most 64."
        )
    return value


def read_name(value: Any, what: str) -> str:
    """A name to show: 1 to 200 characters without control characters, stripped."""
    name = read_text(value, what, limit=200).strip()
    if not name or _CONTROL.search(name):
        raise InputError(f"{what} is empty or holds control characters.")
    return name


def read_choice(value: Any, what: str, choices: Collection[str]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{what} is none of {', '.join(choices)}.")
    return value


def read_path(value: Any, what: str, start: Path, bounds: Path) -> Path:
    """An absolute path, or one relative to `start` that stays within `bounds`, links followed.

    Raises:
        InputError: it leads out of `bounds`.
    """
    text = read_text(value, what, limit=4096)
    if not text.strip() or "\x00" in text:
        raise InputError(f"{what} is empty.")
    path = Path(text)
    if path.is_absolute():
        return path
    full = (start / path).resolve()
    if not full.is_relative_to(bounds.resolve()):
        raise InputError(f"{what} leads out of the job's folder.")
    return full

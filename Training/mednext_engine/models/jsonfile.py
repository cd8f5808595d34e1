"""JSON files of a model folder: read within bounds, checked value by value, written atomically.

A model folder comes from anywhere, so nothing in it is taken on trust: file size and nesting are
bounded before and after parsing, and each number passes one of the `read_*` functions below, which
name the offending key in their error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..atomic import replacing
from ..errors import ModelError, OutputError

MAX_BYTES = 32 * 2**20
MAX_DEPTH = 64


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object (UTF-8) of at most `MAX_BYTES` and `MAX_DEPTH` levels.

    Raises:
        ModelError: the file is missing, too large, too deeply nested, or no JSON object.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path.name} is larger than {MAX_BYTES // 2**20} MiB.")
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{path.name} is missing in {path.parent}.") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}.") from None
    return parse_json(raw, path.name)


def parse_json(raw: bytes, name: str) -> dict[str, Any]:
    """Parses a JSON object; `name` is for the error. Raises ModelError as `read_json`."""
    if len(raw) > MAX_BYTES:
        raise ModelError(f"{name} is larger than {MAX_BYTES // 2**20} MiB.")
    try:
        value = json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ModelError(f"{name} is not UTF-8 text.") from None
    except json.JSONDecodeError as error:
        raise ModelError(f"{name} is not valid JSON (line {error.lineno}).") from None
    except RecursionError:
        raise ModelError(f"{name} is nested too deeply.") from None
    except ValueError:  # integers of thousands of digits
        raise ModelError(f"{name} holds a number that is out of range.") from None
    if not isinstance(value, dict):
        raise ModelError(f"{name} does not hold a JSON object.")
    _check_depth(value, name)
    return value


def _check_depth(value: Any, name: str) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        following: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                following.extend(item.values())
            elif isinstance(item, list):
                following.extend(item)
        if not following:
            return
        level = following
    raise ModelError(f"{name} is nested more than {MAX_DEPTH} levels deep.")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes UTF-8 JSON through a temporary file in the same folder.

    Raises:
        OutputError: the file cannot be written; what was there before is untouched.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces the file atomically. Raises OutputError; what was there before is untouched."""
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from None


def read_number(value: Any, what: str, low: float, high: float) -> float:
    """A finite number within [low, high]; booleans are no numbers here. Raises ModelError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ModelError(f"{what} is not a number.")
    # Compared before conversion: float() of a huge integer raises OverflowError.
    if not low <= value <= high or not math.isfinite(value):
        raise ModelError(f"{what} is {_shown(value)}, which is not within {low:g} and {high:g}.")
    return float(value)


def read_int(value: Any, what: str, low: int, high: int) -> int:
    """A whole number within [low, high]; 3.0 counts as 3. Raises ModelError."""
    number = read_number(value, what, low, high)
    if number != int(number):
        raise ModelError(f"{what} is {_shown(value)}, which is not a whole number.")
    return int(number)


def read_bool(value: Any, what: str) -> bool:
    if not isinstance(value, bool):
        raise ModelError(f"{what} is neither true nor false.")
    return value


def read_text(value: Any, what: str, *, limit: int = 20_000) -> str:
    """A string of at most `limit` characters. Raises ModelError."""
    if not isinstance(value, str):
        raise ModelError(f"{what} is not text.")
    if len(value) > limit:
        raise ModelError(f"{what} is longer than {limit} characters.")
    return value


def read_list(value: Any, what: str, *, length: int | None = None, limit: int = 1000) -> list[Any]:
    """A list of exactly `length`, or at most `limit`, entries. Raises ModelError."""
    if not isinstance(value, (list, tuple)):
        raise ModelError(f"{what} is not a list.")
    if length is not None and len(value) != length:
        raise ModelError(f"{what} has {len(value)} entries instead of {length}.")
    if len(value) > limit:
        raise ModelError(f"{what} has more than {limit} entries.")
    return list(value)


def read_dict(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ModelError(f"{what} is not a JSON object.")
    return value


def _shown(value: float) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 24 else text[:24] + "..."

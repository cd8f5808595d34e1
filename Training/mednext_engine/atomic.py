"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_UNFINISHED: set[Path] = set()


def remove_unfinished() -> None:
    """Removes what this process is writing right now; for one that must end at once."""
    for path in list(_UNFINISHED):
        with suppress(OSError):
            path.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path, suffix: str | None = None) -> Iterator[Path]:
    """A hidden path beside `path` to write to; it takes the place of `path` when all went well.

    Otherwise it is removed, and what was there before stays. Its name holds the process's number,
    so that what a killed process left can be told from what another one is writing.

    Raises:
        OSError: the file cannot take its place (the caller says so in words).
    """
    suffix = path.suffix if suffix is None else suffix
    temporary = path.parent / f".{os.getpid()}-{secrets.token_hex(8)}{suffix}"
    _UNFINISHED.add(temporary)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        _UNFINISHED.discard(temporary)
        temporary.unlink(missing_ok=True)

"""Whatever ends a run is said in one sentence and left in its state."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import Cancelled, EngineError, ResourceError
from .runs import cannot_write, read_state, write_state

_TEMPORARY = re.compile(r"\.\d+-[0-9a-f]{16}\..+")  # of `atomic.replacing`


@contextmanager
def said_in_state(job_folder: Path) -> Iterator[None]:
    """Leaves in `run.json` how a run ended, and turns what the system says into sentences.

    Raises:
        OutputError, ResourceError: in place of the system's errors; what else comes goes on.
    """
    try:
        with disk_said(job_folder / "run"):
            yield
    except Cancelled:
        _leave(job_folder, "interrupted", "")
        raise
    except EngineError as error:
        _leave(job_folder, "failed", error.message)
        raise
    except (MemoryError, RuntimeError) as error:
        from ..training.device import out_of_memory

        if not out_of_memory(error):
            _leave(job_folder, "failed", type(error).__name__)
            raise
        known = ResourceError(
            "The memory of this device does not suffice for this training.",
            "Choose a smaller patch or gradient checkpointing, close other programs, and resume.",
        )
        _leave(job_folder, "failed", known.message)
        raise known from error
    except BaseException:
        _leave(job_folder, "interrupted", "")
        raise


@contextmanager
def disk_said(folder: Path) -> Iterator[None]:
    """Turns what the system says of a full disk or a missing permission into a sentence."""
    try:
        yield
    except OSError as error:
        raise cannot_write(folder, error) from None


def remove_half_written(run_folder: Path) -> None:
    """Removes what a killed run was writing. Only for who holds the run's lock."""
    with contextlib.suppress(OSError):
        for root, _, names in os.walk(run_folder):
            for name in names:
                if _TEMPORARY.fullmatch(name):
                    Path(root, name).unlink()


def _leave(job_folder: Path, state: str, message: str) -> None:
    """Only of a run that got under way; a full disk must not hide the first error."""
    with contextlib.suppress(EngineError):
        if read_state(job_folder).get("state") == "running":
            write_state(job_folder, state=state, message=message)

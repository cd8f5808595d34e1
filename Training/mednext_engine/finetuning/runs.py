"""What has become of a job: the state of its run, the lock around it, the list of all runs.

Everything lies in the job folder's `run/`. `run.json` holds:
    {"version": 1, "state": "running" | "interrupted" | "finished" | "failed", "fraction": 0 to 1,
     "model": id or null, "message": what went wrong, "decisions": {...} (`plan`),
     "seen": [digests of images trained on], "validated": [digests of images held out], ...}
It is written whole or not at all. A run that says "running" and is locked by nobody was killed:
its state is "interrupted".
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ..atomic import replacing
from ..errors import EngineError, InputError, ModelError, OutputError
from ..models.jsonfile import read_json

ENVIRONMENT = "MEDNEXT_RUNS"
STATE, LOCK = "run.json", "lock"
_LOCKED_BYTE = 1 << 20  # on Windows what is locked cannot be read, so it is a byte beyond the pid


def runs_directory() -> Path:
    """Where a face makes its job folders; made if needed, readable by its owner only.

    Raises:
        OutputError: it cannot be made.
    """
    if said := os.environ.get(ENVIRONMENT):
        directory = Path(said).expanduser()
    else:
        import platformdirs

        directory = platformdirs.user_data_path("MedNeXtSeg", appauthor=False) / "finetuning"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        directory.chmod(0o700)  # also where something else has made it
    except OSError as error:
        raise OutputError(
            f"The folder {directory} cannot be made: {error.strerror or error}."
        ) from None
    return directory


def read_state(job_folder: Path) -> dict[str, Any]:
    """The content of `run.json`, {} where nothing was begun. Raises InputError when damaged."""
    path = job_folder / "run" / STATE
    if not path.exists():
        return {}
    try:
        return read_json(path)
    except ModelError as error:
        raise InputError(
            f"The state of this run cannot be read: {error.message}", "Start it anew."
        ) from None


def write_state(job_folder: Path, **changes: Any) -> None:
    """Changes entries of `run.json`. Raises OutputError; what was there before stays."""
    try:
        state = read_state(job_folder)
    except InputError:
        state = {}
    state |= {"version": 1, **changes}
    path = job_folder / "run" / STATE
    try:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(state, allow_nan=False, indent=1), encoding="utf-8")
    except OSError as error:
        raise cannot_write(path.parent, error) from None


def cannot_write(folder: Path, error: OSError) -> OutputError:
    """What to say when a run's folder cannot be written; the cause, and that the rest stays."""
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT if hasattr(errno, "EDQUOT") else -1):
        return OutputError(
            f"The disk of {folder} is full.",
            "Make room and resume: the training goes on from its last checkpoint.",
        )
    return OutputError(
        f"{folder} cannot be written: {error.strerror or error}.",
        "Check its permissions and resume: the training goes on from its last checkpoint.",
    )


# ---- the lock --------------------------------------------------------------------------------


@contextmanager
def locked(job_folder: Path) -> Iterator[None]:
    """One training of a job folder at a time; the system frees the lock of a killed process.

    Raises:
        InputError: another process, which is named, holds it.
        OutputError: the folder cannot be written.
    """
    folder = job_folder / "run"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        stream = (folder / LOCK).open("a+b")
    except OSError as error:
        raise cannot_write(folder, error) from None
    with stream:
        if not _try_lock(stream):
            raise InputError(
                f"This job is being trained already, by the process {_holder(stream)}.",
                "Wait for it to end, or stop it.",
            )
        try:
            stream.truncate(0)
            stream.write(str(os.getpid()).encode())
            stream.flush()
            yield
        finally:
            with contextlib.suppress(OSError):
                stream.truncate(0)
            _unlock(stream)


def is_locked(job_folder: Path) -> bool:
    """Whether some process, this one included, trains this job."""
    try:
        with (job_folder / "run" / LOCK).open("r+b") as stream:
            free = _try_lock(stream)
            if free:
                _unlock(stream)
            return not free
    except OSError:
        return False


def _holder(stream: IO[bytes]) -> str:
    stream.seek(0)
    text = stream.read(20).decode("ascii", "replace")
    return text if text.isdigit() else "of another program"


if sys.platform == "win32":
    import msvcrt

    def _try_lock(stream: IO[bytes]) -> bool:
        stream.seek(_LOCKED_BYTE)
        try:
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(stream: IO[bytes]) -> None:
        stream.seek(_LOCKED_BYTE)
        with contextlib.suppress(OSError):
            msvcrt.locking(stream.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(stream: IO[bytes]) -> bool:
        try:
            fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _unlock(stream: IO[bytes]) -> None:
        fcntl.flock(stream.fileno(), fcntl.LOCK_UN)


# ---- all runs --------------------------------------------------------------------------------


def describe_run(job_folder: Path) -> dict[str, Any]:
    """A `RunInfo` of a job folder, whatever is wrong with it."""
    state: dict[str, Any] = {}
    with contextlib.suppress(EngineError):
        state = read_state(job_folder)
    said = state.get("state")
    if is_locked(job_folder):
        said = "running"
    elif said == "running":
        said = "interrupted"
    known = said in ("running", "interrupted", "finished", "failed")
    fraction, model = state.get("fraction"), state.get("model")
    number = isinstance(fraction, (int, float)) and 0 <= fraction <= 1
    return {
        "folder": str(job_folder),
        "name": _name(job_folder),
        "state": said if known else "new",
        "fraction": float(fraction) if number and isinstance(fraction, (int, float)) else 0.0,
        "model": model if isinstance(model, str) else None,
    }


def list_runs() -> dict[str, Any]:
    """Result of a `Runs` request: job folders in the directory, the last changed first."""
    directory = runs_directory()
    entries = (p for p in directory.iterdir() if not p.name.startswith("."))
    found = [p for p in entries if (p / "job.json").is_file() and not p.is_symlink()]
    found.sort(key=lambda folder: (folder / "job.json").stat().st_mtime, reverse=True)
    return {"directory": str(directory), "runs": [describe_run(folder) for folder in found]}


def remove_run(folder: Path) -> str:
    """Deletes a job folder that lies in the directory of runs, cases and all.

    Raises:
        InputError: it lies elsewhere, is no job folder, or is being trained.
        OutputError: a file is in use or protected.
    """
    directory = runs_directory()
    inside = folder.parent.resolve() == directory.resolve() and not folder.is_symlink()
    if not inside or not (folder / "job.json").is_file():
        raise InputError(f"{folder} was not removed, because it is no job folder in {directory}.")
    if is_locked(folder):
        raise InputError("This job is being trained.", "Cancel it first.")
    aside = folder.with_name(f".removed-{folder.name}-{os.getpid()}")
    try:
        os.replace(folder, aside)
        shutil.rmtree(aside)
    except OSError as error:
        raise OutputError(f"{folder} cannot be removed: {error.strerror or error}.") from None
    return str(folder)


def _name(job_folder: Path) -> str:
    """The title in `job.json`, or the folder's name."""
    with contextlib.suppress(EngineError):
        name = read_json(job_folder / "job.json").get("name")
        if isinstance(name, str) and name.strip():
            return name[:200]
    return job_folder.name

"""The job folder: what is to be trained, from which cases, with which settings.

    JOB/job.json              settings, labels, the list of cases
    JOB/cases/<id>/case.json  one folder a case (`case_file`)
    JOB/run/                  everything the training writes

`job.json`:
    {"version": 1, "name": str, "base": model id or path | null, "preset": str,
     "channels": [str],
     "labels": [{"name": str, "color": [r, g, b] | null, "terminology": str,
                 "base": name of the base's class | null (a new class) | absent (found by name),
                 "background": bool}],
     "cases": [id], "options": {...} (`JobOptions`), "previous": job folder | null}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError, OutputError
from ..models.jsonfile import read_bool, read_dict, read_int, read_list, read_text, write_json
from ..models.labels import MAX_LABELS
from .case_file import MAX_CHANNELS, Annotated, CaseFile, read_case, write_case
from .options import JobOptions, read_options
from .reading import (
    VERSION,
    as_input_error,
    check_keys,
    read_choice,
    read_id,
    read_name,
    read_versioned,
)

__all__ = ["Annotated", "CaseFile", "Job", "JobLabel", "JobOptions", "read_job", "write_job"]

FILE_NAME = "job.json"

PRESETS = ("quick", "standard", "thorough")
BY_NAME = ""
"""`JobLabel.base` of a label whose class in the base model is found by its name."""


@dataclass(frozen=True)
class JobLabel:
    """A label of the new model. `base` names the base model's class whose row of the head it
    starts from; None: a new row; `BY_NAME`: found by name. `background`: drawn background, which
    becomes class 0 and no label of the model. `color` is (r, g, b), 0 to 255."""

    name: str
    color: tuple[int, int, int] | None = None
    terminology: str = ""
    base: str | None = BY_NAME
    background: bool = False


@dataclass(frozen=True)
class Job:
    """A job folder that was read; see the module."""

    folder: Path
    name: str
    base: str | None
    preset: str
    channels: tuple[str, ...]
    labels: tuple[JobLabel, ...]
    cases: tuple[CaseFile, ...]
    options: JobOptions = field(default_factory=JobOptions)
    previous: Path | None = None

    @property
    def run_folder(self) -> Path:
        """Where the training writes; it may not be there yet."""
        return self.folder / "run"

    @property
    def classes(self) -> tuple[JobLabel, ...]:
        """The labels of the new model: class i is `classes[i - 1]`."""
        return tuple(label for label in self.labels if not label.background)

    @property
    def class_values(self) -> Mapping[str, int]:
        """Label name -> class in training (explicit background: 0)."""
        values = {label.name: index for index, label in enumerate(self.classes, start=1)}
        return {**values, **{label.name: 0 for label in self.labels if label.background}}


def read_job(folder: Path) -> Job:
    """Reads a job folder; whether images and label files exist is not asked.

    Raises:
        InputError: something is missing, of the wrong kind, or points out of the folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no job folder {folder}.")
    with as_input_error():
        keys = ("name", "base", "preset", "channels", "labels", "cases", "options", "previous")
        raw = read_versioned(folder / FILE_NAME, keys)
        base, previous = raw.get("base"), raw.get("previous")
        ids = [read_id(i, "A case's id") for i in read_list(raw.get("cases"), "'cases'")]
        if len(set(ids)) < len(ids):
            raise InputError("'cases' names a case twice.")
        return Job(
            folder=folder.resolve(),
            name=read_name(raw.get("name"), "'name'"),
            base=None if base is None else read_text(base, "'base'", limit=4096),
            preset=read_choice(raw.get("preset", "standard"), "'preset'", PRESETS),
            channels=_read_channels(raw.get("channels")),
            labels=_read_labels(raw.get("labels")),
            cases=tuple(read_case(folder / "cases" / i, folder) for i in ids),
            options=read_options(raw.get("options", {})),
            previous=None
            if previous is None
            else folder / read_text(previous, "'previous'", limit=4096),
        )


def _read_channels(raw: Any) -> tuple[str, ...]:
    channels = [read_name(c, "A channel") for c in read_list(raw, "'channels'", limit=MAX_CHANNELS)]
    if not channels:
        raise InputError("'channels' is empty.", "Name one channel an image.")
    return tuple(channels)


def _read_labels(raw: Any) -> tuple[JobLabel, ...]:
    labels = [_read_label(entry) for entry in read_list(raw, "'labels'", limit=MAX_LABELS)]
    names = [label.name for label in labels]
    if len(set(names)) < len(names):
        double = next(name for name in names if names.count(name) > 1)
        raise InputError(f"There are two labels named '{double}'.", "Rename one of them.")
    if sum(label.background for label in labels) > 1:
        raise InputError("Several labels are marked as background.", "Mark only one.")
    return tuple(labels)


def _read_label(entry: Any) -> JobLabel:
    raw = read_dict(entry, "A label")
    check_keys(raw, ("name", "color", "terminology", "base", "background"), "A label")
    name = read_name(raw.get("name"), "A label's name")
    color, base = raw.get("color"), raw.get("base", BY_NAME)
    if color is not None:
        parts = read_list(color, f"The colour of '{name}'", length=3)
        red, green, blue = (read_int(c, f"The colour of '{name}'", 0, 255) for c in parts)
        color = (red, green, blue)
    return JobLabel(
        name=name,
        color=color,
        terminology=read_text(raw.get("terminology") or "", "A terminology", limit=2000),
        base=None if base is None else read_text(base, f"'base' of '{name}'", limit=200),
        background=read_bool(raw.get("background", False), f"'background' of '{name}'"),
    )


def write_job(folder: Path, job: Job) -> None:
    """Writes `job.json` and the cases' `case.json`, each whole or not at all, into folders that
    are made for this user alone. Paths within the folder are written relative, others absolute.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    try:
        for path in (folder, folder / "cases", *(folder / "cases" / c.id for c in job.cases)):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The job folder {folder} cannot be made: {error.strerror or error}.",
            "Choose another folder.",
        ) from None
    for case in job.cases:
        write_case(folder / "cases" / case.id, folder, case)
    content = {
        "version": VERSION,
        "name": job.name,
        "base": job.base,
        "preset": job.preset,
        "channels": list(job.channels),
        "labels": [_label_json(label) for label in job.labels],
        "cases": [case.id for case in job.cases],
        "options": asdict(job.options),
        "previous": None if job.previous is None else str(job.previous),
    }
    write_json(folder / FILE_NAME, content)


def _label_json(label: JobLabel) -> dict[str, Any]:
    content = asdict(label)
    if label.base == BY_NAME:
        del content["base"]
    return content

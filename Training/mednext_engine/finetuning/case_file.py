"""One case of a job: its images, its label map, and how much of that map means anything.

`cases/<id>/case.json`:
    {"version": 1, "images": [one path a channel], "labels": path,
     "values": {label name: value in the label map},
     "ignore": value that means unknown, or null,
     "annotated": {"kind": "everything" | "slices" | "box" | "painted",
                   "axis": 0 | 1 | 2 | null, "slices": [index, ...] | null, "beyond": bool,
                   "box": [[z0, z1], [y0, y1], [x0, x1]] | null},
     "use": "auto" | "train" | "validate",
     "overlaps": [[label name, label name, voxels]],
     "source": {whatever its writer wants to remember; it is never read here nor exported}}
Relative paths start at the case's folder and stay in the job's; axes and indices are those of the
label map's array (z, y, x); boxes are half-open.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..models.jsonfile import read_bool, read_dict, read_int, read_list, write_json
from ..models.labels import MAX_LABELS, MAX_VALUE
from .reading import (
    VERSION,
    as_input_error,
    check_keys,
    read_choice,
    read_name,
    read_path,
    read_versioned,
)

FILE_NAME = "case.json"
MAX_CHANNELS = 64
MAX_EDGE = 2**20
KINDS = ("everything", "slices", "box", "painted")
USES = ("auto", "train", "validate")

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Annotated:
    """Which voxels of a label map were looked at; all others are unknown, not background.

    Attributes:
        kind: "everything"; "slices": on annotated slices value 0 is background; "box": within it;
            "painted": value 0 is unknown everywhere.
        axis: of the slices (array axis 0, 1, 2 = z, y, x); None: found, the one with fewest.
        slices: their indices; None: found, those that hold a label.
        beyond: structures end where the slices do, so what lies further beyond the first and the
            last one than the widest gap between two is background; else it is unknown.
        box: first voxel and the one after the last, for z, y and x.
    """

    kind: str = "everything"
    axis: int | None = None
    slices: tuple[int, ...] | None = None
    box: Box | None = None
    beyond: bool = False


@dataclass(frozen=True)
class CaseFile:
    """What a `case.json` says; see the module. Paths are absolute."""

    id: str
    images: tuple[Path, ...]
    labels: Path
    values: Mapping[str, int]
    annotated: Annotated = field(default_factory=Annotated)
    ignore: int | None = None
    use: str = "auto"
    overlaps: tuple[tuple[str, str, int], ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict)


def read_case(folder: Path, job_folder: Path) -> CaseFile:
    """Reads `folder`/case.json; whether the files it names exist is not asked.

    Raises:
        InputError: missing, of the wrong kind, or a relative path that leaves `job_folder`.
    """
    with as_input_error(folder.name):
        keys = {"images", "labels", "values", "ignore", "annotated", "use", "overlaps", "source"}
        raw = read_versioned(folder / FILE_NAME, keys)
        images = read_list(raw.get("images"), "'images'", limit=MAX_CHANNELS)
        if not images:
            raise InputError("'images' is empty.", "Name one image a channel.")
        values = _read_values(raw.get("values"))
        ignore = raw.get("ignore")
        return CaseFile(
            id=folder.name,
            images=tuple(read_path(i, "An entry of 'images'", folder, job_folder) for i in images),
            labels=read_path(raw.get("labels"), "'labels'", folder, job_folder),
            values=values,
            annotated=_read_annotated(raw.get("annotated", {})),
            ignore=None if ignore is None else read_int(ignore, "'ignore'", 1, MAX_VALUE),
            use=read_choice(raw.get("use", "auto"), "'use'", USES),
            overlaps=_read_overlaps(raw.get("overlaps", [])),
            source=read_dict(raw.get("source", {}), "'source'"),
        )


def _read_values(raw: Any) -> dict[str, int]:
    table = read_dict(raw, "'values'")
    if len(table) > MAX_LABELS:
        raise InputError(f"'values' names more than {MAX_LABELS} labels.")
    values = {
        read_name(name, "A label of 'values'"): read_int(
            value, f"The value of '{name[:60]}'", 0, MAX_VALUE
        )
        for name, value in table.items()
    }
    if len(set(values.values())) < len(table):
        raise InputError("'values' gives one value, or one name, twice.")
    return values


def _read_annotated(raw: Any) -> Annotated:
    table = read_dict(raw, "'annotated'")
    check_keys(table, ("kind", "axis", "slices", "box", "beyond"), "'annotated'")
    kind = read_choice(table.get("kind", "everything"), "'kind' of 'annotated'", KINDS)
    axis, slices, box = table.get("axis"), table.get("slices"), table.get("box")
    if slices is not None and axis is None:
        raise InputError("'annotated' gives slices without their axis.")
    if kind == "box" and box is None:
        raise InputError("'annotated' is a box, but gives none.")
    if slices is not None:
        entries = read_list(slices, "'slices'", limit=MAX_EDGE)
        slices = tuple(sorted({read_int(i, "A slice", 0, MAX_EDGE) for i in entries}))
    return Annotated(
        kind=kind,
        axis=None if axis is None else read_int(axis, "'axis' of 'annotated'", 0, 2),
        slices=slices,
        box=None if box is None else _read_box(box),
        beyond=read_bool(table.get("beyond", False), "'beyond'"),
    )


def _read_box(raw: Any) -> Box:
    sides = []
    for side in read_list(raw, "'box'", length=3):
        # A box drawn beyond the image is cut to it later; that it reaches out is worth a warning.
        low, high = (
            read_int(end, "An end of 'box'", -MAX_EDGE, MAX_EDGE)
            for end in read_list(side, "A side of 'box'", length=2)
        )
        if low >= high:
            raise InputError(f"A side of 'box' is empty: from {low} to {high}.")
        sides.append((low, high))
    return sides[0], sides[1], sides[2]


def _read_overlaps(raw: Any) -> tuple[tuple[str, str, int], ...]:
    found = []
    for entry in read_list(raw, "'overlaps'", limit=10_000):
        first, second, voxels = read_list(entry, "An entry of 'overlaps'", length=3)
        what = "A label of 'overlaps'"
        count = read_int(voxels, "The voxels of an overlap", 0, 2**62)
        found.append((read_name(first, what), read_name(second, what), count))
    return tuple(found)


def write_case(folder: Path, job_folder: Path, case: CaseFile) -> None:
    """Writes `folder`/case.json; paths within the job's folder become relative.

    Raises:
        OutputError: it cannot be written; what was there before stays.
    """
    about = case.annotated
    content = {
        "version": VERSION,
        "images": [_shown(path, folder, job_folder) for path in case.images],
        "labels": _shown(case.labels, folder, job_folder),
        "values": dict(case.values),
        "ignore": case.ignore,
        "annotated": {
            "kind": about.kind,
            "axis": about.axis,
            "slices": None if about.slices is None else list(about.slices),
            "box": None if about.box is None else [list(side) for side in about.box],
            "beyond": about.beyond,
        },
        "use": case.use,
        "overlaps": [list(overlap) for overlap in case.overlaps],
        "source": dict(case.source),
    }
    write_json(folder / FILE_NAME, content)


def _shown(path: Path, folder: Path, job_folder: Path) -> str:
    full = path.resolve()
    if full.is_relative_to(job_folder.resolve()):
        return Path(os.path.relpath(full, folder.resolve())).as_posix()
    return str(full)

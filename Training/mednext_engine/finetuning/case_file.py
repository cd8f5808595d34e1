"""One case of a job: its images, its label map, and how much of that map means anything.

`cases/<id>/case.json`:
    {"version": 1, "images": [one path a channel], "labels": path,
     "values": {label name: value in the label map},
     "ignore": value that means unknown, or null,
     "annotated": {"kind": "everything" | "slices" | "box" | "painted",
                   "axis": 0 | 1 | 2 | null, "slices": [index] | null, "box": [[z0, z1], ...] | null},
     "use": "auto" | "train" | "validate",
     "overlaps": [[label name, label name, voxels]],
     "source": {whatever its writer wants to remember; it is never read here nor exported}}
Relative paths start at the case's folder and stay in the job's; axes and indices are those of the
label map's array (z, y, x); boxes are half-open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
        box: first voxel and the one after the last, for z, y and x.
    """

    kind: str = "everything"
    axis: int | None = None
    slices: tuple[int, ...] | None = None
    box: Box | None = None


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

"""Label maps in files against references in files: a row a case and label, tables of them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..atomic import replacing
from ..errors import InputError, OutputError
from ..monitor import Monitor
from .metrics import LabelScore, score_label

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
COLUMNS = (
    "case",
    "label",
    "name",
    "dice",
    "surface_dice",
    "hd95_mm",
    "volume_ml",
    "reference_volume_ml",
)


@dataclass(frozen=True)
class LabelMap:
    """Integer labels (z, y, x), spacing in mm in the same order, and where the grid lies (LPS)."""

    values: NDArray[Any]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]


@dataclass(frozen=True)
class Row:
    """The scores of one label of one case."""

    case: str
    label: int
    name: str
    score: LabelScore

    def cells(self) -> dict[str, Any]:
        """By `COLUMNS`; what JSON and CSV cannot say (NaN, infinity) is None and "inf"."""
        score = self.score
        numbers = (score.dice, score.surface_dice, score.hd95, score.volume, score.reference_volume)
        keys = COLUMNS[3:]
        shown = {k: _plain(v) for k, v in zip(keys, numbers, strict=True)}
        return {"case": self.case, "label": self.label, "name": self.name, **shown}


@dataclass(frozen=True)
class LabelSummary:
    """Of one label over all cases: means of what could be scored (NaN and infinity left out).

    `cases` had the label in the prediction or the reference; `missed` of them in only one.
    """

    label: int
    name: str
    cases: int
    missed: int
    dice: float | None
    surface_dice: float | None
    hd95_mm: float | None

    def cells(self) -> dict[str, Any]:
        return asdict(self)


def read_label_map(path: Path) -> LabelMap:
    """Reads one label map.

    Raises:
        InputError: unreadable, not one volume, or values that are not whole numbers >= 0.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        raise InputError(
            f"{path.name} cannot be read as a label map.",
            "Give a NIfTI, NRRD or MetaImage file.",
        ) from None
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{path.name} is not one volume of labels.")
    values = sitk.GetArrayFromImage(image)
    if not np.issubdtype(values.dtype, np.integer):
        if not np.isfinite(values).all() or (values != np.round(values)).any():
            raise InputError(f"{path.name} holds values that are not whole numbers.")
        values = values.astype(np.int64)
    if values.size and values.min() < 0:
        raise InputError(f"{path.name} holds negative labels.")
    spacing = tuple(image.GetSpacing()[::-1])
    return LabelMap(values, spacing, image.GetOrigin(), image.GetDirection())


def check_same_grid(prediction: LabelMap, reference: LabelMap, case: str) -> None:
    """Raises InputError, naming what differs, unless both lie on one grid (to 0.05 voxels)."""
    if prediction.values.shape != reference.values.shape:
        one, other = (_size(m) for m in (prediction, reference))
        raise InputError(
            f"{case}: the prediction has {one} voxels and the reference {other}.",
            "Resample one of them to the other's grid first.",
        )
    size = max(prediction.values.shape)
    limit = 0.05 * min(reference.spacing)
    facts = (
        ("spacing", prediction.spacing, reference.spacing, limit / size),
        ("origin", prediction.origin, reference.origin, limit),
        ("direction", prediction.direction, reference.direction, 0.05 / size),
    )
    for name, one_value, other_value, tolerance in facts:
        if not np.allclose(one_value, other_value, rtol=0, atol=tolerance):
            raise InputError(
                f"{case}: the prediction and the reference have different {name}s "
                f"({_shown(one_value)} and {_shown(other_value)}).",
                "Resample one of them to the other's grid first.",
            )


def score_case(
    prediction: Path,
    reference: Path,
    *,
    case: str = "",
    labels: Sequence[int] | None = None,
    names: Mapping[int, str] | None = None,
    ignore: int | None = None,
    tolerance: float = 1.0,
    monitor: Monitor | None = None,
) -> list[Row]:
    """Scores every label (without 0, background) that is in either file, or the `labels` given.

    Voxels where the reference is `ignore` (nnU-Net's ignore label) count nowhere.
    """
    case = case or case_name(reference)
    found, wanted = read_label_map(prediction), read_label_map(reference)
    check_same_grid(found, wanted, case)
    values = found.values
    if ignore is not None:
        values = np.where(wanted.values == ignore, 0, values)
    present = set(np.unique(values).tolist()) | set(np.unique(wanted.values).tolist())
    present -= {0, ignore}
    rows = []
    for label in sorted(present) if labels is None else labels:
        if monitor is not None:
            monitor.check()
        score = score_label(values == label, wanted.values == label, wanted.spacing, tolerance)
        rows.append(Row(case, int(label), (names or {}).get(int(label), ""), score))
    return rows


def pair_cases(predictions: Path, references: Path) -> list[tuple[str, Path, Path]]:
    """Cases of two files, or of the files of one name (whatever the suffix) in two folders.

    Raises:
        InputError: a file against a folder, nothing in common, or a reference without prediction.
    """
    if predictions.is_file() and references.is_file():
        return [(case_name(references), predictions, references)]
    for path in (predictions, references):
        if not path.is_dir():
            what = "is a file, the other is a folder" if path.exists() else "does not exist"
            raise InputError(f"{path} {what}.", "Give two files, or two folders.")
    found, wanted = _files(predictions), _files(references)
    missing = sorted(set(wanted) - set(found))
    if not wanted:
        raise InputError(f"There are no label maps in {references}.")
    if missing:
        raise InputError(
            f"{len(missing)} of {len(wanted)} references have no prediction in {predictions}, "
            f"the first is {missing[0]}.",
            "Segment the missing cases, or leave their references out.",
        )
    return [(name, found[name], wanted[name]) for name in sorted(wanted)]


def case_name(path: Path) -> str:
    """The file's name without the suffix of its format."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def summarise(rows: Iterable[Row]) -> list[LabelSummary]:
    """One summary a label, in the order of their values."""
    by_label: dict[int, list[Row]] = {}
    for row in rows:
        by_label.setdefault(row.label, []).append(row)
    summaries = []
    for label, own in sorted(by_label.items()):
        there = [r.score for r in own if not math.isnan(r.score.dice)]
        missed = sum(1 for s in there if math.isinf(s.hd95))
        means = [_mean([getattr(s, m) for s in there]) for m in ("dice", "surface_dice", "hd95")]
        summaries.append(LabelSummary(label, own[0].name, len(there), missed, *means))
    return summaries


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """Writes the rows, whole or not at all. Raises OutputError."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(row.cells() for row in rows)
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(text.getvalue().encode())
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from None


def _files(folder: Path) -> dict[str, Path]:
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith(".")]
    return {case_name(p): p for p in files if p.name.lower().endswith(SUFFIXES)}


def _mean(values: Sequence[float]) -> float | None:
    finite = [v for v in values if math.isfinite(v)]
    return sum(finite) / len(finite) if finite else None


def _plain(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return round(value, 6) if math.isfinite(value) else "inf"


def _size(one: LabelMap) -> str:
    return " x ".join(map(str, one.values.shape[::-1]))


def _shown(values: Sequence[float]) -> str:
    return ", ".join(f"{v:g}" for v in values)

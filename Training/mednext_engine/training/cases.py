"""Training cases: arrays on disk, and where in them the classes are."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import replacing
from ..errors import InputError

UNKNOWN = -1
MOST_LOCATIONS = 10_000  # voxels kept a class, as nnU-Net keeps


@dataclass(frozen=True)
class Locations:
    """Voxels (z, y, x) of each class, at most `MOST_LOCATIONS` of each, drawn evenly.

    Attributes:
        classes: class (1 ...) -> int32 (voxels, 3); background is not among them.
        annotated: int32 (voxels, 3) drawn from all voxels that are not unknown.
        complete: no voxel is unknown.
        low, high: half-open box of the annotated voxels.
    """

    classes: dict[int, np.ndarray]
    annotated: np.ndarray
    complete: bool
    low: tuple[int, int, int]
    high: tuple[int, int, int]


@dataclass(frozen=True)
class TrainingCase:
    """A case as preparation left it: two `.npy` files in plan axes, read in parts.

    Attributes:
        data: float32 (c, z, y, x), normalised.
        labels: int16 (z, y, x): 0 background, 1 ... classes, -1 unknown (not annotated).
    """

    id: str
    data: Path
    labels: Path

    def open(self) -> tuple[np.ndarray, np.ndarray]:
        """Memory-mapped data and labels.

        Raises:
            InputError: a file is missing or was changed into something else.
        """
        data, labels = self._map(self.data), self._map(self.labels)
        plain = data.ndim == 4 and data.dtype == np.float32 and labels.dtype == np.int16
        if not plain or data.shape[1:] != labels.shape:
            raise InputError(
                f"The prepared arrays of case '{self.id}' do not belong together.",
                "Start the training anew; it prepares them again.",
            )
        return data, labels

    def _map(self, path: Path) -> np.ndarray:
        try:
            array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            raise InputError(
                f"The prepared arrays of case '{self.id}' are missing or damaged.",
                "Start the training anew; it prepares them again.",
            ) from None
        return array

    @cached_property
    def locations(self) -> Locations:
        """Found at the first use and kept in a file beside the labels."""
        kept = self.labels.with_suffix(".locations.npz")
        found = _read_locations(kept, self.labels)
        if found is None:
            found = find_locations(self.open()[1])
            _write_locations(kept, self.labels, found)
        return found


def find_locations(labels: np.ndarray) -> Locations:
    """Where the classes and the annotated voxels of (z, y, x) are; the same for equal arrays."""
    generator = np.random.default_rng(0)
    flat = np.asarray(labels).reshape(-1)
    known = np.flatnonzero(flat != UNKNOWN)
    present = [int(c) for c in np.unique(flat) if c > 0]
    classes = {c: _some(np.flatnonzero(flat == c), labels.shape, generator) for c in present}
    box = _box(known, labels.shape)
    return Locations(classes, _some(known, labels.shape, generator), known.size == flat.size, *box)


def _some(
    indices: np.ndarray, shape: tuple[int, ...], generator: np.random.Generator
) -> np.ndarray:
    if indices.size > MOST_LOCATIONS:
        indices = np.sort(generator.choice(indices, MOST_LOCATIONS, replace=False))
    return np.stack(np.unravel_index(indices, shape), axis=-1).astype(np.int32)


def _box(
    known: np.ndarray, shape: tuple[int, ...]
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    if not known.size:
        return (0, 0, 0), (0, 0, 0)
    low, high = [], []
    for coordinates in np.unravel_index(known, shape):
        low.append(int(coordinates.min()))
        high.append(int(coordinates.max()) + 1)
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def _stamp(labels: Path) -> np.ndarray:
    status = labels.stat()
    return np.array([status.st_size, status.st_mtime_ns], np.int64)


def _read_locations(kept: Path, labels: Path) -> Locations | None:
    try:
        with np.load(kept, allow_pickle=False) as stored:
            if not np.array_equal(stored["stamp"], _stamp(labels)):
                return None
            classes = {int(c): stored[f"class_{c}"] for c in stored["classes"]}
            low, high = stored["box"].tolist()
            return Locations(
                classes, stored["annotated"], bool(stored["complete"]), tuple(low), tuple(high)
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write_locations(kept: Path, labels: Path, found: Locations) -> None:
    arrays: dict[str, Any] = {f"class_{c}": voxels for c, voxels in found.classes.items()}
    arrays["stamp"] = _stamp(labels)
    arrays["classes"] = np.array(list(found.classes), np.int64)
    arrays["annotated"] = found.annotated
    arrays["complete"] = np.array(found.complete)
    arrays["box"] = np.array([found.low, found.high], np.int64)
    try:
        with replacing(kept) as temporary:
            np.savez(temporary, **arrays)
    except OSError:
        return  # a full disk or a read-only folder costs a little time at the next start only


def class_shares(cases: Sequence[TrainingCase], num_classes: int) -> tuple[float, ...]:
    """Of all annotated voxels of the cases, the share of each class, background first.

    Raises:
        InputError: a case cannot be read.
    """
    counts = np.zeros(num_classes)
    for case in cases:
        labels = case.open()[1]
        for plane in labels:  # one at a time: the file is mapped, not read
            counts += np.bincount(plane[plane >= 0], minlength=num_classes)[:num_classes]
    return tuple(float(share) for share in counts / max(counts.sum(), 1))

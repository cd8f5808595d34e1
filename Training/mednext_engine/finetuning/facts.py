"""What a look at each case tells: grid, intensities, labels, annotated part."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from .annotation import annotated_slices, training_labels
from .case_file import CaseFile
from .counting import slice_counts
from .job import Job
from .problems import ERROR, Problem

if TYPE_CHECKING:
    from ..inference.images import Volume
    from ..monitor import Monitor

_SAMPLES = 10_000
"""Intensities of labelled voxels kept a case, as nnU-Net keeps."""

_QUANTILES = (0.5, 50.0, 99.5)


@dataclass(frozen=True)
class CaseFacts:
    """One case, looked at once; small enough to keep for every case.

    Attributes:
        id, use: of the case.
        shape: voxels (z, y, x) of the image.
        spacing: mm (z, y, x).
        direction: SimpleITK's cosines.
        crop: the box of voxels that are not zero in some channel, in array axes.
        digest: of the image's voxels; equal images have equal digests.
        counts: annotated voxels of each class, background first, (N + 1,) int64.
        profiles: for each array axis, annotated voxels of each class in each slice, (N + 1, n).
        kind: of the annotation ("everything", ...).
        slice_axis, slices: of annotated slices, found or given.
        unnamed: values of the label file that no label of the job has -> voxels.
        outside: labelled voxels outside `crop`, which the network never sees.
        distance: of the corners of image and label map, mm.
        samples: intensities of labelled voxels, (c, n) float32; empty where nothing is labelled.
        intensity: per channel (minimum, 0.5th percentile, median, 99.5th percentile, maximum).
    """

    id: str
    use: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    direction: tuple[float, ...]
    crop: tuple[slice, slice, slice]
    digest: str
    counts: np.ndarray
    profiles: tuple[np.ndarray, np.ndarray, np.ndarray]
    kind: str = "everything"
    slice_axis: int | None = None
    slices: tuple[int, ...] = ()
    unnamed: Mapping[int, int] = field(default_factory=dict)
    outside: int = 0
    distance: float = 0.0
    samples: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    intensity: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Inspection:
    """All cases: `facts` of those that could be read, an error in `problems` for each other."""

    facts: tuple[CaseFacts, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def median_spacing(self) -> tuple[float, float, float]:
        """mm, in array axes (z, y, x), over the cases that could be read (at least one)."""
        z, y, x = np.median([f.spacing for f in self.facts], axis=0).tolist()
        return z, y, x

    def foreground_intensity(self) -> dict[str, dict[str, float]]:
        """nnU-Net's `foreground_intensity_properties_per_channel`, of all cases together; empty
        for each channel where nothing is labelled."""
        labelled = [f.samples for f in self.facts if f.samples.size]
        if not labelled:
            channels = len(self.facts[0].intensity) if self.facts else 0
            return {str(channel): {} for channel in range(channels)}
        samples = np.concatenate(labelled, axis=1)
        return {str(channel): _statistics(values) for channel, values in enumerate(samples)}


def _statistics(values: np.ndarray) -> dict[str, float]:
    low, median, high = (float(v) for v in np.percentile(values, _QUANTILES))
    return {
        "mean": float(values.mean(dtype=np.float64)),
        "median": median,
        "std": float(values.std(dtype=np.float64)),
        "min": float(values.min()),
        "max": float(values.max()),
        "percentile_00_5": low,
        "percentile_99_5": high,
    }


def inspect_cases(job: Job, monitor: Monitor | None = None) -> Inspection:
    """Reads every case once, one after the other. What cannot be read becomes a problem."""
    facts, problems = [], []
    for index, case in enumerate(job.cases):
        if monitor is not None:
            monitor.advance(index / len(job.cases), f"Looking at {case.id}.")
        try:
            facts.append(inspect_case(case, job, monitor))
        except InputError as error:
            problems.append(Problem(ERROR, case.id, error.message, error.hint))
        except MemoryError:
            problems.append(
                Problem(
                    ERROR,
                    case.id,
                    "The case is too large for the memory of this computer.",
                    "Crop the volume to what matters, or close other programs.",
                )
            )
    return Inspection(tuple(facts), tuple(problems))


def inspect_case(case: CaseFile, job: Job, monitor: Monitor | None = None) -> CaseFacts:
    """Reads image and labels of one case.

    Raises:
        InputError: they cannot be used, in one sentence.
    """
    from ..inference.preprocess import nonzero_box

    volume, values, distance = read_case_arrays(case, job, monitor)
    labels = training_labels(values, case, job.class_values)
    if monitor is not None:
        monitor.check()
    crop = nonzero_box(volume.array)
    profiles = slice_counts(labels, len(job.classes) + 1)
    sparse = case.annotated.kind == "slices"
    axis, slices = annotated_slices(values, case.annotated) if sparse else (None, ())
    labelled = labels > 0
    return CaseFacts(
        id=case.id,
        use=case.use,
        shape=volume.shape,
        spacing=volume.spacing,
        direction=volume.direction,
        crop=crop,
        digest=image_digest(volume),
        counts=profiles[0].sum(axis=1),
        profiles=profiles,
        kind=case.annotated.kind,
        slice_axis=axis,
        slices=slices,
        unnamed=_unnamed(values, case, job),
        outside=int(np.count_nonzero(labelled)) - int(np.count_nonzero(labelled[crop])),
        distance=distance,
        samples=_samples(volume.array, labelled),
        intensity=tuple(_intensity(channel) for channel in volume.array),
    )


def read_case_arrays(
    case: CaseFile, job: Job, monitor: Monitor | None = None
) -> tuple[Volume, np.ndarray, float]:
    """The image, the label file's values (z, y, x) and the distance of their corners (mm).

    Raises:
        InputError: see `images.read_volume` and `label_files.read_label_map`.
    """
    from ..inference.images import read_volume
    from .label_files import read_label_map

    volume = read_volume(case.images, job.channels, monitor)
    if monitor is not None:
        monitor.check()
    values, distance = read_label_map(case.labels, volume)
    return volume, values, distance


def image_digest(volume: Volume) -> str:
    """Hex digest of the image's voxels and shape; its file and its place do not count."""
    digest = hashlib.blake2b(repr(volume.array.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(volume.array).data)
    return digest.hexdigest()


def _unnamed(values: np.ndarray, case: CaseFile, job: Job) -> dict[int, int]:
    known = {value for name, value in case.values.items() if name in job.class_values}
    known |= {0} if case.ignore is None else {0, case.ignore}
    counts = np.bincount(values.ravel())
    return {int(v): int(counts[v]) for v in np.flatnonzero(counts) if int(v) not in known}


def _samples(array: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    found = np.flatnonzero(labelled)
    if found.size > _SAMPLES:
        found = np.random.default_rng(1234).choice(found, _SAMPLES, replace=False)
    return np.asarray(array.reshape(len(array), -1)[:, found])


def _intensity(channel: np.ndarray) -> tuple[float, ...]:
    values = channel.ravel()
    step = max(1, values.size // 10**6)
    low, median, high = (float(v) for v in np.percentile(values[::step], _QUANTILES))
    return float(values.min()), low, median, high, float(values.max())

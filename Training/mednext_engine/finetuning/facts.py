"""What a look at each case tells: grid, intensities, labels, annotated part."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .job import Job
from .problems import Problem

if TYPE_CHECKING:
    from ..monitor import Monitor


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
        samples: intensities of labelled voxels, (c, n) float32; empty where nothing is labelled.
        intensity: per channel (minimum, 0.5th percentile, median, 99.5th percentile, maximum).
        problems: what was found while reading.
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
    samples: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    intensity: tuple[tuple[float, ...], ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """All cases: `facts` of those that could be read, `problems` of all of them."""

    facts: tuple[CaseFacts, ...]
    problems: tuple[Problem, ...]

    @property
    def median_spacing(self) -> tuple[float, float, float]:
        """mm, in array axes (z, y, x), over the cases that could be read."""
        z, y, x = np.median([f.spacing for f in self.facts], axis=0).tolist()
        return z, y, x

    def foreground_intensity(self) -> dict[str, dict[str, float]]:
        """nnU-Net's `foreground_intensity_properties_per_channel` of all cases together."""
        raise NotImplementedError


def inspect_cases(job: Job, monitor: Monitor | None = None) -> Inspection:
    """Reads every case once, one after the other. What cannot be read becomes a problem."""
    raise NotImplementedError

"""Job folders from data sets on disk: folders of image and label pairs, nnU-Net raw data sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .job import Job, JobOptions


def job_from_pairs(
    data: Path,
    folder: Path,
    *,
    name: str,
    base: str | None,
    preset: str = "standard",
    options: JobOptions | None = None,
    annotated: str = "everything",
    channels: Sequence[str] | None = None,
) -> Job:
    """Writes a job folder from a folder of image and label pairs."""
    raise NotImplementedError


def job_from_nnunet_raw(
    data: Path,
    folder: Path,
    *,
    name: str,
    base: str | None,
    preset: str = "standard",
    options: JobOptions | None = None,
    annotated: str = "everything",
) -> Job:
    """Writes a job folder from an nnU-Net raw data set (imagesTr, labelsTr, dataset.json)."""
    raise NotImplementedError


def job_from_data(
    data: Path,
    folder: Path,
    *,
    name: str,
    base: str | None,
    preset: str = "standard",
    options: JobOptions | None = None,
    annotated: str = "everything",
    channels: Sequence[str] | None = None,
) -> Job:
    """Whichever of the two `data` is; what `mednext finetune DATASET` calls."""
    raise NotImplementedError

"""A small head, a small base model and a job folder to fine-tune it with."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from job_fixtures import write_tiny_model

from mednext_engine.finetuning.job import Annotated, CaseFile, Job, JobLabel, JobOptions, write_job
from mednext_engine.models.resources import resource_path

os.environ.setdefault("OMP_NUM_THREADS", "1")

SHAPE = (24, 28, 26)  # voxels of 2 mm


def small_head(shift: int = 0) -> tuple[sitk.Image, sitk.Image]:
    """A part of Colin27 at 2 mm, and labels of it: 1 what is bright, 2 what is dark inside."""
    head = sitk.ReadImage(str(resource_path("SampleData") / "Colin27_T1.nii.gz"), sitk.sitkFloat32)
    start = (60 + shift, 90, 60)
    part = head[
        start[0] : start[0] + 52 : 2, start[1] : start[1] + 56 : 2, start[2] : start[2] + 48 : 2
    ]
    values = sitk.GetArrayFromImage(part)
    assert values.shape == SHAPE
    low, high = np.percentile(values, (12, 60))
    labels = np.where(values > high, 1, np.where(values < low, 2, 0)).astype(np.uint8)
    drawn = sitk.GetImageFromArray(labels)
    drawn.CopyInformation(part)
    return part, drawn


def write_case(
    folder: Path, name: str = "head", shift: int = 0, every: int = 1
) -> tuple[Path, Path]:
    """Files of an image and its labels, of which every so many axial slices are drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    image, labels = small_head(shift)
    values = sitk.GetArrayFromImage(labels)
    values[np.arange(len(values)) % every != 0] = 0
    drawn = sitk.GetImageFromArray(values)
    drawn.CopyInformation(labels)
    paths = folder / f"{name}_image.nii.gz", folder / f"{name}_labels.nii.gz"
    sitk.WriteImage(image, str(paths[0]))
    sitk.WriteImage(drawn, str(paths[1]))
    return paths


def a_job(
    root: Path,
    *,
    base: str | None = None,
    cases: int = 2,
    every: int = 1,
    names: tuple[str, ...] = ("bright", "cavity"),
    folder: str = "job",
    **options: Any,
) -> Job:
    """Two heads, the second held out; the first label is one of the tiny model's, the other new.

    With `every` only every so many slices are drawn, the rest is unknown."""
    if base is None:
        base = str(write_tiny_model(root / "base", patch=16))
    files = []
    for number in range(cases):
        image, labels = write_case(root / "data", f"head{number}", 4 * number, every)
        values = dict(zip(names, (1, 2), strict=True))
        use = "validate" if cases > 1 and number == cases - 1 else "auto"
        annotated = Annotated("everything" if every == 1 else "slices")
        files.append(CaseFile(f"case_{number}", (image,), labels, values, annotated, use=use))
    chosen = JobOptions(device="cpu", threads=1, steps=4, batch=1, preview_every=2)
    job = Job(
        folder=root / folder,
        name="Bright things",
        base=base,
        preset="quick",
        channels=("channel0",),
        labels=tuple(JobLabel(name) for name in names),
        cases=tuple(files),
        options=replace(chosen, **options),
    )
    write_job(job.folder, job)
    return job

"""Small job folders for the tests of fine-tuning's cases: images with a pattern, drawn labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from mednext_engine.finetuning.job import Annotated, CaseFile, Job, JobLabel, write_job
from mednext_engine.models.plan import Plan

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def a_plan(spacing: Sequence[float] = (1.0, 1.0, 1.0), **changes: Any) -> Plan:
    z, y, x = spacing
    settings: dict[str, Any] = {
        "configuration": "3d_fullres",
        "spacing": (z, y, x),
        "patch_size": (16, 16, 16),
        "transpose_forward": (0, 1, 2),
        "transpose_backward": (0, 1, 2),
        "normalization": ("ZScoreNormalization",),
        "use_mask_for_norm": (False,),
        "intensity": ({},),
        "network_class": "mednext_engine.networks.MedNeXt",
        "network_kwargs": {},
        **changes,
    }
    return Plan(**settings)


def a_pattern(shape: Sequence[int] = (12, 14, 16), seed: int = 0) -> np.ndarray:
    """An image without zeros, so that nothing is cropped; (z, y, x) float32."""
    return np.random.default_rng(seed).uniform(10, 200, shape).astype(np.float32)


def write_image(
    path: Path,
    array: np.ndarray,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    origin: Sequence[float] = (0.0, 0.0, 0.0),
    direction: Sequence[float] = IDENTITY,
) -> Path:
    """`spacing` in array order (z, y, x), mm."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(tuple(float(s) for s in spacing[::-1]))
    image.SetOrigin(tuple(origin))
    image.SetDirection(tuple(direction))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def a_case(
    folder: Path,
    number: int,
    labels: np.ndarray,
    values: Mapping[str, int],
    *,
    image: np.ndarray | None = None,
    annotated: Annotated | None = None,
    channels: int = 1,
    geometry: Mapping[str, Any] | None = None,
    **settings: Any,
) -> CaseFile:
    """Files of one case inside the job folder."""
    name = f"case_{number:03d}"
    home = folder / "cases" / name
    drawn = a_pattern(labels.shape, number) if image is None else image
    paths = tuple(
        write_image(home / f"image_{c:04d}.nrrd", drawn + c, **(geometry or {}))
        for c in range(channels)
    )
    write_image(home / "labels.nrrd", labels, **(geometry or {}))
    return CaseFile(name, paths, home / "labels.nrrd", values, annotated or Annotated(), **settings)


def a_job(folder: Path, cases: Sequence[CaseFile], names: Sequence[str], **settings: Any) -> Job:
    """Written and given back."""
    labels = tuple(JobLabel(name) for name in names)
    rest: dict[str, Any] = {"base": None, "preset": "quick", "channels": ("MR",), **settings}
    job = Job(
        folder=folder, name="Test", labels=rest.pop("labels", labels), cases=tuple(cases), **rest
    )
    write_job(folder, job)
    return job


def blocks(shape: Sequence[int] = (12, 14, 16), count: int = 2) -> np.ndarray:
    """Label 1, 2, ... as bars along z, four voxels wide, a row of them along x; uint8."""
    labels = np.zeros(shape, dtype=np.uint8)
    for index in range(count):
        labels[:, 4:10, 1 + 5 * index : 5 + 5 * index] = index + 1
    return labels

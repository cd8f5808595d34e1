"""A small real data set in nnU-Net's raw format: one brain, its hemispheres as two cases.

The brain and its labels are those of `few_cases` (the macaque template INIA19, grey and white
matter). The left hemisphere trains, the right one validates: other anatomy of the same contrast,
which mirroring makes comparable. At 0.75 mm, so that a few hundred steps on two cores suffice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from few_cases import NAMES, SPACING, volumes

from mednext_engine.models.plan import Plan, Resampling
from mednext_engine.models.store import find_model
from mednext_engine.models.writer import Training, plans_from
from mednext_engine.networks.registry import CONFIGURATIONS

DATASET = "Dataset501_Hemispheres"
BATCH = 2


@dataclass(frozen=True)
class Size:
    """A network, and patches of (z, y, x) voxels for it."""

    patch: tuple[int, int, int]
    network: dict[str, Any]


SIZES = {
    # Learns something within minutes.
    "small": Size((48, 48, 32), CONFIGURATIONS["laptop-nano-k3"].kwargs),
    # The network that the product ships.
    "embedded": Size((64, 64, 48), find_model("BrainTissueMR").plan.network_kwargs),
}
LABELS = {"background": 0, **{name: i + 1 for i, name in enumerate(NAMES)}}


def _coarse(image: sitk.Image, labels: sitk.Image) -> tuple[sitk.Image, sitk.Image]:
    """Image and labels at `SPACING`; a voxel gets the label that fills most of it."""
    sides = zip(image.GetSize(), image.GetSpacing(), strict=True)
    size = [round(n * mm / SPACING) for n, mm in sides]
    grid = (size, sitk.Transform(), sitk.sitkLinear, image.GetOrigin(), [SPACING] * 3)
    direction = image.GetDirection()
    smooth = sitk.SmoothingRecursiveGaussian(sitk.Cast(image, sitk.sitkFloat32), SPACING / 2)
    shares = []
    for label in range(len(LABELS)):
        member = sitk.Cast(labels == label, sitk.sitkFloat32)
        member = sitk.SmoothingRecursiveGaussian(member, SPACING / 3)
        shares.append(sitk.GetArrayFromImage(sitk.Resample(member, *grid, direction, 0.0)))
    found = sitk.GetImageFromArray(np.argmax(shares, 0).astype(np.uint8))
    coarse = sitk.Resample(smooth, *grid, direction, 0.0)
    found.CopyInformation(coarse)
    return coarse, found


def write_raw(folder: Path) -> None:
    """`imagesTr`, `labelsTr` and `dataset.json` of nnU-Net's raw format under `folder/DATASET`."""
    root = folder / DATASET
    if (root / "dataset.json").exists():
        return
    for name in ("imagesTr", "labelsTr"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for case, pair in volumes().items():
        image, labels = _coarse(*pair)
        sitk.WriteImage(image, str(root / "imagesTr" / f"{case}_0000.nii.gz"))
        sitk.WriteImage(labels, str(root / "labelsTr" / f"{case}.nii.gz"))
    content = {
        "channel_names": {"0": "T1"},
        "labels": LABELS,
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(content), encoding="utf-8")


def plan(size: Size) -> Plan:
    spec = Resampling(order=3)
    return Plan(
        configuration="3d_fullres",
        spacing=(SPACING,) * 3,
        patch_size=size.patch,
        transpose_forward=(0, 1, 2),
        transpose_backward=(0, 1, 2),
        normalization=("ZScoreNormalization",),
        use_mask_for_norm=(False,),
        intensity=({},),
        resample_data=spec,
        resample_probabilities=Resampling(order=1),
        network_class="mednext_engine.networks.MedNeXt",
        network_kwargs=size.network,
        batch_size=BATCH,
    )


def plans_json(size: Size) -> dict[str, Any]:
    return plans_from(plan(size), Training(dataset_name=DATASET, num_cases=2))

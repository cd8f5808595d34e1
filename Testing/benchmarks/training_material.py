"""A small real data set in nnU-Net's raw format: one head, its halves as two cases.

The head is Colin27, the labels are structures of the AAL atlas (Debian's mricron-data). The left
half trains, the right half validates: other anatomy of the same contrast, which mirroring makes
comparable. At 2 mm, so that a few hundred steps on two cores are enough to learn something.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from mednext_engine.models.plan import Plan, Resampling
from mednext_engine.models.writer import Training, plans_from

TEMPLATES = Path("/usr/share/mricron/templates")
STRUCTURES = {  # name -> values of the atlas, both sides
    "hippocampus": (37, 38),
    "caudate": (71, 72),
    "putamen": (73, 74),
    "thalamus": (77, 78),
    "cerebellum": tuple(range(91, 109)),
}
DATASET = "Dataset501_Halves"
SPACING = 2.0
PATCH = (48, 48, 32)  # z, y, x; a half has 90 x 108 x 45 voxels
BATCH = 2
NETWORK: dict[str, Any] = {
    "channels": 16,
    "blocks": [1] * 9,
    "expansion": [2, 2, 2, 2, 2, 2, 2, 2, 2],
    "kernel_size": 3,
    "grn": True,
}
LABELS = {"background": 0, **{name: i + 1 for i, name in enumerate(STRUCTURES)}}


def atlas() -> np.ndarray:
    """The structures as labels 1, 2, ... in the order of `STRUCTURES`, (z, y, x) at 1 mm."""
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(TEMPLATES / "aal.nii.gz")))
    labels = np.zeros(values.shape, np.uint8)
    for index, wanted in enumerate(STRUCTURES.values()):
        labels[np.isin(values, wanted)] = index + 1
    return labels


def _coarse(image: sitk.Image, labels: np.ndarray) -> tuple[sitk.Image, sitk.Image]:
    """Image and labels at `SPACING`; a voxel gets the label that fills most of it."""
    size = [round(n / SPACING) for n in image.GetSize()]
    grid = (size, sitk.Transform(), sitk.sitkLinear, image.GetOrigin(), [SPACING] * 3)
    direction = image.GetDirection()
    smooth = sitk.SmoothingRecursiveGaussian(sitk.Cast(image, sitk.sitkFloat32), 0.9)
    shares = []
    for label in range(len(LABELS)):
        member = sitk.GetImageFromArray((labels == label).astype(np.float32))
        member.CopyInformation(image)
        member = sitk.SmoothingRecursiveGaussian(member, 0.6)
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
    head = sitk.ReadImage(str(TEMPLATES / "ch2.nii.gz"))
    image, labels = _coarse(head, atlas())
    middle = image.GetWidth() // 2
    # Columns run from the patient's left to the right in this file.
    for case, part in (("left", slice(0, middle)), ("right", slice(middle, None))):
        sitk.WriteImage(image[part, :, :], str(root / "imagesTr" / f"{case}_0000.nii.gz"))
        sitk.WriteImage(labels[part, :, :], str(root / "labelsTr" / f"{case}.nii.gz"))
    content = {
        "channel_names": {"0": "T1"},
        "labels": LABELS,
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(content), encoding="utf-8")


def plan() -> Plan:
    spec = Resampling(order=3)
    return Plan(
        configuration="3d_fullres",
        spacing=(SPACING,) * 3,
        patch_size=PATCH,
        transpose_forward=(0, 1, 2),
        transpose_backward=(0, 1, 2),
        normalization=("ZScoreNormalization",),
        use_mask_for_norm=(False,),
        intensity=({},),
        resample_data=spec,
        resample_probabilities=Resampling(order=1),
        network_class="mednext_engine.networks.MedNeXt",
        network_kwargs=NETWORK,
        batch_size=BATCH,
    )


def plans_json() -> dict[str, Any]:
    return plans_from(plan(), Training(dataset_name=DATASET, num_cases=2))

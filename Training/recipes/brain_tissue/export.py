"""Writes a trained state as a model folder in nnU-Net v2's layout, weights in half precision.

    python export.py --state work/state.pt --out ../../../Resources/Models/BrainTissueMR \\
        --results ../../../Testing/benchmarks/embedded_model/results.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from synthesis import SPACING
from train import NETWORK

from mednext_engine.models.card import Card, LabelCard
from mednext_engine.models.plan import Plan
from mednext_engine.models.writer import TURNING_READER, Training, write_model

ANATOMY = (
    "Segmentation category and type - 3D Slicer General Anatomy list~SCT^{category}~SCT^{type}"
    "~^^~Anatomic codes - DICOM master list~^^~^^"
)
STRUCTURE, SUBSTANCE = "123037004^Anatomical Structure", "91720002^Body Substance"
LABELS = (
    LabelCard(
        1,
        "Cerebrospinal fluid",
        (85, 188, 255),
        ANATOMY.format(category=SUBSTANCE, type="65216001^Cerebrospinal fluid"),
    ),
    LabelCard(
        2,
        "Grey matter",
        (200, 200, 215),
        ANATOMY.format(category=STRUCTURE, type="389081007^Gray matter"),
    ),
    LabelCard(
        3,
        "White matter",
        (250, 250, 225),
        ANATOMY.format(category=STRUCTURE, type="389080008^White matter"),
    ),
)
DESCRIPTION = (
    "Cerebrospinal fluid, grey and white matter of the brain on MR of any contrast, whole head or "
    "skull-stripped. Trained on synthetic images only. A demonstration, not for clinical use."
)
LIMITS = (
    "A demonstration, not for clinical use. Trained on deformations of two averaged heads of "
    "healthy adults: pathology, children and operated heads were never seen. Fluid means fluid "
    "inside the brain's outline; sulci are drawn coarser than they are. Voxels of 2 mm inside."
)
CITATION = (
    "MedNeXt-v2 (the network); Billot et al. 2023, doi:10.1016/j.media.2023.102789 (training on "
    "synthetic contrasts); Fonov et al. 2011, doi:10.1016/j.neuroimage.2010.07.033 (the template)."
)


def provenance(state: dict[str, Any], results: Path | None, note: str) -> dict[str, Any]:
    content: dict[str, Any] = {
        "data": [
            "MNI ICBM 152 non-linear symmetric 2009a with tissue maps (wheel of nilearn)",
            "average whole head, T1 (wheel of pydeface)",
        ],
        "recipe": "Training/recipes/brain_tissue",
        "training_steps": int(state["step"]),
        "training_minutes": round(state["seconds"] / 60),
        "limits": LIMITS,
    }
    if note:
        content["training_note"] = note
    if results is not None:
        measured = json.loads(results.read_text(encoding="utf-8"))
        content["evaluation"] = {
            "head": "Colin27, seen in neither training nor tuning",
            "measure": "Dice of the union of tissues with a skull-stripped copy (ch2bet > 0)",
            "registered_template_mask": measured["registered_template"],
            "dice": {row["case"]: round(row["dice"], 3) for row in measured["rows"]},
        }
    return content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--patch", type=int, default=80, help="side of a window in voxels")
    parser.add_argument("--note", default="", help="what the card is to say of this training")
    parser.add_argument("--results", type=Path, help="results.json of evaluate.py, for the card")
    arguments = parser.parse_args()
    state = torch.load(arguments.state, weights_only=True)
    auxiliary = tuple(f"decoder.heads.{i}." for i in range(1, 5))
    weights = {k: v for k, v in state["average"].items() if not k.startswith(auxiliary)}
    plan = Plan(
        configuration="3d_fullres",
        spacing=(SPACING,) * 3,
        patch_size=(arguments.patch,) * 3,
        transpose_forward=(0, 1, 2),
        transpose_backward=(0, 1, 2),
        normalization=("ZScoreNormalization",),
        use_mask_for_norm=(False,),
        intensity=({},),
        network_class="mednext_engine.networks.MedNeXt",
        network_kwargs=dict(NETWORK),
    )
    card = Card(
        title="Brain tissue (MR, any contrast)",
        id=arguments.out.name,
        description=DESCRIPTION,
        license="Apache-2.0, with the notices of its training data (LICENSE)",
        citation=CITATION,
        intended_use="Demonstration, teaching and tests. " + LIMITS,
        modality="MR",
        configuration="3d_fullres",
        orientation="RAS",
        labels=LABELS,
        provenance=provenance(state, arguments.results, arguments.note),
    )
    notice = Path(__file__).with_name("NOTICE.txt").read_text(encoding="utf-8")
    model = write_model(
        arguments.out,
        plan=plan,
        weights={"all": weights},
        labels={"background": 0} | {entry.name: entry.value for entry in LABELS},
        channel_names=("MR",),
        card=card,
        training=Training("Dataset001_BrainTissueMR", mirror_axes=(2,), median_shape=(91, 109, 91)),
        half=True,
        reader=TURNING_READER,  # the synthetic images lie in the patient's axes, RAS
        licence_text=notice,
        overwrite=True,
    )
    size = sum(f.stat().st_size for f in model.path.rglob("*") if f.is_file())
    print(f"{model.path}: {size / 1e6:.2f} MB, {state['step']} steps")


if __name__ == "__main__":
    main()

"""The model folder that a fine-tuning makes: weights, plan, labels, card, report and curves.

What leaves this computer with a model names nobody: no case, no file, no date, no path. Overlays of
held-out cases show a patient's anatomy; they lie in `overlays/` of the model's folder, which is no
part of the model (`models.layout`), so that an export leaves them out.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..models.card import Card, LabelCard, default_color
from ..models.importing import models_directory, safe_identifier
from ..models.writer import Training, write_model
from .decisions import Decisions
from .job import Job
from .report import curves_csv, curves_picture, report_text

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.folder import Model
    from ..training.control import EpochReport

_PACKAGES = ("torch", "numpy", "SimpleITK", "batchgeneratorsv2")


@dataclass(frozen=True)
class Made:
    """What a training gave, ready to be written.

    Attributes:
        before, after: class name -> Dice on what was held out; only what could be measured.
        held_out: the sentence on what that was.
        pictures: PNG files, one a held-out case.
        seconds: of training, all parts.
    """

    weights: Mapping[str, Tensor]
    best_epoch: int
    epochs: int
    steps: int
    skipped: int
    seconds: float
    reason: str
    device: str
    curves: Sequence[EpochReport]
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    held_out: str = ""
    pictures: Sequence[bytes] = ()


def held_out_sentence(decisions: Decisions, missing: int = 0) -> str:
    """On what the figures are measured, without naming a case."""
    split = decisions.split
    whole = len(split.validate) - len(split.inside) - len(split.trained_on)
    parts = []
    if whole:
        parts.append(f"{_count(whole, 'volume')} that {'was' if whole == 1 else 'were'} held out")
    if split.inside:
        slices = sum(len(held.slices) for held in split.inside.values())
        volumes = _count(len(split.inside), "volume")
        parts.append(f"{_count(slices, 'held-out slice')} of {volumes} trained on elsewhere")
    if split.trained_on:
        parts.append(
            f"{_count(len(split.trained_on), 'volume')} that the training has seen, which "
            "flatters the model"
        )
    if not parts:
        return "Nothing was held out, so nothing was measured."
    sentence = f"Measured on {' and '.join(parts)}."
    if decisions.trained_before:
        count = _count(len(decisions.trained_before), "held-out volume")
        sentence += f" The base model has learned from {count}, which flatters it."
    if missing:
        sentence += f" {_count(missing, 'held-out volume')} could not be read any more."
    return sentence


def before_after(job: Job, made: Made) -> list[dict[str, Any]]:
    """A row a label: `values.BeforeAfter`."""
    return [
        {
            "label": label.name,
            "before": _rounded(made.before.get(label.name)),
            "after": _rounded(made.after.get(label.name)),
        }
        for label in job.classes
    ]


def write_result(
    job: Job, decisions: Decisions, made: Made, base: Model | None, folder: Path | None = None
) -> Model:
    """Writes the model among the user's models, under an id of its own, or into `folder`.

    Raises:
        OutputError: it cannot be written; nothing half-written is left.
    """
    target = folder or unique_folder(job.name)
    provenance = provenance_of(job, decisions, made, base)
    files = {
        "report.md": report_text(job, decisions, made, base, provenance).encode(),
        "curves.csv": curves_csv(made.curves).encode(),
        "curves.png": curves_picture(made.curves),
        **{f"overlays/held_out_{n}.png": data for n, data in enumerate(made.pictures, start=1)},
    }
    return write_plain_model(
        target, job, decisions, made.weights, base, provenance=provenance, files=files
    )


def write_plain_model(
    folder: Path,
    job: Job,
    decisions: Decisions,
    weights: Mapping[str, Tensor],
    base: Model | None,
    *,
    provenance: Mapping[str, Any] | None = None,
    files: Mapping[str, bytes] | None = None,
    overwrite: bool = False,
) -> Model:
    """Writes a model folder with these weights; also what previews are made with."""
    table: dict[str, int] = {"background": 0}
    table |= {name: value for name, value in job.class_values.items() if value}
    if decisions.partial:
        table["ignore"] = len(job.classes) + 1  # nnU-Net wants it to be the highest
    return write_model(
        folder,
        plan=decisions.plan,
        weights={"0" if decisions.split.validate else "all": weights},
        labels=table,
        channel_names=job.channels,
        card=_card(folder.name, job, decisions, base, provenance or {}),
        training=Training(
            num_cases=len(decisions.split.train),
            mirror_axes=decisions.recipe.mirror_axes,
            median_shape=decisions.grid.median_shape,
        ),
        reader=decisions.grid.reader,
        licence_text=_licence(base),
        extra_files=files,
        overwrite=overwrite,
    )


def provenance_of(job: Job, decisions: Decisions, made: Made, base: Model | None) -> dict[str, Any]:
    """How the model was made, for its card: figures and versions, nobody's names."""
    recipe = decisions.recipe
    return {
        "fine_tuned_from": {
            "id": decisions.base,
            "title": base.card.title if base is not None else "",
            "weights_sha256": decisions.base_fingerprint,
        }
        if decisions.base
        else None,
        "transfer": decisions.transfer,
        "kept_labels": sorted(decisions.matched or {}),
        "data": {
            "training_cases": len(decisions.split.train),
            "held_out_cases": len(decisions.split.validate),
            "annotated_share": round(decisions.share, 4),
        },
        "schedule": {
            "preset": job.preset,
            "steps_planned": recipe.steps,
            "steps": made.steps,
            "epochs": made.epochs,
            "best_epoch": made.best_epoch,
            "skipped_steps": made.skipped,
            "ended": made.reason,
            "optimizer": recipe.optimizer,
            "phases": [
                {"name": p.name, "steps": p.steps, "warmup": p.warmup, "peak_rate": p.peak}
                for p in recipe.phases
            ],
            "batch_size": recipe.batch_size,
            "patch_size": list(recipe.patch_size),
            "mirror_axes": list(recipe.mirror_axes),
            "seed": recipe.seed,
        },
        "training_minutes": round(made.seconds / 60, 1),
        "device": made.device,
        "versions": {"mednext_engine": __version__, **_versions()},
        "evaluation": {
            "measure": "Dice on the images' own grids, mean over held-out cases",
            "held_out": made.held_out,
            "labels": before_after(job, made),
        },
    }


def unique_folder(title: str) -> Path:
    """A folder in the models directory that is not there, named after `title`."""
    directory = models_directory()
    name = safe_identifier(title)
    number, folder = 1, directory / name
    while folder.exists():
        number += 1
        folder = directory / f"{name[:90]}-{number}"
    return folder


# ---- parts -----------------------------------------------------------------------------------


def _card(
    name: str, job: Job, decisions: Decisions, base: Model | None, provenance: Mapping[str, Any]
) -> Card:
    from_base = base.card if base is not None else None
    origin = f"Fine-tuned from {from_base.title}" if from_base else "Trained from scratch"
    cases = _count(len(decisions.split.train), "volume")
    return Card(
        title=job.name,
        id=name,
        description=f"{origin} on {cases} with MedNeXtSeg, for {_listed(job)}.",
        license=from_base.license if from_base else "",
        citation=from_base.citation if from_base else "",
        intended_use="Research. Not validated for clinical use; look at every result.",
        modality=from_base.modality if from_base else "",
        configuration=decisions.plan.configuration,
        orientation=decisions.grid.orientation,
        labels=_label_cards(job, decisions, base),
        provenance=provenance,
    )


def _label_cards(job: Job, decisions: Decisions, base: Model | None) -> tuple[LabelCard, ...]:
    """Colours and codes as the person chose them, else the base's for the same structure."""
    known = {e.name: e for e in base.card.labels} if base is not None else {}
    cards = []
    for value, label in enumerate(job.classes, start=1):
        like = known.get((decisions.matched or {}).get(label.name, ""))
        color = label.color or (like.color if like else default_color(value))
        terminology = label.terminology or (like.terminology if like else "")
        cards.append(LabelCard(value, label.name, color, terminology))
    return tuple(cards)


def _licence(base: Model | None) -> str:
    """The base's licence text and notices go on with what is made of it."""
    if base is None:
        return ""
    for name in ("LICENSE", "LICENSE.txt"):
        path = base.path / name
        if path.is_file():
            return path.read_text(encoding="utf-8", errors="replace")
    return ""


def _listed(job: Job) -> str:
    names = [label.name for label in job.classes]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _versions() -> dict[str, str]:
    installed = {name: list(metadata.distributions(name=name)) for name in _PACKAGES}
    found = {name: versions[0].version for name, versions in installed.items() if versions}
    return {"python": platform.python_version(), **found}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"

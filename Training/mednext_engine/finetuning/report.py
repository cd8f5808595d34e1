"""What a person reads of a training: the report, the curves as a table and as a picture."""

from __future__ import annotations

import csv
import io
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..evaluation.chart import Line, beside, panel
from ..evaluation.overlay import overlay, write_picture
from .annotation import UNKNOWN

if TYPE_CHECKING:
    from ..models.folder import Model
    from ..training.control import EpochReport
    from .decisions import Decisions
    from .job import Job
    from .measure import Segmented
    from .result import Made

_REASONS = {
    "finished": "It ran to its end.",
    "plateau": "It ended early, because it did not get better any more.",
    "stopped": "It was stopped by hand; the best weights so far were kept.",
}


def report_text(
    job: Job,
    decisions: Decisions,
    made: Made,
    base: Model | None,
    provenance: Mapping[str, Any],
) -> str:
    """`report.md`, in Markdown; names neither cases nor files."""
    schedule, plan = provenance["schedule"], decisions.plan
    origin = f"fine-tuned from {base.card.title}" if base is not None else "trained from scratch"
    rows = [
        f"| {one['label']} | {_shown(one['before'])} | {_shown(one['after'])} |"
        for one in provenance["evaluation"]["labels"]
    ]
    phases = "; ".join(
        f"{p['name'].lower()}: {p['steps']} steps, of these {p['warmup']} of warm-up, "
        f"peak rate {p['peak_rate']:g}"
        for p in schedule["phases"]
    )
    data = provenance["data"]
    lines = [
        f"# {job.name}",
        "",
        f"A model {origin}, with {_times(data['training_cases'], 'training volume')}, of which "
        f"{100 * data['annotated_share']:.3g} % of the voxels are annotated.",
        "",
        "## Dice before and after",
        "",
        "| label | base model | this model |",
        "| --- | ---: | ---: |",
        *rows,
        "",
        made.held_out,
        "",
        "## Training",
        "",
        f"![Loss and Dice by epoch]({'curves.png'})",
        "",
        f"{made.steps} steps in {made.epochs} epochs, {provenance['training_minutes']} minutes on "
        f"{made.device}; the weights are those of epoch {made.best_epoch}. "
        f"{_REASONS.get(made.reason, '')}",
        "",
        f"- Schedule ({schedule['optimizer']}): {phases}.",
        f"- Patches of {_by(plan.patch_size)} voxels of {_by(plan.spacing)} mm, "
        f"{plan.batch_size} a step.",
        f"- Mirrored along: {_axes(decisions.recipe.mirror_axes)} (axes of the plan).",
        f"- Steps skipped because the loss was no number: {made.skipped}.",
        "",
        "Dice in the curves is of patches at the network's resolution; the table above is of whole "
        "images at their own.",
        *([""] if made.pictures else []),
        *(
            ["`overlays/` shows held-out volumes; it stays here when the model is exported."]
            if made.pictures
            else []
        ),
        "",
    ]
    return "\n".join(lines)


def curves_csv(curves: Sequence[EpochReport]) -> str:
    """A row an epoch; Dice in a column a label, empty where there is none."""
    names = list(dict.fromkeys(name for one in curves for name in one.dice))
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    header = ["epoch", "step", "learning_rate", "train_loss", "validation_loss", "best"]
    writer.writerow([*header, *(f"dice {name}" for name in names)])
    for one in curves:
        numbers = (one.learning_rate, one.train_loss, one.validation_loss)
        cells = [_cell(number) for number in numbers]
        scores = [_cell(one.dice.get(name)) for name in names]
        writer.writerow([one.epoch, one.step, *cells, int(one.best), *scores])
    return text.getvalue()


def curves_picture(curves: Sequence[EpochReport]) -> bytes:
    """Losses on the left, Dice on the right; a PNG file."""
    epochs = [float(one.epoch) for one in curves]
    losses = [
        Line("training", epochs, [one.train_loss for one in curves]),
        Line("held out", epochs, [_number(one.validation_loss) for one in curves]),
    ]
    names = list(dict.fromkeys(name for one in curves for name in one.dice))
    scores = [Line(name, epochs, [_number(one.dice.get(name)) for one in curves]) for name in names]
    return png(
        beside(
            [
                panel("Loss", losses, "epoch"),
                panel("Dice of held-out patches", scores, "epoch", 1.0, legend_below=True),
            ]
        )
    )


def overlay_picture(done: Segmented, colors: Mapping[int, tuple[int, int, int]]) -> bytes:
    """What was drawn (above) and what the model found (below), in the same three slices; PNG."""
    image, spacing = done.volume.array[0], done.volume.spacing
    drawn = np.where(done.truth == UNKNOWN, 0, done.truth)
    labelled = np.argwhere(drawn > 0)
    center = [int(v) for v in np.median(labelled, axis=0)] if len(labelled) else None
    if center is not None:  # a voxel that is labelled, so that each slice shows something
        nearest = labelled[np.argmin(((labelled - np.array(center)) ** 2).sum(axis=1))]
        center = [int(v) for v in nearest]
    rows = [
        overlay(image, labels, spacing, colors, done.volume.direction, center)
        for labels in (drawn, done.found)
    ]
    gap = np.zeros((8, rows[0].shape[1], 3), np.uint8)
    return png(np.concatenate([rows[0], gap, rows[1]], axis=0))


def png(picture: np.ndarray) -> bytes:
    """A picture (rows, columns, 3) as the bytes of a PNG file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        write_picture(path, picture)
        return path.read_bytes()


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _cell(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.6g}"


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _by(values: Sequence[float]) -> str:
    return " x ".join(f"{v:g}" for v in values)


def _axes(axes: Sequence[int]) -> str:
    return ", ".join(map(str, axes)) or "none"


def _times(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"

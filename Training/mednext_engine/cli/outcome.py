"""What `mednext segment` shows and draws of its results."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cases import Case
from .show import Display, gigabytes, seconds, table

if TYPE_CHECKING:
    from ..models.folder import Model


def draw(model: Model, case: Case, labels: Any, path: Path) -> None:
    """Writes a picture of the labels (z, y, x) over the first channel."""
    from ..evaluation.overlay import overlay, write_picture
    from ..inference.images import read_volume

    volume = read_volume(case.inputs[0])
    colors = {entry.value: entry.color for entry in model.card.labels}
    write_picture(path, overlay(volume.array[0], labels, volume.spacing, colors, volume.direction))


def show_result(display: Display, model: Model, case: Case, result: Any) -> None:
    """What was found in one case: the volume of each label, where and how fast."""
    import numpy as np

    counts = np.bincount(result.labels.reshape(-1))
    voxel = _millilitres(case.output)
    found = [
        {
            "value": entry.value,
            "name": entry.name,
            "ml": round(float(counts[entry.value] * voxel), 3) if entry.value < len(counts) else 0,
        }
        for entry in model.card.labels
    ]
    total = sum(result.timings.values())
    rows = [(label["value"], label["name"], label["ml"]) for label in found if label["ml"]]
    text = (
        f"{case.name} -> {case.output}\n"
        f"  {model.card.title}; {result.device}, {result.backend}, {result.precision}; "
        f"{seconds(total)}; peak memory estimated {gigabytes(result.peak_estimate)}\n"
    )
    listed = table(("label", "name", "ml"), rows) if rows else "no label was found"
    display.result(
        text + "\n".join(f"  {line}" for line in listed.splitlines()),
        case=case.name,
        output=str(case.output),
        labels=found,
        device=result.device,
        backend=result.backend,
        precision=result.precision,
        notes=list(result.notes),
        timings={name: round(float(s), 3) for name, s in result.timings.items()},
        peak_estimate=int(result.peak_estimate),
    )


def _millilitres(path: Path) -> float:
    """Volume of one voxel of an image file."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return math.prod(reader.GetSpacing()) / 1000.0


def show_summary(
    display: Display, done: int, skipped: int, failed: list[str], left: int, passed: float
) -> None:
    """The end of a batch; `left` cases were not reached."""
    if display.machine:
        display.emit(
            "summary", done=done, skipped=skipped, failed=failed, left=left, seconds=passed
        )
        return
    text = f"{done} done, {skipped} skipped, {len(failed)} failed"
    text += f", {left} left" if left else ""
    text += f", {seconds(passed)}" + (f"; failed: {', '.join(failed)}" if failed else "")
    display.result(text)

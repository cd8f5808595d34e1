"""Labels on every tenth slice only: what do the slices between them get?

    python Testing/benchmarks/propagation.py --work DIR [--steps 600] [--patch 64]

Colin27's head and ten structures of the AAL atlas (Debian's mricron-data), large and small, left
and right, given on every tenth axial slice. Compared on all other slices, by the Dice coefficient
of each structure:

- the embedded model, fine-tuned on those slices;
- the same network and schedule from scratch;
- what Slicer's "Fill between slices" does: morphological contour interpolation
  (`pip install itk-morphologicalcontourinterpolation`; left out where it is missing);
- a copy of the nearest labelled slice.

Writes `results/propagation.md` with a picture and the curves of the trainings. The second table
tells how the ways do by the distance from the nearest labelled slice, and how well the atlas agrees
with itself over that distance: its contours were drawn slice by slice.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from measure import machine

from mednext_engine.finetuning.job import Annotated, CaseFile, Job, JobLabel, JobOptions, write_job
from mednext_engine.finetuning.run import News, finetune
from mednext_engine.inference import Options, segment_file
from mednext_engine.models.folder import open_model

TEMPLATES = Path("/usr/share/mricron/templates")
HEAD, ATLAS = TEMPLATES / "ch2.nii.gz", TEMPLATES / "aal.nii.gz"
STRUCTURES = {
    "Middle frontal gyrus left": 7,
    "Middle frontal gyrus right": 8,
    "Hippocampus left": 37,
    "Hippocampus right": 38,
    "Amygdala left": 41,
    "Amygdala right": 42,
    "Putamen left": 73,
    "Putamen right": 74,
    "Thalamus left": 77,
    "Thalamus right": 78,
}
FIRST, STEP = 5, 10
WAYS = {"fine-tuned": "whole", "from scratch": "scratch"}
RESULTS = Path(__file__).with_name("results")
COLOURS = (
    *("#d62728", "#ff9896", "#1f77b4", "#aec7e8", "#2ca02c"),
    *("#98df8a", "#9467bd", "#c5b0d5", "#ff7f0e", "#ffbb78"),
)


def truth() -> np.ndarray:
    """The structures as 1, 2, ... in the order of `STRUCTURES`, (z, y, x) at 1 mm."""
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(ATLAS)))
    labels = np.zeros(values.shape, np.uint8)
    for index, value in enumerate(STRUCTURES.values()):
        labels[values == value] = index + 1
    return labels


def labelled_slices(labels: np.ndarray) -> list[int]:
    return list(range(FIRST, len(labels), STEP))


def sparse(labels: np.ndarray) -> np.ndarray:
    """`labels` on the labelled slices, 0 elsewhere."""
    given = np.zeros_like(labels)
    given[labelled_slices(labels)] = labels[labelled_slices(labels)]
    return given


def nearest_slice(labels: np.ndarray) -> np.ndarray:
    given = np.asarray(labelled_slices(labels))
    nearest = given[np.abs(given[:, None] - np.arange(len(labels))).argmin(0)]
    return labels[nearest]


def contour_interpolation(labels: np.ndarray) -> np.ndarray | None:
    """Morphological contour interpolation between the labelled slices, or None without ITK.

    In a process of its own: ITK and PyTorch do not end well together.
    """
    if importlib.util.find_spec("itk") is None:
        return None
    code = (
        "import itk, numpy, sys; image = itk.image_from_array(numpy.load(sys.argv[1])); "
        "found = itk.morphological_contour_interpolator(image, axis=2); "
        "numpy.save(sys.argv[1], itk.array_from_image(found))"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.npy"
        np.save(path, sparse(labels))
        subprocess.run([sys.executable, "-c", code, str(path)], check=True)
        return np.load(path)


def make_job(folder: Path, labels: np.ndarray, way: str, arguments: argparse.Namespace) -> Job:
    """The job that the panel would write for this head."""
    shutil.rmtree(folder, ignore_errors=True)
    case = folder / "cases" / "case_001"
    case.mkdir(parents=True)
    head = sitk.ReadImage(str(HEAD))
    sitk.WriteImage(head, str(case / "image_0000.nrrd"))
    given = sitk.GetImageFromArray(sparse(labels))
    given.CopyInformation(head)
    sitk.WriteImage(given, str(case / "labels.nrrd"))
    values = {name: index + 1 for index, name in enumerate(STRUCTURES)}
    slices = Annotated("slices", axis=0, slices=tuple(labelled_slices(labels)))
    job = Job(
        folder=folder,
        name="Propagation",
        base="BrainTissueMR",
        preset="quick",
        channels=("MR",),
        labels=tuple(JobLabel(name) for name in STRUCTURES),
        cases=(
            CaseFile(
                "case_001",
                (case / "image_0000.nrrd",),
                case / "labels.nrrd",
                values,
                annotated=slices,
                use="train",  # nothing is held out: all labels are for the slices in between
            ),
        ),
        options=JobOptions(
            transfer=WAYS[way],
            steps=arguments.steps,
            patch=(arguments.patch,) * 3,
            device="cpu",
            preview_every=10**6,
        ),
    )
    write_job(folder, job)
    return job


def distances(labels: np.ndarray) -> np.ndarray:
    """Of every slice from the nearest labelled one, in slices (1 mm)."""
    given = np.asarray(labelled_slices(labels))
    return np.abs(given[:, None] - np.arange(len(labels))).min(0)


def dice(found: np.ndarray, labels: np.ndarray, distance: int | None = None) -> dict[str, float]:
    """Of each structure, on the slices that were not labelled; or on those at a distance."""
    far = distances(labels)
    rest = far > 0 if distance is None else far == distance
    return _dice(found[rest], labels[rest])


def _dice(found: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    scores = {}
    for index, name in enumerate(STRUCTURES, start=1):
        a, b = found == index, labels == index
        scores[name] = float(2 * (a & b).sum() / (a.sum() + b.sum()))
    return scores


def mean(scores: dict[str, float]) -> float:
    return float(np.mean(list(scores.values())))


def folder_of(work: Path, way: str) -> Path:
    return work / way.replace(" ", "-")


def train(way: str, labels: np.ndarray, arguments: argparse.Namespace) -> dict[str, Any]:
    """Trains and segments the head; what is in `work` already is not done again."""
    folder = folder_of(arguments.work, way)
    found = folder / "found.json"
    if found.exists():
        return json.loads(found.read_text(encoding="utf-8"))
    make_job(folder, labels, way, arguments)
    started, spent = time.perf_counter(), time.process_time()

    def said(report: Any) -> None:
        passed = time.perf_counter() - started
        print(
            f"{way}: step {report.step}, loss {report.train_loss:.3f}, labelled slices "
            f"{mean(report.dice):.3f}, {passed:.0f} s",
            flush=True,
        )

    finished = finetune(folder, news=News(on_epoch=said), out=folder / "model")
    assert finished is not None
    minutes = (time.process_time() - spent) / 60
    segment_file([HEAD], folder / "labels.nii.gz", finished.model, Options(device="cpu"))
    content = {
        "minutes": minutes,
        "wall": finished.seconds / 60,
        "reason": finished.reason,
        "held_out": finished.held_out,
    }
    found.write_text(json.dumps(content), encoding="utf-8")
    return content


def segmented(work: Path, way: str) -> np.ndarray:
    path = folder_of(work, way) / "labels.nii.gz"
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def overlay(found: dict[str, np.ndarray], labels: np.ndarray, path: Path) -> None:
    """Coronal slices, on which a label every tenth axial slice is a row of lines."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.colors import ListedColormap

    colours = ListedColormap(COLOURS)
    head = sitk.GetArrayFromImage(sitk.ReadImage(str(HEAD)))
    shown = {"given": sparse(labels), "atlas": labels, **found}
    figure, axes = pyplot.subplots(2, len(shown), figsize=(2.6 * len(shown), 5.2))
    for row, y in zip(axes, (122, 108), strict=True):
        for axis, (name, values) in zip(row, shown.items(), strict=True):
            kwargs = {"origin": "lower", "interpolation": "nearest"}
            axis.imshow(head[20:130, y, 20:160], cmap="gray", **kwargs)
            part = values[20:130, y, 20:160]
            hidden = np.ma.masked_equal(part, 0)
            axis.imshow(hidden, cmap=colours, vmin=1, vmax=10, alpha=0.6, **kwargs)
            axis.set_title(name, fontsize=9)
            axis.axis("off")
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def report(work: Path, labels: np.ndarray, said: dict[str, dict[str, Any]], how: str) -> None:
    found = {way: segmented(work, way) for way in said}
    interpolated = contour_interpolation(labels)
    if interpolated is not None:
        found["contour interpolation"] = interpolated
    found["nearest slice"] = nearest_slice(labels)
    scores = {name: dice(values, labels) for name, values in found.items()}
    lines = ["# Labels on every tenth slice", "", f"`{how}`", "", machine(), ""]
    lines += ["Dice on the slices without labels:", ""]
    lines += ["| structure | ml | " + " | ".join(scores) + " |", "|---|---|" + "---|" * len(scores)]
    for index, name in enumerate(STRUCTURES, start=1):
        values = [s[name] for s in scores.values()]
        cells = [f"**{v:.3f}**" if v == max(values) else f"{v:.3f}" for v in values]
        lines.append(f"| {name} | {(labels == index).sum() / 1000:.1f} | {' | '.join(cells)} |")
    lines.append("| mean | | " + " | ".join(f"{mean(s):.3f}" for s in scores.values()) + " |")
    lines += ["", *by_distance(found, labels), ""]
    for way, content in said.items():
        lines.append(
            f"- {way}: {content['minutes']:.0f} CPU minutes, {content['wall']:.0f} minutes; "
            f"{content['held_out']}"
        )
    lines += ["", "![coronal slices](propagation.png)", ""]
    lines += [f"![curves, {way}](propagation-{folder_of(work, way).name}.png)" for way in said]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "propagation.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    overlay(found, labels, RESULTS / "propagation.png")
    for way in said:
        folder = folder_of(work, way)
        curves = open_model(folder / "model").path / "curves.png"
        shutil.copy(curves, RESULTS / f"propagation-{folder.name}.png")
    print("\n".join(lines))


def by_distance(found: dict[str, np.ndarray], labels: np.ndarray) -> list[str]:
    """Mean Dice of the structures on the slices at 1, 2, ... mm from a labelled one."""
    lines = ["Mean of the structures by the distance from the nearest labelled slice:", ""]
    lines += ["| mm | " + " | ".join(found) + " | the atlas and itself, shifted by that |"]
    lines += ["|---|" + "---|" * (len(found) + 1)]
    for distance in range(1, int(distances(labels)[FIRST:-STEP].max()) + 1):
        cells = [mean(dice(values, labels, distance)) for values in found.values()]
        cells.append(mean(_dice(labels[:-distance], labels[distance:])))
        lines.append(f"| {distance} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--only", nargs="+", choices=WAYS, default=list(WAYS))
    arguments = parser.parse_args()
    labels = truth()
    said = {way: train(way, labels, arguments) for way in arguments.only}
    how = f"propagation.py --steps {arguments.steps} --patch {arguments.patch}"
    report(arguments.work, labels, said, how)


if __name__ == "__main__":
    main()

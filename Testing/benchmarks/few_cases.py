"""A new species from a few slices of one hemisphere.

    python Testing/benchmarks/few_cases.py --work DIR [--steps 300] [--patch 48]

The embedded model knows human brains at 2 mm. Here it learns a macaque's: the INIA19 template (an
average of 19 animals, T1, 0.5 mm, skull-stripped) with its atlas (Debian's mricron-data). The
atlas's regions are grouped into white and grey matter by their mean intensity. The right
hemisphere is the case to train on, labelled on every fifth coronal slice; the left one, which no
training sees, is the case to validate on, labelled everywhere.

Compared on the left hemisphere: the embedded model as it is, fine-tuned, and the same network
trained from scratch. Writes `results/few_cases.md` with a picture.
"""

from __future__ import annotations

import argparse
import json
import shutil
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
IMAGE, ATLAS = TEMPLATES / "inia19-t1-brain.nii.gz", TEMPLATES / "inia19-NeuroMaps.nii.gz"
NAMES = ("Grey matter", "White matter")
WHITE_FROM = 95.0  # mean intensity; few regions lie between 90 and 100
SPACING = 0.75  # mm: half of a macaque's brain then has about as many voxels as a human one at 2 mm
EVERY = 5
RESULTS = Path(__file__).with_name("results")
WAYS = {"fine-tuned": "whole", "from scratch": "scratch"}


def volumes() -> dict[str, tuple[sitk.Image, sitk.Image]]:
    """Image and labels (1 grey, 2 white matter) of each hemisphere."""
    image, atlas = sitk.ReadImage(str(IMAGE)), sitk.ReadImage(str(ATLAS))
    regions, values = sitk.GetArrayFromImage(atlas), sitk.GetArrayFromImage(image)
    sizes = np.bincount(regions.ravel())
    means = np.bincount(regions.ravel(), values.ravel()) / np.maximum(sizes, 1)
    found = np.where(regions > 0, np.where(means[regions] >= WHITE_FROM, 2, 1), 0)
    labels = sitk.GetImageFromArray(found.astype(np.uint8))
    labels.CopyInformation(image)
    middle = image.GetWidth() // 2  # columns run from the animal's left to its right
    return {
        "left": (image[:middle, :, :], labels[:middle, :, :]),
        "right": (image[middle:, :, :], labels[middle:, :, :]),
    }


def make_job(folder: Path, transfer: str, steps: int, patch: int) -> Job:
    shutil.rmtree(folder, ignore_errors=True)
    cases = []
    parts = volumes()
    for case, side, use in (("case_001", "right", "train"), ("case_002", "left", "validate")):
        place = folder / "cases" / case
        place.mkdir(parents=True)
        image, labels = parts[side]
        annotated = Annotated()
        if use == "train":
            slices = tuple(range(EVERY // 2, labels.GetHeight(), EVERY))
            array = sitk.GetArrayFromImage(labels)
            given = np.zeros_like(array)
            given[:, slices] = array[:, slices]
            kept = sitk.GetImageFromArray(given)
            kept.CopyInformation(labels)
            labels, annotated = kept, Annotated("slices", axis=1, slices=slices)
        sitk.WriteImage(image, str(place / "image_0000.nrrd"))
        sitk.WriteImage(labels, str(place / "labels.nrrd"))
        values = {name: i + 1 for i, name in enumerate(NAMES)}
        paths = (place / "image_0000.nrrd",), place / "labels.nrrd"
        cases.append(CaseFile(case, *paths, values, annotated=annotated, use=use))
    job = Job(
        folder=folder,
        name="Macaque brain",
        base="BrainTissueMR",
        preset="quick",
        channels=("MR",),
        labels=tuple(JobLabel(name) for name in NAMES),
        cases=tuple(cases),
        options=JobOptions(
            transfer=transfer,
            spacing=(SPACING,) * 3,
            steps=steps,
            patch=(patch,) * 3,
            device="cpu",
            preview_every=10**6,
        ),
    )
    write_job(folder, job)
    return job


def train(work: Path, way: str, steps: int, patch: int) -> dict[str, Any]:
    """Trains and segments the left hemisphere; what is in `work` already is not done again."""
    folder = work / way.replace(" ", "-")
    found = folder / "found.json"
    if found.exists():
        return json.loads(found.read_text(encoding="utf-8"))
    make_job(folder, WAYS[way], steps, patch)
    spent = time.process_time()

    def said(report: Any) -> None:
        print(f"{way}: step {report.step}, loss {report.train_loss:.3f}, {report.dice}", flush=True)

    finished = finetune(folder, news=News(on_epoch=said), out=folder / "model")
    assert finished is not None
    content = {
        "cpu_minutes": (time.process_time() - spent) / 60,
        "minutes": finished.seconds / 60,
        "table": finished.before_after,
        "held_out": finished.held_out,
    }
    found.write_text(json.dumps(content), encoding="utf-8")
    return content


def overlay(work: Path, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.colors import ListedColormap

    image, labels = volumes()["left"]
    source = work / "left.nrrd"
    sitk.WriteImage(image, str(source))
    models = {"before": "BrainTissueMR"} | {w: work / w.replace(" ", "-") / "model" for w in WAYS}
    shown = {"": None, "atlas": sitk.GetArrayFromImage(labels)}
    for name, model in models.items():
        target = work / f"{name.replace(' ', '-')}.nii.gz"
        segment_file([source], target, model, Options(device="cpu"))
        values = sitk.GetArrayFromImage(sitk.ReadImage(str(target)))
        shown[name] = values - 1 if name == "before" else values  # fluid is 1 in the base model
    array = sitk.GetArrayFromImage(image)
    figure, axes = pyplot.subplots(2, len(shown), figsize=(2.4 * len(shown), 5.6))
    for row, y in zip(axes, (90, 130), strict=True):
        for axis, (name, values) in zip(row, shown.items(), strict=True):
            kwargs = {"origin": "lower", "interpolation": "nearest"}
            axis.imshow(array[:, y], cmap="gray", **kwargs)
            if values is not None:
                part = np.ma.masked_less(values[:, y].astype(int), 1)
                colours = ListedColormap(["#d98cb3", "#f5e663"])
                axis.imshow(part, cmap=colours, vmin=1, vmax=2, alpha=0.6, **kwargs)
            axis.set_title(name, fontsize=9)
            axis.axis("off")
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--patch", type=int, default=48)
    arguments = parser.parse_args()
    said = {way: train(arguments.work, way, arguments.steps, arguments.patch) for way in WAYS}
    lines = ["# A new species from a few slices", ""]
    lines += [f"`few_cases.py --steps {arguments.steps} --patch {arguments.patch}`", "", machine()]
    lines += ["", "Dice on the left hemisphere, which no training has seen:", ""]
    lines += ["| label | before | " + " | ".join(said) + " |", "|---|---|" + "---|" * len(said)]
    for index, name in enumerate(NAMES):
        rows = [content["table"][index] for content in said.values()]
        assert all(row["label"] == name for row in rows)
        before = rows[0]["before"]
        cells = [f"{before:.3f}" if before is not None else "-"]
        lines.append(
            f"| {name} | " + " | ".join(cells + [f"{r['after']:.3f}" for r in rows]) + " |"
        )
    lines.append("")
    for way, content in said.items():
        lines.append(
            f"- {way}: {content['minutes']:.0f} minutes, {content['cpu_minutes']:.0f} CPU minutes; "
            f"{content['held_out']}"
        )
    lines += [
        "",
        "![hemisphere, not trained on](few_cases.png)",
        "",
        "![curves](few_cases_curves.png)",
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "few_cases.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    curves = open_model(arguments.work / "fine-tuned" / "model").path / "curves.png"
    shutil.copy(curves, RESULTS / "few_cases_curves.png")
    overlay(arguments.work, RESULTS / "few_cases.png")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

"""Evaluates the brain tissue model on Colin27, a head that neither training nor tuning has seen.

    python evaluate.py --model ../../../Resources/Models/BrainTissueMR \\
        --head ../../../Resources/SampleData/Colin27_T1.nii.gz --brain ch2bet.nii.gz \\
        --template nilearn/datasets/data --out ../../../Testing/benchmarks/embedded_model

`ch2bet.nii.gz` is the same head skull-stripped by others (Debian package `mricron-data`, folder
/usr/share/mricron/templates). The score is the Dice coefficient of the union of the three tissues
with `ch2bet > 0`. The two draw the brain's edge by different rules, so one is out of reach: what
the template's own brain mask scores, registered to this head, is given beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from prepare import TEMPLATE, read, register

from mednext_engine.inference import Segmenter, segment_file
from mednext_engine.models.folder import open_model

Pair = tuple[sitk.Image, sitk.Image]
NAMES = ("fluid", "grey", "white")
HEAD_THRESHOLD = 20  # of 255: air is below


def like(array: np.ndarray, image: sitk.Image) -> sitk.Image:
    result = sitk.GetImageFromArray(array)
    result.CopyInformation(image)
    return result


def inverted(head: sitk.Image, brain: sitk.Image, *, air: bool) -> Pair:
    """max - x in the head, or everywhere."""
    values = sitk.GetArrayFromImage(head)
    inside = sitk.GetArrayFromImage(
        sitk.BinaryFillhole(sitk.BinaryMorphologicalClosing(head > HEAD_THRESHOLD, [4] * 3))
    )
    turned = values.max() - values
    return like(turned if air else np.where(inside > 0, turned, 0), head), brain


def thick(head: sitk.Image, brain: sitk.Image, axis: int, thickness: float = 3.0) -> Pair:
    """Slices of `thickness` mm along an axis (x, y, z), each the mean of what it covers."""
    count = int(thickness)

    def averaged(image: sitk.Image) -> sitk.Image:
        size = list(image.GetSize())
        size[axis] -= size[axis] % count
        whole = image[tuple(slice(0, s) for s in size)]
        factors = [1, 1, 1]
        factors[axis] = count
        return sitk.BinShrink(whole, factors)

    return averaged(head), averaged(sitk.Cast(brain, sitk.sitkFloat32)) > 0.5


def rotated(head: sitk.Image, brain: sitk.Image, axis: int, degrees: float = 20.0) -> Pair:
    """Voxels turned about the centre, on a grid that holds the whole head."""
    turn = sitk.Euler3DTransform()
    turn.SetCenter(head.TransformContinuousIndexToPhysicalPoint([s / 2 for s in head.GetSize()]))
    angles = [0.0, 0.0, 0.0]
    angles[axis] = np.deg2rad(degrees)
    turn.SetRotation(*angles)
    padded = [sitk.ConstantPad(i, [30] * 3, [30] * 3, 0) for i in (head, brain)]
    return (
        sitk.Resample(padded[0], padded[0], turn, sitk.sitkLinear, 0),
        sitk.Resample(padded[1], padded[1], turn, sitk.sitkNearestNeighbor, 0),
    )


def half(head: sitk.Image, brain: sitk.Image, axis: int, *, far: bool) -> Pair:
    size = head.GetSize()
    box = [slice(0, s) for s in size]
    middle = size[axis] // 2
    box[axis] = slice(middle, size[axis]) if far else slice(0, middle)
    return head[tuple(box)], brain[tuple(box)]


def conditions() -> dict[str, Callable[[sitk.Image, sitk.Image], Pair]]:
    table: dict[str, Callable[[sitk.Image, sitk.Image], Pair]] = {
        "whole head": lambda h, b: (h, b),
        "inverted contrast, air dark": lambda h, b: inverted(h, b, air=False),
        "inverted contrast, air bright": lambda h, b: inverted(h, b, air=True),
    }
    planes, axes = ("sagittal", "coronal", "axial"), ("left-right", "front-back", "up-down")
    for axis in (2, 1, 0):
        table[f"3 mm {planes[axis]} slices"] = lambda h, b, a=axis: thick(h, b, a)
    for axis in (2, 0, 1):
        table[f"rotated 20 degrees, {axes[axis]} axis"] = lambda h, b, a=axis: rotated(h, b, a)
    for axis, far, name in (
        (0, False, "left"),
        (0, True, "right"),
        (1, False, "back"),
        (1, True, "front"),
        (2, True, "upper"),
        (2, False, "lower"),
    ):
        table[f"cropped to the {name} half"] = lambda h, b, a=axis, f=far: half(h, b, a, far=f)
    table["skull-stripped"] = lambda h, b: (sitk.Mask(h, b), b)
    return table


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * np.sum(first & second) / max(1, first.sum() + second.sum()))


def segment(image: sitk.Image, segmenter: Segmenter) -> tuple[sitk.Image, float]:
    """Labels on the image's grid, by the engine, and seconds with reading and writing."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "head.nii.gz", Path(folder) / "labels.nii.gz"
        sitk.WriteImage(image, str(source))
        start = time.perf_counter()
        segment_file(source, target, model=segmenter.model, segmenter=segmenter)
        return sitk.ReadImage(str(target)), time.perf_counter() - start


def template_score(folder: Path, head: sitk.Image, brain: sitk.Image) -> float:
    """Dice of the template's brain with the head's, after registration, in template space."""
    t1 = read(folder / TEMPLATE.format("t1"))
    own = sitk.BinaryFillhole(t1 > 0)
    transform = register(t1, own, sitk.Cast(head, sitk.sitkFloat32), 1.0, 0.0)
    found = sitk.Resample(sitk.Cast(brain, sitk.sitkFloat32), t1, transform, sitk.sitkLinear, 0.0)
    return dice(sitk.GetArrayFromImage(found) > 0.5, sitk.GetArrayFromImage(own) > 0)


def earlier_score(folder: Path) -> float | None:
    """The template's score of the last table: it does not depend on the model."""
    path = folder / "results.json"
    if not path.is_file():
        return None
    return json.loads(path.read_text(encoding="utf-8")).get("registered_template")


def overlay(cases: list[tuple[str, sitk.Image, sitk.Image]], path: Path) -> None:
    """One row a case: axial, coronal and sagittal slices with the tissues' colours."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.colors import ListedColormap

    colours = ListedColormap(["#55bcff", "#c8a2c8", "#fafae1"])
    figure, axes = pyplot.subplots(len(cases), 4, figsize=(11, 2.9 * len(cases)))
    for row, (name, image, labels) in zip(axes, cases, strict=True):
        values, found = (
            sitk.GetArrayFromImage(sitk.DICOMOrient(i, "RPS")) for i in (image, labels)
        )
        spacing = sitk.DICOMOrient(image, "RPS").GetSpacing()[::-1]
        inside = np.argwhere(found > 0)
        middle = [int(v) for v in inside.mean(0)] if len(inside) else [s // 2 for s in found.shape]
        middle[0] += int(8 / spacing[0])
        middle[2] -= int(12 / spacing[2])
        for column, axis in zip(row, (0, 0, 1, 2), strict=True):
            index = min(max(middle[axis], 0), values.shape[axis] - 1)
            picture, tissue = values.take(index, axis), found.take(index, axis)
            others = [s for i, s in enumerate(spacing) if i != axis]
            shown = {
                "origin": "upper" if axis == 0 else "lower",
                "aspect": others[0] / others[1],
                "interpolation": "nearest",
            }
            column.imshow(picture, cmap="gray", **shown)
            if column is not row[0]:
                hidden = np.ma.masked_equal(tissue, 0)
                column.imshow(hidden, cmap=colours, vmin=1, vmax=3, alpha=0.65, **shown)
            column.axis("off")
        row[0].set_title(name, fontsize=9, loc="left")
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--head", type=Path, required=True)
    parser.add_argument("--brain", type=Path, required=True, help="ch2bet.nii.gz")
    parser.add_argument("--template", type=Path, help="nilearn/datasets/data, to register")
    parser.add_argument("--out", type=Path, required=True, help="folder for table and picture")
    arguments = parser.parse_args()
    head = sitk.ReadImage(str(arguments.head))
    brain = sitk.ReadImage(str(arguments.brain)) > 0
    arguments.out.mkdir(parents=True, exist_ok=True)
    segmenter = Segmenter(open_model(arguments.model))
    rows, pictures = [], []
    for name, make in conditions().items():
        image, reference = make(head, brain)
        labels, seconds = segment(image, segmenter)
        found, truth = sitk.GetArrayFromImage(labels), sitk.GetArrayFromImage(reference) > 0
        litres = np.prod(image.GetSpacing()) / 1e6
        volumes = [round(float((found == k).sum() * litres), 2) for k in (1, 2, 3)]
        rows.append(
            {"case": name, "dice": dice(found > 0, truth), "seconds": seconds}
            | dict(zip(NAMES, volumes, strict=True))
        )
        print(rows[-1], flush=True)
        if name in ("whole head", "inverted contrast, air dark", "3 mm axial slices") or name in (
            "rotated 20 degrees, up-down axis",
            "cropped to the left half",
        ):
            pictures.append((f"{name}: Dice {rows[-1]['dice']:.3f}", image, labels))
    ceiling = earlier_score(arguments.out)
    if arguments.template is not None:
        ceiling = template_score(arguments.template, head, brain)
        print(f"registered template mask: {ceiling:.3f}")
    write(arguments.out, rows, ceiling)
    overlay(pictures, arguments.out / "overlay.png")


def write(folder: Path, rows: list[dict[str, float | str]], ceiling: float | None) -> None:
    lines = [
        "# The embedded model on Colin27",
        "",
        "Made by `Training/recipes/brain_tissue/evaluate.py`. Dice: union of the three tissues",
        "with `ch2bet > 0`. Volumes in litres (there is no tissue reference for this head).",
        "",
        "| case | Dice | fluid | grey | white |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        volumes = " | ".join(f"{row[name]:.2f}" for name in NAMES)
        lines.append(f"| {row['case']} | {row['dice']:.3f} | {volumes} |")
    if ceiling is not None:
        lines += ["", f"The template's own brain mask, registered to this head: {ceiling:.3f}."]
    lines += ["", "![tissues over the head](overlay.png)", ""]
    for name, text in (
        ("results.md", "\n".join(lines)),
        ("results.json", json.dumps({"rows": rows, "registered_template": ceiling}, indent=1)),
    ):
        part = folder / f".{name}.part"
        part.write_text(text, encoding="utf-8")
        os.replace(part, folder / name)


if __name__ == "__main__":
    main()

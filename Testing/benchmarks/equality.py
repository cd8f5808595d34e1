"""Labels against nnU-Net's predictor on whole heads; writes `results/equality.md`.

    python Testing/benchmarks/equality.py [--work FOLDER]

The model that ships and two small trained networks (`Testing/engine/engine_fixtures.py`), on one
head as isotropic, thick-sliced, oblique and two-channel volume, with and without mirroring.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import materials
import numpy as np
import SimpleITK as sitk
from materials import fixtures
from measure import machine, run_side

RESULTS = Path(__file__).with_name("results") / "equality.md"
LOWEST = 0.995


def cases(folder: Path) -> Iterator[tuple[str, Any, list[sitk.Image], bool]]:
    """Name, model, channels, mirroring."""
    head = fixtures.sample_head((2.0, 2.0, 2.0))
    thick = fixtures.sample_head((1.0, 1.0, 5.0))
    ships = materials.embedded()
    volumes = {
        "isotropic 2 mm": head,
        "slices of 5 mm": thick,
        "oblique": fixtures.turned(head),
        "native 1 mm": fixtures.sample_head((1.0, 1.0, 1.0)),
    }
    for name, image in volumes.items():
        yield f"{ships.id}, {name}", ships, [image], False
    yield f"{ships.id}, mirrored", ships, [fixtures.sample_head()], True
    for kind in ("mednext", "residual"):
        trained = fixtures.train_network(kind)
        plain = trained.write(folder / kind)
        for name in ("isotropic 2 mm", "slices of 5 mm", "oblique"):
            yield f"{kind}, {name}", plain, [volumes[name]], False
        yield f"{kind}, mirrored", plain, [fixtures.sample_head()], True
        two = trained.write(folder / f"{kind}-channels", channels=2)
        smooth = sitk.SmoothingRecursiveGaussian(head, 2.0)
        yield f"{kind}, two channels", two, [head, smooth], False
        regions = trained.write(folder / f"{kind}-regions", labels="regions")
        yield f"{kind}, regions", regions, [head], False
        turned = trained.write(
            folder / f"{kind}-turned", transpose_forward=(2, 0, 1), transpose_backward=(1, 2, 0)
        )
        yield f"{kind}, turned axes", turned, [thick], False


def compare(model: Any, images: list[sitk.Image], mirror: bool, folder: Path) -> dict[int, float]:
    """Dice of each label between both results."""
    inputs = [
        str(fixtures.write_image(folder / f"image_{n:04d}.nii.gz", image))
        for n, image in enumerate(images)
    ]
    outputs = [folder / f"{side}.nii.gz" for side in ("theirs", "ours")]
    shared = {"inputs": inputs, "model": str(model.path)}
    run_side(
        "peer", **shared, output=str(outputs[0]), folds=list(model.default_folds), mirror=mirror
    )
    options = {"device": "cpu", "precision": "float32", "mirror": mirror}
    run_side("ours", **shared, output=str(outputs[1]), options=options)
    theirs, ours = (sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in outputs)
    scores = fixtures.dice_of_labels(theirs, ours)
    scores[-1] = float(np.mean(theirs == ours))
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "mednext-bench")
    work = parser.parse_args().work / "equality"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    lines = [
        "# Labels against nnU-Net's predictor",
        "",
        machine(),
        "",
        f"Same model folder, same volume, float32; every label must reach a Dice of {LOWEST}.",
        "",
        "| model and volume | Dice of each label | voxels equal |",
        "|---|---|---|",
    ]
    lowest = 1.0
    for name, model, images, mirror in cases(work):
        scores = compare(model, images, mirror, work)
        equal = scores.pop(-1)
        lowest = min(lowest, *scores.values())
        text = ", ".join(f"{label}: {score:.4f}" for label, score in sorted(scores.items()))
        lines.append(f"| {name} | {text} | {equal:.3%} |")
        print(lines[-1], flush=True)
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    raise SystemExit(0 if lowest >= LOWEST else 1)


if __name__ == "__main__":
    main()

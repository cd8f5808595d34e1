"""Label maps on coarser grids: ours against nnU-Net's default.

    python Testing/benchmarks/label_resampling.py [--spacing 1.5 2 3]

Sparse: one-millimetre slices, every tenth of fifty annotated, beginning at each of the first ten:
how many of the five still have an annotated voxel, and which share of annotated voxels survives.
Full: the 116 structures of the AAL atlas (Debian's mricron-data) brought to a coarser grid and back
to 1 mm, in the same way for both (largest share of linear weights); Dice with the original.

Writes `results/label_resampling.md`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

from mednext_engine.finetuning.counting import class_counts
from mednext_engine.finetuning.label_resampling import (
    resample_labels,
    surviving_share,
    volume_ratios,
)

ATLAS = Path("/usr/share/mricron/templates/aal.nii.gz")
RESULT = Path(__file__).with_name("results") / "label_resampling.md"


def nnunet(labels: np.ndarray, shape: tuple[int, ...], spacing: float) -> np.ndarray:
    """nnU-Net 2.8.1's `resampling_fn_seg` with its default arguments, from 1 mm."""
    result = resample_data_or_seg_to_shape(
        labels[None], shape, (1.0,) * 3, (spacing,) * 3, is_seg=True, order=1, order_z=0
    )
    return np.asarray(result)[0].astype(np.int16)


def sparse_rows() -> list[str]:
    rows = []
    for spacing in (1.0, 1.5, 2.0):
        ours, theirs = [], []
        for first in range(10):
            labels = np.full((50, 12, 12), -1, np.int16)
            labels[first::10] = 0
            labels[first::10, 3:9, 3:9] = 1
            shape = tuple(round(n / spacing) for n in labels.shape)
            ours.append(kept(labels, resample_labels(labels, shape)))
            # Its ignore label is the highest one.
            marked = np.where(labels < 0, 2, labels).astype(np.int16)
            after = nnunet(marked, shape, spacing)
            theirs.append(kept(labels, np.where(after == 2, -1, after).astype(np.int16)))
        for name, found in (("ours", ours), ("nnU-Net", theirs)):
            slices, shares = zip(*found, strict=True)
            rows.append(
                f"| {spacing:g} | {name} | {min(slices)} to {max(slices)} of 5 | "
                f"{np.mean(slices):.1f} | {np.mean(shares):.0%} |"
            )
    return rows


def kept(before: np.ndarray, after: np.ndarray) -> tuple[int, float]:
    """Annotated slices whose centre lies in an annotated plane, and the share of voxels."""
    slices = np.flatnonzero((before >= 0).any(axis=(1, 2)))
    planes = (2 * slices + 1) * len(after) // (2 * len(before))
    return int((after[planes] >= 0).any(axis=(1, 2)).sum()), surviving_share(before, after)


def full_rows(spacings: list[float]) -> list[str]:
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(ATLAS))).astype(np.int16)
    rows = []
    for spacing in spacings:
        shape = tuple(round(n / spacing) for n in labels.shape)
        for name in ("ours", "nnU-Net"):
            started = time.process_time()
            if name == "ours":
                coarse = resample_labels(labels, shape)
            else:
                coarse = nnunet(labels, shape, spacing)
            seconds = time.process_time() - started
            scores = dice(resample_labels(coarse, labels.shape), labels)
            ratios = volume_ratios(labels, coarse).values()
            rows.append(
                f"| {spacing:g} | {name} | {scores.mean():.4f} | {scores.min():.4f} | "
                f"{min(ratios):.2f} to {max(ratios):.2f} | {seconds:.1f} |"
            )
            print(rows[-1], flush=True)
    return rows


def dice(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of each label of `other`."""
    n = int(other.max()) + 1
    both = class_counts(np.where(one == other, one, 0).astype(np.int16), n)[1:]
    sizes = class_counts(one, n)[1:] + class_counts(other, n)[1:]
    return 2 * both[sizes > 0] / sizes[sizes > 0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--spacing", type=float, nargs="+", default=[1.5, 2.0, 3.0])
    spacings = parser.parse_args().spacing
    text = [
        "# Label maps on coarser grids",
        "",
        "`python Testing/benchmarks/label_resampling.py`; nnU-Net is 2.8.1 with its defaults.",
        "",
        "Every tenth one-millimetre slice annotated, five slices, over all ten places to begin:",
        "",
        "| grid, mm | | slices kept | mean | annotated voxels kept |",
        "| --- | --- | --- | --- | --- |",
        *sparse_rows(),
        "",
        "116 structures of the AAL atlas, fully annotated, to the grid and back to 1 mm:",
        "",
        "| grid, mm | | mean Dice | lowest Dice | volume after / before | CPU s |",
        "| --- | --- | --- | --- | --- | --- |",
        *full_rows(spacings),
        "",
    ]
    RESULT.write_text("\n".join(text), encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main()

"""Our training loop beside nnU-Net's stock trainer: Dice, seconds a step, memory.

    python Testing/benchmarks/compare_training.py --work DIR [--steps 200] [--seeds 3]

Same network (a small MedNeXt v2), data, patch, batch and number of steps, from scratch, each run in
a fresh process, the last weights judged by the same predictor on a half of the head that did not
train. nnU-Net's trainer runs MedNeXt's layers as the official code has them; with SGD it is stock,
with AdamW it has the optimiser of MedNeXt's paper, which is ours too. One row runs it on our
layers. Runs that are in `--work` already are not repeated. Writes `results/training.md`.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import training_material as material
from measure import machine, run_side

RESULTS = Path(__file__).with_name("results")
WARM = 5  # first steps, which prepare memory and kernels, are not counted
PEER: dict[str, Any] = {"optimizer": "sgd", "our_layers": False}
ROWS: dict[str, tuple[str, dict[str, Any], bool]] = {  # side, its arguments, with all seeds?
    "nnU-Net, stock (SGD)": ("peer", PEER, True),
    "nnU-Net, AdamW": ("peer", {**PEER, "optimizer": "adamw"}, False),
    "nnU-Net, AdamW, our layers": ("peer", {"optimizer": "adamw", "our_layers": True}, False),
    "ours": ("ours", {}, True),
    "ours, blocks checkpointed": ("ours", {"checkpointing": "block"}, False),
}


def run(work: Path, row: str, seed: int, steps: int) -> dict[str, Any]:
    side, arguments, _ = ROWS[row]
    kept = work / f"{row.replace(' ', '_')}-{seed}-{steps}.json"
    if kept.exists():
        return json.loads(kept.read_text(encoding="utf-8"))
    sides = "training_sides.py"
    found = run_side(side, sides=sides, work=str(work), seed=seed, steps=steps, **arguments)
    judged = run_side("dice", sides=sides, work=str(work), weights=found.said["weights"])
    content = {
        "step": statistics.median(found.said["seconds"][WARM:]),
        "whole": found.said["whole"],
        "cpu": found.cpu,
        "peak": found.peak,
        "dice": judged.said["dice"],
    }
    kept.write_text(json.dumps(content), encoding="utf-8")
    print(row, seed, content, flush=True)
    return content


def table(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    structures = list(material.STRUCTURES)
    lines = [
        "| trainer | runs | Dice, mean of structures (each run) | "
        + " | ".join(structures)
        + " | s a step | whole run s | CPU s | peak GiB |",
        "|---|---|---|" + "---|" * (len(structures) + 4),
    ]
    for row, runs in found.items():
        means = [statistics.mean(r["dice"].values()) for r in runs]
        cells = [f"{statistics.mean(r['dice'][s] for r in runs):.3f}" for s in structures]
        figures = [
            f"{statistics.mean(r['step'] for r in runs):.2f}",
            f"{statistics.mean(r['whole'] for r in runs):.0f}",
            f"{statistics.mean(r['cpu'] for r in runs):.0f}",
            f"{max(r['peak'] for r in runs) / 2**30:.2f}",
        ]
        each = ", ".join(f"{m:.3f}" for m in means)
        start = f"| {row} | {len(runs)} | **{statistics.mean(means):.3f}** ({each}) | "
        lines.append(start + " | ".join(cells + figures) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    work, steps = arguments.work, arguments.steps
    work.mkdir(parents=True, exist_ok=True)
    said = machine()
    if not (work / "nnUNet_preprocessed" / material.DATASET / "splits_final.json").exists():
        run_side("prepare", sides="training_sides.py", work=str(work))
    found: dict[str, list[dict[str, Any]]] = {row: [] for row in ROWS}
    for seed in range(arguments.seeds):
        for row, (_, _, all_seeds) in ROWS.items():
            if all_seeds or seed == 0:
                found[row].append(run(work, row, seed, steps))
    z, y, x = material.PATCH
    lines = ["# Against nnU-Net's trainer", "", said, ""]
    lines.append(
        f"{steps} steps from scratch, patch {z} x {y} x {x}, batch {material.BATCH}; peak memory "
        "is of the process and all below it (nnU-Net's augmentation runs in processes of its own)."
    )
    lines += ["", *table(found), ""]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "training.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

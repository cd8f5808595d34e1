"""Our training loop beside nnU-Net's stock trainer: Dice, seconds a step, memory.

    python Testing/benchmarks/compare_training.py --work DIR [--steps 200] [--seeds 3]

Same network (a small MedNeXt v2), data, patch, batch and number of steps, from scratch, each run in
a fresh process, the last weights judged by the same predictor on the hemisphere that did not train.
nnU-Net's trainer runs MedNeXt's layers as the official code has them; with SGD it is stock, with
AdamW it has the optimiser of MedNeXt's paper. Ours runs with both. One row runs nnU-Net's trainer
on our layers. Runs that are in `--work` already are not repeated. Writes `results/training.md`.
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
SPEED_STEPS = 25
WARM = 5  # first steps, which prepare memory and kernels, are not counted
PEER: dict[str, Any] = {"optimizer": "sgd", "our_layers": False}
ROWS: dict[str, tuple[str, dict[str, Any], bool]] = {  # side, its arguments, with all seeds?
    "nnU-Net, stock (SGD)": ("peer", PEER, True),
    "nnU-Net, AdamW": ("peer", {**PEER, "optimizer": "adamw"}, True),
    "nnU-Net, AdamW, our layers": ("peer", {"optimizer": "adamw", "our_layers": True}, False),
    "ours, SGD": ("ours", {"optimizer": "sgd"}, True),
    "ours, AdamW": ("ours", {}, True),
    "ours, AdamW, blocks checkpointed": ("ours", {"checkpointing": "block"}, False),
}


def run(work: Path, row: str, seed: int, steps: int, size: str) -> dict[str, Any]:
    """One training in a process of its own; what is in `work` already is not done again."""
    side, arguments, _ = ROWS[row]
    kept = work / f"{row.replace(' ', '_')}-{seed}-{steps}-{size}.json"
    if kept.exists():
        return json.loads(kept.read_text(encoding="utf-8"))
    common: dict[str, Any] = {"sides": "training_sides.py", "work": str(work), "size": size}
    found = run_side(side, seed=seed, steps=steps, **common, **arguments)
    judged = run_side("dice", weights=found.said["weights"], **common)
    content = {
        "step": statistics.median(found.said["seconds"][WARM:]),
        "whole": found.said["whole"],
        "cpu": found.cpu,
        "peak": found.peak,
        "dice": judged.said["dice"],
    }
    kept.write_text(json.dumps(content), encoding="utf-8")
    print(row, seed, size, content, flush=True)
    return content


def learning(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Dice, and what the runs took."""
    lines = [
        f"| trainer | runs | Dice, mean (each run) | {' | '.join(material.NAMES)} | s a step | "
        "whole run s | CPU s | peak GiB |",
        "|---|---|---|" + "---|" * (len(material.NAMES) + 4),
    ]
    for row, runs in found.items():
        means = [statistics.mean(r["dice"].values()) for r in runs]
        cells = [f"{statistics.mean(r['dice'][s] for r in runs):.3f}" for s in material.NAMES]
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


def speed(found: dict[str, dict[str, Any]]) -> list[str]:
    """Time and memory, and their ratio to those of the stock trainer."""
    lines = ["| trainer | s a step | | CPU s | peak GiB | |", "|---|---|---|---|---|---|"]
    stock = next(iter(found.values()))
    for row, one in found.items():
        ratios = [one[key] / stock[key] for key in ("step", "peak")]
        lines.append(
            f"| {row} | {one['step']:.2f} | {ratios[0]:.2f} x | {one['cpu']:.0f} | "
            f"{one['peak'] / 2**30:.2f} | {ratios[1]:.2f} x |"
        )
    return lines


def of_size(name: str) -> str:
    size = material.SIZES[name]
    z, y, x = size.patch
    channels, blocks = size.network["channels"], sum(size.network["blocks"])
    return f"{channels} channels, {blocks} blocks, patch {z} x {y} x {x}"


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
                found[row].append(run(work, row, seed, steps, "small"))
    fast = {row: run(work, row, 0, SPEED_STEPS, "embedded") for row in ROWS}
    how = f"compare_training.py --steps {steps} --seeds {arguments.seeds}"
    lines = ["# Against nnU-Net's trainer", "", f"`{how}`", "", said, ""]
    lines.append(
        f"From scratch, batch {material.BATCH}, Dice on the hemisphere that did not train; peak "
        "memory is of the process and all below it (nnU-Net's augmentation runs in processes of "
        "its own)."
    )
    lines += ["", f"A small network ({of_size('small')}), {steps} steps:", "", *learning(found)]
    lines += ["", f"The embedded model's network ({of_size('embedded')}), {SPEED_STEPS} steps:", ""]
    lines += [*speed(fast), ""]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "training.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

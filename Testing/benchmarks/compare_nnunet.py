"""Compares this engine with nnU-Net's own predictor: time, memory and labels, side by side.

    python Testing/benchmarks/compare_nnunet.py               # all rows, about half an hour
    python Testing/benchmarks/compare_nnunet.py s3 grid117    # these rows
    python Testing/benchmarks/compare_nnunet.py --list

Every side runs in a fresh process; peak memory is that of its whole process tree. Both get the same
model folder and the same image, no mirroring, half overlap. nnU-Net runs in one process (its
`predict_from_files_sequential`), which is its lighter way. Results go to `results/`.
"""

from __future__ import annotations

import argparse
import datetime
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import materials
import numpy as np
import psutil
import SimpleITK as sitk
from materials import fixtures
from measure import Measured, PeakOfTree, machine, run_side

from mednext_engine.jobs import protocol
from mednext_engine.jobs.client import Worker

RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True)
class Row:
    """One comparison and what it should reach: (at least, aim) times faster, memory at most."""

    name: str
    peer: Measured
    ours: Measured
    faster: tuple[float, float]
    memory: float
    agreement: str = ""

    @property
    def speedup(self) -> float:
        return self.peer.wall / self.ours.wall

    @property
    def memory_share(self) -> float:
        return self.ours.peak / self.peer.peak


@dataclass
class Bench:
    """Where things are kept, and what was measured already for other rows."""

    work: Path
    scratch: Path
    rows: list[Row] = field(default_factory=list)
    peers: dict[tuple[Any, ...], tuple[Measured, np.ndarray]] = field(default_factory=dict)

    def peer(self, model: Any, image: Path) -> tuple[Measured, np.ndarray]:
        """nnU-Net on `image`; measured once for all rows that compare with it."""
        key = (str(model.path), str(image))
        if key not in self.peers:
            output = self.scratch / f"peer{len(self.peers)}.nii.gz"
            measured = run_side(
                "peer",
                inputs=[str(image)],
                output=str(output),
                model=str(model.path),
                folds=list(model.default_folds),
            )
            self.peers[key] = (measured, _labels(output))
            print(f"  nnU-Net: {measured.wall:.1f} s, {_gib(measured.peak)}", flush=True)
        return self.peers[key]

    def add(self, row: Row) -> None:
        self.rows.append(row)
        print(
            f"  {row.name}: {row.ours.wall:.1f} s, {_gib(row.ours.peak)}; {row.speedup:.1f}x, "
            f"memory {row.memory_share:.2f}x; {row.agreement}",
            flush=True,
        )


def fresh(
    bench: Bench,
    name: str,
    model: Any,
    image: Path,
    precision: str,
    faster: tuple[float, float],
    memory: float,
    agreement: str = "",
) -> None:
    """Both sides in a fresh process each."""
    peer, expected = bench.peer(model, image)
    output = bench.scratch / "ours.nii.gz"
    ours = run_side(
        "ours",
        inputs=[str(image)],
        output=str(output),
        model=str(model.path),
        options={"device": "cpu", "precision": precision},
    )
    agreement = agreement or _agreement(expected, _labels(output))
    bench.add(Row(f"{name}, {_short(precision)}", peer, ours, faster, memory, agreement))


def s3(bench: Bench) -> None:
    """MedNeXt S k3, 3 labels, two tiles of 128^3."""
    model = materials.model("mednext-s", 3, 128, bench.work)
    image = materials.head((120, 145, 121), materials.SPACING, bench.work)
    fresh(bench, "MedNeXt S k3, 3 labels", model, image, "float32", (5, 7), 0.5)
    fresh(bench, "MedNeXt S k3, 3 labels", model, image, "bfloat16", (10, 15), 0.4)


def residual3(bench: Bench) -> None:
    """A residual-encoder U-Net, 3 labels, two tiles of 128^3."""
    model = materials.model("residual-m", 3, 128, bench.work)
    image = materials.head((120, 145, 121), materials.SPACING, bench.work)
    fresh(bench, "Residual-encoder U-Net, 3 labels", model, image, "float32", (5, 7), 0.5)
    fresh(bench, "Residual-encoder U-Net, 3 labels", model, image, "bfloat16", (10, 15), 0.4)


def many_labels(bench: Bench, labels: int) -> None:
    """MedNeXt S k3 on an image of 1 mm that the plan resamples to 1.5 mm: two tiles of 128^3."""
    model = materials.model("mednext-s", labels, 128, bench.work)
    image = materials.head((181, 217, 181), 1.0, bench.work)
    targets = ((6, 10), 0.35) if labels > 100 else ((5, 7), 0.5)
    for precision in ("float32", "bfloat16"):
        fresh(bench, f"MedNeXt S k3, {labels} labels", model, image, precision, *targets)


def base(bench: Bench) -> None:
    """MedNeXt v2 Base, random weights, one tile of 96^3."""
    model = materials.model("mednext-base", 3, 96, bench.work)
    image = materials.head((96, 96, 96), materials.SPACING, bench.work)
    found = run_side("numbers", model=str(model.path), patch=64).said
    for precision, faster in (("float32", (2.5, 3.5)), ("bfloat16", (5, 8))):
        text = f"outputs differ by {found[precision]:.1e} of their standard deviation"
        fresh(bench, "MedNeXt v2 Base, 3 labels", model, image, precision, faster, 0.5, text)


def small(bench: Bench) -> None:
    """The model that ships on a small image: fresh process, then first and second job of a worker.

    nnU-Net has no resident process: what it needs for one more image is a fresh one.
    """
    model = materials.embedded()
    image = materials.head((91, 109, 91), 2.0, bench.work)
    fresh(bench, "Small image, fresh process", model, image, "float32", (5, 7), 0.45)
    peer, expected = bench.peer(model, image)
    output = bench.scratch / "worker.nii.gz"
    for number, ours in enumerate(_worker_jobs(model, image, output), start=1):
        bench.add(
            Row(
                f"Small image, resident worker, job {number}",
                peer,
                ours,
                (7, 10),
                0.45,
                _agreement(expected, _labels(output)),
            )
        )


def _worker_jobs(model: Any, image: Path, output: Path) -> list[Measured]:
    jobs = []
    options = {"device": "cpu", "precision": "float32"}
    with Worker() as worker:
        worker.wait_ready()
        process = psutil.Process(worker.process.pid)
        sampler = PeakOfTree(worker.process.pid)
        for number in range(2):
            cpu, start = sum(process.cpu_times()[:2]), time.perf_counter()
            answer = worker.ask(
                protocol.Segment(
                    job=str(number),
                    inputs=[str(image)],
                    output=str(output),
                    model=str(model.path),
                    options=options,
                ),
                seconds=1800,
            )
            if not isinstance(answer, protocol.Result):
                raise RuntimeError(f"The worker answered {answer}")
            wall = time.perf_counter() - start
            used = sum(process.cpu_times()[:2]) - cpu
            stages = dict(answer.value.get("timings") or {})
            jobs.append(Measured(wall, used, sampler.peak, {"stages": stages}))
        sampler.stop()
    return jobs


def grid(bench: Bench, labels: int) -> None:
    """From logits to labels alone: 120^3 to 180^3, labels of the AAL atlas."""
    logits = materials.atlas_logits(labels, 120, bench.work)
    out = [bench.scratch / f"{side}.npy" for side in ("peer", "ours")]
    peer = run_side("peer_grid", logits=str(logits), size=180, output=str(out[0]))
    ours = run_side("ours_grid", logits=str(logits), size=180, output=str(out[1]))
    agreement = _agreement(np.load(out[0]), np.load(out[1]))
    for one in (peer, ours):  # loading and imports are not what is compared
        one.wall = one.stages["back to the grid"]
        one.peak -= logits.stat().st_size
    targets = ((6, 10), 0.3) if labels < 100 else ((15, 25), 0.3)
    bench.add(Row(f"Back to the grid, {labels} labels", peer, ours, *targets, agreement))


ROWS: dict[str, Callable[[Bench], None]] = {
    "s3": s3,
    "residual3": residual3,
    "s30": lambda bench: many_labels(bench, 30),
    "s117": lambda bench: many_labels(bench, 117),
    "small": small,
    "base": base,
    "grid30": lambda bench: grid(bench, 30),
    "grid117": lambda bench: grid(bench, 117),
}


def _labels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def _agreement(expected: np.ndarray, found: np.ndarray) -> str:
    counts = np.bincount(expected.ravel())
    scores = fixtures.dice_of_labels(expected, found)
    present = [score for label, score in scores.items() if label < len(counts) and counts[label]]
    equal = float((expected == found).mean())
    return f"lowest Dice {min(present):.4f} of {len(present)} labels, {equal:.3%} of voxels equal"


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"


def _short(precision: str) -> str:
    return {"float32": "fp32", "bfloat16": "bf16"}.get(precision, precision)


def report(rows: list[Row]) -> str:
    """The tables in Markdown."""
    lines = [
        "| case | nnU-Net s | ours s | faster | at least / aim | nnU-Net GiB | ours GiB | memory "
        "| at most | CPU s | labels |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        peer, ours = row.peer, row.ours
        lines.append(
            f"| {row.name} | {peer.wall:.1f} | {ours.wall:.1f} | **{row.speedup:.1f}x** "
            f"| {row.faster[0]:g}x / {row.faster[1]:g}x | {peer.peak / 2**30:.2f} "
            f"| {ours.peak / 2**30:.2f} | **{row.memory_share:.2f}x** | {row.memory:g}x "
            f"| {peer.cpu:.0f} / {ours.cpu:.0f} | {row.agreement} |"
        )
    lines += ["", "Seconds a stage:", ""]
    for row in rows:
        for side, measured in (("nnU-Net", row.peer), ("ours", row.ours)):
            stages = ", ".join(f"{name} {value:.1f}" for name, value in measured.stages.items())
            lines.append(f"- {row.name}, {side}: {stages}")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("rows", nargs="*", help="rows to measure; all by default")
    parser.add_argument("--list", action="store_true", help="name the rows and stop")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "mednext-bench")
    parser.add_argument("--output", type=Path, default=None, help="Markdown file to write")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(ROWS))
        return
    unknown = set(arguments.rows) - set(ROWS)
    if unknown:
        parser.error(f"unknown rows: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    names = arguments.rows or list(ROWS)
    where = machine()
    today = datetime.date.today().isoformat()
    output = (
        arguments.output
        or RESULTS / f"nnunet{'' if not arguments.rows else '-' + '-'.join(names)}.md"
    )
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(arguments.work, Path(scratch))
        for name in names:
            print(name, flush=True)
            ROWS[name](bench)
            header = f"# Against nnU-Net's predictor\n\n{today}. {where}\n\n"
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(header + report(bench.rows), encoding="utf-8")
    print(report(bench.rows))


if __name__ == "__main__":
    main()

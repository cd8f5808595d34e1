"""Measures what a user waits for: the module's load, the first click and the second.

    python Testing/module/tools/measure_clicks.py

The panel under the tests' stand-in for Slicer, with the real worker, the embedded model and the
sample volume; from the click until the segments are in the scene. Beside it, in the same run, what
extensions without a resident worker do: a fresh process for every click (the command line, CPU).
Writes `Testing/benchmarks/results/clicks.md`.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from places import keep_private
from render_panel import ROOT, idle, until

ROUNDS = 3
RESULTS = ROOT / "Testing" / "benchmarks" / "results"
IMAGE = ROOT / "Resources" / "SampleData" / "Colin27_T1.nii.gz"
Times = dict[str, list[float]]


def main() -> None:
    times: Times = {}
    for _round in range(ROUNDS):
        with tempfile.TemporaryDirectory() as private:
            keep_private(private)
            fresh_processes(Path(private), times)
            # Each round has a process of its own: the module is loaded once in a Slicer session.
            said = subprocess.run(
                [sys.executable, __file__, "--panel"], check=True, capture_output=True, text=True
            ).stdout
        for line in said.splitlines():
            if line.startswith("TIME "):
                _, name, seconds = line.split("|")
                times.setdefault(name, []).append(float(seconds))
    report(times)


def fresh_processes(folder: Path, times: Times) -> None:
    for name in ("fresh process, first", "fresh process, second"):
        started = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "mednext_engine.cli", "segment", str(IMAGE),
             str(folder / f"{name}.nii.gz"), "--quiet"],
            check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT / "Training")},
        )  # fmt: skip
        times.setdefault(name, []).append(time.monotonic() - started)


def panel() -> None:
    """One session: prints its times."""
    import harness

    harness.start()
    started = time.monotonic()
    module = harness.load_module(ROOT / "MedNeXtSeg" / "MedNeXtSeg.py")
    print(f"TIME |module load|{time.monotonic() - started:.3f}")
    try:
        import slicer

        widget = slicer.util.getModuleWidget("MedNeXtSeg")
        slicer.modules.mednextseg.widgetRepresentation().enter()
        ui = (widget if hasattr(widget, "ui") else widget.self()).ui
        until(lambda: ui.modelList.count > 0)
        ui.modelList.setCurrentRow(0)
        ui.sampleDataButton.click()
        until(lambda: ui.runButton.enabled)
        for name in ("panel, first click", "panel, second click"):
            started = time.monotonic()
            ui.runButton.click()
            until(lambda: idle(ui), 600)
            print(f"TIME |{name}|{time.monotonic() - started:.3f}")
    finally:
        harness.unload_module("MedNeXtSeg")
        del module


def report(times: Times) -> None:
    sys.path.insert(0, str(ROOT / "Testing" / "benchmarks"))
    from measure import machine

    lines = ["# From click to segmentation", "", "`Testing/module/tools/measure_clicks.py`", ""]
    lines += [machine(), "", "Embedded model, sample volume, CPU. Seconds.", ""]
    lines += ["| what | median | each round |", "|---|---|---|"]
    for name, seconds in times.items():
        each = ", ".join(f"{s:.2f}" for s in seconds)
        lines.append(f"| {name} | {statistics.median(seconds):.2f} | {each} |")
    (RESULTS / "clicks.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    panel() if "--panel" in sys.argv else main()

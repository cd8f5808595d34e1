"""Wall time, CPU time and peak memory of a whole process tree; the machine in general terms."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

SAMPLE_SECONDS = 0.02


@dataclass
class Measured:
    """Seconds, bytes, and what the process said."""

    wall: float
    cpu: float
    peak: int
    said: dict[str, Any] = field(default_factory=dict)

    @property
    def stages(self) -> dict[str, float]:
        return self.said.get("stages", {})


class PeakOfTree:
    """Samples the resident memory of a process and all below it, in a thread."""

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self._process = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._stop.set()
        self._thread.join()
        return self.peak

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            try:
                tree = [self._process, *self._process.children(recursive=True)]
            except psutil.Error:
                return
            self.peak = max(self.peak, sum(map(_resident, tree)))


def _resident(process: psutil.Process) -> int:
    """Bytes; none for a process that has just ended."""
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def run_side(
    side: str, timeout: float = 3600.0, sides: str = "one_side.py", **arguments: Any
) -> Measured:
    """One side (of the script `sides`) in a fresh process. Raises RuntimeError when it fails."""
    script = Path(__file__).with_name(sides)
    engine = str(Path(__file__).resolve().parents[2] / "Training")
    paths = os.pathsep.join(p for p in (engine, os.environ.get("PYTHONPATH", "")) if p)
    before, start = _children_cpu(), time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, str(script), side, json.dumps(arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    sampler = PeakOfTree(process.pid)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise RuntimeError(f"{side} took longer than {timeout:.0f} s") from None
    wall = time.perf_counter() - start
    lines = [line for line in out.splitlines() if line.startswith("RESULT ")]
    if process.returncode or not lines:
        raise RuntimeError(f"{side} failed:\n{err[-3000:]}")
    said = json.loads(lines[-1].removeprefix("RESULT "))
    return Measured(wall, _children_cpu() - before, sampler.stop(), said)


def _children_cpu() -> float:
    """CPU seconds of all children that have ended so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def machine() -> str:
    """The machine and versions, in one paragraph."""
    model = platform.processor() or platform.machine()
    flags = ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        text = info.read_text()
        names = [line.split(":")[1].strip() for line in text.splitlines() if "model name" in line]
        model = names[0] if names else model
        found = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in text]
        flags = f" ({', '.join(found)})"
    memory = psutil.virtual_memory().total / 2**30
    packages = ("torch", "openvino", "nnunetv2", "numpy", "SimpleITK")
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in packages)
    return (
        f"{model}{flags}, {os.cpu_count()} cores, {memory:.0f} GiB memory, "
        f"Python {platform.python_version()}, {versions}. "
        f"Load average of the last minute before the run: {os.getloadavg()[0]:.1f}."
    )

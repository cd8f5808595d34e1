"""bfloat16 on CPUs that have it: used by itself only where this model was seen to be equal with it.

The first run of a model on such a computer is in float32. At its end one window is computed again
in bfloat16; if every label agrees and it was faster, later runs use it. The verdict is kept in the
user's cache folder, by the model's checksum, the processor and the version of OpenVINO.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import platformdirs

from ..atomic import replacing
from ..monitor import Monitor
from .arrays import Array, to_numpy
from .decide import largest, last_positive
from .runner import Runner

if TYPE_CHECKING:
    from ..models.folder import Model
    from .devices import Execution
    from .options import Options

LOWEST_DICE = 0.995
LOWEST_SPEEDUP = 1.15
FEWEST_VOXELS = 100


@dataclass(frozen=True)
class Verdict:
    """What was seen: the lowest Dice of any label between the two, and how much faster it was."""

    dice: float
    speedup: float

    @property
    def good(self) -> bool:
        return self.dice >= LOWEST_DICE and self.speedup >= LOWEST_SPEEDUP


def cpu_has_bfloat16() -> bool:
    """Whether OpenVINO computes in bfloat16 here, rather than only accepting it."""
    from .openvino_runtime import ov

    capabilities = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "BF16" in capabilities


def verdict_key(fingerprint: str) -> str:
    from .openvino_runtime import ov

    facts = (fingerprint, platform.processor(), platform.machine(), ov.get_version())
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _file() -> Path:
    """Where verdicts are kept, by the rules of each system; MEDNEXT_CACHE says otherwise."""
    said = os.environ.get("MEDNEXT_CACHE") or platformdirs.user_cache_dir("MedNeXtSeg", False)
    return Path(said).expanduser() / "precision.json"


def _read() -> dict[str, Any]:
    try:
        table = json.loads(_file().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}


def recall(key: str) -> Verdict | None:
    """The verdict of an earlier run, or None; an unreadable file counts as none."""
    known = _read().get(key)
    try:
        return Verdict(float(known["dice"]), float(known["speedup"])) if known else None
    except (TypeError, KeyError, ValueError):
        return None


def remember(key: str, verdict: Verdict) -> None:
    """Keeps a verdict; where the cache folder cannot be written, the next run asks again."""
    path = _file()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps({**_read(), key: asdict(verdict)}), "utf-8")


@dataclass(frozen=True)
class Learned:
    """How to run, a sentence if that was learned, and where a verdict belongs if one is wanted."""

    execution: Execution
    note: str = ""
    verdict_key: str = ""


def learned_precision(model: Model, fold: str, options: Options, execution: Execution) -> Learned:
    """bfloat16 on the CPU where an earlier run of this model showed it to be equal."""
    undecided = options.precision == "auto" and execution.backend == "openvino"
    if not undecided or not cpu_has_bfloat16():
        return Learned(execution)
    key = verdict_key(model.fingerprint(fold))
    verdict = recall(key)
    if verdict is None:
        return Learned(execution, verdict_key=key)
    if not verdict.good:
        return Learned(execution)
    note = (
        f"bfloat16 is used: on this computer it gave this model's labels (Dice "
        f"{verdict.dice:.3f}) and was {verdict.speedup:.1f} times as fast."
    )
    return Learned(replace(execution, precision="bfloat16"), note)


def compare(exact: Runner, fast: Runner, tile: Array, regions: bool, monitor: Monitor) -> Verdict:
    """Runs one tile (1, c, z, y, x) in both precisions and compares the labels it would get.

    `exact` has run before; the first run of `fast` pays for its memory and is not timed.
    """
    fast.run(tile, monitor)
    maps, seconds = [], []
    for runner in (exact, fast):
        start = time.perf_counter()
        output = runner.run(tile, monitor)
        seconds.append(time.perf_counter() - start)
        logits = output if runner.head is None else runner.head.apply(output)
        heads = iter(logits)
        maps.append(to_numpy(last_positive(heads) if regions else largest(heads)))
    return Verdict(_lowest_dice(maps[0], maps[1]), seconds[0] / max(seconds[1], 1e-9))


def _lowest_dice(a: np.ndarray, b: np.ndarray) -> float:
    """Lowest Dice over all labels that have at least `FEWEST_VOXELS`; 0 where there is but one.

    Of regions too it is labels that are compared: where one region lies in another, the rim
    between them is far thinner than either, and differs more.
    """
    pairs = [(a == v, b == v) for v in np.flatnonzero(np.bincount(a.reshape(-1)))]
    scores = [
        2 * float((x & y).sum()) / float(x.sum() + y.sum())
        for x, y in pairs
        if int(x.sum()) >= FEWEST_VOXELS
    ]
    return min(scores) if len(scores) > 1 else 0.0

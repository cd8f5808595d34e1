"""Trains the brain tissue model on synthetic heads, on one CPU core, for a given time.

    python train.py --anatomy anatomy.npz --work work/ --minutes 65

The learning rate follows the clock, so that the run ends well whatever the machine's speed. State
is saved every few minutes in `--work`; the same command resumes it.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fast_cpu
import numpy as np
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from synthesis import SPACING, Anatomy, Draw, patches
from torch import Tensor, nn

from mednext_engine.networks import MedNeXt

NETWORK: dict[str, Any] = {
    "channels": 16,
    "blocks": [1, 2, 2, 2, 2, 2, 2, 2, 1],
    "expansion": [2] * 9,
    "kernel_size": 3,
    "grn": True,
}
CLASSES = 4
SUPERVISION = (1.0, 0.5, 0.25, 0.1)
VALIDATION_SEED = 900_000_000
PATCHES_PER_DRAW = 3


@dataclass
class State:
    """All that a resumed run needs."""

    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        stored = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(stored, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)

    def load(self, path: Path) -> None:
        stored = torch.load(path, weights_only=True)
        self.network.load_state_dict(stored["network"])
        self.average.load_state_dict(stored["average"])
        self.optimizer.load_state_dict(stored["optimizer"])
        self.step, self.seconds = stored["step"], stored["seconds"]


def produce(anatomy_path: Path, seed: int, size: Any, queue: Any, parent: int) -> None:
    """Puts patches of endless draws into `queue`, in a process of its own."""
    torch.set_num_threads(1)
    anatomy = Anatomy.load(anatomy_path)
    while os.getppid() == parent:
        for pair in patches(anatomy, seed, int(size.value), PATCHES_PER_DRAW):
            queue.put(pair)
        seed += 1


def loss_of(logits: list[Tensor], labels: Tensor) -> Tensor:
    """Soft Dice and cross-entropy, weighted over the scales of deep supervision."""
    total = logits[0].new_zeros(())
    for weight, scores in zip(SUPERVISION, logits, strict=False):
        target = labels
        probabilities = scores.softmax(0)
        one_hot = F.one_hot(target, CLASSES).permute(3, 0, 1, 2).to(probabilities.dtype)
        overlap = (probabilities * one_hot).flatten(1).sum(1)
        size = (probabilities + one_hot).flatten(1).sum(1)
        dice = ((2 * overlap + 50) / (size + 50))[1:].mean()
        entropy = F.cross_entropy(scores[None], target[None])
        total = total + weight * (entropy + 1 - dice)
        labels = labels[::2, ::2, ::2]
    return total / sum(SUPERVISION)


def predict(network: nn.Module, image: Tensor) -> Tensor:
    """Labels (z, y, x) of a normalised image in one piece."""
    padding = [p for n in image.shape[::-1] for p in (0, -n % 16)]
    with torch.no_grad():
        logits = fast_cpu.forward(network, F.pad(image, padding))[0]
    return logits.argmax(0)[tuple(slice(0, n) for n in image.shape)]


def validation_set(anatomy: Anatomy) -> list[tuple[str, Tensor, Tensor]]:
    """Draws whose seeds are not trained on, and the real whole-head average undeformed."""
    draws = [Draw(anatomy, VALIDATION_SEED + i).volume() for i in range(8)]
    cases = [(f"draw{i}", *pair) for i, pair in enumerate(draws)]
    maps = F.interpolate(anatomy.maps[None], scale_factor=1 / SPACING, mode="trilinear")[0]
    fluid = (1 - maps[0] - maps[1]).clamp_min(0)
    labels = (torch.stack([fluid, maps[0], maps[1]]).argmax(0) + 1) * (maps[4] < 0)
    for name, image in (("head", maps[3]), ("inverted", (1.4 - maps[3]) * (maps[5] > 0))):
        image = (image - image.mean()) / image.std()
        cases.append((name, image.flip([1, 2]), labels.flip([1, 2])))
    return cases


def validate(network: nn.Module, cases: list[tuple[str, Tensor, Tensor]]) -> dict[str, list[float]]:
    """Dice of the brain, fluid, grey and white matter of each case."""
    scores = {}
    for name, image, labels in cases:
        found = predict(network, image)
        pairs = [(found > 0, labels > 0), *((found == k, labels == k) for k in (1, 2, 3))]
        scores[name] = [
            round(float(2 * (a & b).sum() / max(1, int(a.sum() + b.sum()))), 3) for a, b in pairs
        ]
    return scores


def rate(progress: float, step: int, peak: float) -> float:
    warm = min(1.0, (step + 1) / 60)
    return peak * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def step_once(state: State, image: np.ndarray, labels: np.ndarray, lr: float) -> float:
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    state.optimizer.zero_grad(set_to_none=True)
    logits = fast_cpu.forward(state.network, torch.from_numpy(image).float())
    loss = loss_of(logits, torch.from_numpy(labels).long())
    if not bool(torch.isfinite(loss)):
        return math.nan
    loss.backward()
    nn.utils.clip_grad_norm_(state.network.parameters(), 1.0)
    state.optimizer.step()
    state.step += 1
    decay = min(0.997, (1 + state.step) / (10 + state.step))
    with torch.no_grad():
        for mean, value in zip(state.average.parameters(), state.network.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)
    return float(loss.detach())


def start_producers(arguments: argparse.Namespace, seed: int) -> tuple[Any, Any, list[Any]]:
    context = mp.get_context("spawn")
    queue, size = context.Queue(maxsize=24), context.Value("i", arguments.patches[0])
    workers = []
    for i in range(arguments.workers):
        first = seed + i * 10_000_000
        target = (arguments.anatomy, first, size, queue, os.getpid())
        workers.append(context.Process(target=produce, args=target, daemon=True))
        workers[-1].start()
    return queue, size, workers


def new_state(peak: float) -> State:
    network = MedNeXt(1, CLASSES, deep_supervision=True, **NETWORK)
    decayed = [p for p in network.parameters() if p.ndim == 5 and p.shape[0] > 1]
    others = [p for p in network.parameters() if not (p.ndim == 5 and p.shape[0] > 1)]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}],
        lr=peak,
        betas=(0.9, 0.98),
    )
    return State(network, copy.deepcopy(network), optimizer)


def run(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    arguments.work.mkdir(parents=True, exist_ok=True)
    path = arguments.work / "state.pt"
    state = new_state(arguments.rate)
    if path.is_file():
        state.load(path)
    elif arguments.start is not None:
        weights = torch.load(arguments.start, weights_only=True)["average"]
        state.network.load_state_dict(weights)
        state.average.load_state_dict(weights)
    queue, size, workers = start_producers(arguments, arguments.seed + state.step)
    cases = validation_set(Anatomy.load(arguments.anatomy))
    budget, before = arguments.minutes * 60, state.seconds
    clock = saved = validated = time.monotonic()
    losses: list[float] = []
    log = (arguments.work / "log.txt").open("a", buffering=1)
    while state.seconds < budget:
        progress = state.seconds / budget
        size.value = arguments.patches[min(1, int(progress / arguments.switch))]
        image, labels = queue.get()
        losses.append(step_once(state, image, labels, rate(progress, state.step, arguments.rate)))
        now = time.monotonic()
        state.seconds = before + now - clock
        if state.step % 20 == 0:
            recent = float(np.nanmean(losses[-60:]))
            side, waiting = image.shape[0], queue.qsize()
            print(f"{state.seconds:6.0f} s {state.step} {recent:.4f} {side} {waiting}", file=log)
        if now - saved > 120:
            state.save(path)
            saved = now
        if now - validated > arguments.validate * 60:
            print(json.dumps(validate(state.average, cases)), file=log)
            validated = time.monotonic()
    state.save(path)
    print(json.dumps(validate(state.average, cases)), file=log)
    for worker in workers:
        worker.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--anatomy", type=Path, required=True, help="file that prepare.py writes")
    parser.add_argument("--work", type=Path, required=True, help="folder for state and log")
    parser.add_argument("--minutes", type=float, default=65.0)
    parser.add_argument("--rate", type=float, default=1.5e-3, help="peak learning rate")
    parser.add_argument("--patches", type=int, nargs=2, default=(64, 80), help="sides in voxels")
    parser.add_argument("--switch", type=float, default=0.5, help="progress at the second side")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw images")
    parser.add_argument("--validate", type=float, default=8.0, help="minutes between validations")
    parser.add_argument("--start", type=Path, help="state.pt of an earlier run to go on from")
    parser.add_argument("--seed", type=int, default=1)
    run(parser.parse_args())


if __name__ == "__main__":
    main()

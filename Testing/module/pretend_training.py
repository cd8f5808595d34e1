"""The fine-tuning of `pretend_worker`: the real protocol and job folders, but nothing is learned.

The new model's name says how it goes: "Endless" trains until it is stopped or cancelled, "Broken"
fails, "Crash" ends the process, "Errors" cannot start, "Deaf" hears neither; others train quickly.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mednext_engine.jobs import protocol as p

EPOCHS = 3
cancelled: set[str] = set()
stopped: set[str] = set()
installed: list[dict[str, object]] = []
Say = Callable[[p.Reply], None]


def directory() -> Path:
    path = Path(os.environ["MEDNEXT_RUNS"])
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def read_job(folder: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    job = json.loads((Path(folder) / "job.json").read_text())
    cases = [
        json.loads((Path(folder) / "cases" / name / "case.json").read_text())
        for name in job["cases"]
    ]
    return job, cases


def state_file(folder: str) -> Path:
    return Path(folder) / "run" / "state.json"


def keep(folder: str, state: str, fraction: float, model: str | None = None) -> None:
    state_file(folder).parent.mkdir(exist_ok=True)
    said = {"state": state, "fraction": fraction, "model": model}
    state_file(folder).write_text(json.dumps(said))


def runs() -> dict[str, object]:
    found = []
    for folder in sorted(directory().iterdir()):
        if not (folder / "job.json").is_file():
            continue
        job, _cases = read_job(str(folder))
        said = {"state": "new", "fraction": 0.0, "model": None}
        if state_file(str(folder)).is_file():
            said = json.loads(state_file(str(folder)).read_text())
        found.append({"folder": str(folder), "name": job["name"], **said})
    networks = [{"id": "v1-s-k3", "title": "MedNeXt v1 S, kernel 3", "parameters": 5_550_947}]
    return {"directory": str(directory()), "runs": found, "networks": networks}


def check(folder: str) -> dict[str, object]:
    job, cases = read_job(folder)
    problems = [
        {
            "level": "info",
            "case": "",
            "message": "There is one case only, so some of its slices are held out.",
            "hint": "Add another case for a fair measure.",
        }
    ]
    for identifier, case in zip(job["cases"], cases, strict=True):
        problems += [
            {
                "level": "warning",
                "case": identifier,
                "message": f"{one} and {other} overlap in {count} voxels.",
                "hint": "The later one wins.",
            }
            for one, other, count in case["overlaps"]
        ]
    wrong = job["name"] == "Errors"
    if wrong:
        problems.append(
            {
                "level": "error",
                "case": job["cases"][0],
                "message": "The label Left is empty.",
                "hint": "Draw it, or leave it out.",
            }
        )
    labels = [
        {"name": one["name"], "state": "matched" if one["base"] else "new", "base": one["base"]}
        for one in job["labels"]
    ]
    return {
        "problems": problems,
        "labels": labels,
        "validation": "It will be measured on held-out slices of the only case.",
        "estimate": {
            "seconds": 2400.0,
            "memory_bytes": 3_200_000_000,
            "disk_bytes": 240_000_000,
            "device": "CPU",
            "patch": [64, 64, 64],
            "batch": 2,
            "steps": 1000,
        },
        "can_start": not wrong,
    }


def dice_at(epoch: int, names: list[str]) -> dict[str, float]:
    return {n: round(1 - 0.7 * 0.9 ** (epoch * (1 + i / 4)), 4) for i, n in enumerate(names)}


def train(request: p.Finetune, say: Say, summary: Callable[[str], dict[str, object]]) -> None:
    job, folder = request.job, request.job_folder
    said, cases = read_job(folder)
    name = said["name"]
    names = [one["name"] for one in said["labels"] if not one["background"]]
    if name == "Broken":
        say(p.Error(job, "resources", "The device has too little memory.", "Choose the CPU."))
        keep(folder, "failed", 0.1)
        return
    say(p.Progress(job, "Preparing", 0.05, 10.0, "Preparing the cases"))
    epochs = 1000 if name in ("Endless", "Deaf") else int(os.environ.get("PRETEND_EPOCHS", EPOCHS))
    for epoch in range(1, epochs + 1):  # a resumed training tells its earlier epochs once more
        time.sleep(0.02)
        if name == "Crash" and epoch == 2:
            keep(folder, "interrupted", 0.5)
            os._exit(3)
        if job in cancelled and name != "Deaf":
            keep(folder, "interrupted", epoch / epochs)
            say(p.Cancelled(job))
            return
        dice = dice_at(epoch, names)
        loss = 0.9 * 0.93**epoch
        say(
            p.Epoch(
                job, epoch, epochs, 50 * epoch, loss, loss + 0.05, dice, 1e-4,
                2.0 * (epochs - epoch), 2_100_000_000, best=True,
            )
        )  # fmt: skip
        say(p.Progress(job, "Training", epoch / epochs, 2.0 * (epochs - epoch)))
        if epoch % 2 == 1:
            preview(said, folder, epoch, dice, job, say)
        if job in stopped:
            break
    model = finish(said, folder, summary)
    reason = "stopped" if job in stopped else "finished"
    value = {
        "model": model,
        "before_after": [
            {"label": n, "before": 0.41 if i == 0 else None, "after": dice_at(9, names)[n]}
            for i, n in enumerate(names)
        ],
        "held_out": "Measured on 4 held-out slices of the only case, which it did not learn from.",
        "reason": reason,
        "notes": [],
        "seconds": 61.0,
    }
    del cases
    say(p.Result(job, "finetune", value))


def preview(
    said: dict[str, Any], folder: str, epoch: int, dice: dict[str, float], job: str, say: Say
) -> None:
    """Its labels as they were drawn, but value by value in the order of the job's labels."""
    from pretend_worker import read_nrrd, write_nrrd

    chosen = said["options"].get("preview_case") or said["cases"][0]
    place = Path(folder) / "cases" / chosen
    case = json.loads((place / "case.json").read_text())
    head, drawn = read_nrrd(str(place / case["labels"]))
    labels = np.zeros(drawn.shape, np.uint8)
    names = [one["name"] for one in said["labels"] if not one["background"]]
    for value, name in enumerate(names, start=1):
        if name in case["values"]:
            labels[drawn == case["values"][name]] = value
    target = Path(folder) / "run" / "preview"
    target.mkdir(parents=True, exist_ok=True)
    path = target / "preview.nrrd"
    write_nrrd(f"{path}.tmp", head, labels, b"uint8")
    os.replace(f"{path}.tmp", path)
    say(p.Preview(job, chosen, str(path), epoch, dice))


def finish(
    said: dict[str, Any], folder: str, summary: Callable[[str], dict[str, object]]
) -> dict[str, object]:
    identifier = "trained" + str(len(installed) + 1)
    labels = [
        {"value": n, "name": one["name"], "color": one["color"], "terminology": ""}
        for n, one in enumerate((o for o in said["labels"] if not o["background"]), start=1)
    ]
    model = {**summary(identifier), "title": said["name"], "labels": labels, "id": identifier}
    models = Path(os.environ["MEDNEXT_MODELS"])
    models.mkdir(exist_ok=True)
    (models / f"{identifier}.json").write_text(json.dumps(model))  # both workers list it
    installed.append(model)
    keep(folder, "finished", 1.0, identifier)
    return model


def trained_models() -> list[dict[str, object]]:
    models = Path(os.environ["MEDNEXT_MODELS"])
    return [json.loads(file.read_text()) for file in sorted(models.glob("trained*.json"))]


def remove(folder: str) -> dict[str, object]:
    shutil.rmtree(folder)
    return {"removed": folder}

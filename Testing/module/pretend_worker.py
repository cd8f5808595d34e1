"""A worker for tests: the real protocol, but it only thresholds, and misbehaves on demand.

The model's id says how: "one" and "two" (channels) work; "slow" goes on until cancelled; "deaf"
does not hear cancel; "crash" dies in mid-run; "broken" answers with an error; "silent" ends with a
result but writes nothing; "old" speaks another protocol (environment PRETEND_OLD).
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "Training"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import pretend_training as training

from mednext_engine.jobs import protocol as p

LABELS = [
    {
        "value": 2,
        "name": "Bright",
        "color": [255, 0, 0],
        "terminology": "Segmentation category and type - 3D Slicer General Anatomy list"
        "~SCT^85756007^Tissue~SCT^85756007^Tissue~^^~Anatomic codes - DICOM master list~^^~^^",
    },
    {"value": 5, "name": "Very bright", "color": [0, 128, 255], "terminology": ""},
    {"value": 7, "name": "Never there", "color": [9, 9, 9], "terminology": ""},
]
BEHAVIOURS = ("one", "two", "slow", "deaf", "crash", "broken", "silent", "full")
NEEDED = ("torch", "numpy", "psutil")
cancelled: set[str] = set()


def say(reply: p.Reply) -> None:
    sys.stdout.write(p.encode(reply))
    sys.stdout.flush()


def summary(name: str) -> dict[str, object]:
    channels = ["T1", "T2"] if name == "two" else ["MR"]
    return {
        "id": name,
        "title": f"Model {name}",
        "description": f"It is {name} <b>&",
        "license": "Apache-2.0",
        "citation": "Nobody, 2026",
        "intended_use": "Tests. Not for clinical use.",
        "modality": "MR",
        "channels": channels,
        "labels": LABELS,
        "configuration": "3d_fullres",
        "spacing": [1.0, 1.0, 1.0],
        "patch_size": [32, 32, 32],
        "network": "MedNeXt",
        "folds": ["0", "1"],
        "path": str(Path(__file__).parent / "tools"),
        "removable": name != "one",
    }


def read_nrrd(path: str) -> tuple[bytes, np.ndarray]:
    """Header (without type) and voxels [k, j, i] of the files that the module writes."""
    head, _, raw = Path(path).read_bytes().partition(b"\n\n")
    fields = dict(line.split(b": ", 1) for line in head.split(b"\n") if b": " in line)
    kinds = {
        b"uint8": "u1",
        b"unsigned char": "u1",
        b"int16": "<i2",
        b"short": "<i2",
        b"uint16": "<u2",
        b"unsigned short": "<u2",
        b"int32": "<i4",
        b"int": "<i4",
        b"float": "<f4",
        b"double": "<f8",
    }
    assert fields[b"encoding"].strip() == b"raw", fields
    shape = tuple(int(n) for n in fields[b"sizes"].split())[::-1]
    kept = [line for line in head.split(b"\n") if not line.startswith((b"type:", b"endian:"))]
    return b"\n".join(kept), np.frombuffer(raw, kinds[fields[b"type"].strip()]).reshape(shape)


def write_nrrd(path: str, head: bytes, array: np.ndarray, kind: bytes) -> None:
    Path(path).write_bytes(
        head + b"\ntype: " + kind + b"\nendian: little\n\n" + np.ascontiguousarray(array).tobytes()
    )


def segment(request: p.Segment) -> None:
    job, model = request.job, request.model
    for step in range(3):
        say(p.Progress(job, "Segmenting", step / 3, 2.0 - step))
    if model == "crash":
        os._exit(3)
    if model == "broken":
        say(p.Error(job, "input", "The image is broken.", "Take another one."))
        return
    while model in ("slow", "deaf"):
        if job in cancelled and model == "slow":
            say(p.Cancelled(job))
            return
        time.sleep(0.01)
    head, array = read_nrrd(request.inputs[0])
    labels = np.zeros(array.shape, np.uint8)
    labels[array > 100] = 2
    labels[array > 200] = 5
    roi = request.options.get("roi")
    if roi:
        inside = np.zeros(array.shape, bool)
        (i0, j0, k0), (i1, j1, k1) = roi["low"], roi["high"]
        inside[int(k0) : int(k1), int(j0) : int(j1), int(i0) : int(i1)] = True
        labels[~inside] = 0
    if model != "silent":
        write_nrrd(request.output, head, labels, b"uint8")
    if request.uncertainty_output:
        values = (array > 150).astype("<f4") * 0.5
        write_nrrd(request.uncertainty_output, head, values, b"float")
    value = {
        "output": request.output,
        "labels": LABELS,
        "present": [int(v) for v in np.unique(labels) if v],
        "model": model,
        "device": "cpu",
        "backend": "pretend",
        "precision": "float32",
        "notes": [],
        "timings": {},
    }
    say(p.Result(job, "segment", value))


def doctor() -> dict[str, object]:
    missing = os.environ.get("PRETEND_MISSING", "").split(",")
    packages = [
        {
            "name": name,
            "version": "" if name in missing else "1.0",
            "required": name in NEEDED,
            "problem": f"{name} is not installed." if name in missing else "",
            "hint": f'pip install "{name}>=1,<9"' if name in missing else "",
        }
        for name in dict.fromkeys([*NEEDED, "openvino", *filter(None, missing)])
    ]
    device = {"name": "cuda:0", "title": "Pretended GPU", "total": 8 << 30, "free": 6 << 30}
    return {
        "usable": True,
        "engine": "1",
        "packages": packages,
        "problems": [],
        "devices": [device],
    }


def answer_training(request: p.Message) -> bool:
    """Answers what is asked about fine-tuning; whether it was that."""
    job = request.job
    if isinstance(request, p.Finetune):
        arguments = (request, say, summary)
        threading.Thread(target=training.train, args=arguments, daemon=True).start()
    elif isinstance(request, p.StopTraining):
        training.stopped.add(job)
    elif isinstance(request, p.Runs):
        say(p.Result(job, "runs", training.runs()))
    elif isinstance(request, p.CheckFinetune):
        say(p.Result(job, "check_finetune", training.check(request.job_folder)))
    elif isinstance(request, p.RemoveRun):
        say(p.Result(job, "remove_run", training.remove(request.folder)))
    else:
        return False
    return True


def answer(request: p.Message) -> None:
    job = request.job
    if isinstance(request, p.Cancel):
        cancelled.add(job)
        training.cancelled.add(job)
    elif answer_training(request):
        return
    elif isinstance(request, p.Segment):
        threading.Thread(target=segment, args=(request,), daemon=True).start()
    elif isinstance(request, p.Models):
        models = [*(summary(name) for name in BEHAVIOURS), *training.trained_models()]
        value = {"models": models, "problems": [], "directory": os.environ["MEDNEXT_MODELS"]}
        say(p.Result(job, "models", value))
    elif isinstance(request, p.Catalogue):
        entry = {**summary("far"), "labels": ["Liver"], "size": 5_000_000, "installed": False}
        say(p.Result(job, "catalogue", {"entries": [entry]}))
    elif isinstance(request, p.Download):
        say(p.Progress(job, "Downloading", 0.5, 3.0))
        while job not in cancelled:
            time.sleep(0.01)
        say(p.Cancelled(job))
    elif isinstance(request, p.Doctor):
        say(p.Result(job, "doctor", doctor()))
    else:
        say(
            p.Result(
                job, request.type, {"path": "there", "removed": "it", "model": {}, "notes": []}
            )
        )


def main() -> None:
    if os.environ.get("PRETEND_LAUNCHER") and "--child" not in sys.argv:
        # As PythonSlicer: a launcher whose child does the work.
        sys.exit(subprocess.call([sys.executable, *sys.argv, "--child"]))
    version = 99 if os.environ.get("PRETEND_OLD") else p.VERSION
    say(p.Ready(engine="1", protocol=version, pid=os.getpid(), python="3", log=""))
    print("pretending", file=sys.stderr, flush=True)
    reader = p.LineReader(p.REQUESTS)
    while data := os.read(0, 1 << 16):
        for message in reader.feed(data):
            answer(message)


if __name__ == "__main__":
    main()
    os._exit(0)

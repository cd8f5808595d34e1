"""Which files make up a model folder; nothing else is ever exported, imported or hashed.

Whatever a training leaves beside them (logs, `debug.json`, plots, validation images) can hold
paths, host names or patients' images, and is no part of a model.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
FOLD_FOLDER = re.compile(r"fold_(\d{1,3}|all)")
_PLAIN_FILES = (
    "dataset.json",
    "plans.json",
    "dataset_fingerprint.json",
    "mednext.json",
    "LICENSE",
    "LICENSE.txt",
    "README.md",
    "README.txt",
    "NOTICE",
    "report.md",
    "curves.csv",
    "curves.png",
)
_CHECKPOINT_FILE = re.compile(r"fold_(\d{1,3}|all)/checkpoint_(final|best)\.pth")


def is_model_file(relative: str) -> bool:
    """Whether a relative path (with "/") belongs to a model."""
    return relative in _PLAIN_FILES or _CHECKPOINT_FILE.fullmatch(relative) is not None


def model_files(folder: Path) -> tuple[str, ...]:
    """The files of a model folder, as sorted relative paths with "/"."""
    names = [p.name for p in folder.iterdir() if p.is_file()]
    names += [
        f"{p.parent.name}/{p.name}" for p in folder.glob("fold_*/checkpoint_*.pth") if p.is_file()
    ]
    return tuple(sorted(name for name in names if is_model_file(name)))


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's content, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(2**20):
            digest.update(piece)
    return digest.hexdigest()

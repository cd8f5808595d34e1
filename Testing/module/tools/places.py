"""Keeps a tool away from the user's own models, trainings, logs and cache."""

from __future__ import annotations

import os
from pathlib import Path

NAMES = ("MODELS", "LOGS", "RUNS", "CACHE")


def keep_private(folder: str) -> None:
    """For this process and those that it starts."""
    for name in NAMES:
        os.environ[f"MEDNEXT_{name}"] = str(Path(folder) / name.lower())

"""Checkpoints of a run: where it stands, and its best weights.

Both files hold tensors, numbers and text only (PyTorch reads them with `weights_only=True`), and
appear whole or not at all.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import replacing
from ..errors import InputError, ModelError, OutputError
from ..models.torch_version import require_torch
from .control import EpochReport
from .recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

LATEST = "checkpoint_latest.pth"
BEST = "checkpoint_best.pth"
VERSION = 1

MAY_CHANGE = {"device", "threads", "compile", "patience_epochs", "checkpoint_seconds"}
"""Settings that may differ between a run and its resumption."""


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        losses: of the running epoch's steps that were not skipped.
        skipped, in_a_row: steps skipped for a loss that is no number; of these, the latest ones.
        batch_size, patch_size, checkpointing: as memory allowed.
    """

    step: int = 0
    epoch: int = 0
    best_epoch: int = 0
    best_goal: float = -math.inf
    skipped: int = 0
    in_a_row: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    curves: list[EpochReport] = field(default_factory=list)
    patch_size: tuple[int, ...] = ()
    batch_size: int = 0
    checkpointing: str | None = None


def save_latest(
    folder: Path, recipe: Recipe, progress: Progress, parts: dict[str, dict[str, Any]]
) -> None:
    """Writes all that an exact resumption needs. `parts` are state dicts by name.

    Raises:
        OutputError: the file cannot be written; the one before it stays.
    """
    content = {"version": VERSION, "recipe": recipe.as_dict(), "progress": asdict(progress)}
    _save(folder / LATEST, {**content, **parts})


def load_latest(folder: Path, recipe: Recipe) -> tuple[Progress, dict[str, Any]]:
    """Progress and all parts of a run's latest checkpoint.

    Raises:
        InputError: there is none, or it is of a run with other settings.
        ModelError: it is damaged.
    """
    path = folder / LATEST
    if not path.is_file():
        raise InputError(
            "This training has no checkpoint to go on from.", "Start it from the beginning."
        )
    content = _load(path)
    try:
        if content["version"] != VERSION:
            raise ModelError(f"{path.name} was written by another version of this program.")
        _compare(content["recipe"], recipe.as_dict())
        values = dict(content["progress"])
        values["curves"] = [EpochReport(**row) for row in values["curves"]]
        return Progress(**values), content
    except (KeyError, TypeError):
        raise ModelError(f"{path.name} is not a checkpoint of a training.") from None


def _compare(then: dict[str, Any], now: dict[str, Any]) -> None:
    for name, value in now.items():
        if name not in MAY_CHANGE and _plain(then.get(name)) != _plain(value):
            raise InputError(
                f"This training was begun with another {name.replace('_', ' ')}.",
                "Resume it with its own settings, or start anew.",
            )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def save_best(folder: Path, weights: dict[str, Tensor], epoch: int) -> None:
    """Raises OutputError, as `save_latest`."""
    _save(folder / BEST, {"version": VERSION, "network": weights, "epoch": epoch})


def load_best(folder: Path) -> tuple[dict[str, Tensor], int] | None:
    """Best weights and their epoch, or None where no epoch has ended yet. Raises ModelError."""
    path = folder / BEST
    if not path.is_file():
        return None
    content = _load(path)
    if not isinstance(content.get("network"), dict) or not isinstance(content.get("epoch"), int):
        raise ModelError(f"{path.name} is not a checkpoint of a training.")
    return content["network"], content["epoch"]


def load_weights(path: Path) -> dict[str, Tensor]:
    """The network's weights of either checkpoint, on the CPU. Raises ModelError."""
    weights = _load(path).get("network")
    if not isinstance(weights, dict):
        raise ModelError(f"{path.name} is not a checkpoint of a training.")
    return weights


def _load(path: Path) -> dict[str, Any]:
    require_torch()
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch has no family of errors for damaged files
        raise ModelError(
            f"{path.name} cannot be read ({type(error).__name__}).", "Start the training anew."
        ) from error
    if not isinstance(content, dict):
        raise ModelError(f"{path.name} is not a checkpoint of a training.")
    return content


def _save(path: Path, content: dict[str, Any]) -> None:
    import torch

    try:
        with replacing(path) as temporary:
            torch.save(content, temporary)
    except (OSError, RuntimeError) as error:  # PyTorch reports a full disk as RuntimeError
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "disk full?"
        raise OutputError(
            f"The checkpoint {path.name} could not be written ({reason}).",
            "Free some disk space and resume the training; its last checkpoint is intact.",
        ) from error

"""One model as one zip file, free of what does not belong to others.

The layout is nnU-Net's own export, so that `nnUNetv2_install_pretrained_model_from_zip` installs
it too. Checkpoints of a training hold more than a model needs (the optimiser's state, the training
set's file names): those are written anew with weights and settings only.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..monitor import Monitor
from .archive import write_zip
from .card import FILE_NAME
from .checkpoint import inspect_checkpoint, load_checkpoint
from .folder import Model
from .jsonfile import read_json, write_json
from .layout import file_sha256, model_files
from .writer import TRAINER, save_checkpoint

_DATASET_KEYS = (
    "name",
    "description",
    "reference",
    "licence",
    "license",
    "release",
    "citation",
    "channel_names",
    "modality",
    "labels",
    "regions_class_order",
    "numTraining",
    "file_ending",
    "tensorImageSize",
    "overwrite_image_reader_writer",
)
# Keys that betray a checkpoint, or the dataset.json inside it, with more than a model needs.
_SURPLUS = {"optimizer_state", "grad_scaler_state", "logging", "current_epoch", "device"}
_SURPLUS |= {"training", "test", "dataset"}
_PATH = re.compile(r"(/|~|[A-Za-z]:[\\/]|\\\\|file:)")
_DATASET = re.compile(r"Dataset\d{3}_[A-Za-z0-9_.-]{1,80}")
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,80}")


def export_model(
    model: Model, zip_path: str | os.PathLike[str], monitor: Monitor | None = None
) -> Path:
    """Writes the model to one zip file with the SHA-256 of every file in its `mednext.json`.

    The file appears when it is complete; the same model gives the same bytes.

    Raises:
        OutputError: the destination exists, has no room or cannot be written.
        ModelError, DependencyError: a checkpoint must be written anew and cannot be read.
    """
    monitor = monitor or Monitor()
    target = Path(zip_path)
    if target.exists():
        raise OutputError(f"{target} exists already.", "Choose another name.")
    try:
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=target.parent) as name:
            staging = Path(name)
            files = _staged(model, staging, monitor)
            with monitor.stage("Writing the archive", 0.5, 1.0):
                write_zip(
                    staging / "model.zip", files, folder=_inner_folder(model), monitor=monitor
                )
            os.replace(staging / "model.zip", target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}.") from None
    return target


def _staged(model: Model, staging: Path, monitor: Monitor) -> dict[str, Path]:
    """What goes into the archive: relative path -> the file, cleaned where it must be."""
    files = {name: model.path / name for name in model_files(model.path)}
    clean_dataset = without_paths(
        {k: v for k, v in model.dataset_json.items() if k in _DATASET_KEYS}
    )
    clean = {"dataset.json": clean_dataset, "plans.json": without_paths(model.plans_json)}
    changed: set[str] = set()
    for name, content in clean.items():
        if content != read_json(model.path / name):
            write_json(staging / name, content)
            files[name] = staging / name
            changed.add(name)
    checkpoints = [name for name in files if name.endswith(".pth")]
    with monitor.stage("Checking the checkpoints", 0.0, 0.4):
        for done, name in enumerate(checkpoints):
            monitor.advance(done / len(checkpoints))
            if "dataset.json" in changed or not is_clean_checkpoint(files[name]):
                _write_anew(model, name, clean, staging / name)
                files[name] = staging / name
    files.pop(FILE_NAME, None)
    with monitor.stage("Computing checksums", 0.4, 0.5):
        digests = {name: file_sha256(path) for name, path in files.items()}
    provenance = without_paths(dict(model.card.provenance))
    card = replace(
        model.card,
        id=model.id,
        configuration=model.plan.configuration,
        provenance=provenance,
        files=digests,
        derived=False,
    )
    write_json(staging / FILE_NAME, card.to_json())
    files[FILE_NAME] = staging / FILE_NAME
    return files


def is_clean_checkpoint(path: Path) -> bool:
    """Whether a checkpoint holds a model and nothing of the training that made it."""
    texts = inspect_checkpoint(path)
    return not any(text in _SURPLUS or _PATH.match(text) for text in texts)


def without_paths(value: Any) -> Any:
    """A copy in which texts that are absolute paths are emptied, keys included."""
    if isinstance(value, Mapping):
        return {k: without_paths(v) for k, v in value.items() if not _PATH.match(str(k))}
    if isinstance(value, (list, tuple)):
        return [without_paths(v) for v in value]
    if isinstance(value, str) and _PATH.match(value):
        return ""
    return value


def _write_anew(model: Model, name: str, clean: Mapping[str, Any], target: Path) -> None:
    checkpoint = load_checkpoint(model.path / name)
    target.parent.mkdir(exist_ok=True)
    fold = target.parent.name.removeprefix("fold_")
    save_checkpoint(
        target,
        checkpoint.weights,
        plans_json=clean["plans.json"],
        dataset_json=clean["dataset.json"],
        configuration=checkpoint.configuration or model.plan.configuration,
        fold=fold,
        trainer=checkpoint.trainer or TRAINER,
        mirror_axes=checkpoint.mirror_axes,
    )


def _inner_folder(model: Model) -> str:
    """nnU-Net's `DatasetXXX_Name/<trainer>__<plans>__<configuration>`."""
    dataset = str(model.plans_json.get("dataset_name", ""))
    if not _DATASET.fullmatch(dataset):
        dataset = "Dataset001_" + (re.sub(r"[^A-Za-z0-9_.-]+", "-", model.id)[:80] or "Model")
    plans = str(model.plans_json.get("plans_name", ""))
    parts = model.path.name.split("__")
    trainer = parts[0] if len(parts) == 3 and _WORD.fullmatch(parts[0]) else TRAINER
    plans = plans if _WORD.fullmatch(plans) and "__" not in plans else "nnUNetPlans"
    return f"{dataset}/{trainer}__{plans}__{model.plan.configuration}"

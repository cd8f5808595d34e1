"""A model from elsewhere, folder or zip file, made one of the user's: whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
import unicodedata
from dataclasses import replace
from pathlib import Path

from ..errors import DependencyError, ModelError, OutputError
from ..monitor import Monitor
from .archive import extract_model
from .card import Card
from .checkpoint import inspect_checkpoint, load_checkpoint
from .folder import Model, find_model_folder, open_model
from .layout import model_files
from .plan import configurations
from .torch_version import require_torch
from .verify import verify_model
from .writer import replace_folder, write_card

ENVIRONMENT = "MEDNEXT_MODELS"
MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # Windows
_STALE_SECONDS = 24 * 3600


def models_directory() -> Path:
    """Where imported and downloaded models live; it need not exist yet."""
    if said := os.environ.get(ENVIRONMENT):
        return Path(said).expanduser()
    import platformdirs

    return platformdirs.user_data_path("MedNeXtSeg", appauthor=False) / "models"


def import_model(
    path: str | os.PathLike[str],
    monitor: Monitor | None = None,
    *,
    configuration: str | None = None,
    name: str | None = None,
    replace_existing: bool = False,
    card: Card | None = None,
) -> Model:
    """Copies a model folder, or unpacks a zip file of one, into the models directory.

    Checksums in its card are compared, its checkpoints are inspected and, where PyTorch is there,
    loaded into their network once. The model appears when all of that went well, or not at all.

    Args:
        path: a model folder, nnU-Net's results folder of a dataset, or a zip file of either.
        configuration: the one to take where there are several (3d_fullres by default); see
            `open_model`.
        name: id to install it under; by default its card's, or made of its folder's name.
        replace_existing: replaces an installed model of that id.
        card: what a catalogue says of it, used where the model has no card of its own.

    Raises:
        ModelError: no usable model, hostile, or the id is taken.
        ResourceError, OutputError: no room or no permission.
    """
    monitor = monitor or Monitor()
    source, directory = Path(path), models_directory()
    if not source.exists():
        raise ModelError(f"There is no file or folder {source}.")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _remove_stale(directory)
        staging = Path(tempfile.mkdtemp(prefix=".partial-", dir=directory))
    except OSError as error:
        raise OutputError(f"{directory} cannot be written: {error.strerror or error}.") from None
    try:
        with monitor.stage("Copying the model", 0.0, 0.5):
            origin = _fill(staging, source, configuration, monitor)
        model = _checked(staging, origin, configuration, monitor)
        known = "" if model.card.derived else model.card.id
        identifier = safe_identifier(name or known, origin)
        target = directory / identifier
        if target.exists() and not replace_existing:
            raise ModelError(
                f"A model '{identifier}' is installed already.",
                "Replace it, or import this one under another name.",
            )
        base = card if card is not None and model.card.derived else model.card
        title = base.title if base.title and base.title != staging.name else identifier
        write_card(
            staging,
            replace(base, id=identifier, title=title, configuration=model.plan.configuration),
        )
        staging.chmod(0o755)
        replace_folder(staging, target)
    except OSError as error:
        raise OutputError(f"{directory} cannot be written: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return open_model(target)


def _fill(
    staging: Path, source: Path, configuration: str | None, monitor: Monitor
) -> tuple[str, ...]:
    """Brings the model's files into `staging`; returns the names of the folders it came from."""
    if source.is_file():
        inner = extract_model(source, staging, configuration=configuration, monitor=monitor)
        return (source.stem, *inner.parts)
    folder = find_model_folder(source, configuration)
    names = model_files(folder)
    for done, name in enumerate(names):
        monitor.advance(done / len(names))
        (staging / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(folder / name, staging / name)
    return folder.resolve().parts[-2:]


def _checked(
    staging: Path, origin: tuple[str, ...], configuration: str | None, monitor: Monitor
) -> Model:
    carded = (staging / "mednext.json").exists()
    named = origin[-1].split("__")
    if configuration is None and len(named) == 3 and not carded:
        configuration = named[2]
    model = open_model(staging, configuration=configuration)
    if model.card.files:
        verification = verify_model(model)
        if not verification.ok:
            raise ModelError(
                f"The model was not imported: {verification.problems[0]}",
                "Download or copy it again.",
            )
    with monitor.stage("Checking the weights", 0.5, 1.0):
        for done, fold in enumerate(model.folds):
            inspect_checkpoint(model.checkpoint_path(fold))
            monitor.advance((done + 1) / len(model.folds))
        try:
            require_torch()
            if configuration is None and not carded:
                model = _as_trained(model)
            model.network(model.weights(model.folds[0]))
        except DependencyError as error:
            monitor.note(f"The model was imported without a trial: {error.message}")
    return model


def _as_trained(model: Model) -> Model:
    """Opened as the configuration its checkpoint names, where no folder's name told it."""
    trained = load_checkpoint(model.checkpoint_path(model.folds[0])).configuration
    if trained == model.plan.configuration or trained not in configurations(model.plans_json):
        return model
    return open_model(model.path, configuration=trained)


def safe_identifier(wanted: str, origin: tuple[str, ...] = ("model",)) -> str:
    """A name that is a safe folder name on every system, of a title or of folders' names."""
    if not wanted:
        last = origin[-1].split("__")
        nested = len(last) == 3 and len(origin) > 1
        wanted = origin[-2] if nested else origin[-1]
        if nested and last[2] != "3d_fullres":
            wanted += f"-{last[2]}"
    plain = unicodedata.normalize("NFKD", wanted).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", plain).strip("-._")[:100].rstrip(".")
    if not MODEL_ID.fullmatch(plain) or _DEVICES.fullmatch(plain):
        plain = f"model-{plain}"[:100].rstrip("-.")
    return plain


def _remove_stale(directory: Path) -> None:
    """Clears what a killed import left behind, once it is a day old."""
    for folder in directory.glob(".[pr]*-*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)

"""The user's models: one directory, one folder a model, added whole or not at all.

The directory is `MedNeXtSeg/models` where the system keeps a user's data (platformdirs), or
wherever the environment variable MEDNEXT_MODELS says. What ships with the product is listed too,
but lies elsewhere and cannot be removed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import DependencyError, EngineError, ModelError, OutputError
from ..monitor import Monitor
from .archive import extract_model
from .card import Card
from .checkpoint import inspect_checkpoint, load_checkpoint, require_torch
from .export import export_model
from .folder import Model, find_model_folder, open_model
from .layout import file_sha256, model_files
from .plan import configurations
from .resources import resource_path
from .writer import replace_folder, write_card

__all__ = [
    "Verification",
    "export_model",
    "find_model",
    "import_model",
    "list_models",
    "models_directory",
    "remove_model",
    "verify_model",
]

ENVIRONMENT = "MEDNEXT_MODELS"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # Windows
_STALE_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Verification:
    """Result of `verify_model`: how many files were compared, and a sentence for each problem."""

    checked: int
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems


def models_directory() -> Path:
    """Where imported and downloaded models live; it need not exist yet."""
    if said := os.environ.get(ENVIRONMENT):
        return Path(said).expanduser()
    import platformdirs

    return platformdirs.user_data_path("MedNeXtSeg", appauthor=False) / "models"


def list_models(problems: list[str] | None = None) -> list[Model]:
    """The models that ship, then the user's; a folder that does not open is left out.

    A sentence for each one left out is appended to `problems`.
    """
    models: dict[str, Model] = {}
    for folder in _folders():
        try:
            model = open_model(folder)
        except EngineError as error:
            if problems is not None:
                problems.append(f"{folder.name}: {error}")
            continue
        models[model.id] = model
    return list(models.values())


def find_model(id_or_path: str | os.PathLike[str], *, configuration: str | None = None) -> Model:
    """Opens an installed model by its id, or a model folder by its path.

    Raises:
        ModelError: neither an installed model nor a model folder; see also `open_model`.
    """
    name = os.fspath(id_or_path)
    if _ID.fullmatch(name):
        for folder in reversed(list(_folders())):
            if folder.name == name:
                return open_model(folder, configuration=configuration)
        for model in list_models():
            if model.id == name:
                return open_model(model.path, configuration=configuration)
    if Path(name).exists():
        return open_model(name, configuration=configuration)
    known = ", ".join(m.id for m in list_models()[:20]) or "none"
    raise ModelError(f"There is no model '{name[:200]}'; installed are: {known}.")


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
        identifier = _identifier(name or (model.card.id if not model.card.derived else ""), origin)
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


def verify_model(model: Model, monitor: Monitor | None = None) -> Verification:
    """Compares every file with the SHA-256 in the model's card, and inspects its checkpoints."""
    monitor = monitor or Monitor()
    problems: list[str] = []
    present = set(model_files(model.path)) - {"mednext.json"}
    listed = dict(model.card.files)
    if not listed:
        problems.append("The model's card holds no checksums to compare with.")
    with monitor.stage("Comparing checksums", 0.0, 1.0):
        for done, name in enumerate(sorted(present | set(listed))):
            monitor.advance(done / len(present | set(listed)))
            if name not in present:
                problems.append(f"{name[:100]} is missing.")
            elif listed and name not in listed:
                problems.append(f"{name} is not listed in the model's card.")
            elif listed and file_sha256(model.path / name) != listed[name]:
                problems.append(f"{name} was changed or damaged: its SHA-256 differs.")
            elif name.endswith(".pth"):
                try:
                    inspect_checkpoint(model.path / name)
                except ModelError as error:
                    problems.append(error.message)
    return Verification(len(present & set(listed)), tuple(problems))


def remove_model(model: Model | str) -> None:
    """Removes one of the user's models.

    Raises:
        ModelError: it lies outside the models directory, as what ships with the product does.
        OutputError: a file is in use or protected.
    """
    folder = find_model(model).path if isinstance(model, str) else model.path
    directory = models_directory()
    inside = folder.resolve().parent == directory.resolve() and not folder.is_symlink()
    if not inside or folder.name.startswith("."):
        raise ModelError(
            f"{folder} was not removed, because it is not in the models directory {directory}."
        )
    aside = Path(tempfile.mkdtemp(prefix=".replaced-", dir=directory))
    try:
        os.replace(folder, aside / folder.name)  # at once: never half a model under its name
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be removed: {error.strerror or error}.",
            "Close programs that use the model.",
        ) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _folders() -> Iterator[Path]:
    """Folders that should be models: what ships first, then the user's."""
    roots = [models_directory()]
    with contextlib.suppress(EngineError):
        roots.insert(0, resource_path("Models"))
    for root in roots:
        if root.is_dir():
            yield from (
                p for p in sorted(root.iterdir()) if p.is_dir() and not p.name.startswith(".")
            )


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


def _identifier(wanted: str, origin: tuple[str, ...]) -> str:
    """A name that is a safe folder name on every system."""
    if not wanted:
        last = origin[-1].split("__")
        nested = len(last) == 3 and len(origin) > 1
        wanted = origin[-2] if nested else origin[-1]
        if nested and last[2] != "3d_fullres":
            wanted += f"-{last[2]}"
    plain = unicodedata.normalize("NFKD", wanted).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", plain).strip("-._")[:100].rstrip(".")
    if not _ID.fullmatch(plain) or _DEVICES.fullmatch(plain):
        plain = f"model-{plain}"[:100].rstrip("-.")
    return plain


def _remove_stale(directory: Path) -> None:
    """Clears what a killed import left behind, once it is a day old."""
    for folder in directory.glob(".[pr]*-*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def describe(model: Model) -> dict[str, Any]:
    """What lists and panels show of a model: plain values, ready for JSON."""
    card, plan = model.card, model.plan
    return {
        "id": model.id,
        "title": card.title,
        "description": card.description,
        "license": card.license,
        "citation": card.citation,
        "intended_use": card.intended_use,
        "modality": card.modality,
        "channels": list(model.channel_names),
        "labels": card.to_json()["labels"],
        "configuration": plan.configuration,
        "spacing": list(plan.spacing),
        "patch_size": list(plan.patch_size),
        "network": plan.network_class.rsplit(".", 1)[-1],
        "folds": list(model.folds),
        "path": str(model.path),
        "removable": model.path.parent == models_directory(),
    }

"""The user's models: one directory, one folder a model, added whole or not at all.

The directory is `MedNeXtSeg/models` where the system keeps a user's data (platformdirs), or
wherever the environment variable MEDNEXT_MODELS says. What ships with the product is listed too,
but lies elsewhere and cannot be removed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import EngineError, ModelError, OutputError
from .export import export_model
from .folder import Model, open_model
from .importing import MODEL_ID, import_model, models_directory
from .resources import resource_path
from .verify import Verification, verify_model

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
    if MODEL_ID.fullmatch(name):
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

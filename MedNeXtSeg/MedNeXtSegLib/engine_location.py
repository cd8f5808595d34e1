"""Where the engine lies: beside the module in an installed extension, in Training/ of a clone."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from .errors import UserError

_PACKAGE = "mednext_engine"
_MODULE_FOLDER = Path(__file__).resolve().parents[1]


def engine_root() -> Path:
    """The folder that holds the package `mednext_engine`. Raises UserError when it is nowhere."""
    for folder in (_MODULE_FOLDER, _MODULE_FOLDER.parent / "Training"):
        if (folder / _PACKAGE / "__init__.py").is_file():
            return folder
    found = importlib.util.find_spec(_PACKAGE)
    if found is not None and found.origin:
        return Path(found.origin).resolve().parents[1]
    from slicer.i18n import tr as _  # not before: the package is imported outside of Slicer too

    raise UserError(
        _("The engine of MedNeXt Segmentation was not found beside the module."),
        _("Install the extension again from the Extensions Manager."),
    )


def make_engine_importable() -> None:
    """Lets `mednext_engine.jobs.protocol` be imported; imports nothing itself.

    Slicer has the extension's folder on its path already; only a clone's Training/ is added, at
    the end, where it hides nobody's names.
    """
    root = str(engine_root())
    if _PACKAGE not in sys.modules and root not in sys.path:
        sys.path.append(root)


def worker_script() -> Path:
    """The script that Slicer's Python runs as the worker."""
    return engine_root() / _PACKAGE / "jobs" / "worker.py"


def resources_folder() -> Path | None:
    """The folder with our Models, Catalog and SampleData; None where nothing of ours lies.

    Slicer merges the Resources of all modules; ours lie in a folder of their own there.
    """
    for folder in (
        _MODULE_FOLDER / "Resources" / "MedNeXtSeg",
        _MODULE_FOLDER.parent / "Resources",
    ):
        if any((folder / name).is_dir() for name in ("Models", "Catalog", "SampleData")):
            return folder
    return None


def models_folder() -> Path:
    """Where the user's models live; the same place as the engine's own default.

    Said by the module because the engine's own way to tell needs a package that a fresh Slicer has
    not yet. The environment variable MEDNEXT_MODELS wins.
    """
    said = os.environ.get("MEDNEXT_MODELS")
    return Path(said).expanduser() if said else _user_data() / "models"


def trainings_folder() -> Path:
    """Where job folders of trainings lie: see `models_folder`; MEDNEXT_RUNS wins."""
    said = os.environ.get("MEDNEXT_RUNS")
    return Path(said).expanduser() if said else _user_data() / "finetuning"


def _user_data() -> Path:
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "MedNeXtSeg"

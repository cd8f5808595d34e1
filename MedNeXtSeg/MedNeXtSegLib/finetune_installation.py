"""What training needs beyond Segment, and how it is installed without touching what Slicer brings.

batchgeneratorsv2 declares packages that it never imports and that would pull in others; it is
installed without its dependencies. What it does import comes with a list of constraints, so that no
package of Slicer's own, and no torch, is replaced by another version.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from .errors import UserError
from .installation import PROTECTED

PACKAGES = {"scikit-image": ">=0.22,<0.27", "pandas": ">=2.0,<4"}
"""What the augmentation imports and Slicer may lack; a test compares it with the engine's list."""
WITHOUT_DEPENDENCIES = {"batchgeneratorsv2": ">=0.3,<0.4"}
CONSTRAINED = (*PROTECTED, "pillow", "packaging", "pydicom", "vtk", "torchvision", "openvino")


@dataclass(frozen=True)
class MissingTraining:
    """Requirements that are not met, by how they are installed."""

    packages: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()

    @property
    def anything(self) -> bool:
        return bool(self.packages or self.alone)

    def names(self) -> list[str]:
        return [*self.alone, *self.packages]


def missing_training(doctor: Mapping[str, Any]) -> MissingTraining:
    """What training lacks in Slicer's Python: as the worker's report says, else as is found here
    (the worker runs in the same Python)."""
    said = {str(package.get("name")): package for package in doctor.get("packages", [])}

    def lacking(wanted: Mapping[str, str]) -> tuple[str, ...]:
        names = []
        for name, versions in wanted.items():
            problem = said[name].get("problem") if name in said else not _version(name)
            if problem:
                names.append(name + versions)
        return tuple(names)

    return MissingTraining(lacking(PACKAGES), lacking(WITHOUT_DEPENDENCIES))


def _version(name: str) -> str:
    """Of an installed package; empty where there is none (or Slicer's copy names no version)."""
    try:
        return str(metadata.version(name) or "")
    except (metadata.PackageNotFoundError, KeyError):
        return ""


def training_question(what: MissingTraining) -> str:
    """What is asked before anything is installed."""
    return _(
        "Training needs packages that are not in this Slicer yet:\n\n{names}\n\nThey are "
        "downloaded from the Python package index (about 30 MB) and installed into Slicer's own "
        "Python; no package that Slicer or PyTorch brought is replaced."
    ).format(names="\n".join(f"  {name}" for name in what.names()))


def install_training(what: MissingTraining, say: Callable[[str], None]) -> None:
    """Installs what is missing; blocks, with Slicer's own progress. Call from the main thread.

    Raises UserError with what to do where it cannot be installed.
    """
    if not what.anything:
        return
    say(_("Installing {names}…").format(names=", ".join(what.names())))
    try:
        with tempfile.TemporaryDirectory() as folder:
            constraints = Path(folder) / "constraints.txt"
            constraints.write_text("\n".join(constraint_lines()) + "\n", encoding="ascii")
            if what.packages:
                _pip(["--constraint", str(constraints), *what.packages])
            if what.alone:
                _pip(["--no-deps", *what.alone])
    except Exception as error:  # CalledProcessError, RuntimeError: see the log
        raise UserError(
            _("{what} could not be installed ({reason}).").format(
                what=", ".join(what.names()), reason=error
            ),
            _(
                "Without a connection to the internet: download these packages on another computer "
                "with 'pip download' and install them with 'PythonSlicer -m pip install "
                "--no-index --find-links FOLDER'. Slicer's Python console says what pip reported."
            ),
        ) from error


def constraint_lines() -> list[str]:
    """`name==version` of what is installed and must stay as it is."""
    versions = {name: _version(name) for name in CONSTRAINED}
    return [f"{name}=={version}" for name, version in versions.items() if version]


def _pip(arguments: list[str]) -> None:
    """Slicer's own pip; a list is passed on as it is, options included, in every version."""
    slicer.util.pip_install(arguments)

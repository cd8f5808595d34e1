"""What training needs beyond Segment, and how it is installed without touching what Slicer brings.

batchgeneratorsv2 declares packages that it never imports and that would pull in many others. So
what it does import is listed here, and each package that is missing is installed without its
dependencies: no package of Slicer's own, and no torch, can be replaced by another version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import invalidate_caches
from importlib.util import find_spec
from typing import Any

import slicer
from slicer.i18n import tr as _

from .errors import UserError
from .installation import install_torch, missing

WITHOUT_DEPENDENCIES = (
    ("six", ">=1.16,<2"),  # of python-dateutil
    ("python-dateutil", ">=2.8.2,<3"),  # of pandas
    ("pytz", ">=2023.3"),  # of pandas 2
    ("tzdata", ">=2023.3"),  # of pandas
    ("pandas", ">=2.2.2,<3"),
    ("scipy", ">=1.11.4,<2"),
    ("batchgeneratorsv2", ">=0.3.5,<0.4"),
)
"""Name and versions, in the order of their installation; a test compares them with the engine's."""
OF_PANDAS = ("six", "python-dateutil", "pytz", "tzdata")  # asked for only where it is missing too
MODULES = {"python-dateutil": "dateutil"}  # where a module is not called as its package


@dataclass(frozen=True)
class MissingTraining:
    """Requirements that are not met ("pandas>=2.2.2,<4"), in the order of their installation."""

    packages: tuple[str, ...] = ()
    torch: str = ""

    @property
    def anything(self) -> bool:
        return bool(self.packages or self.torch)

    def names(self) -> list[str]:
        return [name for name in (self.torch, *self.packages) if name]


def missing_training(doctor: Mapping[str, Any]) -> MissingTraining:
    """What training lacks in Slicer's Python: as the worker's report says, else as is found here
    (the worker runs in the same Python). Imports nothing."""
    invalidate_caches()
    said = {str(package.get("name")): package for package in doctor.get("packages", [])}

    def lacks(name: str) -> bool:
        if name in said:
            return bool(said[name].get("problem"))
        return find_spec(MODULES.get(name, name)) is None

    lacking = [
        name + versions
        for name, versions in WITHOUT_DEPENDENCIES
        if lacks(name) and (name not in OF_PANDAS or lacks("pandas"))
    ]
    # Segment may do without torch (OpenVINO); what was just installed the report knows not yet.
    torch = "" if find_spec("torch") else missing(doctor).torch
    return MissingTraining(tuple(lacking), torch)


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
    if what.torch:
        install_torch(what.torch)
    try:
        # One after the other and each without its dependencies: nothing else is touched.
        for requirement in what.packages:
            _pip(["--no-deps", requirement])
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


def _pip(arguments: list[str]) -> None:
    """Slicer's own pip; a list is passed on as it is, options included, in every version."""
    slicer.util.pip_install(arguments)

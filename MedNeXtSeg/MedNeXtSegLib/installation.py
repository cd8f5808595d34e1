"""What is missing for Segment, and how it is installed: after asking once, never by itself.

PyTorch comes through the PyTorch extension, which knows which build fits this computer. The
other packages go through Slicer's own pip. Packages that Slicer brings are never replaced.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import slicer
from slicer.i18n import tr as _

from .errors import UserError

PROTECTED = ("torch", "numpy", "scipy", "SimpleITK", "requests")
_ACCELERATOR = "openvino"


@dataclass(frozen=True)
class Missing:
    """Requirements ("psutil>=5.9,<8") by how they are installed; `problems` say why in words."""

    torch: str = ""
    packages: tuple[str, ...] = ()
    accelerator: str = ""
    problems: tuple[str, ...] = ()

    @property
    def anything(self) -> bool:
        """Whether Segment cannot run; the accelerator alone is no need."""
        return bool(self.torch or self.packages or self.problems)

    def names(self) -> list[str]:
        return [name for name in (self.torch, *self.packages) if name]


def missing(doctor: Mapping[str, Any]) -> Missing:
    """What the worker's report (a DoctorValue) says is missing. It looked in the Python that will
    run the networks, which is Slicer's."""
    torch, accelerator = "", ""
    packages: list[str] = []
    problems: list[str] = []
    for package in doctor.get("packages", []):
        if not package.get("problem"):
            continue
        name, wanted = str(package["name"]), _requirement(package)
        if name == _ACCELERATOR:
            accelerator = wanted
        elif name == "torch":
            torch = wanted
        elif not package.get("required"):
            continue
        elif name in PROTECTED:
            problems.append(str(package["problem"]))
        else:
            packages.append(wanted)
    if torch and sys.platform == "darwin" and _intel():
        problems.append(
            _("PyTorch is not made any more for Macs with Intel processors in a version that runs.")
        )
    return Missing(torch, tuple(packages), accelerator, tuple(problems))


def _requirement(package: Mapping[str, Any]) -> str:
    """The doctor's hint reads `pip install "name>=1,<2"`."""
    parts = str(package.get("hint", "")).split('"')
    return parts[1] if len(parts) == 3 else str(package["name"])


def _intel() -> bool:
    import platform

    return platform.machine() == "x86_64"


def question(what: Missing) -> str:
    """What is asked before anything is installed."""
    return _(
        "To run models, MedNeXt Segmentation needs packages that are not in this Slicer yet:\n\n"
        "{names}\n\nThey are downloaded from the Python package index and installed into Slicer's "
        "own Python; PyTorch may take several gigabytes and minutes. Slicer may not answer while "
        "they are installed."
    ).format(names="\n".join(f"  {name}" for name in what.names()))


def accelerator_offer(what: Missing) -> str:
    """The offer of OpenVINO, where it is missing and no NVIDIA or Apple GPU would do the work."""
    apple = sys.platform == "darwin" and not _intel()
    if not what.accelerator or apple or shutil.which("nvidia-smi"):
        return ""
    return _("Also install OpenVINO: on processors it usually runs models 3 to 6 times faster")


def install(what: Missing, accelerator: bool, say: Callable[[str], None]) -> None:
    """Installs what is missing; blocks, with Slicer's own progress. Call from the main thread.

    Raises UserError with what to do where it cannot be installed.
    """
    if what.problems:
        raise UserError(
            " ".join(what.problems), _("Install the newest version of Slicer and the extension.")
        )
    if what.torch:
        say(_("Installing PyTorch…"))
        install_torch(what.torch)
    packages = [*what.packages, *([what.accelerator] if accelerator and what.accelerator else [])]
    if packages:
        say(_("Installing {names}…").format(names=", ".join(packages)))
        _pip_install(packages)


def install_torch(requirement: str) -> None:
    """By the PyTorch extension. Raises UserError where that is missing, or fails."""
    try:
        import PyTorchUtils
    except ModuleNotFoundError:
        raise UserError(
            _("PyTorch is installed by the PyTorch extension, which is missing."),
            _("Install it from the Extensions Manager, restart Slicer and try again."),
        ) from None
    logic = PyTorchUtils.PyTorchUtilsLogic()
    version = requirement[len("torch") :] or None
    try:
        installed = logic.installTorch(
            askConfirmation=False, forceComputationBackend=None, torchVersionRequirement=version
        )
    except Exception as error:  # light-the-torch and pip fail in many ways
        raise _offline(_("PyTorch"), error) from error
    if installed is None:
        raise _offline(_("PyTorch"), None)


def _pip_install(requirements: list[str]) -> None:
    try:
        try:
            from slicer.packaging import pip_install
        except ImportError:  # before Slicer 5.12
            slicer.util.pip_install(requirements)
        else:
            pip_install(
                requirements, skip_packages=list(PROTECTED), requester="MedNeXt Segmentation"
            )
    except Exception as error:  # CalledProcessError, RuntimeError: see the log
        raise _offline(", ".join(requirements), error) from error


def _offline(what: str, error: Exception | None) -> UserError:
    reason = f" ({error})" if error is not None else ""
    return UserError(
        _("{what} could not be installed{reason}.").format(what=what, reason=reason),
        _(
            "Check the connection to the internet (or the proxy) and try again; Slicer's Python "
            "console and the log say what pip reported."
        ),
    )

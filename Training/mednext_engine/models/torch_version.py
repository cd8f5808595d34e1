"""Which PyTorch will do; it is needed on GPUs, for U-Nets, and where OpenVINO is not installed."""

from __future__ import annotations

import importlib.util
import platform
import sys
from importlib import metadata

from ..errors import DependencyError


def is_installed(package: str) -> bool:
    """Whether a package can be found, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def require_torch() -> None:
    """Raises DependencyError unless a PyTorch of a version that will do is installed."""
    missing = DependencyError(
        "PyTorch is not installed, which this model needs.",
        "Install version 2.6 or newer from https://pytorch.org.",
    )
    if not is_installed("torch"):
        raise missing
    try:
        installed = metadata.version("torch")
    except metadata.PackageNotFoundError:
        raise missing from None
    check_torch_version(installed, intel_mac=_is_intel_mac())


def start_torch() -> None:
    """Imports PyTorch. Raises DependencyError as above, or where it does not start."""
    require_torch()
    try:
        import torch  # noqa: F401
    except (ImportError, OSError) as error:  # a library of it is missing or broken
        raise DependencyError(
            f"PyTorch is installed but does not start: {error}.",
            "Install it again from https://pytorch.org.",
        ) from error


def check_torch_version(installed: str, *, intel_mac: bool = False) -> None:
    """The version rule of `require_torch`, as a function of its facts."""
    try:
        major, minor = (int(part) for part in installed.split("+")[0].split(".")[:2])
    except ValueError:
        major, minor = 0, 0
    if (major, minor) < (2, 6) and intel_mac:
        raise DependencyError(
            "This computer cannot open models: PyTorch for Macs with Intel processors ended with "
            "version 2.2, in which opening a model file can run code that is hidden in it.",
            "Use a Mac with an Apple processor, Windows or Linux.",
        )
    if (major, minor) < (2, 6):
        raise DependencyError(
            f"PyTorch {installed} is installed, in which opening a model file can run code that "
            "is hidden in it.",
            "Install PyTorch 2.6 or newer.",
        )
    if (major, minor) == (2, 9):
        raise DependencyError(
            f"PyTorch {installed} is installed, which runs 3D convolutions several times slower.",
            "Install another version, 2.6 or newer but not 2.9.",
        )


def _is_intel_mac() -> bool:
    return sys.platform == "darwin" and platform.machine() == "x86_64"

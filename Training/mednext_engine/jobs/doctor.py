"""What this computer has and lacks: for `mednext doctor`, the panel, and whoever helps a user."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from .. import __version__
from ..errors import EngineError
from .protocol import DeviceInfo, DoctorValue, PackageInfo


@dataclass(frozen=True)
class Requirement:
    """A package by its name in the index, the versions that will do, and what it is for."""

    name: str
    versions: str
    purpose: str
    required: bool = True


# The same as in pyproject.toml (a test compares them): an installed extension has no metadata.
REQUIREMENTS = (
    Requirement("torch", ">=2.6,!=2.9.*,<2.14", "runs every network, also on GPUs"),
    Requirement("numpy", ">=1.26,<2.5", "holds the voxels"),
    Requirement("SimpleITK", ">=2.3,<2.6", "reads and writes images"),
    Requirement("platformdirs", ">=4,<5", "says where models live"),
    Requirement("psutil", ">=5.9,<8", "measures free memory"),
    Requirement("tqdm", ">=4.60,<5", "shows progress in a terminal"),
    Requirement("openvino", ">=2025.1,<2027", "runs MedNeXts faster on CPUs", required=False),
)


def examine(devices: bool = False, log: str = "") -> DoctorValue:
    """Looks at packages, memory, disk and, with `devices` or where torch is loaded already,
    accelerators. Never raises for what is missing: that is what it reports."""
    packages = [look_at(requirement) for requirement in REQUIREMENTS]
    problems = [p["problem"] for p in packages if p["problem"] and p["required"]]
    torch, others = packages[0]["problem"], len(problems) - bool(packages[0]["problem"])
    usable = not others and (not torch or _runs_without_torch(packages))
    if torch and usable:
        problems[0] += (
            " MedNeXt models run on the CPU with OpenVINO; other models and GPUs need it."
        )
    value: DoctorValue = {
        "usable": usable,
        "engine": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count() or 1,
        "log": log,
        "packages": packages,
        "problems": problems,
    }
    if not (3, 10) <= sys.version_info < (3, 13):
        problems.append(
            f"Python {platform.python_version()} is none of those this is made for: 3.10 to 3.12."
        )
    _add_memory(value)
    _add_models(value)
    if devices or "torch" in sys.modules:
        _add_devices(value, packages)
    problems.extend(_graphics_problems(packages[0]["version"]))
    return value


def look_at(requirement: Requirement) -> PackageInfo:
    """Version of an installed package, and a sentence where it is missing or of no use."""
    info: PackageInfo = {
        "name": requirement.name,
        "version": "",
        "required": requirement.required,
        "problem": "",
        "hint": f'pip install "{requirement.name}{requirement.versions}"',
    }
    try:
        info["version"] = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        info["problem"] = f"{requirement.name}, which {requirement.purpose}, is not installed."
        return info
    if not satisfies(info["version"], requirement.versions):
        info["problem"] = (
            f"{requirement.name} {info['version']} is installed, needed is {requirement.versions}."
        )
    else:
        info["hint"] = ""
    return info


def satisfies(version: str, wanted: str) -> bool:
    """Whether a version such as "2.6.0+cpu" meets ">=2.6,!=2.9.*,<2.14" (only these operators)."""
    own = _numbers(version)
    for clause in wanted.split(","):
        match = re.fullmatch(r"(>=|<|!=)([\d.]+?)(\.\*)?", clause)
        if match is None:
            raise ValueError(clause)
        other = _numbers(match[2])
        if match[1] == ">=" and own < other:
            return False
        if match[1] == "<" and own >= other:
            return False
        if match[1] == "!=" and own[: len(other)] == other:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    leading = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(n) for n in leading[0].split(".")) if leading else (0,)


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _add_memory(value: DoctorValue) -> None:
    try:
        import psutil
    except ImportError:
        return
    memory = psutil.virtual_memory()
    value["memory_total"], value["memory_free"] = int(memory.total), int(memory.available)


def _add_models(value: DoctorValue) -> None:
    try:
        from ..models.store import models_directory

        directory = models_directory()
    except (ImportError, EngineError) as error:
        value["problems"].append(f"The models directory cannot be told: {error}.")
        return
    value["models_directory"] = str(directory)
    there = next((p for p in (directory, *directory.parents) if p.is_dir()), None)
    if there is None or not os.access(there, os.W_OK):
        value["problems"].append(f"The models directory {directory} cannot be written.")
        return
    value["models_free"] = shutil.disk_usage(there).free


def _runs_without_torch(packages: list[PackageInfo]) -> bool:
    from ..models.torch_version import is_installed

    return not packages[-1]["problem"] and is_installed("openvino")


def _add_devices(value: DoctorValue, packages: list[PackageInfo]) -> None:
    try:
        from ..inference.devices import list_devices
        from ..models.torch_version import start_torch

        if not packages[0]["problem"]:
            start_torch()
        value["devices"] = [cast(DeviceInfo, one) for one in list_devices()]
    except Exception as error:  # a broken torch fails in many ways; that it does is the finding
        value["usable"] = value["usable"] and _runs_without_torch(packages)
        value["problems"].append(
            f"PyTorch is installed but does not start ({type(error).__name__}: {error})."
        )


def _graphics_problems(torch_version: str) -> list[str]:
    """A graphics card that the installed torch cannot use."""
    tool = shutil.which("nvidia-smi")
    if tool is None or not torch_version or sys.platform == "darwin":
        return []
    if "+cpu" not in torch_version and not (sys.platform == "win32" and "+" not in torch_version):
        return []
    flags: dict[str, Any] = {}
    if sys.platform == "win32":
        flags["creationflags"] = subprocess.CREATE_NO_WINDOW
    try:
        done = subprocess.run(
            [tool, "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=10,
            stdin=subprocess.DEVNULL,
            check=False,
            **flags,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    names = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if done.returncode or not names:
        return []
    return [
        f"This computer has a graphics card ({names[0]}), but the installed PyTorch "
        f"{torch_version} cannot use it: install one made for CUDA."
    ]

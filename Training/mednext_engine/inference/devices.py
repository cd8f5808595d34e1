"""Which devices this computer has, which one a run gets, and why."""

from __future__ import annotations

import importlib.util
import platform
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from ..errors import DependencyError, ResourceError
from .options import Options

CUDA_RESERVE = 2**29


@dataclass(frozen=True)
class Execution:
    """Where and how a network runs.

    `reason` says in a sentence why this device, for the person who wanted another one.
    """

    device: str
    backend: str
    precision: str
    threads: int | None
    reason: str

    @property
    def on_gpu(self) -> bool:
        return self.device != "cpu"


def list_devices() -> list[dict[str, Any]]:
    """Devices that can be chosen, best first: name, title, total and free memory in bytes."""
    devices: list[dict[str, Any]] = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            free, total = torch.cuda.mem_get_info(index)
            devices.append(
                {"name": f"cuda:{index}", "title": properties.name, "total": total, "free": free}
            )
    memory = psutil.virtual_memory()
    if torch.backends.mps.is_available():
        devices.append(
            {"name": "mps", "title": "Apple GPU", "total": memory.total, "free": memory.available}
        )
    title = platform.processor() or platform.machine()
    devices.append({"name": "cpu", "title": title, "total": memory.total, "free": memory.available})
    return devices


def free_memory(device: str) -> int:
    """Free bytes of a device."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(torch.device(device))[0]) - CUDA_RESERVE
    return int(psutil.virtual_memory().available)


def choose_execution(options: Options) -> Execution:
    """Device, backend and precision for `options`.

    Raises:
        ResourceError: a device was asked for by name and is not there.
        DependencyError: OpenVINO was asked for by name and is not installed.
    """
    device, reason = _choose_device(options.device)
    backend = _choose_backend(options.backend, device)
    return Execution(
        device, backend, _choose_precision(options.precision, device), options.threads, reason
    )


def _choose_device(wanted: str) -> tuple[str, str]:
    if wanted == "auto":
        if torch.cuda.is_available():
            index = max(
                range(torch.cuda.device_count()), key=lambda i: torch.cuda.mem_get_info(i)[0]
            )
            return f"cuda:{index}", "It has the most free memory of the CUDA devices."
        if torch.backends.mps.is_available():
            return "mps", "It is this computer's GPU."
        return "cpu", _why_no_gpu()
    if wanted == "cpu":
        return "cpu", "It was asked for."
    name, _, index_text = wanted.partition(":")
    if name == "mps" and torch.backends.mps.is_available():
        return "mps", "It was asked for."
    if name == "cuda" and (not index_text or index_text.isdigit()):
        index = int(index_text or 0)
        if torch.cuda.is_available() and index < torch.cuda.device_count():
            return f"cuda:{index}", "It was asked for."
        raise ResourceError(f"There is no device {wanted}: {_why_no_gpu()}", "Choose auto or cpu.")
    known = ", ".join(d["name"] for d in list_devices())
    raise ResourceError(f"There is no device {wanted}.", f"This computer has: {known}.")


def _why_no_gpu() -> str:
    if torch.version.cuda is None and torch.version.hip is None and platform.system() != "Darwin":
        return "the installed PyTorch is a version without GPU support."
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} CUDA device(s) were found."
    return "no usable GPU was found."


def _choose_backend(wanted: str, device: str) -> str:
    if device != "cpu" or wanted == "torch":
        return "torch"
    if importlib.util.find_spec("openvino") is not None:
        return "openvino"
    if wanted == "openvino":
        raise DependencyError("OpenVINO is not installed.", "Install it with: pip install openvino")
    return "torch"


def _choose_precision(wanted: str, device: str) -> str:
    if wanted != "auto":
        return wanted
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "float32"

"""Which devices this computer has, which one a run gets, and why.

PyTorch, which takes seconds to import, is asked only where it could know of a GPU.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ..errors import DependencyError, ResourceError
from ..models.torch_version import is_installed, require_torch
from .options import Options

CUDA_RESERVE = 2**29

_DRIVERS = {
    "linux": ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd"),
    "win32": ("System32/nvcuda.dll", "System32/amdhip64.dll", "System32/amdhip64_6.dll"),
}
"""What a driver of NVIDIA or AMD (in Linux under Windows: the graphics bridge) leaves behind."""


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


def require_runtime() -> None:
    """Raises DependencyError unless OpenVINO, or a PyTorch that will do, is installed."""
    if not is_installed("openvino"):
        require_torch()


def gpu_is_possible() -> bool:
    """Whether PyTorch is installed, made for GPUs, and on a computer that may have one.

    False only where that is certain; does not import PyTorch.
    """
    if not is_installed("torch"):
        return False
    if "torch" in sys.modules:
        return True  # asking it costs nothing
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if not _made_for_gpus():
        return False
    places = _DRIVERS.get(sys.platform)
    root = Path(os.environ.get("SYSTEMROOT", "C:/Windows") if sys.platform == "win32" else "/")
    return places is None or any((root / place).exists() for place in places)


def _made_for_gpus() -> bool:
    """What the installed PyTorch's `version.py` says; True where it says nothing."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return True
    try:
        text = Path(spec.origin).with_name("version.py").read_text("utf-8")
    except OSError:
        return True
    said = dict(re.findall(r"^(cuda|hip|xpu)\b[^=\n]*=\s*(\S+)", text, re.MULTILINE))
    return "cuda" not in said or any(value != "None" for value in said.values())


def _torch() -> Any | None:
    """PyTorch where it may know of a GPU, else None."""
    if not gpu_is_possible():
        return None
    import torch

    return torch


def list_devices() -> list[dict[str, Any]]:
    """Devices that can be chosen, best first: name, title, total and free memory in bytes."""
    devices: list[dict[str, Any]] = []
    torch = _torch()
    if torch is not None and torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            free, total = torch.cuda.mem_get_info(index)
            devices.append(
                {"name": f"cuda:{index}", "title": properties.name, "total": total, "free": free}
            )
    memory = psutil.virtual_memory()
    if torch is not None and torch.backends.mps.is_available():
        devices.append(
            {"name": "mps", "title": "Apple GPU", "total": memory.total, "free": memory.available}
        )
    title = platform.processor() or platform.machine()
    devices.append({"name": "cpu", "title": title, "total": memory.total, "free": memory.available})
    return devices


def free_memory(device: str) -> int:
    """Free bytes of a device."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(torch.device(device))[0]) - CUDA_RESERVE
    return int(psutil.virtual_memory().available)


def choose_execution(options: Options) -> Execution:
    """Device, backend and precision for `options`.

    Raises:
        ResourceError: a device was asked for by name and is not there.
        DependencyError: OpenVINO was asked for by name and is not installed, or neither it nor
            PyTorch is.
    """
    device, reason = _choose_device(options.device)
    backend = _choose_backend(options.backend, device)
    return Execution(
        device, backend, _choose_precision(options.precision, device), options.threads, reason
    )


def _choose_device(wanted: str) -> tuple[str, str]:
    if wanted == "cpu":
        return "cpu", "It was asked for."
    torch = _torch()
    cuda = torch is not None and torch.cuda.is_available()
    mps = torch is not None and torch.backends.mps.is_available()
    if wanted == "auto":
        if torch is not None and cuda:
            index = max(
                range(torch.cuda.device_count()), key=lambda i: torch.cuda.mem_get_info(i)[0]
            )
            return f"cuda:{index}", "It has the most free memory of the CUDA devices."
        return ("mps", "It is this computer's GPU.") if mps else ("cpu", _why_no_gpu(torch))
    name, _, index_text = wanted.partition(":")
    if name == "mps" and mps:
        return "mps", "It was asked for."
    if name == "cuda" and (not index_text or index_text.isdigit()):
        index = int(index_text or 0)
        if torch is not None and cuda and index < torch.cuda.device_count():
            return f"cuda:{index}", "It was asked for."
        raise ResourceError(
            f"There is no device {wanted}: {_why_no_gpu(torch)}", "Choose auto or cpu."
        )
    known = ", ".join(d["name"] for d in list_devices())
    raise ResourceError(f"There is no device {wanted}.", f"This computer has: {known}.")


def _why_no_gpu(torch: Any | None) -> str:
    if not is_installed("torch"):
        return "PyTorch, which GPUs need, is not installed."
    if sys.platform != "darwin" and not _made_for_gpus():
        return "the installed PyTorch is a version without GPU support."
    if torch is not None and torch.cuda.is_available():
        return f"{torch.cuda.device_count()} CUDA device(s) were found."
    return "no usable GPU was found."


def _choose_backend(wanted: str, device: str) -> str:
    if device != "cpu":
        return "torch"
    if wanted != "torch" and is_installed("openvino"):
        return "openvino"
    if wanted == "openvino":
        raise DependencyError("OpenVINO is not installed.", "Install it with: pip install openvino")
    return "torch"


def _choose_precision(wanted: str, device: str) -> str:
    if wanted != "auto":
        return wanted
    if device.startswith("cuda"):
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "float32"

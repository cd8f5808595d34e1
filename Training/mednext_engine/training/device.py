"""Device and precision of a training."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import psutil
import torch

from ..errors import ResourceError
from .recipe import Precision

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(wanted: str, local_rank: int | None = None) -> torch.device:
    """The CUDA device with the most free memory, else the CPU; or the one asked for.

    Apple's GPU is taken only when asked for by name: PyTorch lacks some of its 3D layers.

    Raises:
        ResourceError: the device asked for is not there.
    """
    if wanted == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        devices = range(torch.cuda.device_count())
        if local_rank is not None:
            return torch.device("cuda", local_rank % len(devices))
        return torch.device("cuda", max(devices, key=lambda i: torch.cuda.mem_get_info(i)[0]))
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise ResourceError(
            f"There is no device '{wanted}'.", "Choose auto, cpu or cuda."
        ) from None
    if device.type == "cuda":
        if not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
            raise ResourceError(f"There is no device {wanted}.", "Choose auto or cpu.")
        index = local_rank if device.index is None and local_rank is not None else device.index
        return torch.device("cuda", index or 0)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ResourceError("There is no device mps.", "Choose auto or cpu.")
    return device


def choose_precision(wanted: Precision, device: torch.device) -> Precision:
    """fp32 except on CUDA: bf16 where the GPU computes in it, else fp16 with a scaled loss."""
    if wanted == "fp16" and device.type != "cuda":
        return "fp32"
    if wanted != "auto":
        return wanted
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Mixed precision as chosen; does nothing in float32."""
    if precision not in _TYPES:
        return nullcontext()
    return torch.autocast(device.type, _TYPES[precision])


def memory_in_use(device: torch.device) -> int:
    """Bytes: the GPU's peak, or this process's resident memory."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return int(psutil.Process().memory_info().rss)


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory did not suffice, on a GPU or on a CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "not enough memory" in text or "can't allocate memory" in text or "out of memory" in text
    )


def free_cached_memory(device: torch.device) -> None:
    """Gives back what PyTorch keeps of a GPU's memory without using it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()

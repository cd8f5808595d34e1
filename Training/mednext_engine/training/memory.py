"""Memory and time that a training takes, told before it begins.

Memory: a real step runs on a small patch, once with one and once with two of them, and the bytes
of all tensors alive are counted, from which follow the share that grows with the voxels and the
share that does not. On a CPU the count is ours (resident memory of a process says little about a
small step); on CUDA it is the allocator's, the libraries' work space included.

Time: on a CPU scaled from a small patch as well; a GPU is never busy with a small patch, so there
it is that of real steps.
"""

from __future__ import annotations

import copy
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from ..errors import ResourceError
from .device import autocast, choose_precision, out_of_memory
from .losses import coarser_labels, dice_and_cross_entropy, supervision_weights
from .recipe import Checkpointing, Optimizer, Phase, Precision, Recipe
from .relief import set_checkpointing, steps_down

PROBE_SIDES = (32, 64)
"""Sides of the small patch; the second is for networks that need more than the first."""
RESERVE = 1.1
"""Share for buffers inside kernels and for memory that an allocator cannot hand out again."""
HALF_ON_CPU = 1.2
"""On top of it: kernels in bfloat16 keep copies in float32 on a CPU."""
PROCESS_BYTES = 500 * 2**20
"""Python, PyTorch and the patches that are made ahead, in main memory."""
STATES = {"adamw": 2, "sgd": 1}
"""Values that an optimiser keeps a weight."""


@dataclass(frozen=True)
class Fit:
    """Sizes with which a training fits a device; `note` says what was reduced, or is empty."""

    patch_size: tuple[int, int, int]
    batch_size: int
    checkpointing: Checkpointing
    bytes: int
    note: str


@dataclass(frozen=True)
class _Need:
    """Bytes: for each voxel of a batch, and apart from these."""

    voxel: float
    fixed: float

    def bytes(self, patch_size: Sequence[int], batch_size: int) -> int:
        return int(self.voxel * prod(patch_size) * batch_size * RESERVE + self.fixed)


def training_bytes(
    network: nn.Module,
    patch_size: Sequence[int],
    batch_size: int,
    *,
    device: str = "cpu",
    precision: Precision = "auto",
    checkpointing: Checkpointing = None,
    optimizer: Optimizer = "adamw",
) -> int:
    """Peak bytes of a training on `device`: weights, gradients, optimiser and activations.

    On a CPU, of the whole process. The network itself is left as it is.
    """
    prepared = _copy(network, device)
    need = _measure(prepared, device, precision, checkpointing, optimizer)
    return need.bytes(patch_size, batch_size)


def choose_patch(
    network: nn.Module,
    patch_size: Sequence[int],
    batch_size: int,
    free_bytes: int,
    *,
    device: str = "cpu",
    precision: Precision = "auto",
    checkpointing: Checkpointing = None,
    optimizer: Optimizer = "adamw",
) -> Fit:
    """The wanted sizes, or the nearest that fit: first checkpointing, then batch, then patch.

    Raises:
        ResourceError: not even the smallest patch fits.
    """
    prepared = _copy(network, device)
    z, y, x = patch_size
    wanted = Recipe((z, y, x), (Phase("", 1, 0, 1.0),), batch_size, checkpointing=checkpointing)
    needs: dict[Checkpointing, _Need] = {}
    changes: dict[str, str] = {}
    for recipe, sentence in [(wanted, ""), *steps_down(network, wanted)]:
        kind = recipe.checkpointing
        if kind not in needs:
            needs[kind] = _measure(prepared, device, precision, kind, optimizer)
        if sentence:
            changes[sentence.split()[1]] = sentence  # the last sentence about each thing
        needed = needs[kind].bytes(recipe.patch_size, recipe.batch_size)
        if needed <= free_bytes:
            note = " ".join(changes.values())
            return Fit(recipe.patch_size, recipe.batch_size, kind, needed, note)
    raise ResourceError(
        f"This training needs {needed / 2**30:.1f} GiB of memory even with the smallest patch; "
        f"{free_bytes / 2**30:.1f} GiB are free.",
        "Choose a smaller network or close other programs.",
    )


def seconds_per_step(
    network: nn.Module,
    patch_size: Sequence[int],
    batch_size: int,
    *,
    device: str = "cpu",
    precision: Precision = "auto",
    checkpointing: Checkpointing = None,
) -> float:
    """Estimated seconds of a step, without the making of its patches (threads do that meanwhile).

    Raises:
        ResourceError: the step does not fit the GPU's memory.
    """
    prepared = _copy(network, device)
    set_checkpointing(prepared, checkpointing)
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        shape, scale = (batch_size, *patch_size), 1.0
    else:
        side = _probe_side(prepared, device)
        shape = (1, side, side, side)
        scale = batch_size * prod(patch_size) / side**3
    times = []
    try:
        for _ in range(3):
            _synchronize(device)
            began = time.perf_counter()
            _step(prepared, shape, device, precision)
            _synchronize(device)
            times.append(time.perf_counter() - began)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise ResourceError("A step does not fit the GPU's memory.") from None
    return min(times) * scale


def _copy(network: nn.Module, device: str) -> nn.Module:
    twin = copy.deepcopy(network).to(device).train()
    if torch.device(device).type == "cuda":
        twin.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    for parameter in twin.parameters():
        parameter.requires_grad_(True)
    return twin


def _measure(
    network: nn.Module,
    device: str,
    precision: Precision,
    checkpointing: Checkpointing,
    optimizer: str,
) -> _Need:
    set_checkpointing(network, checkpointing)
    side = _probe_side(network, device)
    one, two = (_peak(network, (n, side, side, side), device, precision) for n in (1, 2))
    weights = sum(p.numel() for p in network.parameters()) * 4
    fixed = weights * (2 + STATES[optimizer])  # weights, gradients, the optimiser's
    if torch.device(device).type != "cuda":
        fixed += PROCESS_BYTES
    voxel = (two - one) / side**3
    where = torch.device(device)
    if where.type == "cpu" and choose_precision(precision, where) != "fp32":
        voxel *= HALF_ON_CPU
    return _Need(voxel, fixed)


def _probe_side(network: nn.Module, device: str) -> int:
    smallest, larger = PROBE_SIDES
    with torch.no_grad():
        try:
            _run(network, (1, smallest, smallest, smallest), device)
        except (RuntimeError, ValueError):
            return larger
    return smallest


def _run(network: nn.Module, shape: Sequence[int], device: str) -> list[Tensor]:
    first = next(m for m in network.modules() if isinstance(m, nn.modules.conv._ConvNd))
    outputs = network(torch.zeros(shape[0], first.in_channels, *shape[1:], device=device))
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


def _step(network: nn.Module, shape: Sequence[int], device: str, precision: Precision) -> None:
    """Forward pass, loss and backward pass on (n, z, y, x) zeros."""
    where = torch.device(device)
    with autocast(where, choose_precision(precision, where)):
        outputs = _run(network, shape, device)
        labels = torch.zeros(tuple(shape), dtype=torch.int16, device=device)
        total = outputs[0].new_zeros((), dtype=torch.float32)
        for weight, logits in zip(supervision_weights(len(outputs)), outputs, strict=True):
            if weight:
                target = coarser_labels(labels, logits.shape[2:])
                total = total + weight * dice_and_cross_entropy(logits, target)
    total.backward()
    network.zero_grad(set_to_none=True)


def _peak(network: nn.Module, shape: Sequence[int], device: str, precision: Precision) -> int:
    if torch.device(device).type == "cuda":
        _synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        _step(network, shape, device, precision)
        return int(torch.cuda.max_memory_allocated(device))
    with _LiveBytes() as live:
        _step(network, shape, device, precision)
    return live.peak


def _synchronize(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


class _LiveBytes(TorchDispatchMode):
    """Bytes of all storages that operations make while it lasts, and their highest sum."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for item in tree_iter(result):
            if isinstance(item, Tensor):
                self._count(item.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:
            return
        size = int(storage.nbytes())
        self._seen.add(storage)
        weakref.finalize(storage, self._end, size)
        self.now += size
        self.peak = max(self.peak, self.now)

    def _end(self, size: int) -> None:
        self.now -= size

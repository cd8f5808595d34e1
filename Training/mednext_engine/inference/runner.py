"""What runs a network on one tile: PyTorch on any device, or OpenVINO on a CPU.

Both take a tile (1, c, z, y, x) and give (f, z, y, x), NumPy for NumPy and a tensor for a tensor:
logits, or features where the head stays outside (`head.py`). Both stop within a fraction of a
second when the monitor was cancelled.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..monitor import Monitor
from ..networks.parameters import is_mednext
from .arrays import Array, alike, cast, clone, is_tensor, library
from .head import Head, read_head, take_off_head
from .memory import HALF_ABOVE

if TYPE_CHECKING:
    from torch import nn

    from .devices import Execution

POLL_MILLISECONDS = 50


class Runner(Protocol):
    """A network ready to run. `head` is None when the outputs are logits already."""

    backend: str
    head: Head | None
    outputs: int

    def run(self, tile: Array, monitor: Monitor) -> Array:
        """(1, c, z, y, x) float32 on the execution's device -> (outputs, z, y, x).

        float32, or float16 where that is large (`memory.HALF_ABOVE`). The result may be
        overwritten by the next call. Raises Cancelled.
        """
        ...

    def rest(self) -> None:
        """Gives memory back that is needed only while it runs."""
        ...


def make_runner(
    network: nn.Module | Any,
    patch: Sequence[int],
    channels: int,
    classes: int,
    execution: Execution,
    *,
    keep_head: bool = False,
) -> Runner:
    """Prepares `network` (in evaluation mode; it is changed) for tiles of `patch` voxels.

    The head stays outside where there are more classes than features, unless `keep_head`.
    """
    head = read_head(network)
    keep_outside = classes > head.weight.shape[1] and not keep_head
    if keep_outside:
        take_off_head(network)
    outputs = int(head.weight.shape[1]) if keep_outside else classes
    outside = head if keep_outside else None
    if execution.backend == "openvino":
        if is_mednext(network):
            return OpenVINORunner(network, patch, channels, outputs, outside, execution)
        from .graph_traced import UnknownLayer

        # A layer without a translation: PyTorch runs every network, only slower.
        with suppress(UnknownLayer):
            return OpenVINORunner(network, patch, channels, outputs, outside, execution)
    return TorchRunner(network, outputs, outside, execution)


class TorchRunner:
    """PyTorch on CPU, CUDA or MPS, with autocast where the precision is not float32."""

    backend = "torch"

    def __init__(
        self, network: nn.Module, outputs: int, head: Head | None, execution: Execution
    ) -> None:
        import torch

        self.head, self.outputs = head, outputs
        self._device = torch.device(execution.device)
        self._dtype = getattr(torch, execution.precision)
        on_gpu = self._device.type == "cuda"
        # On CPUs the channels-last memory format is slower and its group norm inexact.
        self._format = torch.channels_last_3d if on_gpu else torch.contiguous_format
        self._network = network.to(self._device)
        if on_gpu:
            self._network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._monitor = Monitor()
        for module in network.modules():
            if not any(True for _ in module.children()):
                module.register_forward_pre_hook(lambda *_: self._monitor.check())

    def run(self, tile: Array, monitor: Monitor) -> Array:
        import torch

        self._monitor = monitor
        given = tile if is_tensor(tile) else torch.from_numpy(np.ascontiguousarray(tile))
        half = self._dtype != torch.float32
        with torch.inference_mode(), torch.autocast(self._device.type, self._dtype, enabled=half):
            result = self._network(given.contiguous(memory_format=self._format))[0].float()
        return result if is_tensor(tile) else result.numpy()

    def rest(self) -> None:
        return None


class OpenVINORunner:
    """A compiled OpenVINO graph on the CPU; a tile is waited for in short steps."""

    backend = "openvino"

    def __init__(
        self,
        network: Any,
        patch: Sequence[int],
        channels: int,
        outputs: int,
        head: Head | None,
        execution: Execution,
    ) -> None:
        from .openvino_runtime import ov

        self.head, self.outputs = head, outputs
        size = (int(patch[0]), int(patch[1]), int(patch[2]))
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "bf16" if execution.precision == "bfloat16" else "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        if execution.threads:
            settings["INFERENCE_NUM_THREADS"] = execution.threads
        graph = openvino_graph(network, channels, size)
        if 4 * outputs * math.prod(size) > HALF_ABOVE:
            graph = _with_half_outputs(graph)
        self._compiled = ov.Core().compile_model(graph, "CPU", settings)
        self._ran = False
        self._input = np.empty((1, channels, *size), np.float32)
        self._begin()

    def _begin(self) -> None:
        from .openvino_runtime import ov

        self._request = self._compiled.create_infer_request()
        self._request.set_input_tensor(ov.Tensor(self._input, shared_memory=True))

    def rest(self) -> None:
        del self._request  # with its output
        if hasattr(self._compiled, "release_memory"):  # not in every version
            self._compiled.release_memory()
        self._begin()

    def run(self, tile: Array, monitor: Monitor) -> Array:
        if not self._ran:
            _return_freed_memory()
        self._ran = True
        self._input[...] = tile
        self._request.start_async()
        while not self._request.wait_for(POLL_MILLISECONDS):
            if monitor.cancelled:
                self._request.cancel()
                with suppress(RuntimeError):  # OpenVINO reports a cancelled request as an error
                    self._request.wait()
                monitor.check()
        return alike(self._request.get_output_tensor().data[0], tile)


def _return_freed_memory() -> None:
    """Gives back what loading has freed; glibc keeps it for later, a copy of the weights or two."""
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def _with_half_outputs(graph: Any) -> Any:
    from .openvino_runtime import ops, ov

    largest = float(np.finfo(np.float16).max)
    output = ops.clamp(graph.get_results()[0].input_value(0), -largest, largest)
    return ov.Model([ops.convert(output, "f16")], graph.get_parameters(), "network")


def openvino_graph(network: Any, channels: int, size: tuple[int, int, int]) -> Any:
    """OpenVINO's model of a network. Raises `graph_traced.UnknownLayer`."""
    if is_mednext(network):
        from .graph_mednext import mednext_graph

        return mednext_graph(network, size)
    from .graph_traced import traced_graph

    return traced_graph(network, channels, size)


def mirrored(
    run: Callable[[Array], Array], tile: Array, combinations: Sequence[Sequence[int]]
) -> Array:
    """Mean of `run` over mirrored copies of a tile (1, c, z, y, x), each mirrored back.

    `combinations` are sets of spatial axes (0 = z), the empty set included.
    """
    total: Array = None
    flip = library(tile).flip
    for axes in combinations:
        result = run(flip(tile, tuple(a + 2 for a in axes)) if axes else tile)
        result = flip(result, tuple(a + 1 for a in axes)) if axes else result
        if len(combinations) == 1:
            return result
        # Cloned: the runner may use the same memory for its next result.
        if total is None:
            total = clone(cast(result, "float32"))
        else:
            total += result
    if total is None:
        raise ValueError("no combination of axes")
    total /= len(combinations)
    return total

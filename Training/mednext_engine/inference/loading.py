"""The networks of a model: loaded once and kept; the first one while the image is being read."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from ..errors import EngineError
from ..models.folder import Model
from ..models.torch_version import start_torch
from ..monitor import Monitor
from .devices import Execution, choose_execution
from .memory import activation_bytes
from .options import Options
from .precision import learned_precision
from .runner import Runner, make_runner

_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Wanted:
    """Which fold's network, where and how it runs, and whether it must give logits itself."""

    fold: str
    keep_head: bool
    execution: Execution


class Networks:
    """Keeps what runs the folds of `model`."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._kept: dict[Wanted, tuple[Runner, int]] = {}
        self._begun: Future[tuple[Wanted, Runner, int]] | None = None

    @property
    def memory_bytes(self) -> int:
        """What the networks that are kept take, about."""
        return sum(size for _, size in self._kept.values())

    def clear(self) -> None:
        self._kept.clear()
        self._begun = None

    def forget(self, wanted: Wanted) -> None:
        self._kept.pop(wanted, None)

    def get(self, wanted: Wanted, monitor: Monitor) -> Runner:
        """The network, loaded if it is not there yet.

        Raises:
            ModelError, DependencyError: it cannot be loaded.
            Cancelled.
        """
        if wanted not in self._kept:
            self._finish(monitor)
        if wanted not in self._kept:
            monitor.check()
            self._kept[wanted] = self._load(wanted)
        runner, _ = self._kept[wanted]
        if runner.backend != wanted.execution.backend:
            monitor.note("OpenVINO does not know this network, so PyTorch runs it.")
        return runner

    def expect(self, options: Options) -> None:
        """Begins to load what a run with `options` will want first, where OpenVINO runs it.

        That takes a core for some tenths of a second; reading the image takes another one.
        """
        try:
            execution = choose_execution(options)
        except EngineError:  # said when it matters
            return
        if execution.backend != "openvino" or self._kept or self._begun is not None:
            return
        folds = options.folds or self._model.default_folds
        resampling = self._model.plan.resample_probabilities
        keep_head = options.probabilities or options.uncertainty or len(folds) > 1
        keep_head = keep_head or max(resampling.order, resampling.order_z) > 1

        def load() -> tuple[Wanted, Runner, int]:
            learned = learned_precision(self._model, folds[0], options, execution)
            wanted = Wanted(folds[0], keep_head, learned.execution)
            return wanted, *self._load(wanted)

        pool = ThreadPoolExecutor(1)
        self._begun = pool.submit(load)
        pool.shutdown(wait=False)

    def _finish(self, monitor: Monitor) -> None:
        """Waits for what was begun. If that failed, the next try says why."""
        begun, self._begun = self._begun, None
        if begun is None:
            return
        while not wait([begun], _POLL_SECONDS).done:
            monitor.check()
        if begun.exception() is None:
            wanted, runner, size = begun.result()
            self._kept[wanted] = runner, size

    def _load(self, wanted: Wanted) -> tuple[Runner, int]:
        network, size = self._network(wanted)
        plan, execution = self._model.plan, wanted.execution
        patch = plan.patch_size
        if execution.backend == "openvino":  # a compiled graph keeps its working memory
            size += activation_bytes(plan, patch, execution)
        channels, heads = len(self._model.channel_names), self._model.labels.num_heads
        runner = make_runner(network, patch, channels, heads, execution, keep_head=wanted.keep_head)
        return runner, size

    def _network(self, wanted: Wanted) -> tuple[Any, int]:
        """The fold's network, or only its parameters where that will do, and its bytes."""
        if wanted.execution.backend == "openvino":
            parameters = self._model.parameters(wanted.fold)
            if parameters is not None:
                return parameters, parameters.nbytes
        start_torch()
        network = self._model.network(self._model.weights(wanted.fold))
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        return network, sum(p.numel() * p.element_size() for p in network.parameters())

"""One optimiser step: precision, frozen parts, clipping, and losses that are no numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from .device import autocast, choose_precision
from .distributed import Group
from .recipe import Part, Recipe
from .task import Batch, Task


class Stepper:
    """The network on its device with its optimiser.

    Args:
        check: raises where the run was cancelled; called between layers, forwards and backwards,
            so that a slow step can be left in its middle. The weights change only at its end.
    """

    def __init__(
        self, network: nn.Module, recipe: Recipe, group: Group, check: Callable[[], None]
    ) -> None:
        self.group, self.check = group, check
        self.device = group.device
        self.precision = choose_precision(recipe.precision, self.device)
        self.clip = recipe.gradient_clip
        self.on_gpu = self.device.type == "cuda"
        self.network = network.to(self.device)
        if self.on_gpu:
            self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.optimizer = _optimizer(self.network, recipe, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self._forward: nn.Module = self.network
        self._compile = recipe.compile and self.on_gpu

    def train_part(self, part: Part) -> None:
        """Chooses what the steps to come change; no gradient is computed for the rest."""
        names = [name for name, _ in self.network.named_parameters()]
        if part != "all" and not any(name.startswith("encoder.") for name in names):
            raise InputError("This network has no encoder that could be kept as it is.")
        for name, parameter in self.network.named_parameters():
            frozen = part != "all" and name.startswith("encoder.")
            if part == "decoder+stem" and name.startswith("encoder.stem."):
                frozen = False
            parameter.requires_grad_(not frozen)
            if frozen:
                parameter.grad = None
        self._forward = self.group.wrap(self.network)
        if self._compile:
            self._forward = torch.compile(self._forward)  # type: ignore[assignment]

    def step(self, task: Task, batch: Batch, rate: float, weight: float) -> float:
        """One step at learning rate `rate`; the loss of the whole batch, NaN where it was skipped.

        `weight` is this process's share of the batch times the number of processes.
        """
        self.network.train()
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate * parameters["factor"]
        self.optimizer.zero_grad(set_to_none=True)
        with self._checked():
            batch = self._moved(batch)
            with autocast(self.device, self.precision):
                loss = task.loss(self._forward, batch) * weight
            value = self.group.total([float(loss.detach()) / self.group.world])[0]
            if not math.isfinite(value):
                return math.nan
            self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        trained = [p for p in self.network.parameters() if p.grad is not None]
        norm = nn.utils.clip_grad_norm_(trained, self.clip)
        if not self.scaler.is_enabled() and not math.isfinite(float(norm)):
            self.optimizer.zero_grad(set_to_none=True)
            return math.nan
        self.scaler.step(self.optimizer)  # skips infinite gradients of float16 by itself
        self.scaler.update()
        return value

    def _moved(self, batch: Batch) -> Batch:
        moved = []
        for tensor in batch:
            tensor = tensor.to(self.device, non_blocking=True)
            if self.on_gpu and tensor.ndim == 5:
                tensor = tensor.contiguous(memory_format=torch.channels_last_3d)
            moved.append(tensor)
        return tuple(moved)

    def forward(self, network: nn.Module, image: Tensor) -> Tensor:
        """Finest output (n, classes, z, y, x), float32, of a CPU tensor; without gradients."""
        with torch.inference_mode(), autocast(self.device, self.precision):
            outputs = network(*self._moved((image,)))
        finest: Tensor = outputs if isinstance(outputs, Tensor) else outputs[0]
        return finest.float()

    @contextmanager
    def _checked(self) -> Iterator[None]:
        if self._compile or self.group.world > 1:  # processes leave together, between steps
            yield
            return
        handles = [
            module.register_forward_hook(self._between_layers)
            for module in self.network.modules()
            if isinstance(module, nn.modules.conv._ConvNd)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _between_layers(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.check()
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(self._backwards)

    def _backwards(self, _: Tensor) -> None:
        self.check()

    def weights(self) -> dict[str, Tensor]:
        """A copy of the network's weights on the CPU."""
        state = self.network.state_dict()
        return {k: v.detach().to("cpu", copy=True).contiguous() for k, v in state.items()}

    def state(self) -> dict[str, dict[str, Any]]:
        return {
            "network": self.weights(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load(self, content: dict[str, Any]) -> None:
        """Takes over what `state` gave.

        Raises:
            InputError: it is of another network.
        """
        try:
            self.network.load_state_dict(content["network"])
            self.optimizer.load_state_dict(content["optimizer"])
            self.scaler.load_state_dict(content["scaler"])
        except (RuntimeError, ValueError, KeyError):
            raise InputError(
                "This training's checkpoint is of another network.",
                "Resume it with its own settings, or start anew.",
            ) from None


def _optimizer(network: nn.Module, recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    """One optimiser for all phases: what is frozen has no gradient, and is left alone."""
    fused = device.type in ("cpu", "cuda")
    rate = recipe.phases[0].peak
    known: list[nn.Parameter] = []
    fresh: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        (fresh if recipe.fresh and name.startswith(recipe.fresh) else known).append(parameter)
    groups: list[dict[str, Any]] = [{"params": known, "factor": 1.0}]
    if fresh:
        groups.append({"params": fresh, "factor": recipe.fresh_factor})
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            groups,
            lr=rate,
            momentum=recipe.momentum,
            nesterov=True,
            weight_decay=recipe.weight_decay,
            fused=fused,
        )
    return torch.optim.AdamW(groups, lr=rate, weight_decay=recipe.weight_decay, fused=fused)

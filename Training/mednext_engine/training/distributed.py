"""One run on several processes, started by `torchrun`: gloo on CPUs, NCCL on CUDA.

Every process makes its own share of each batch, so that two processes see the very patches one
would see. Decisions (skip this step, stop, cancel) are taken together, and the first process alone
writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import InputError
from .device import choose_device
from .recipe import Recipe

PATIENCE = timedelta(minutes=30)


@dataclass(frozen=True)
class Group:
    """The processes of a run; one of its own (`world` 1) without `torchrun`."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, batch_size: int) -> range:
        """Samples of a batch that this process makes.

        Raises:
            InputError: fewer samples than processes.
        """
        if batch_size < self.world:
            raise InputError(
                f"A batch of {batch_size} cannot be shared by {self.world} processes.",
                "Start fewer processes or choose a larger batch.",
            )
        small, more = divmod(batch_size, self.world)
        first = self.rank * small + min(self.rank, more)
        return range(first, first + small + (self.rank < more))

    def total(self, values: list[float]) -> list[float]:
        """Sums over all processes, in double precision."""
        if self.world == 1:
            return values
        wide = torch.float32 if self.device.type == "mps" else torch.float64
        tensor = torch.tensor(values, dtype=wide, device=self.device)
        dist.all_reduce(tensor)
        return [float(v) for v in tensor]

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network with its gradients averaged over all processes after each backward pass."""
        if self.world == 1:
            return network
        ids = [self.device] if self.device.type == "cuda" else None
        # The coarsest output weighs nothing in the loss, so its head gets no gradient.
        return DistributedDataParallel(
            network, device_ids=ids, find_unused_parameters=True, broadcast_buffers=False
        )

    def wait(self) -> None:
        if self.world > 1:
            dist.barrier()


@contextmanager
def joined(recipe: Recipe) -> Iterator[Group]:
    """The group that `torchrun` (or SLURM's equal variables) started this process in."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Group(choose_device(recipe.device))
        return
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = choose_device(recipe.device, local_rank)
    began = not dist.is_initialized()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if began:
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield Group(device, dist.get_rank(), dist.get_world_size())
    finally:
        if began:
            dist.destroy_process_group()

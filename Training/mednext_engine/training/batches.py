"""Batches made ahead in threads. No processes: nothing to hang, to orphan or to configure.

PyTorch and NumPy release Python's lock while they compute, so threads suffice. A sample follows
from (seed, step, index), so any number of threads makes the same batches, and a resumed run goes on
with the very batch that was due.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from types import TracebackType

import torch

from .task import Batch, Sampler

AHEAD = 3
"""Batches that wait or are being made."""
MOST_THREADS = 8


def choose_threads(wanted: int | None, device: torch.device) -> int:
    """A GPU is fed by half of the cores; on a CPU the network needs them itself."""
    if wanted is not None:
        return max(1, wanted)
    if device.type == "cpu":
        return 1 if (os.cpu_count() or 1) < 8 else 2
    return max(1, min(MOST_THREADS, (os.cpu_count() or 2) // 2))


class Batches:
    """An endless row of batches from step `first` on, for the samples `indices` of each.

    A context manager: when it ends, however it ends, its threads have ended too.
    """

    def __init__(
        self, sampler: Sampler, indices: range, first: int, threads: int, pinned: bool = False
    ) -> None:
        self._sampler, self._indices, self._pinned = sampler, indices, pinned
        self._next = first
        self._waiting: deque[list[Future[Batch]]] = deque()
        self._pool = ThreadPoolExecutor(threads, "augmentation")
        _start_single_threaded(self._pool, threads)
        for _ in range(AHEAD):
            self._order()

    def _order(self) -> None:
        step = self._next
        self._waiting.append([self._pool.submit(self._sampler, step, i) for i in self._indices])
        self._next += 1

    def take(self, check: Callable[[], None]) -> Batch:
        """The next batch, each tensor with a batch axis. `check` may raise while it waits."""
        due = self._waiting[0]
        samples = []
        for future in due:
            while True:
                try:
                    samples.append(future.result(0.2))
                    break
                except NotYet:
                    if future.done():  # the sample itself timed out on something
                        raise
                    check()
        self._waiting.popleft()
        self._order()
        stacked = (torch.stack(parts) for parts in zip(*samples, strict=True))
        return tuple(s.pin_memory() if self._pinned else s for s in stacked)

    def close(self) -> None:
        """Drops what was ordered and waits for the samples being made."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Batches:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _start_single_threaded(pool: ThreadPoolExecutor, threads: int) -> None:
    """Starts all threads, each computing on one core, without changing the caller's number.

    PyTorch keeps the number of cores for each thread, but also as the default of new ones.
    """
    own = torch.get_num_threads()
    together = threading.Barrier(threads)

    def prepare() -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()  # a thread takes its number over when it first asks
        together.wait()

    for future in [pool.submit(prepare) for _ in range(threads)]:
        future.result()
    torch.set_num_threads(own)

"""Many small tensor operations on several cores: one thread a piece of work, none within it.

PyTorch splits each operation over all cores and waits for the last. For operations of some
microseconds that costs more than it gains, and on a busy computer every wait may last as long as
another process is given the core. Whole pieces of work side by side have neither problem.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

MAX_WORKERS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


def workers() -> int:
    """How many pieces of work run side by side."""
    return min(torch.get_num_threads(), MAX_WORKERS)


def side_by_side(
    work: Callable[[Item], Result], items: Iterable[Item], device: torch.device
) -> Iterator[Result]:
    """`work` of each of `items`, in their order; the first exception stops what has not begun.

    Only on CPUs, where more than one thread is allowed and there is more than one piece; within a
    piece of work, further pieces are done one after the other.
    """
    pieces = list(items)
    before = torch.get_num_threads()
    if device.type != "cpu" or before == 1 or len(pieces) < 2:
        yield from map(work, pieces)
        return
    pool = ThreadPoolExecutor(workers(), initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(work, pieces)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)

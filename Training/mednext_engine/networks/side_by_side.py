"""Pieces of a layer on several cores: one thread a piece, none within it.

PyTorch splits each operation over all cores and waits for the last of them. For operations that
take some ten microseconds that costs more than it gains, and where other programs want the cores
too, every wait may last as long as one of them keeps a core. Whole pieces side by side wait once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_lock = threading.Lock()
_users = [0, 1]
"""How many sections run at this moment, and how many threads PyTorch had before the first."""


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`work` of each of `items`, in their order, on as many threads as PyTorch may use.

    Nothing is recorded for autograd, and autocast is off. What each piece computes does not depend
    on how many threads there are.
    """
    threads = torch.get_num_threads()
    if threads == 1 or len(items) < 2:
        return [work(item) for item in items]
    with _one_thread_an_operation():
        return list(_pool(threads).map(torch.no_grad()(work), items))


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="layer")


@contextmanager
def _one_thread_an_operation() -> Iterator[None]:
    # The number is one of the calling thread, of threads that start later, and of the matrix
    # library in the whole process: to set it in the pool's threads would not suffice.
    with _lock:
        if not _users[0]:
            _users[1] = torch.get_num_threads()
        _users[0] += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _users[0] -= 1
            torch.set_num_threads(1 if _users[0] else _users[1])

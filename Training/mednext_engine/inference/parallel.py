"""Many small array operations on several cores: one thread a piece of work, none within it.

Libraries split each operation over all cores and wait for the last. For operations of some
microseconds that costs more than it gains, and on a busy computer every wait may last as long as
another process is given the core. Whole pieces of work side by side have neither problem: NumPy
lets go of Python's lock while it computes.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil

MAX_WORKERS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")

_here = threading.local()


@lru_cache(maxsize=1)
def workers() -> int:
    """How many pieces of work run side by side: one a core, as far as this process may use them.

    `OMP_NUM_THREADS`, which clusters and torchrun set, counts here too.
    """
    said = os.environ.get("OMP_NUM_THREADS", "")
    if said.isdigit() and int(said) > 0:
        return min(int(said), MAX_WORKERS)
    allowed = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    return min(allowed, psutil.cpu_count(logical=False) or allowed, MAX_WORKERS)


def side_by_side(
    work: Callable[[Item], Result], items: Iterable[Item], on_cpu: bool = True
) -> Iterator[Result]:
    """`work` of each of `items`, in their order; the first exception stops what has not begun.

    Only on CPUs, where more than one thread is allowed and there is more than one piece; within a
    piece of work, further pieces are done one after the other.
    """
    pieces = list(items)
    if not on_cpu or workers() == 1 or len(pieces) < 2 or getattr(_here, "busy", False):
        yield from map(work, pieces)
        return
    pool = ThreadPoolExecutor(workers(), initializer=_mark)
    try:
        with _single_threaded_products():
            yield from pool.map(work, pieces)
    finally:
        pool.shutdown(cancel_futures=True)


def _mark() -> None:
    _here.busy = True


_lock = threading.Lock()
_users = [0, 1]
"""How many ask for products in one thread at this moment, and how many threads they had before."""


@contextmanager
def _single_threaded_products() -> Iterator[None]:
    """Keeps NumPy's matrix products (OpenBLAS) from starting threads of their own."""
    blas = _openblas()
    if blas is None:
        yield
        return
    get, put = blas
    with _lock:
        if not _users[0]:
            _users[1] = int(get())
            put(1)
        _users[0] += 1
    try:
        yield
    finally:
        with _lock:
            _users[0] -= 1
            if not _users[0]:
                put(_users[1])


@lru_cache(maxsize=1)
def _openblas() -> tuple[Any, Any] | None:
    """Functions that tell and set the threads of the OpenBLAS in NumPy's wheel; None without it."""
    package = Path(np.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".dylibs"):
        for path in folder.glob("*openblas*"):
            try:
                blas = ctypes.CDLL(str(path))
            except OSError:
                continue
            for name in ("scipy_openblas_{}64_", "openblas_{}64_", "scipy_openblas_{}"):
                get = getattr(blas, name.format("get_num_threads"), None)
                put = getattr(blas, name.format("set_num_threads"), None)
                if get is not None and put is not None:
                    return get, put
    return None

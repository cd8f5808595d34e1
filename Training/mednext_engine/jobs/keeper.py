"""Models kept in memory between jobs: the last used ones, as many as fit a bound."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from ..models.folder import Model

ENVIRONMENT = "MEDNEXT_KEEP_MB"
SHARE = 0.25  # of the computer's memory
MOST = 6 * 2**30  # bytes
UNKNOWN = 2 * 2**30  # bytes, where the computer's memory cannot be asked


class Keeper:
    """Hands out one segmenter a model and remembers the last ones.

    A segmenter has `memory_bytes` and `close()`. `make` builds one for a model. A model whose files
    were changed or replaced since is loaded anew.
    """

    def __init__(self, make: Callable[[Model], Any], limit: int | None = None) -> None:
        self._make = make
        self._limit = keep_limit() if limit is None else limit
        self._kept: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

    def segmenter(self, model: Model) -> Any:
        key = _key(model)
        self._drop([k for k in self._kept if k[0] == key[0] and k != key])
        if key not in self._kept:
            self._kept[key] = self._make(model)
        self._kept.move_to_end(key)
        return self._kept[key]

    def trim(self) -> None:
        """Forgets those longest unused until the rest fits; even the last one must fit."""
        while self._kept and self.memory_bytes > self._limit:
            self._drop([next(iter(self._kept))])

    def clear(self) -> int:
        """Forgets all; returns how many there were."""
        count = len(self._kept)
        self._drop(list(self._kept))
        return count

    @property
    def memory_bytes(self) -> int:
        return sum(int(one.memory_bytes) for one in self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)

    def _drop(self, keys: list[tuple[Any, ...]]) -> None:
        for key in keys:
            self._kept.pop(key).close()


def keep_limit() -> int:
    """Bytes that models may take between jobs: a quarter of the memory, at most 6 GiB, or what the
    environment variable MEDNEXT_KEEP_MB says (0: keep none)."""
    if said := os.environ.get(ENVIRONMENT):
        try:
            return max(0, int(said)) * 2**20
        except ValueError:
            raise InputError(f"{ENVIRONMENT} must be a number of megabytes.") from None
    try:
        import psutil
    except ImportError:
        return UNKNOWN
    return min(MOST, int(psutil.virtual_memory().total * SHARE))


def _key(model: Model) -> tuple[Any, ...]:
    """The folder, and what tells whether its files are still the same."""
    names = ["plans.json", "dataset.json"]
    names += [f"fold_{fold}/{model.checkpoint_name}" for fold in model.folds]
    facts = [(model.path / name).stat() for name in names]
    configuration = model.plan.configuration
    return (str(model.path.resolve()), configuration, *((f.st_size, f.st_mtime_ns) for f in facts))

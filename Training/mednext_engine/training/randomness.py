"""Randomness of one sample, whatever thread makes it and whatever other threads do.

batchgeneratorsv2 draws from the global generators of NumPy and PyTorch. Each sample therefore owns
the states of two such generators, and lends them to the global ones, under a lock, for as long as a
draw takes. So equal seeds give equal samples with any number of threads, and nothing else that
draws from the global generators is disturbed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_GLOBAL_GENERATORS = threading.Lock()


class SampleRandomness:
    """Random numbers that follow from `(seed, step, index)` alone.

    Attributes:
        generator: for our own draws.
    """

    def __init__(self, *seed: int) -> None:
        words = np.random.SeedSequence([abs(s) for s in seed]).generate_state(4)
        self.generator = np.random.default_rng(words[:2])
        self._numpy = np.random.RandomState(words[2]).get_state(legacy=True)
        self._torch = torch.Generator().manual_seed(int(words[3])).get_state()

    @contextmanager
    def lent(self) -> Iterator[None]:
        """While it lasts, NumPy's and PyTorch's global CPU generators are this sample's."""
        with _GLOBAL_GENERATORS:
            outer = np.random.get_state(legacy=True), torch.get_rng_state()
            np.random.set_state(self._numpy)
            torch.set_rng_state(self._torch)
            try:
                yield
            finally:
                self._numpy, self._torch = np.random.get_state(legacy=True), torch.get_rng_state()
                np.random.set_state(outer[0])
                torch.set_rng_state(outer[1])

"""Probabilities and entropy against scipy, and the estimates of memory."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from skimage.transform import resize

from mednext_engine.inference import decide, memory
from mednext_engine.inference.probabilities import class_probabilities, uncertainty
from mednext_engine.inference.resampling import make_scheme
from mednext_engine.models.plan import Resampling

OLD, NEW = (9, 10, 11), (14, 13, 20)


def some_logits(heads: int) -> torch.Tensor:
    return torch.randn(heads, *OLD, generator=torch.Generator().manual_seed(0)) * 6


def upsampled(logits: torch.Tensor, order: int = 1) -> np.ndarray:
    return np.stack(
        [resize(c, NEW, order, mode="edge", anti_aliasing=False) for c in logits.double().numpy()]
    )


def a_scheme(order: int = 1, spacing=(1.0, 1.0, 1.0)):
    return make_scheme(OLD, NEW, Resampling(order=order), spacing, (1.0, 1.0, 1.0))


@pytest.mark.parametrize("order", [1, 3])
def test_softmax_comes_after_interpolation(order: int) -> None:
    logits = some_logits(5)
    found = np.stack(list(class_probabilities(logits, a_scheme(order), regions=False)))
    np.testing.assert_allclose(found, softmax(upsampled(logits, order), axis=0), atol=1e-5)


def test_regions_are_sigmoids() -> None:
    logits = some_logits(3)
    found = np.stack(list(class_probabilities(logits, a_scheme(), regions=True)))
    np.testing.assert_allclose(found, expit(upsampled(logits)), atol=1e-5)


def test_slabs_make_no_difference(monkeypatch) -> None:
    logits = some_logits(4)
    whole = np.stack(list(class_probabilities(logits, a_scheme(), regions=False)))
    entropy = uncertainty(logits, a_scheme(), regions=False)
    monkeypatch.setattr(decide, "SLAB_VOXELS", 3 * 13 * 20)
    parts = np.stack(list(class_probabilities(logits, a_scheme(), regions=False)))
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    np.testing.assert_allclose(uncertainty(logits, a_scheme(), False), entropy, atol=1e-6)


@pytest.mark.parametrize("heads", [2, 7])
def test_entropy_of_labels(heads: int) -> None:
    logits = some_logits(heads)
    p = softmax(upsampled(logits), axis=0)
    expected = -(p * np.log(np.maximum(p, 1e-300))).sum(0) / np.log(heads)
    np.testing.assert_allclose(uncertainty(logits, a_scheme(), False), expected, atol=1e-5)


def test_entropy_of_regions_is_that_of_the_least_certain() -> None:
    logits = some_logits(3)
    p = expit(upsampled(logits))
    each = -(p * np.log2(np.maximum(p, 1e-300)) + (1 - p) * np.log2(np.maximum(1 - p, 1e-300)))
    np.testing.assert_allclose(uncertainty(logits, a_scheme(), True), each.max(0), atol=1e-5)


def test_certain_and_clueless() -> None:
    logits = torch.zeros(4, *OLD)
    np.testing.assert_allclose(uncertainty(logits, a_scheme(), False), 1.0, atol=1e-6)
    logits[2] = 1000.0
    np.testing.assert_allclose(uncertainty(logits, a_scheme(), False), 0.0, atol=1e-6)
    found = list(class_probabilities(logits, a_scheme(), regions=False))
    np.testing.assert_allclose(found[2], 1.0)
    np.testing.assert_allclose(found[0], 0.0)


def test_thick_slices_are_repeated() -> None:
    logits = some_logits(3)
    found = np.stack(list(class_probabilities(logits, a_scheme(1, (9.0, 1.0, 1.0)), False)))
    pick = np.floor((np.arange(NEW[0]) + 0.5) * OLD[0] / NEW[0]).astype(int)
    flat = [[resize(s, NEW[1:], 1, mode="edge") for s in c] for c in logits.double().numpy()]
    np.testing.assert_allclose(found, softmax(np.array(flat), axis=0)[:, pick], atol=1e-5)


def test_estimates_of_memory_by_hand() -> None:
    # One channel before (1000) and after (8000), and three times the larger while resampling.
    assert memory.preprocessing_bytes((10, 10, 10), (20, 20, 20), 1) == 4 * (9_000 + 24_000)
    few = memory.deciding_bytes((10, 10, 10), (20, 20, 20), (20, 20, 20))
    assert few < 2**28


def test_preprocessing_stays_within_its_estimate() -> None:
    from mednext_engine.inference.images import Volume
    from mednext_engine.inference.preprocess import preprocess
    from mednext_engine.models.plan import Plan

    shape, channels = (80, 100, 90), 2
    array = np.random.default_rng(0).random((channels, *shape), dtype=np.float32) + 1
    plan = Plan(
        configuration="3d_fullres",
        spacing=(1.0, 1.0, 1.0),
        patch_size=(16, 16, 16),
        transpose_forward=(0, 1, 2),
        transpose_backward=(0, 1, 2),
        normalization=("ZScoreNormalization",) * channels,
        use_mask_for_norm=(False,) * channels,
        intensity=({},) * channels,
        network_class="",
        network_kwargs={},
    )
    tracemalloc.start()
    found = preprocess(Volume(array, (1.25, 0.8, 1.0)), plan)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    estimate = memory.preprocessing_bytes(shape, found.frame.plan_shape, channels)
    assert array.nbytes + peak <= estimate
    assert math.prod(found.frame.plan_shape) == 100 * 80 * 90

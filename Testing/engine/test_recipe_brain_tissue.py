"""The recipe of the embedded model: its fast network pass, its synthesis, and what it shipped."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mednext_engine.models.folder import open_model
from mednext_engine.models.layout import file_sha256
from mednext_engine.networks import MedNeXt

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "Training" / "recipes" / "brain_tissue"
SHIPPED = ROOT / "Resources" / "Models" / "BrainTissueMR"


def recipe(name: str) -> ModuleType:
    sys.path.insert(0, str(RECIPE))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(RECIPE))


@pytest.fixture
def fast_cpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = recipe("fast_cpu")
    monkeypatch.setattr(module, "_extension", lambda: None)  # the path without a compiler
    return module


def test_fast_pass_is_the_networks_function_and_gradient(fast_cpu: ModuleType) -> None:
    torch.manual_seed(0)
    network = MedNeXt(1, 3, channels=4, blocks=1, grn=True, deep_supervision=True)
    for name, parameter in network.named_parameters():
        if "grn" in name:  # zero at first: random, so that the test sees them
            torch.nn.init.normal_(parameter, 0, 0.3)
    image, target = torch.randn(16, 32, 48), torch.randint(0, 3, (1, 16, 32, 48))
    gradients = []
    outputs = []
    for result in (
        network(image[None, None]),
        [o[None] for o in fast_cpu.forward(network, image, torch.float32)],
    ):
        network.zero_grad()
        F.cross_entropy(result[0], target).backward()
        gradients.append(
            {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
        )
        outputs.append(result)
    for slow, quick in zip(*outputs, strict=True):
        torch.testing.assert_close(quick, slow, rtol=1e-4, atol=1e-4)
    checked = 0
    for name, quick in gradients[1].items():
        torch.testing.assert_close(quick, gradients[0][name], rtol=2e-3, atol=1e-5)
        checked += 1
    assert checked > 80


@pytest.fixture
def anatomy() -> object:
    """A ball of white matter in grey matter in a larger head of 1 mm voxels."""
    synthesis = recipe("synthesis")
    axes = np.meshgrid(*(np.arange(96) - 47.5,) * 3, indexing="ij")
    radius = np.sqrt(sum(a**2 for a in axes))
    white, brain = radius < 18, radius < 28
    maps = [brain & ~white, white, brain * 0.8, (radius < 40) * 0.7, radius - 28]
    maps.append(np.clip(40 - radius, 0, None))
    return synthesis.Anatomy(
        torch.from_numpy(np.stack(maps).astype(np.float32)), (47.5,) * 3, (56.0,) * 3
    )


def test_draws_repeat_and_are_normalised(anatomy: object) -> None:
    synthesis = recipe("synthesis")
    first, labels = synthesis.Draw(anatomy, 3).volume()
    again, same = synthesis.Draw(anatomy, 3).volume()
    other, _ = synthesis.Draw(anatomy, 4).volume()
    assert torch.equal(first, again)
    assert torch.equal(labels, same)
    assert first.shape != other.shape or not torch.equal(first, other)
    assert abs(float(first.mean())) < 1e-3
    assert abs(float(first.std()) - 1) < 1e-3
    assert set(labels.unique().tolist()) <= {0, 1, 2, 3}
    assert 2 in labels


def test_patches_have_their_size_even_of_small_images(anatomy: object) -> None:
    pairs = recipe("synthesis").patches(anatomy, 5, 128, 2)
    assert [(i.shape, j.shape) for i, j in pairs] == [((128,) * 3, (128,) * 3)] * 2
    assert all(i.dtype == np.float16 and j.dtype == np.uint8 for i, j in pairs)


@pytest.mark.skipif(not SHIPPED.is_dir(), reason="the model is not in this copy")
def test_shipped_model_is_small_complete_and_licensed() -> None:
    model = open_model(SHIPPED)
    files = [f for f in SHIPPED.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) < 5_500_000
    assert {f.name for f in files} >= {"plans.json", "dataset.json", "mednext.json", "LICENSE"}
    for name, digest in model.card.files.items():
        assert file_sha256(SHIPPED / name) == digest
    assert [entry.value for entry in model.card.labels] == [1, 2, 3]
    assert all("SCT^" in entry.terminology for entry in model.card.labels)
    assert "not for clinical use" in model.card.intended_use

"""Models and volumes of the benchmarks: real images, and weights trained just enough to decide.

Everything is made once and kept in a work folder; the networks of the papers are far too slow to
train on a CPU at their own patch size, but their weights do not know the patch they were trained
with, so a few dozen steps on 32^3 voxels of the sample head give them meaningful labels.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "engine"))

import engine_fixtures as fixtures

from mednext_engine.models.folder import Model, open_model
from mednext_engine.models.resources import resource_path
from mednext_engine.networks.layers import ChannelNorm, GlobalResponseNorm
from mednext_engine.networks.registry import CONFIGURATIONS

SPACING = 1.5
RESIDUAL_KWARGS = {
    **fixtures.RESIDUAL_KWARGS,
    "n_stages": 5,
    "features_per_stage": [32, 64, 128, 256, 320],
    "kernel_sizes": [[3, 3, 3]] * 5,
    "strides": [[1, 1, 1]] + [[2, 2, 2]] * 4,
    "n_blocks_per_stage": [1, 3, 4, 4, 4],
    "n_conv_per_stage_decoder": [1, 1, 1, 1],
}
fixtures.KINDS["mednext-s"] = (fixtures.MEDNEXT, CONFIGURATIONS["v1-s-k3"].kwargs, 2e-3)
fixtures.KINDS["residual-m"] = (fixtures.RESIDUAL, RESIDUAL_KWARGS, 4e-3)
fixtures.KINDS["mednext-base"] = (fixtures.MEDNEXT, CONFIGURATIONS["v2-base-k3"].kwargs, 0.0)
STEPS = {"mednext-s": 70, "residual-m": 70}


def trained(kind: str, work: Path) -> fixtures.Trained:
    """The trained network of `kind`, from `work` if it is there already."""
    path = work / f"{kind}.pt"
    if not path.exists():
        print(f"training {kind} ...", flush=True)
        work.mkdir(parents=True, exist_ok=True)
        torch.save(fixtures.train_network(kind, STEPS[kind], SPACING).state, path)
    return fixtures.Trained(kind, torch.load(path, weights_only=True))


def random_base() -> fixtures.Trained:
    """v2 Base with random weights whose norms and responses are not the identity."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network = CONFIGURATIONS["v2-base-k3"].build(1, 5)
    for module in network.modules():
        parts: list[tuple[torch.Tensor, float]] = []
        if isinstance(module, ChannelNorm):
            parts = [(module.weight.data, 1.0), (module.bias.data, 0.0)]
        elif isinstance(module, GlobalResponseNorm):
            parts = [(module.gamma.data, 0.0), (module.beta.data, 0.0)]
        for values, centre in parts:
            values.copy_(centre + 0.1 * torch.randn(values.shape, generator=generator))
    return fixtures.Trained("mednext-base", network.state_dict())


def model(kind: str, labels: int, patch: int, work: Path) -> Model:
    """A model folder of `kind` with `labels` labels (three of them win) and cubes of `patch`."""
    folder = work / f"{kind}-{labels}-{patch}"
    if folder.exists():
        return open_model(folder)
    source = random_base() if kind == "mednext-base" else trained(kind, work)
    changes: dict[str, Any] = {"patch_size": (patch,) * 3, "spacing": (SPACING,) * 3}
    return source.write(folder, labels="classes" if labels == 3 else labels, **changes)


def embedded() -> Model:
    """The model that ships."""
    folders = sorted(p.parent for p in resource_path("Models").glob("*/plans.json"))
    if not folders:
        raise SystemExit("There is no model in Resources/Models yet.")
    return open_model(folders[0])


def head(size: tuple[int, int, int], spacing: float, work: Path) -> Path:
    """`size` (x, y, z) voxels of the sample head at `spacing` mm, from its middle."""
    path = work / f"head-{'x'.join(map(str, size))}-{spacing}.nii.gz"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        image = fixtures.sample_head((spacing,) * 3)
        have = image.GetSize()
        missing = [max(want - n, 0) for n, want in zip(have, size, strict=True)]
        image = sitk.ZeroFluxNeumannPad(image, [0, 0, 0], missing)
        start = [max(n - want, 0) // 2 for n, want in zip(have, size, strict=True)]
        fixtures.write_image(path, sitk.RegionOfInterest(image, size, start))
    return path


def atlas_logits(labels: int, size: int, work: Path) -> Path:
    """(labels, size, size, size) float32 like a network's for a brain atlas of `labels` labels.

    Smoothed memberships of the AAL atlas (Debian's mricron-data), or of Voronoi cells without it.
    """
    path = work / f"logits-{labels}-{size}.npy"
    if path.exists():
        return path
    work.mkdir(parents=True, exist_ok=True)
    atlas = _atlas(labels, size)
    stored = np.lib.format.open_memmap(path, "w+", np.float32, (labels, size, size, size))
    noise = np.random.default_rng(1)
    for label in range(labels):
        member = sitk.GetImageFromArray((atlas == label).astype(np.float32))
        smooth = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(member, 1.0))
        stored[label] = 12 * smooth + noise.normal(0, 0.05, smooth.shape)
    stored.flush()
    return path


def _atlas(labels: int, size: int) -> np.ndarray:
    path = Path("/usr/share/mricron/templates/aal.nii.gz")
    if path.exists():
        image = sitk.ReadImage(str(path))
        start = [(n - size) // 2 for n in image.GetSize()]
        values = sitk.GetArrayFromImage(sitk.RegionOfInterest(image, [size] * 3, start))
        order = np.unique(values)
        return np.searchsorted(order, values) % labels
    seeds = np.random.default_rng(0).uniform(0, size, (labels, 3)).astype(np.float32)
    grid = np.stack(np.meshgrid(*[np.arange(size, dtype=np.float32)] * 3, indexing="ij"))
    best, index = np.full((size,) * 3, np.inf, np.float32), np.zeros((size,) * 3, np.int64)
    for number, seed in enumerate(seeds):
        distance = ((grid - seed[:, None, None, None]) ** 2).sum(0)
        index[distance < best] = number
        best = np.minimum(best, distance)
    return index

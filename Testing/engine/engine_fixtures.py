"""Small trained models and real volumes, for tests of the engine as a whole.

The networks learn to find three classes of smoothed intensity (background, dark, bright) in the
sample head at 3 mm. What they find is of no use, but unlike random weights they decide: a label
map of random weights flips wherever two equal logits are rounded differently.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F

from mednext_engine.models.card import Card
from mednext_engine.models.folder import Model
from mednext_engine.models.plan import Plan, Resampling
from mednext_engine.models.resources import resource_path
from mednext_engine.models.writer import Training, write_model
from mednext_engine.networks.registry import build_network

MEDNEXT = "mednext_engine.networks.MedNeXt"
RESIDUAL = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
MEDNEXT_KWARGS: dict[str, Any] = {
    "channels": 8,
    "blocks": [1] * 9,
    "expansion": [2] * 9,
    "kernel_size": 3,
    "grn": True,
}
RESIDUAL_KWARGS: dict[str, Any] = {
    "n_stages": 4,
    "features_per_stage": [8, 16, 32, 64],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[3, 3, 3]] * 4,
    "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]],
    "n_blocks_per_stage": [1, 1, 1, 1],
    "n_conv_per_stage_decoder": [1, 1, 1],
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
KINDS = {"mednext": (MEDNEXT, MEDNEXT_KWARGS, 3e-3), "residual": (RESIDUAL, RESIDUAL_KWARGS, 1e-2)}
CLASSES = {"background": 0, "dark": 1, "bright": 2}
REGIONS = {"background": 0, "head": [1, 2], "core": [2]}
THRESHOLDS = (35.0, 85.0)
PATCH = 32


def sample_head(spacing: tuple[float, float, float] = (3.0, 3.0, 3.0)) -> sitk.Image:
    """Colin27's head as shipped, at `spacing` (x, y, z; mm), float32."""
    image = sitk.ReadImage(str(resource_path("SampleData") / "Colin27_T1.nii.gz"), sitk.sitkFloat32)
    size = [
        round(n * old / new)
        for n, old, new in zip(image.GetSize(), image.GetSpacing(), spacing, strict=True)
    ]
    smooth = sitk.SmoothingRecursiveGaussian(image, [0.45 * s for s in spacing])
    origin, direction = image.GetOrigin(), image.GetDirection()
    nothing = sitk.Transform()
    return sitk.Resample(smooth, size, nothing, sitk.sitkLinear, origin, spacing, direction, 0.0)


def turned(image: sitk.Image, degrees: tuple[float, float] = (17.0, -11.0)) -> sitk.Image:
    """The same voxels with oblique axes, about z and then about x, and another origin."""
    (cz, cx), (sz, sx) = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    result = sitk.Image(image)
    direction = about_z @ about_x @ np.reshape(image.GetDirection(), (3, 3))
    result.SetDirection(direction.ravel().tolist())
    result.SetOrigin((-31.25, 12.5, 77.0))
    return result


def class_map(values: np.ndarray) -> np.ndarray:
    """What the networks learn: smoothed intensities (z, y, x), cut at `THRESHOLDS`; 0 to 2."""
    volume = torch.from_numpy(np.asarray(values, np.float32))[None, None]
    smooth = F.avg_pool3d(F.avg_pool3d(volume, 3, 1, 1), 3, 1, 1)[0, 0].numpy()
    return np.digitize(smooth, THRESHOLDS)


def a_plan(kind: str = "mednext", channels: int = 1, **changes: Any) -> Plan:
    """The plan of a network of `kind`: isotropic 3 mm, patch 32^3, z-score."""
    network_class, kwargs, _ = KINDS[kind]
    plan = Plan(
        configuration="3d_fullres",
        spacing=(3.0, 3.0, 3.0),
        patch_size=(PATCH, PATCH, PATCH),
        transpose_forward=(0, 1, 2),
        transpose_backward=(0, 1, 2),
        normalization=("ZScoreNormalization",) * channels,
        use_mask_for_norm=(False,) * channels,
        intensity=({},) * channels,
        resample_data=Resampling(order=3),
        resample_probabilities=Resampling(order=1),
        network_class=network_class,
        network_kwargs=dict(kwargs),
    )
    return replace(plan, **changes)


@dataclass(frozen=True)
class Trained:
    """A trained state with five outputs: three classes and, overlapping, two regions."""

    kind: str
    state: dict[str, torch.Tensor]

    def write(self, folder: Path, **changes: Any) -> Model:
        """A model folder of the three classes; `changes` go to the plan or are those below.

        `channels`: the first layer is divided among so many equal input channels.
        `labels`: "classes", "regions", "ignore" (classes and an ignore label), or a number: the
        three classes and further ones that never win, to so many in all.
        `folds`: names of the folds; those after the first are slightly disturbed.
        """
        channels, labels = changes.pop("channels", 1), changes.pop("labels", "classes")
        folds = changes.pop("folds", ("0",))
        state = _with_channels(self._with_labels(labels), channels)
        table: dict[str, Any] = dict(REGIONS if labels == "regions" else CLASSES)
        if labels == "ignore":
            table["ignore"] = 3
        if isinstance(labels, int):
            table.update({f"label{i}": i for i in range(3, labels)})
        generator = torch.Generator().manual_seed(5)
        weights = {folds[0]: state}
        for fold in folds[1:]:
            weights[fold] = {k: _disturbed(v, generator) for k, v in state.items()}
        return write_model(
            folder,
            plan=a_plan(self.kind, channels, **changes),
            weights=weights,
            labels=table,
            regions_class_order=[1, 2] if labels == "regions" else None,
            channel_names=[f"channel{n}" for n in range(channels)],
            card=Card(title="Trained for a test", license="Apache-2.0"),
            training=Training(mirror_axes=(0, 1, 2)),
        )

    def _with_labels(self, labels: str | int) -> dict[str, torch.Tensor]:
        state = dict(self.state)
        for key in _head_keys(state):
            transposed = key.startswith("decoder.heads.") and key.endswith("weight")
            axis = 1 if transposed else 0
            rows = range(3, 5) if labels == "regions" else range(3)
            head = state[key].index_select(axis, torch.tensor(list(rows)))
            if isinstance(labels, int):
                more = head.narrow(axis, 2, 1).repeat_interleave(labels - 3, axis)
                more = more * 0.97 if key.endswith("weight") else more - 2.0
                head = torch.cat([head, more], axis)
            state[key] = head
        return state


def _head_keys(state: dict[str, torch.Tensor]) -> list[str]:
    """Names of the output layers' parameters, those of deep supervision included."""
    return [k for k in state if k.startswith(("decoder.heads.", "decoder.seg_layers."))]


def _with_channels(state: dict[str, torch.Tensor], channels: int) -> dict[str, torch.Tensor]:
    """Spreads the layers that see the image over `channels` copies of it."""
    if channels == 1:
        return state
    keys = ["encoder.stem.weight"]
    if keys[0] not in state:  # nnU-Net's modules hold the same layer under several names
        one = next(v for v in state.values() if v.ndim == 5)
        keys = [k for k, v in state.items() if v.shape == one.shape and torch.equal(v, one)]
    spread = {k: state[k].repeat(1, channels, 1, 1, 1) / channels for k in keys}
    return {**state, **spread}


def _disturbed(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return values * (1 + 0.02 * torch.randn(values.shape, generator=generator))


def train_network(kind: str, steps: int = 80, spacing: float = 3.0) -> Trained:
    """Trains a network of `KINDS` at `spacing` mm; the small ones in well under a minute."""
    network_class, kwargs, rate = KINDS[kind]
    values = sitk.GetArrayFromImage(sample_head((spacing,) * 3))
    target = torch.from_numpy(class_map(values))
    image = torch.from_numpy((values - values.mean()) / values.std())
    torch.manual_seed(0)
    network = build_network(network_class, dict(kwargs), 1, 5)
    optimizer = torch.optim.AdamW(network.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps)
    generator = np.random.default_rng(0)
    for _ in range(steps):
        boxes = [_random_box(generator, values.shape) for _ in range(2)]
        output = network(torch.stack([image[box] for box in boxes])[:, None])
        loss = _loss(output, torch.stack([target[box] for box in boxes]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return Trained(kind, {k: v.detach() for k, v in network.state_dict().items()})


def _random_box(generator: np.random.Generator, shape: tuple[int, ...]) -> tuple[slice, ...]:
    starts = [int(generator.integers(0, n - PATCH + 1)) for n in shape]
    return tuple(slice(start, start + PATCH) for start in starts)


def _loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the three classes and, of the three further outputs, of the regions."""
    regions = torch.stack([(target >= value).float() for value in (1, 2)], 1)
    loss = F.cross_entropy(output[:, :3], target)
    return loss + F.binary_cross_entropy_with_logits(output[:, 3:], regions)


def write_image(path: Path, image: sitk.Image) -> Path:
    sitk.WriteImage(image, str(path), True)
    return path


def dice_of_labels(one: np.ndarray, other: np.ndarray) -> dict[int, float]:
    """Dice of each label that either map holds, background included."""
    scores = {}
    for value in np.union1d(one, other).tolist():
        a, b = one == value, other == value
        scores[value] = 2 * float((a & b).sum()) / float(a.sum() + b.sum())
    return scores

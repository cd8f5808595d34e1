"""nnU-Net's augmentation (2.8.1) with the transforms of batchgeneratorsv2.

Order, probabilities and ranges are nnUNetTrainer's. Three things are decided here:
- What rotation or padding brings in from outside the volume has the label -1 (unknown), which is
  kept in a case that is annotated in part only. In a completely annotated one it becomes
  background, as in nnU-Net, where the image shows nothing (0) there.
- The blur is our own, equal to theirs in result: theirs imports scikit-image for a picture it
  never shows, and chooses its algorithm by the clock, so that no run could be repeated.
- Patches are rotated only in a third of all samples, so only these are cut larger first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DependencyError
from .randomness import SampleRandomness

ANISOTROPY = 3
"""Ratio of patch sides above which rotation and scaling stay in the slice (nnU-Net's)."""
SCALES = (0.7, 1.4)
CUT_SCALE = 0.85  # nnU-Net cuts for a smaller range of scales than it draws from


def in_slice_only(patch_size: Sequence[int]) -> bool:
    """nnU-Net's "dummy 2D": the patch has far fewer voxels along its first axis."""
    return max(patch_size) / patch_size[0] > ANISOTROPY


def cut_size(patch_size: Sequence[int]) -> tuple[int, int, int]:
    """Size that nnU-Net cuts before it rotates, so that corners have content."""
    flat = in_slice_only(patch_size)
    angle = math.pi / 2 if flat else math.pi / 6
    sine, cosine = math.sin(angle), math.cos(angle)
    z, y, x = patch_size
    sizes = (
        max(z, abs(cosine * z - sine * x), abs(cosine * z + sine * y)),
        max(y, abs(cosine * y + sine * x), abs(cosine * y - sine * z)),
        max(x, abs(cosine * x - sine * y), abs(cosine * x + sine * z)),
    )
    result = [int(size / CUT_SCALE) for size in sizes]
    if flat:
        result[0] = z
    return result[0], result[1], result[2]


@dataclass(frozen=True)
class SpatialDraw:
    """A drawn rotation and scaling, and the size (z, y, x) of the patch that it needs."""

    size: tuple[int, int, int]
    parameters: dict[str, Any] | None


class Augmentation:
    """Everything that happens to a patch between the volume and the network.

    Args:
        patch_size: (z, y, x) of the result.
        mirror_axes: spatial axes that may be mirrored.
        masked_channels: channels of which zeros stay zero.

    Raises:
        DependencyError: batchgeneratorsv2 or what it imports is missing.
    """

    def __init__(
        self,
        patch_size: Sequence[int],
        mirror_axes: Sequence[int],
        masked_channels: Sequence[int] = (),
    ) -> None:
        self.patch_size = (patch_size[0], patch_size[1], patch_size[2])
        self.flat = in_slice_only(patch_size)
        self.masked_channels = tuple(masked_channels)
        self._spatial, self._intensity, self._mirror = _transforms(
            self.patch_size, mirror_axes, self.flat
        )

    def draw(self, channels: int, randomness: SampleRandomness) -> SpatialDraw:
        """Draws rotation and scaling, which decide how large a patch must be cut."""
        size = cut_size(self.patch_size)
        shape = (channels * size[0], *size[1:]) if self.flat else (channels, *size)
        blank = torch.empty(1).expand(shape)  # only its shape is looked at
        with randomness.lent():
            parameters = self._spatial.get_parameters(image=blank)
        if parameters["grid"] is None:
            return SpatialDraw(self.patch_size, None)
        return SpatialDraw(size, parameters)

    def apply(
        self, image: Tensor, labels: Tensor, draw: SpatialDraw, randomness: SampleRandomness
    ) -> tuple[Tensor, Tensor]:
        """(c, z, y, x) float32 and (1, z, y, x) int16 of `draw.size` -> of the patch's size.

        Both may be changed in place.
        """
        if draw.parameters is not None:
            image, labels = self._turn(image, labels, draw.parameters)
        empty = {c: image[c] == 0 for c in self.masked_channels if c < len(image)}
        for step in self._intensity:
            image = step(image, randomness)
        for channel, mask in empty.items():
            image[channel].masked_fill_(mask, 0)
        if self._mirror is not None:
            with randomness.lent():
                parameters = self._mirror.get_parameters()
            image = self._mirror._apply_to_image(image, **parameters)
            labels = self._mirror._apply_to_segmentation(labels, **parameters)
        return image.contiguous(), labels.contiguous()

    def _turn(
        self, image: Tensor, labels: Tensor, parameters: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        if not self.flat:
            turned = self._spatial._apply_to_image(image, **parameters)
            return turned, self._spatial._apply_to_segmentation(labels, **parameters)
        # Slices are channels of a 2D image meanwhile.
        slices = self._spatial._apply_to_image(image.flatten(0, 1), **parameters)
        marks = self._spatial._apply_to_segmentation(labels.flatten(0, 1), **parameters)
        return slices.unflatten(0, image.shape[:2]), marks.unflatten(0, labels.shape[:2])


class _Sometimes:
    """A transform of batchgeneratorsv2 and how often it happens."""

    def __init__(self, probability: float, transform: Any, draws_late: bool = False) -> None:
        self.probability, self.transform, self.draws_late = probability, transform, draws_late

    def __call__(self, image: Tensor, randomness: SampleRandomness) -> Tensor:
        if randomness.generator.random() >= self.probability:
            return image
        result: Tensor
        if self.draws_late:  # draws while it is applied
            with randomness.lent():
                result = self.transform(image=image)["image"]
            return result
        with randomness.lent():
            parameters = self.transform.get_parameters(image=image)
        result = self.transform._apply_to_image(image, **parameters)
        return result


class GaussianBlur:
    """Blurs each channel with probability 1/2, by another sigma (voxels) along each axis.

    Equal to batchgeneratorsv2's GaussianBlurTransform(blur_sigma=sigma, synchronize_channels=False,
    synchronize_axes=False, p_per_channel=0.5).
    """

    def __init__(self, probability: float, sigma: tuple[float, float]) -> None:
        self.probability, self.sigma = probability, sigma

    def __call__(self, image: Tensor, randomness: SampleRandomness) -> Tensor:
        generator = randomness.generator
        if generator.random() >= self.probability:
            return image
        for channel in range(len(image)):
            if generator.random() < 0.5:
                sigmas = generator.uniform(*self.sigma, size=3)
                image[channel] = blur(image[channel], sigmas)
        return image


def blur(volume: Tensor, sigmas: Sequence[float] | np.ndarray) -> Tensor:
    """Separable Gaussian of (z, y, x), reflected at the borders; kernels reach 3 sigma."""
    for axis, sigma in enumerate(sigmas):
        kernel = _kernel(float(sigma))
        half, size = len(kernel) // 2, volume.shape[axis]
        if half >= size:
            continue  # too thin to be reflected
        index = torch.arange(-half, size + half).abs()
        index = torch.where(index >= size, 2 * (size - 1) - index, index)
        padded = volume.index_select(axis, index)
        volume = padded.narrow(axis, 0, size) * kernel[0]
        for offset in range(1, len(kernel)):
            volume.add_(padded.narrow(axis, offset, size), alpha=kernel[offset])
    return volume


def _kernel(sigma: float) -> list[float]:
    reach = sigma * 6 + 0.5
    length = round(reach)
    if length % 2 == 0:
        length += 1 if reach >= length else -1
    x = np.arange(length) - (length - 1) / 2
    weights = np.exp(-0.5 * (x / sigma) ** 2)
    return [float(w) for w in weights / weights.sum()]


def _transforms(
    patch_size: tuple[int, int, int], mirror_axes: Sequence[int], flat: bool
) -> tuple[Any, list[Any], Any]:
    try:
        from batchgeneratorsv2.transforms.intensity.brightness import (
            MultiplicativeBrightnessTransform,
        )
        from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
        from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
        from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
        from batchgeneratorsv2.transforms.spatial.low_resolution import (
            SimulateLowResolutionTransform,
        )
        from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
        from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    except ImportError as error:
        raise DependencyError(
            f"Training needs batchgeneratorsv2 ({error.name or 'part of it'} is missing).",
            "Install it with: pip install 'mednext_engine[finetune]'.",
        ) from None
    angle = math.pi if flat else math.pi / 6
    spatial = SpatialTransform(
        patch_size[1:] if flat else patch_size,
        patch_center_dist_from_border=0,
        random_crop=False,
        p_rotation=0.2,
        rotation=(-angle, angle),
        p_scaling=0.2,
        scaling=SCALES,
        p_synchronize_scaling_across_axes=1,
        bg_style_seg_sampling=False,
        border_mode_seg="constant",
        padding_value_seg=-1,
    )
    brightness = MultiplicativeBrightnessTransform(BGContrast((0.75, 1.25)), False, 1)
    contrast = ContrastTransform(BGContrast((0.75, 1.25)), True, False, 1)
    coarser = SimulateLowResolutionTransform(
        scale=(0.5, 1),
        synchronize_channels=False,
        synchronize_axes=True,
        ignore_axes=(0,) if flat else None,
        p_per_channel=0.5,
    )
    intensity = [
        _Sometimes(0.1, GaussianNoiseTransform((0, 0.1), 1, True), draws_late=True),
        GaussianBlur(0.2, (0.5, 1.0)),
        _Sometimes(0.15, brightness),
        _Sometimes(0.15, contrast),
        _Sometimes(0.25, coarser),
        _Sometimes(0.1, GammaTransform(BGContrast((0.7, 1.5)), 1, False, 1, 1)),
        _Sometimes(0.3, GammaTransform(BGContrast((0.7, 1.5)), 0, False, 1, 1)),
    ]
    return spatial, intensity, MirrorTransform(tuple(mirror_axes)) if mirror_axes else None

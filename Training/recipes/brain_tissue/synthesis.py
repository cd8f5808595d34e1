"""Random MR images of a head with known tissue labels, made from two averaged heads.

An `Anatomy` holds maps on one 1 mm grid. Each draw deforms them, picks the intensities of brain
tissue and of everything around it anew (or bends those of the real T1 averages), adds what
scanners add, and normalises the way nnU-Net does. Idea: Billot et al., "SynthSeg", Medical Image
Analysis 2023 (doi:10.1016/j.media.2023.102789). Arrays are (z, y, x), voxels of `SPACING` mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SPACING = 2.0
MAPS = ("grey", "white", "t1", "head", "brain_distance", "depth")
LARGEST = (112, 124, 112)
CSF, GREY, WHITE = 1, 2, 3


@dataclass(frozen=True)
class Anatomy:
    """Maps (6, z, y, x) in the order of `MAPS`, 1 mm, patient axes (z up, y back, x left).

    grey and white: probabilities; t1: skull-stripped T1 average and head: whole-head T1 average,
    each with white matter near 1; brain_distance: mm, negative inside the brain; depth: mm below
    the skin, 0 in air.
    """

    maps: Tensor
    centre: tuple[float, float, float]
    extent: tuple[float, float, float]

    @classmethod
    def load(cls, path: Path) -> Anatomy:
        with np.load(path) as stored:
            maps = np.stack([stored[name].astype(np.float32) for name in MAPS])
        inside = np.argwhere(maps[4] < 0)
        low, high = inside.min(0), inside.max(0)
        return cls(
            torch.from_numpy(maps),
            tuple((low + high) / 2),
            tuple((high - low).astype(float)),
        )


class Draw:
    """One random image. `volume()` returns image float32 and labels uint8, both (z, y, x)."""

    def __init__(self, anatomy: Anatomy, seed: int) -> None:
        self.anatomy = anatomy
        self.random = np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.real = self.chance(0.5)  # intensities of the averaged heads, bent

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def uniform(self, low: float, high: float) -> float:
        return float(self.random.uniform(low, high))

    def field(self, shape: tuple[int, ...], cell: float, channels: int = 1) -> Tensor:
        """Smooth random field (channels, z, y, x), unit deviation, features of `cell` mm."""
        coarse = [max(2, round(s * SPACING / cell) + 1) for s in shape]
        noise = torch.randn(1, channels, *coarse, generator=self.generator)
        return F.interpolate(noise, size=shape, mode="trilinear", align_corners=True)[0]

    # -- shape ---------------------------------------------------------------------------------

    def _box(self) -> tuple[list[float], list[float]]:
        """Field of view in mm relative to the brain's centre: low and high corners."""
        half = [e / 2 for e in self.anatomy.extent]
        low = [-h - self.uniform(2, 45) for h in half]
        high = [h + self.uniform(2, 45) for h in half]
        if self.chance(0.4):  # down to the neck
            low[0] -= self.uniform(0, 55)
        if self.chance(0.25):
            for axis in self.random.choice(3, size=self.random.integers(1, 3), replace=False):
                cut = self.uniform(-0.25, 0.95) * half[axis]
                if self.chance(0.5):
                    low[axis] = -cut
                else:
                    high[axis] = cut
        return low, high

    def _matrix(self) -> np.ndarray:
        """Rotation, scale and shear, (z, y, x) of the image to those of the anatomy."""
        limit = 30.0 if self.chance(0.45) else 10.0
        a, b, c = np.deg2rad(self.random.uniform(-limit, limit, 3))
        rotate = (
            np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
            @ np.array([[np.cos(b), 0, -np.sin(b)], [0, 1, 0], [np.sin(b), 0, np.cos(b)]])
            @ np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
        )
        scale = self.uniform(0.85, 1.18) * self.random.uniform(0.93, 1.07, 3)
        shear = np.eye(3) + self.random.uniform(-0.08, 0.08, (3, 3)) * (1 - np.eye(3))
        return rotate @ shear @ np.diag(1 / scale)

    def _deformed(self) -> Tensor:
        """The maps (6, z, y, x) on a random grid of this draw."""
        low, high = self._box()
        shape = tuple(
            int(min(max(round((h - k) / SPACING), 24), m))
            for k, h, m in zip(low, high, LARGEST, strict=True)
        )
        matrix = torch.from_numpy(self._matrix()).float()
        axes = [k + SPACING * torch.arange(s) for k, s in zip(low, shape, strict=True)]
        points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1) @ matrix.T
        # Displacements in mm: broad ones change the shape of the head, fine ones that of gyri.
        strength = self.uniform(0, 5)
        points += strength * self.field(shape, self.uniform(30, 60), 3).permute(1, 2, 3, 0)
        if self.chance(0.6):
            fine = self.field(shape, self.uniform(8, 14), 3).permute(1, 2, 3, 0)
            points += self.uniform(0.3, 1.3) * fine
        size = torch.tensor(self.anatomy.maps.shape[1:])
        centre = torch.tensor(self.anatomy.centre).float()
        grid = ((points + centre) * 2 / (size - 1) - 1).flip(-1)
        maps = self.anatomy.maps[None]
        outside = F.grid_sample(maps, grid[None], align_corners=True, padding_mode="border")[0]
        gone = (grid.abs() > 1).any(-1)
        outside[5][gone] = 0
        outside[3][gone] = 0
        return outside

    # -- labels --------------------------------------------------------------------------------

    def _tissues(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Soft tissues (3, z, y, x) that add up to one in the brain, and their labels."""
        shape = tuple(maps.shape[1:])
        grey, white, distance = maps[0], maps[1], maps[4]
        if self.chance(0.5) and not self.real:
            distance = distance + self.uniform(0, 0.7) * self.field(shape, 9)[0]
        brain = distance < 0
        # Averaging over many subjects has closed the sulci: open and close them at random.
        fluid = (1 - grey - white).clamp_min(0.0)
        logits = torch.stack([fluid, grey, white]).clamp_min(0.004).log()
        if not self.real:  # real intensities must keep their own borders
            shift = [self.uniform(-0.5, 1.0), self.uniform(-0.5, 0.5), 0.0]
            logits += torch.tensor(shift)[:, None, None, None]
            logits += self.uniform(0, 0.9) * self.field(shape, self.uniform(4, 18), 3)
        soft = torch.softmax(logits * self.uniform(1, 6), 0) * brain
        labels = (logits.argmax(0) + 1) * brain
        return soft, labels.to(torch.uint8)

    # -- intensities ---------------------------------------------------------------------------

    def _contrast(self) -> tuple[float, float, float]:
        """Intensities of fluid, grey and white matter in [0, 1]."""
        kind = self.random.random()
        if kind < 0.38:  # T1
            white = self.uniform(0.6, 1.0)
            grey = white * self.uniform(0.55, 0.92)
            return grey * self.uniform(0.1, 0.8), grey, white
        if kind < 0.65:  # T2 and the like
            fluid = self.uniform(0.6, 1.0)
            grey = fluid * self.uniform(0.4, 0.9)
            return fluid, grey, grey * self.uniform(0.5, 0.95)
        if kind < 0.8:  # FLAIR
            grey = self.uniform(0.5, 1.0)
            return grey * self.uniform(0.05, 0.6), grey, grey * self.uniform(0.7, 0.95)
        while True:
            fluid, grey, white = (float(v) for v in self.random.uniform(0, 1, 3))
            if min(abs(grey - white), abs(grey - fluid)) > 0.1:
                return fluid, grey, white

    def _curve(self, values: Tensor, *, steps: bool) -> Tensor:
        """A random function of intensities in [0, 1.6]: smooth, or a random level a class."""
        if steps:
            cuts = np.sort(self.random.uniform(0.02, 1.3, self.random.integers(2, 6)))
            levels = torch.from_numpy(self.random.uniform(0, 1, len(cuts) + 1)).float()
            return levels[torch.bucketize(values, torch.from_numpy(cuts).float())]
        knots = torch.from_numpy(self.random.uniform(0, 1, 6)).float()
        position = (values.clamp(0, 1.6) / 1.6) * 4.999
        index = position.long()
        weight = position - index
        return knots[index] * (1 - weight) + knots[index + 1] * weight

    def _around(self, maps: Tensor, fluid: float) -> Tensor:
        """Synthetic intensities of skull, scalp, face and neck, (z, y, x)."""
        shape = tuple(maps.shape[1:])
        head, distance, depth = maps[3], maps[4], maps[5]
        around = self._curve(head + 0.05 * self.field(shape, 6)[0], steps=self.chance(0.6))
        if self.chance(0.6):  # layers of the vault: bone, marrow, scalp
            vault = (distance < self.uniform(12, 30)) & (distance >= 0)
            wobble = self.field(shape, 21)[0]
            scalp = depth < self.uniform(3, 8) + wobble
            bone = self.uniform(0, 0.35) if self.chance(0.75) else self.uniform(0, 1)
            skin = self.uniform(0.3, 1) if self.chance(0.7) else self.uniform(0, 1)
            layers = torch.full(shape, bone)
            if self.chance(0.5):
                middle = (depth - distance - self.uniform(2, 8)).abs() < self.uniform(1, 3)
                layers[middle] = self.uniform(0, 1)
            layers[scalp] = skin
            around = torch.where(vault, layers, around)
        if self.chance(0.7):  # fluid and membranes between brain and bone
            gap = distance < self.uniform(0.3, 3.5) + 0.8 * self.field(shape, 15)[0]
            level = fluid if self.chance(0.6) else self.uniform(0, 1)
            around = torch.where(gap, torch.full(shape, level), around)
        if self.chance(0.5):  # eyes, vessels, glands: blobs of any intensity
            blobs = self.field(shape, self.uniform(9, 21))[0] > self.uniform(1.0, 1.8)
            blobs &= distance > 4
            around = torch.where(blobs, torch.full(shape, self.uniform(0, 1)), around)
        return around

    def _intensities(self, maps: Tensor, soft: Tensor) -> Tensor:
        shape = tuple(maps.shape[1:])
        t1, head, depth = maps[2], maps[3], maps[5]
        brain = soft.sum(0)
        if self.real:
            if self.chance(0.7):
                own = t1 * self.uniform(0.8, 1.1)
                levels = torch.tensor([0.25, 0.75, 1.0])[:, None, None, None]
                own = torch.lerp(own, (soft * levels).sum(0), self.uniform(0, 0.8))
                image = torch.where(brain > 0, own, head)
            else:
                image = head
            image = (image / 1.5).clamp(0, 1) ** self.uniform(0.5, 1.8)
            if self.chance(0.35):
                image = 1 - image
            air = image[depth <= 0].mean() if self.chance(0.5) else torch.tensor(0.0)
            air = float(air) if torch.isfinite(torch.as_tensor(air)) else 0.0
        else:
            levels = self._contrast()
            image = (soft * torch.tensor(levels)[:, None, None, None]).sum(0)
            image = torch.where(brain > 0, image, self._around(maps, levels[0]))
            air = 0.0 if self.chance(0.75) else self.uniform(0, 1)
        image = image + self.uniform(0, 0.05) * self.field(shape, self.uniform(2.5, 6))[0]
        return torch.where(depth > 0, image, torch.full(shape, air))

    # -- acquisition ---------------------------------------------------------------------------

    def _blur(self, image: Tensor, sigmas: list[float]) -> Tensor:
        out = image[None, None]
        for axis, sigma in enumerate(sigmas):
            if sigma < 0.2:
                continue
            radius = max(1, int(2.5 * sigma + 0.5))
            taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
            shape = [1, 1, 1, 1, 1]
            shape[axis + 2] = len(taps)
            padding = [0] * 6
            padding[4 - 2 * axis] = padding[5 - 2 * axis] = radius
            out = F.conv3d(F.pad(out, padding, mode="replicate"), (taps / taps.sum()).view(shape))
        return out[0, 0]

    def _scanned(self, image: Tensor) -> Tensor:
        """Bias field, point spread, slices and noise."""
        shape = tuple(image.shape)
        if self.chance(0.8):
            image = image * torch.exp(self.uniform(0, 0.35) * self.field(shape, 70)[0])
        if self.chance(0.6):
            image = self._blur(image, [self.uniform(0, 1.3) / SPACING] * 3)
        noise = self.uniform(0, 0.27) ** 2 if self.chance(0.8) else 0.0
        if self.chance(0.25):
            sizes = [1.0, 1.0, 1.0]
            if self.chance(0.75):
                sizes[self.random.integers(3)] = self.uniform(2.5, 5.0) / SPACING
            else:
                sizes = [self.uniform(2.2, 3.2) / SPACING] * 3
            image = self._blur(image, [0.42 * s if s > 1 else 0.0 for s in sizes])
            small = [max(4, round(n / s)) for n, s in zip(shape, sizes, strict=True)]
            image = F.interpolate(image[None, None], size=small, mode="trilinear")
            image = image + noise * torch.randn(image.shape, generator=self.generator)
            return F.interpolate(image, size=shape, mode="trilinear")[0, 0]
        return image + noise * torch.randn(shape, generator=self.generator)

    def volume(self) -> tuple[Tensor, Tensor]:
        """Image as nnU-Net's preprocessing leaves it (cropped, z-scored) and labels."""
        maps = self._deformed()
        soft, labels = self._tissues(maps)
        image = self._scanned(self._intensities(maps, soft))
        kind = self.random.random()
        if kind < 0.14:  # skull-stripped, more or less well
            edge = self.uniform(-0.5, 2.0) if self.chance(0.5) else 0.0
            image = torch.where(maps[4] < edge, image.clamp_min(1e-3), torch.zeros(()))
            labels = torch.where(image != 0, labels, torch.zeros((), dtype=torch.uint8))
        elif kind < 0.5:  # scanners and archives often set air to zero
            image = torch.where(maps[5] > 0, image.clamp_min(1e-3), torch.zeros(()))
        elif kind < 0.7:
            image = image.clamp_min(0)
        image, labels = self._turned(*_cropped(image, labels))
        deviation = image.std()
        if not bool(deviation > 1e-4):
            return torch.zeros_like(image), labels
        return (image - image.mean()) / deviation, labels

    def _turned(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """To the axes that the model's reader gives (up, front, right), left and right at random.

        A few draws stay otherwise, for files whose header tells their axes wrongly.
        """
        axes = [1, 2] if self.chance(0.5) else [1]
        if self.chance(0.05):
            axes = [int(a) for a in range(3) if self.chance(0.5)]
        return image.flip(axes), labels.flip(axes)


def _cropped(image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The box of voxels that are not zero."""
    box = []
    for axis in range(3):
        others = [a for a in range(3) if a != axis]
        used = (image != 0).any(others[1]).any(others[0]).nonzero().flatten()
        box.append(slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, None))
    return image[tuple(box)], labels[tuple(box)]


def patches(
    anatomy: Anatomy, seed: int, size: int, count: int = 2
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`count` patches (image float16, labels uint8), each (size, size, size), of one draw."""
    draw = Draw(anatomy, seed)
    image, labels = draw.volume()
    # Sliding windows pad small images with zeros, which after z-scoring are not air.
    margin = [int(m) for m in draw.random.integers(0, 24, 3)] if draw.chance(0.3) else [0] * 3
    short = [max(m, size - n) for m, n in zip(margin, image.shape, strict=True)]
    if any(short):
        front = [int(draw.random.integers(0, s + 1)) for s in short]
        padding = [p for f, s in zip(front[::-1], short[::-1], strict=True) for p in (f, s - f)]
        image, labels = F.pad(image, padding), F.pad(labels, padding)
    result = []
    foreground = labels[::4, ::4, ::4].nonzero() * 4
    for _ in range(count):
        if len(foreground) and draw.chance(0.6):
            middle = foreground[draw.random.integers(len(foreground))].tolist()
            jitter = draw.random.integers(-size // 4, size // 4 + 1, 3)
            start = [m + int(j) - size // 2 for m, j in zip(middle, jitter, strict=True)]
        else:
            start = [int(draw.random.integers(0, n - size + 1)) for n in image.shape]
        start = [min(max(s, 0), n - size) for s, n in zip(start, image.shape, strict=True)]
        box = tuple(slice(s, s + size) for s in start)
        result.append((image[box].half().numpy().copy(), labels[box].numpy().copy()))
    return result

"""From an image to what the network sees, equal to nnU-Net v2's `DefaultPreprocessor`.

Transpose to the plan's axes, crop to the non-zero box, normalise, resample to the plan's spacing.
The way back is in `Frame`: it shows any array of the image's grid in the plan's axes, as a view.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import InputError
from .arrays import Array, empty, placed
from .normalization import fill_holes, normalize
from .orientation import Reorientation, reorientation
from .resampling import make_scheme, resample_volume, resampled_shape

if TYPE_CHECKING:
    from ..models.plan import Plan
    from ..monitor import Monitor


class Grid(Protocol):
    """An image with its geometry (`images.Volume`)."""

    array: np.ndarray
    spacing: tuple[float, float, float]
    direction: tuple[float, ...]


@dataclass(frozen=True)
class Frame:
    """How the plan's grid lies in the image's.

    All but `orientation` is in plan axes: the array axes after reorientation and
    `transpose_forward`.

    Attributes:
        orientation: axes and flips between the image's array (z, y, x) and plan axes.
        shape_before_crop: voxels of the whole image.
        crop: the non-zero box, as slices of the whole image.
        spacing: of the image, mm.
        plan_spacing: of the network's grid, mm.
        plan_shape: voxels of the network's grid.
    """

    orientation: Reorientation
    shape_before_crop: tuple[int, int, int]
    crop: tuple[slice, slice, slice]
    spacing: tuple[float, float, float]
    plan_spacing: tuple[float, float, float]
    plan_shape: tuple[int, int, int]

    @property
    def shape_after_crop(self) -> tuple[int, int, int]:
        z, y, x = (part.stop - part.start for part in self.crop)
        return z, y, x

    def view(self, array: np.ndarray) -> np.ndarray:
        """`array` (..., z, y, x) of the image's grid, seen in plan axes and cropped (a view)."""
        index = (..., *self.crop)
        return self.orientation.view(array)[index]

    def restore(self, labels: np.ndarray, background: float = 0) -> np.ndarray:
        """Puts `labels` (plan axes, cropped grid) into the image's grid; outside `background`."""
        shape = self.orientation.shape_back(self.shape_before_crop)
        full = np.full(shape, background, dtype=labels.dtype)
        self.view(full)[...] = labels
        return full


@dataclass(frozen=True)
class Preprocessed:
    """The network's input, (c, z, y, x) float32 in plan axes and spacing, and the way back.

    `data` is a NumPy array on the CPU and a tensor on another device.
    """

    data: Array
    frame: Frame


def make_frame(volume: Grid, plan: Plan, orientation: str = "") -> Frame:
    """Finds crop and shapes without computing anything large.

    `orientation` is what the model was trained in (`Model.orientation`).

    Raises:
        InputError: every voxel is zero.
    """
    turn = reorientation(volume.direction, orientation, plan.transpose_forward)
    image = turn.view(volume.array)
    spacing = turn.permute(volume.spacing)
    crop = nonzero_box(image)
    cropped = [part.stop - part.start for part in crop]
    return Frame(
        orientation=turn,
        shape_before_crop=image.shape[1:],
        crop=crop,
        spacing=spacing,
        plan_spacing=plan.spacing,
        plan_shape=resampled_shape(cropped, plan.resample_data, spacing, plan.spacing),
    )


def preprocess(
    volume: Grid,
    plan: Plan,
    monitor: Monitor | None = None,
    device: str = "cpu",
    frame: Frame | None = None,
) -> Preprocessed:
    """Crops, normalises and resamples `volume`, channel by channel, on `device`.

    The volume is left as it is. Beside the result, one channel is in memory twice at most.

    Raises:
        InputError: the number of channels is not the plan's, or every voxel is zero.
    """
    channels = len(plan.normalization)
    if len(volume.array) != channels:
        raise InputError(
            f"The model expects {channels} channels, but the image has {len(volume.array)}."
        )
    frame = frame or make_frame(volume, plan)
    image = frame.view(volume.array)
    scheme = make_scheme(
        frame.shape_after_crop, frame.plan_shape, plan.resample_data, frame.spacing, plan.spacing
    )
    mask = placed(_inside(image), device) if any(plan.use_mask_for_norm) else None
    data: Array = None
    for channel in range(channels):
        if monitor is not None:
            monitor.advance(channel / channels)
        part = placed(np.array(image[channel], dtype=np.float32, order="C"), device)
        inside = mask if plan.use_mask_for_norm[channel] else None
        normalize(part, plan.normalization[channel], plan.intensity[channel], inside)
        part = resample_volume(part, scheme)
        if channels == 1:
            return Preprocessed(part[None], frame)
        data = empty((channels, *frame.plan_shape), "float32", part) if data is None else data
        data[channel] = part
    return Preprocessed(data, frame)


def nonzero_box(image: np.ndarray) -> tuple[slice, slice, slice]:
    """The smallest box of `image` (c, z, y, x) that holds every voxel that is not zero.

    nnU-Net fills holes first, which does not change the box.

    Raises:
        InputError: every voxel is zero.
    """
    shape = image.shape[1:]
    planes = np.zeros(shape[0], dtype=bool)
    within = np.zeros(shape[1:], dtype=bool)
    for index in range(shape[0]):
        found = (image[:, index] != 0).any(0)
        planes[index] = found.any()
        within |= found
    if not planes.any():
        raise InputError(
            "The image is empty: every voxel is zero.", "Check that the right volume was chosen."
        )
    return _extent(planes), _extent(within.any(axis=1)), _extent(within.any(axis=0))


def _extent(hits: Any) -> slice:
    found = np.flatnonzero(hits)
    return slice(int(found[0]), int(found[-1]) + 1)


def _inside(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(fill_holes((image != 0).any(0)))

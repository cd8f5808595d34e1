"""nnU-Net v2's intensity normalisations, by the names its plans give them.

Each works on one channel (z, y, x) in place, in float32, on whatever device it is.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..errors import InputError, ModelError, UnsupportedModelError
from .arrays import Array, is_tensor, library

_EPSILON = 1e-8

_RUN = 2**16
"""So many squares are added in float32, and these sums in float64."""


def normalize(
    volume: Array,
    scheme: str,
    intensity: Mapping[str, float],
    mask: Array | None = None,
) -> None:
    """Normalises `volume` (z, y, x), float32, in place.

    Args:
        scheme: nnU-Net's class name, for example "ZScoreNormalization".
        intensity: the plan's foreground intensities of this channel; CT needs mean, std,
            percentile_00_5 and percentile_99_5 (in the image's unit, HU).
        mask: where the image is (True); only ZScore looks at it, and leaves the rest as it is.

    Raises:
        UnsupportedModelError: a scheme of another name.
        ModelError: CT without its intensities.
        InputError: RGB values outside 0 to 255.
    """
    if scheme == "ZScoreNormalization":
        _zscore(volume, mask)
    elif scheme == "CTNormalization":
        _ct(volume, intensity)
    elif scheme == "RescaleTo01Normalization":
        volume -= volume.min()
        volume /= max(float(volume.max()), _EPSILON)
    elif scheme == "RGBTo01Normalization":
        low, high = float(volume.min()), float(volume.max())
        if low < 0 or high > 255:
            raise InputError(
                f"The model expects RGB values, 0 to 255, but the image has {low:g} to {high:g}."
            )
        volume /= 255.0
    elif scheme != "NoNormalization":
        raise UnsupportedModelError(
            f'The model normalises with "{scheme}", which this engine does not know.',
            "Models that use nnU-Net's own normalisations work.",
        )


def _zscore(volume: Array, mask: Array | None) -> None:
    values = volume if mask is None else volume[mask]
    if is_tensor(values):
        deviation, mean = (float(v) for v in library(values).std_mean(values, correction=0))
        values -= mean
    else:
        values -= float(values.mean(dtype=np.float64))
        flat = values.reshape(-1)
        runs = (flat[i : i + _RUN] for i in range(0, flat.size, _RUN))
        deviation = (sum(float(np.dot(run, run)) for run in runs) / flat.size) ** 0.5
    values /= max(deviation, _EPSILON)
    if mask is not None:
        volume[mask] = values


def _ct(volume: Array, intensity: Mapping[str, float]) -> None:
    try:
        low, high = intensity["percentile_00_5"], intensity["percentile_99_5"]
        mean, deviation = intensity["mean"], intensity["std"]
    except KeyError as error:
        raise ModelError(
            f"The model normalises as CT, but its plan lacks the intensity {error}.",
            "The model folder is incomplete; download or export it again.",
        ) from None
    library(volume).clip(volume, low, high, out=volume)
    volume -= mean
    volume /= max(deviation, _EPSILON)


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """Closes holes of a mask (z, y, x), bool: background that no face-to-face path leads out of.

    The same as `scipy.ndimage.binary_fill_holes`, which nnU-Net applies before it takes the
    intensities of the non-zero region.
    """
    import SimpleITK as sitk

    padded = np.pad(mask.astype(np.uint8), 1)
    image = sitk.GetImageFromArray(padded)
    filled = sitk.BinaryFillhole(image, fullyConnected=False, foregroundValue=1)
    return sitk.GetArrayViewFromImage(filled)[1:-1, 1:-1, 1:-1] != 0

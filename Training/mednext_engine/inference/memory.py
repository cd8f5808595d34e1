"""How much memory the stages around the network take, from shapes alone (bytes)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .decide import SLAB_VOXELS

_FLOAT = 4
_SLAB_BUFFERS = 12
"""Arrays of a slab's size that deciding keeps at once, in floats; mixed cells included."""


def reading_bytes(shape: Sequence[int], channels: int, bytes_per_voxel: int = 2) -> int:
    """Peak while an image (z, y, x) is read: all channels in float32 and one as in the file."""
    return math.prod(shape) * (channels * _FLOAT + bytes_per_voxel)


def preprocessing_bytes(shape: Sequence[int], network_shape: Sequence[int], channels: int) -> int:
    """Peak while an image (z, y, x) becomes the network's input; the image itself counts.

    One channel is there as a copy, between two axes, and resampled.
    """
    before, after = math.prod(shape), math.prod(network_shape)
    between = max(before, after)
    held = channels * (before + after)
    working = before if before == after and tuple(shape) == tuple(network_shape) else 3 * between
    return _FLOAT * (held + working)


def logits_bytes(network_shape: Sequence[int], heads: int, bytes_per_value: int = 4) -> int:
    """The logits of all heads at the network's grid."""
    return math.prod(network_shape) * heads * bytes_per_value


def deciding_bytes(
    network_shape: Sequence[int], target_shape: Sequence[int], image_shape: Sequence[int]
) -> int:
    """Peak of deciding labels, on top of the logits; it does not grow with the heads."""
    labels = math.prod(network_shape) + 2 * math.prod(target_shape) + math.prod(image_shape)
    return labels + _FLOAT * _SLAB_BUFFERS * SLAB_VOXELS


def probability_bytes(target_shape: Sequence[int], image_shape: Sequence[int]) -> int:
    """Peak of writing probabilities one head at a time, on top of the logits."""
    slab = _FLOAT * 4 * SLAB_VOXELS
    return _FLOAT * (2 * math.prod(target_shape) + math.prod(image_shape)) + slab

"""How much memory the stages around the network take, from shapes alone (bytes)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..networks.registry import MEDNEXT
from .decide import SLAB_VOXELS
from .parallel import workers

if TYPE_CHECKING:
    from ..models.plan import Plan
    from .devices import Execution
    from .preprocess import Frame

HALF_ABOVE = 2**27
"""Bytes of a network's outputs above which they are handed on and averaged in half precision."""

_FLOAT = 4
_SLAB_BUFFERS = 12
"""Arrays of a slab's size that deciding keeps at once, in floats; mixed cells included."""


def preprocessing_bytes(shape: Sequence[int], network_shape: Sequence[int], channels: int) -> int:
    """Peak while an image (z, y, x) becomes the network's input; the image itself counts.

    One channel is there as a copy, between two axes, and resampled.
    """
    before, after = math.prod(shape), math.prod(network_shape)
    between = max(before, after)
    held = channels * (before + after)
    working = before if before == after and tuple(shape) == tuple(network_shape) else 3 * between
    return _FLOAT * (held + working)


def deciding_bytes(
    network_shape: Sequence[int], target_shape: Sequence[int], image_shape: Sequence[int]
) -> int:
    """Peak of deciding labels, on top of the logits; it does not grow with the heads."""
    labels = math.prod(network_shape) + 2 * math.prod(target_shape) + math.prod(image_shape)
    return labels + _FLOAT * _SLAB_BUFFERS * SLAB_VOXELS * workers()


_PROGRAM = 450 * 2**20
"""Python, PyTorch and OpenVINO themselves."""
_PROGRAM_WITHOUT_TORCH = 300 * 2**20
"""The same for a MedNeXt that OpenVINO runs."""


def finest_width(plan: Plan) -> int:
    """Feature maps of the network's finest level, which its head sees."""
    kwargs = plan.network_kwargs
    widths = kwargs.get("features_per_stage") or kwargs.get("channels") or 32
    return int(widths[0]) if isinstance(widths, (list, tuple)) else int(widths)


def activation_bytes(plan: Plan, patch: Sequence[int], execution: Execution) -> int:
    """What the network keeps at once for one tile, where it keeps most: its last up block.

    Counted in feature maps of the finest level, C channels each. In PyTorch the hidden layer (2 C R
    channels) stands before and after its GELU, beside the block's input (2 C) and the skip. The
    OpenVINO graph cuts the hidden layer into slabs.
    """
    kwargs, width = plan.network_kwargs, finest_width(plan)
    expansion = kwargs.get("expansion", 1)
    ratio = int(expansion[-1]) if isinstance(expansion, (list, tuple)) else int(expansion)
    exact = execution.precision == "float32"
    maps = 4.5 + 4 * ratio
    if execution.backend == "openvino":
        maps = 6.0 if exact else 9.0  # some layers stay in float32
    itemsize = 4 if exact else 2
    return int(math.prod(patch) * itemsize * width * maps)


def estimate_peak(
    image_shape: Sequence[int],
    frame: Frame,
    channels: int,
    plan: Plan,
    execution: Execution,
    stored: int,
) -> int:
    """Bytes a whole run needs at most, on the device and beside it; `stored` is the window mean."""
    before, grid = math.prod(image_shape), frame.plan_shape
    patch = plan.patch_size
    padded = math.prod(max(n, p) for n, p in zip(grid, patch, strict=True))
    image = _FLOAT * channels * (before + padded)
    running = activation_bytes(plan, patch, execution) + stored + math.prod(patch) * _FLOAT
    preparing = preprocessing_bytes(frame.shape_after_crop, grid, channels)
    deciding = deciding_bytes(grid, frame.shape_after_crop, image_shape) + stored
    alone = execution.backend == "openvino" and plan.network_class == MEDNEXT
    program = _PROGRAM_WITHOUT_TORCH if alone else _PROGRAM
    return program + max(preparing, image + running, image + deciding)

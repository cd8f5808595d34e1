"""Resampling of volumes, equal to nnU-Net v2's, as products of small matrices.

nnU-Net resamples with `skimage.transform.resize(mode="edge", anti_aliasing=False)`, that is with
`scipy.ndimage.zoom` followed by clipping to the input's range, in float64, one channel after the
other. Here one matrix product an axis (see `interpolation.py`) replaces the per-voxel sums, in
float32 on whatever device the data is: NumPy on the CPU, PyTorch elsewhere.

Array order is (c, z, y, x); spacings (mm) and shapes are given in the same order as the axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from ..errors import UnsupportedModelError
from .arrays import Array, cast, empty, library, take
from .interpolation import apply_matrix, interpolation_bands, nearest_indices

if TYPE_CHECKING:
    from ..monitor import Monitor

FLOOR = -1
"""In place of a spline order: PyTorch's "nearest", which takes the voxel at or below."""

Kind = TypeVar("Kind", bound=Array)


class ResamplingSpec(Protocol):
    """What a plan says about resampling (`mednext_engine.models.plan.Resampling`)."""

    @property
    def function(self) -> str: ...
    @property
    def order(self) -> int: ...
    @property
    def order_z(self) -> int: ...
    @property
    def force_separate_z(self) -> bool | None: ...
    @property
    def anisotropy_threshold(self) -> float: ...
    @property
    def mode(self) -> str: ...
    @property
    def aniso_axis_mode(self) -> str: ...


@dataclass(frozen=True)
class Scheme:
    """How one volume is resampled.

    Attributes:
        shape: voxels before, one number an axis.
        new_shape: voxels after.
        orders: spline order of each axis (0 nearest, 1 linear, 3 cubic; or FLOOR).
        separate: the coarse axis if it is treated apart (last, after each slice was clipped).
    """

    shape: tuple[int, int, int]
    new_shape: tuple[int, int, int]
    orders: tuple[int, int, int]
    separate: int | None = None

    @property
    def identity(self) -> bool:
        return self.shape == self.new_shape

    @property
    def linear(self) -> bool:
        """Whether every result is a weighted mean of at most two neighbours an axis."""
        return all(order <= 1 for order in self.orders)


def compute_new_shape(
    shape: Sequence[int], spacing: Sequence[float], new_spacing: Sequence[float]
) -> tuple[int, int, int]:
    """Voxels an axis after resampling from `spacing` to `new_spacing` (mm), rounded as nnU-Net."""
    z, y, x = (
        round(old / new * n) for old, new, n in zip(spacing, new_spacing, shape, strict=True)
    )
    return max(z, 1), max(y, 1), max(x, 1)


def coarse_axis(
    current_spacing: Sequence[float],
    new_spacing: Sequence[float],
    force_separate_z: bool | None,
    threshold: float = 3.0,
) -> int | None:
    """The axis that nnU-Net treats apart, or None (`determine_do_sep_z_and_axis`).

    Without `force_separate_z` that is the coarsest axis where its spacing exceeds the finest more
    than `threshold` times, before or after.
    """
    if force_separate_z is False:
        return None
    decisive = None
    if force_separate_z or max(current_spacing) / min(current_spacing) > threshold:
        decisive = current_spacing
    elif max(new_spacing) / min(new_spacing) > threshold:
        decisive = new_spacing
    if decisive is None:
        return None
    coarsest = [axis for axis in range(3) if decisive[axis] == max(decisive)]
    return coarsest[0] if len(coarsest) == 1 else None


def resampled_shape(
    shape: Sequence[int],
    spec: ResamplingSpec,
    spacing: Sequence[float],
    new_spacing: Sequence[float],
) -> tuple[int, int, int]:
    """The shape that resampling to the plan's spacing gives (unchanged without resampling)."""
    if spec.function == "no_resampling_hack":
        return _triple(shape)
    return compute_new_shape(shape, spacing, new_spacing)


def make_scheme(
    shape: Sequence[int],
    new_shape: Sequence[int],
    spec: ResamplingSpec,
    current_spacing: Sequence[float],
    new_spacing: Sequence[float],
) -> Scheme:
    """Chooses orders and the separate axis as the plan's resampling function would.

    Raises:
        UnsupportedModelError: a function of another name, or an order beyond 5.
    """
    shape, new_shape = _triple(shape), _triple(new_shape)
    order, order_z = spec.order, spec.order_z
    apart = coarse_axis(
        current_spacing, new_spacing, spec.force_separate_z, spec.anisotropy_threshold
    )
    if spec.function == "no_resampling_hack":
        return Scheme(shape, shape, (0, 0, 0))
    if spec.function == "resample_torch_fornnunet":
        # In plane the mode counts only where an axis is treated apart, as in nnU-Net.
        order = 1 if apart is None else _torch_order(spec.mode)
        order_z = _torch_order(spec.aniso_axis_mode)
    elif spec.function != "resample_data_or_seg_to_shape":
        raise UnsupportedModelError(
            f'The model resamples with "{spec.function}", which this engine does not know.',
            "Models planned with nnU-Net's own resampling functions work.",
        )
    if max(order, order_z) > 5:
        raise UnsupportedModelError(
            f"The model resamples with splines of order {max(order, order_z)}; orders 0 to 5 exist."
        )
    z, y, x = (order_z if axis == apart else order for axis in range(3))
    return Scheme(shape, new_shape, (z, y, x), apart)


def resample(
    data: Kind,
    new_shape: Sequence[int],
    spec: ResamplingSpec,
    current_spacing: Sequence[float],
    new_spacing: Sequence[float],
    monitor: Monitor | None = None,
) -> Kind:
    """Resamples `data` (c, z, y, x) to `new_shape` (z, y, x) as nnU-Net would.

    Args:
        data: array or tensor of any floating type on any device; it is not changed.
        spec: the plan's resampling (function, order, order_z, force_separate_z).
        current_spacing, new_spacing: mm, in the order of the axes; they decide only whether the
            coarse axis is treated apart.

    Returns:
        float32, of the kind and on the device of `data`; `data` itself where nothing changes.
    """
    scheme: Scheme = make_scheme(data.shape[1:], new_shape, spec, current_spacing, new_spacing)
    if scheme.identity:
        return data
    result: Kind = empty((data.shape[0], *scheme.new_shape), "float32", data)
    for channel, volume in enumerate(data):
        if monitor is not None:
            monitor.check()
        result[channel] = resample_volume(volume, scheme)
    return result


def resample_volume(volume: Array, scheme: Scheme) -> Array:
    """One volume (z, y, x) by `scheme`, float32; splines are clipped to the input's range."""
    volume = cast(volume, "float32")
    apart = scheme.separate
    if apart is not None and scheme.orders[apart] <= 0:
        shrink = scheme.new_shape[apart] < scheme.shape[apart]
        if shrink:  # slices that nobody will see need no work
            volume = _along(volume, scheme, apart)
        volume = _in_range(volume, scheme, [axis for axis in range(3) if axis != apart], apart)
        return volume if shrink else _along(volume, scheme, apart)
    if apart is not None:
        volume = _in_range(volume, scheme, [axis for axis in range(3) if axis != apart], apart)
        return _along(volume, scheme, apart)
    return _in_range(volume, scheme, [0, 1, 2], None)


def _in_range(volume: Array, scheme: Scheme, axes: list[int], apart: int | None) -> Array:
    """Resamples along `axes`, the ones that shrink most first, then clips as skimage does."""
    axes = [axis for axis in axes if scheme.shape[axis] != scheme.new_shape[axis]]
    if not axes:
        return volume
    overshoots = any(scheme.orders[axis] > 1 for axis in axes)
    if overshoots:
        over = tuple(axis for axis in range(3) if axis != apart)
        xp = library(volume)
        low, high = (f(volume, axis=over, keepdims=True) for f in (xp.amin, xp.amax))
    for axis in sorted(axes, key=lambda a: scheme.new_shape[a] / scheme.shape[a]):
        volume = _along(volume, scheme, axis)
    return xp.clip(volume, low, high, out=volume) if overshoots else volume


def _along(volume: Array, scheme: Scheme, axis: int) -> Array:
    n_in, n_out = scheme.shape[axis], scheme.new_shape[axis]
    if n_in == n_out:
        return volume
    if scheme.orders[axis] <= 0:
        floor = scheme.orders[axis] == FLOOR
        return take(volume, nearest_indices(n_in, n_out, floor), axis)
    return apply_matrix(volume, axis, interpolation_bands(n_in, n_out, scheme.orders[axis]))


def _torch_order(mode: str) -> int:
    orders = {"linear": 1, "nearest-exact": 0, "nearest": FLOOR}
    if mode not in orders:
        raise UnsupportedModelError(
            f'The model resamples with the mode "{mode}", which this engine does not know.',
            f"Known are {', '.join(orders)}.",
        )
    return orders[mode]


def _triple(values: Sequence[int]) -> tuple[int, int, int]:
    z, y, x = (int(value) for value in values)
    return z, y, x

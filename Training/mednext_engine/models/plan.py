"""What nnU-Net v2's `plans.json` says of one configuration: grid, intensities, patch, network.

Both of nnU-Net v2's formats are read: the present one, with an `architecture`, and the older one,
with `UNet_class_name` (see `architecture.py`). Configurations may inherit from one another.
Spacings are in mm and in *plan axes*: the array axes (z, y, x) after `transpose_forward`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ModelError, UnsupportedModelError
from .architecture import read_architecture
from .jsonfile import read_bool, read_dict, read_int, read_list, read_number

NORMALIZATIONS = (
    "ZScoreNormalization",
    "CTNormalization",
    "NoNormalization",
    "RescaleTo01Normalization",
    "RGBTo01Normalization",
)
PREPROCESSORS = ("DefaultPreprocessor",)
MAX_PATCH_EDGE = 1024
MAX_PATCH_VOXELS = 512**3


@dataclass(frozen=True)
class Resampling:
    """How images or probabilities go from one grid to another; names and values are nnU-Net's.

    Attributes:
        function: "resample_data_or_seg_to_shape" (splines), "resample_torch_fornnunet"
            (linear) or "no_resampling_hack" (none).
        order, order_z: spline order in plane, and along the axis of thick slices.
        force_separate_z: True or False decide; None: separate where an axis is coarser than
            `anisotropy_threshold` times the finest.
        mode, aniso_axis_mode: interpolation of "resample_torch_fornnunet".
    """

    function: str = "resample_data_or_seg_to_shape"
    order: int = 3
    order_z: int = 0
    force_separate_z: bool | None = None
    anisotropy_threshold: float = 3.0
    mode: str = "linear"
    aniso_axis_mode: str = "nearest-exact"


@dataclass(frozen=True)
class Plan:
    """One configuration of a `plans.json`; tuples of three are in plan axes.

    `intensity` holds per channel what `CTNormalization` needs (mean, std, percentile_00_5,
    percentile_99_5 of foreground voxels) and whatever other finite numbers the file states.
    `network_kwargs` are as in the file: names of torch classes stay strings, and only the network
    registry, which knows the few that are possible, turns them into classes.
    """

    configuration: str
    spacing: tuple[float, float, float]
    patch_size: tuple[int, int, int]
    transpose_forward: tuple[int, int, int]
    transpose_backward: tuple[int, int, int]
    normalization: tuple[str, ...]
    use_mask_for_norm: tuple[bool, ...]
    intensity: tuple[dict[str, float], ...]
    network_class: str
    network_kwargs: dict[str, Any]
    resample_data: Resampling = field(default_factory=Resampling)
    resample_probabilities: Resampling = field(
        default_factory=lambda: Resampling(order=1, order_z=0)
    )
    batch_size: int = 2


def configurations(plans: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the configurations that `read_plan` would accept by their kind (3D, no cascade)."""
    table = read_dict(plans.get("configurations"), "'configurations' of plans.json")
    found = []
    for name in table:
        try:
            _check_kind(name, _inherited(table, name))
        except ModelError:
            continue
        found.append(name)
    return tuple(found)


def read_plan(plans: Mapping[str, Any], configuration: str) -> Plan:
    """Reads one configuration of a `plans.json`.

    Raises:
        UnsupportedModelError: a 2D configuration, a cascade, an unknown normalisation,
            preprocessor, resampling or network.
        ModelError: missing or impossible values.
    """
    table = read_dict(plans.get("configurations"), "'configurations' of plans.json")
    if configuration not in table:
        known = ", ".join(sorted(map(str, table))[:10])
        raise ModelError(f"plans.json has no configuration '{configuration}'; it has: {known}.")
    raw = _inherited(table, configuration)
    _check_kind(configuration, raw)
    preprocessor = raw.get("preprocessor_name", PREPROCESSORS[0])
    if preprocessor not in PREPROCESSORS:
        raise UnsupportedModelError(
            f"The preprocessor '{str(preprocessor)[:80]}' is not supported, "
            "because it is not one of nnU-Net's own."
        )
    forward, backward = _transposes(plans)
    normalization = _normalization(raw)
    masks = read_list(raw.get("use_mask_for_norm"), "use_mask_for_norm", length=len(normalization))
    network_class, network_kwargs = read_architecture(raw)
    low, high = 1e-6, 1e4
    spacing = read_list(raw.get("spacing"), "spacing", length=3)
    return Plan(
        configuration=configuration,
        spacing=_three(read_number(v, "A spacing", low, high) for v in spacing),
        patch_size=_patch(raw),
        transpose_forward=forward,
        transpose_backward=backward,
        normalization=normalization,
        use_mask_for_norm=tuple(read_bool(v, "use_mask_for_norm") for v in masks),
        intensity=_intensity(plans, normalization),
        network_class=network_class,
        network_kwargs=network_kwargs,
        resample_data=_resampling(raw, "resampling_fn_data", order=3),
        resample_probabilities=_resampling(raw, "resampling_fn_probabilities", order=1),
        batch_size=read_int(raw.get("batch_size", 2), "batch_size", 1, 1024),
    )


def _inherited(table: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The configuration with what it inherits from its parents, children winning."""
    chain: list[dict[str, Any]] = []
    seen: set[str] = set()
    following: Any = name
    while following is not None:
        if not isinstance(following, str) or following not in table:
            raise ModelError(f"Configuration '{name}' inherits from one that plans.json lacks.")
        if following in seen:
            raise ModelError(f"Configuration '{name}' inherits from itself.")
        seen.add(following)
        chain.append(read_dict(table[following], f"Configuration '{following}'"))
        following = chain[-1].get("inherits_from")
    merged: dict[str, Any] = {}
    for part in reversed(chain):
        merged.update(part)
    return merged


def _check_kind(name: str, raw: Mapping[str, Any]) -> None:
    if raw.get("previous_stage") is not None:
        raise UnsupportedModelError(
            f"The configuration '{name}' is not supported, because it is the second stage of a "
            "cascade, which needs the result of another model as input.",
            "Use the model's 3d_fullres or 3d_lowres configuration if it has one.",
        )
    patch = read_list(raw.get("patch_size"), "patch_size")
    if len(patch) == 2:
        raise UnsupportedModelError(
            f"The configuration '{name}' is not supported, because it segments slice by slice "
            "and this engine runs 3D networks.",
            "Use the model's 3d_fullres or 3d_lowres configuration if it has one.",
        )


def _patch(raw: Mapping[str, Any]) -> tuple[int, int, int]:
    entries = read_list(raw.get("patch_size"), "patch_size", length=3)
    patch = _three(read_int(v, "patch_size", 1, MAX_PATCH_EDGE) for v in entries)
    if math.prod(patch) > MAX_PATCH_VOXELS:
        raise ModelError("patch_size of plans.json is larger than 512 x 512 x 512 voxels.")
    return patch


def _transposes(
    plans: Mapping[str, Any],
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    entries = read_list(plans.get("transpose_forward"), "transpose_forward", length=3)
    forward = _three(read_int(v, "transpose_forward", 0, 2) for v in entries)
    entries = read_list(plans.get("transpose_backward"), "transpose_backward", length=3)
    backward = _three(read_int(v, "transpose_backward", 0, 2) for v in entries)
    if [forward[axis] for axis in backward] != [0, 1, 2]:
        raise ModelError("transpose_backward of plans.json does not undo transpose_forward.")
    return forward, backward


def _normalization(raw: Mapping[str, Any]) -> tuple[str, ...]:
    schemes = read_list(raw.get("normalization_schemes"), "normalization_schemes", limit=64)
    if not schemes:
        raise ModelError("normalization_schemes of plans.json is empty.")
    for scheme in schemes:
        if scheme not in NORMALIZATIONS:
            raise UnsupportedModelError(
                f"The normalisation '{str(scheme)[:80]}' is not supported, "
                "because it is not one of nnU-Net's own."
            )
    return tuple(schemes)


def _intensity(
    plans: Mapping[str, Any], normalization: tuple[str, ...]
) -> tuple[dict[str, float], ...]:
    key = "foreground_intensity_properties_per_channel"
    raw = plans.get(key, plans.get("foreground_intensity_properties_by_modality", {}))
    table = read_dict(raw, key)
    needed = ("mean", "std", "percentile_00_5", "percentile_99_5")
    channels = []
    for index, scheme in enumerate(normalization):
        entry = read_dict(table.get(str(index), {}), f"Channel {index} of {key}")
        if scheme == "CTNormalization":
            for name in needed:
                read_number(entry.get(name), f"'{name}' of channel {index}", -1e12, 1e12)
        # Channels of other schemes may hold NaN where nothing was in the foreground.
        channels.append({n: float(v) for n, v in entry.items() if _finite(v)})
    return tuple(channels)


def _finite(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and -1e300 < value < 1e300


def _resampling(raw: Mapping[str, Any], key: str, *, order: int) -> Resampling:
    if key not in raw:  # what nnU-Net's planner writes
        return Resampling(order=order)
    function = raw[key]
    kwargs = read_dict(raw.get(f"{key}_kwargs", {}), f"{key}_kwargs")
    # What the kwargs leave out is that function's own default, which is not the planner's.
    separate = kwargs.get(
        "force_separate_z", False if function == "resample_data_or_seg_to_shape" else None
    )
    if separate is not None:
        separate = read_bool(separate, "force_separate_z")
    threshold = read_number(
        kwargs.get("separate_z_anisotropy_threshold", 3.0),
        "separate_z_anisotropy_threshold",
        1.0,
        1e6,
    )
    if function == "resample_data_or_seg_to_shape":
        return Resampling(
            order=read_int(kwargs.get("order", 3), "order of resampling", 0, 5),
            order_z=read_int(kwargs.get("order_z", 0), "order_z of resampling", 0, 5),
            force_separate_z=separate,
            anisotropy_threshold=threshold,
        )
    if function == "resample_torch_fornnunet":
        modes = (kwargs.get("mode", "linear"), kwargs.get("aniso_axis_mode", "nearest-exact"))
        if any(mode not in ("linear", "nearest-exact", "nearest") for mode in modes):
            raise UnsupportedModelError(
                "The resampling of this model is not supported, "
                "because its interpolation mode is unknown."
            )
        return Resampling(
            function=function,
            order=1,
            force_separate_z=separate,
            anisotropy_threshold=threshold,
            mode=modes[0],
            aniso_axis_mode=modes[1],
        )
    if function == "no_resampling_hack":
        return Resampling(function=function)
    raise UnsupportedModelError(
        f"The resampling '{str(function)[:80]}' is not supported, "
        "because it is not one of nnU-Net's own."
    )


def _three(values: Any) -> Any:
    first, second, third = values
    return first, second, third

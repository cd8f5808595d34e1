"""The network of a configuration: class path and keyword arguments, from either plans format.

Nothing is built or imported here. `mednext_engine.networks.registry` decides whether a class path
is known and whether its arguments are possible.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..errors import ModelError, UnsupportedModelError
from .jsonfile import read_dict, read_int, read_list, read_text

UNETS = "dynamic_network_architectures.architectures.unet"
UNET_NAMES = ("PlainConvUNet", "ResidualEncoderUNet")
NAMED_OPERATORS = ("conv_op", "norm_op", "dropout_op", "nonlin")  # `_kw_requires_import`
MAX_STAGES = 16
MAX_FEATURES = 8192
MAX_ENTRIES = 2000


def read_architecture(configuration: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Class path and keyword arguments of the network; names of torch classes stay strings.

    Raises:
        ModelError: the entry is missing or malformed.
        UnsupportedModelError: an old plans file with an unknown `UNet_class_name`.
    """
    if "architecture" not in configuration:
        return _from_old_plans(configuration)
    raw = read_dict(configuration["architecture"], "'architecture' of plans.json")
    class_path = read_text(raw.get("network_class_name"), "network_class_name", limit=200)
    kwargs = read_dict(raw.get("arch_kwargs"), "'arch_kwargs' of plans.json")
    for key in NAMED_OPERATORS:
        if kwargs.get(key) is not None:
            read_text(kwargs[key], f"'{key}' of arch_kwargs", limit=200)
    package, _, name = class_path.rpartition(".")
    if name in UNET_NAMES and package.startswith("dynamic_network_architectures."):
        class_path = f"{UNETS}.{name}"  # the module moved between versions
    return class_path, {key: _plain(value, key) for key, value in kwargs.items()}


def _plain(value: Any, key: str, depth: int = 0) -> Any:
    """Numbers, names, lists and dictionaries of them, within bounds; nothing else."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        if not -1e15 < value < 1e15:
            raise ModelError(f"'{key[:80]}' of arch_kwargs is out of range.")
        return value
    if isinstance(value, str) and len(value) <= 200:
        return value
    if isinstance(value, list) and len(value) <= MAX_ENTRIES and depth < 4:
        return [_plain(v, key, depth + 1) for v in value]
    if isinstance(value, dict) and len(value) <= MAX_ENTRIES and depth < 4:
        return {str(k): _plain(v, key, depth + 1) for k, v in value.items()}
    raise ModelError(f"'{key[:80]}' of arch_kwargs is neither a number, a name nor a short list.")


def _from_old_plans(raw: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Plans of nnU-Net before 2.5 describe a U-Net by a handful of numbers."""
    if "UNet_class_name" not in raw:
        raise ModelError("plans.json does not say which network the model has.")
    name = raw["UNet_class_name"]
    if name not in UNET_NAMES:
        raise UnsupportedModelError(
            f"The network '{str(name)[:80]}' is not supported, "
            "because it is neither a MedNeXt nor one of nnU-Net's U-Nets."
        )
    encoder = _counts(raw, "n_conv_per_stage_encoder")
    stages = len(encoder)
    base = read_int(raw.get("UNet_base_num_features"), "UNet_base_num_features", 1, MAX_FEATURES)
    most = read_int(raw.get("unet_max_num_features"), "unet_max_num_features", 1, MAX_FEATURES)
    depth_key = "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage"
    return f"{UNETS}.{name}", {
        "n_stages": stages,
        "features_per_stage": [min(base * 2**i, most) for i in range(stages)],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": _triples(raw, "conv_kernel_sizes", stages),
        "strides": _triples(raw, "pool_op_kernel_sizes", stages),
        depth_key: encoder,
        "n_conv_per_stage_decoder": _counts(raw, "n_conv_per_stage_decoder", stages - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def _counts(raw: Mapping[str, Any], key: str, length: int | None = None) -> list[int]:
    entries = read_list(raw.get(key), key, length=length, limit=MAX_STAGES)
    if not entries and length is None:
        raise ModelError(f"{key} of plans.json is empty.")
    return [read_int(v, key, 1, 100) for v in entries]


def _triples(raw: Mapping[str, Any], key: str, length: int) -> list[list[int]]:
    triples = []
    for entry in read_list(raw.get(key), key, length=length):
        triple = [read_int(v, key, 1, 64) for v in read_list(entry, key, length=3)]
        if math.prod(triple) > 10_000:
            raise ModelError(f"{key} of plans.json is out of range.")
        triples.append(triple)
    return triples

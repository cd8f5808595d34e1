"""Weights of the official MedNeXt code (github.com/MIC-DKFZ/MedNeXt), read into ours.

The official state dict holds everything that its configuration has, apart from two settings which
leave no trace in names and shapes and are taken to be those of the paper: one norm group a channel,
and a residual around each block.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from ..errors import ModelError, UnsupportedModelError
from .mednext import DEPTH, MedNeXt
from .registry import MEDNEXT, build_network

_LAYERS = {
    "conv1": "depthwise",
    "norm": "norm",
    "conv2": "expand",
    "conv3": "compress",
    "res_conv": "residual",
    "grn_gamma": "grn.gamma",
    "grn_beta": "grn.beta",
}
_IGNORED = "dummy_tensor"
_WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+")
_CONTAINERS = ("state_dict", "network_weights")
_BLOCK = re.compile(
    r"^(?:(?P<stage>enc_block_\d|dec_block_\d|bottleneck)\.(?P<index>\d+)"
    r"|(?P<resampler>(?:up|down)_\d))"
    r"\.(?P<layer>conv[123]|norm|res_conv|grn_gamma|grn_beta)(?P<rest>\.weight|\.bias|)$"
)


def is_official(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a state dict, or a checkpoint that holds one, has the official code's names."""
    keys = set(_weights(checkpoint))
    return {"stem.weight", "out_0.conv_out.weight"} <= keys


def from_official(checkpoint: Mapping[str, Any]) -> MedNeXt:
    """Builds the network that an official checkpoint describes, with its weights, on the CPU.

    Args:
        checkpoint: a state dict, or a checkpoint of nnU-Net that holds one; names may be prefixed
            with `module.`. GRN where some blocks have it and others do not is completed by layers
            of zeros, which are the identity.

    Raises:
        UnsupportedModelError: a variant that is no network of ours (2D, no residual convolutions
            between levels, two kernel sizes).
        ModelError: a name or a shape that the official code does not write.
    """
    weights = _weights(checkpoint)
    settings = infer_settings(weights)
    inputs, classes = settings.pop("input_channels"), settings.pop("num_classes")
    heads = settings.pop("deep_supervision")
    network = build_network(MEDNEXT, settings, inputs, classes, heads)
    expected = network.state_dict()
    translated = translate(weights)
    for key, own in expected.items():
        if key not in translated:
            if ".grn." not in key:
                raise ModelError(f"The official weights lack what we call '{key}'.")
            translated[key] = torch.zeros_like(own)
        elif translated[key].shape != own.shape:
            shape = tuple(translated[key].shape)
            raise ModelError(f"The official weights for '{key}' have an impossible shape {shape}.")
    surplus = next((key for key in translated if key not in expected), None)
    if surplus is not None:
        raise ModelError(f"The official weights hold '{surplus}', which has no place in a MedNeXt.")
    network.load_state_dict(translated)
    return cast("MedNeXt", network)


def translate(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Official names to ours, values as they are; `dummy_tensor` is left out.

    Raises:
        ModelError: a name that the official code does not write.
    """
    return {_translated(key): value for key, value in weights.items() if key != _IGNORED}


def _translated(key: str) -> str:
    if key in ("stem.weight", "stem.bias"):
        return f"encoder.{key}"
    head = re.match(r"^out_([0-4])\.conv_out\.(weight|bias)$", key)
    if head:
        return f"decoder.heads.{head[1]}.{head[2]}"
    block = _BLOCK.match(key)
    if not block:
        raise ModelError(f"The official MedNeXt has no weights named '{key[:80]}'.")
    place = block["resampler"] or block["stage"]
    level = DEPTH if place == "bottleneck" else int(place[-1])
    if place.startswith(("up", "dec")):
        kind = "up" if place.startswith("up") else "stages"
        ours = f"decoder.{kind}.{DEPTH - 1 - level}"
    else:
        ours = f"encoder.{'down' if place.startswith('down') else 'stages'}.{level}"
    if block["index"]:
        ours += f".{int(block['index'])}"
    return f"{ours}.{_LAYERS[block['layer']]}{block['rest']}"


def infer_settings(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """All arguments of `MedNeXt`, from names and shapes of official weights.

    Raises:
        UnsupportedModelError, ModelError: as `from_official`.
    """
    stem, head = _get(weights, "stem.weight"), _get(weights, "out_0.conv_out.weight")
    if stem.ndim != 5:
        raise UnsupportedModelError("These MedNeXt weights are for 2D images, not for volumes.")
    _refuse_variants(weights)
    places = [f"enc_block_{i}" for i in range(DEPTH)] + ["bottleneck"]
    places += [f"dec_block_{i}" for i in reversed(range(DEPTH))]
    blocks, expansion = [], []
    for place in places:
        found = {k.split(".")[1] for k in weights if k.startswith(f"{place}.")}
        blocks.append(len(found))
        expand = _get(weights, f"{place}.0.conv2.weight")
        expansion.append(expand.shape[0] // max(1, expand.shape[1]))
    return {
        "input_channels": stem.shape[1],
        "num_classes": head.shape[1],
        "channels": stem.shape[0],
        "blocks": blocks,
        "expansion": expansion,
        "kernel_size": _get(weights, "enc_block_0.0.conv1.weight").shape[-1],
        "grn": any(k.endswith("grn_gamma") for k in weights),
        "deep_supervision": "out_1.conv_out.weight" in weights,
    }


def _refuse_variants(weights: Mapping[str, Tensor]) -> None:
    for place in (f"{way}_{i}" for way in ("down", "up") for i in range(DEPTH)):
        if f"{place}.conv1.weight" in weights and f"{place}.res_conv.weight" not in weights:
            raise UnsupportedModelError(
                "This MedNeXt has no residual convolutions between its levels "
                f"(do_res_up_down=False, seen in '{place}'), which is not supported."
            )
    kernels = {tuple(v.shape[2:]) for k, v in weights.items() if k.endswith("conv1.weight")}
    if len(kernels) > 1:
        sizes = " and ".join("x".join(map(str, kernel)) for kernel in sorted(kernels))
        raise UnsupportedModelError(
            f"This MedNeXt has kernels of several sizes ({sizes}), which is not supported."
        )


def _get(weights: Mapping[str, Tensor], key: str) -> Tensor:
    if key not in weights or weights[key].ndim < 2:
        raise ModelError(f"These are no weights of the official MedNeXt: '{key}' is missing.")
    return weights[key]


def _weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict in a checkpoint, names without the prefixes of wrappers."""
    for name in _CONTAINERS:
        inner = checkpoint.get(name)
        if isinstance(inner, Mapping):
            checkpoint = inner
    return {
        _WRAPPERS.sub("", str(key)): value
        for key, value in checkpoint.items()
        if isinstance(value, Tensor)
    }

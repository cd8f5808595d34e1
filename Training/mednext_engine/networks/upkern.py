"""UpKern: start a large-kernel MedNeXt from a trained small-kernel one (paper 001, 2.3 and 6.1)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ModelError
from .mednext import MedNeXt

_KERNEL = ".depthwise.weight"
_HEADS = "decoder.heads."


def upkern(small: MedNeXt | Mapping[str, Tensor], large: MedNeXt) -> None:
    """Copies the weights of `small` into `large`, its depthwise kernels trilinearly upsampled.

    The two differ in nothing but the kernel size, norms included. Whether the auxiliary heads of
    deep supervision exist is no difference: those that only `large` has stay as they are.

    Args:
        small: a trained network, or its state dict.
        large: the network to initialise, in place; its kernels are as large or larger.

    Raises:
        ModelError: another difference (the first one is named); `large` is untouched then.
    """
    trained = small.state_dict() if isinstance(small, MedNeXt) else dict(small)
    target = large.state_dict()
    weights = {
        key: _initial(key, trained.get(key), new)
        for key, new in target.items()
        if key in trained or not _auxiliary(key)
    }
    for key in trained:
        if key not in target and not _auxiliary(key):
            raise _difference(f"'{key}' exists only in the small-kernel one")
    with torch.no_grad():
        for key, value in weights.items():
            target[key].copy_(value)


def _auxiliary(key: str) -> bool:
    return key.startswith(_HEADS) and not key.startswith(f"{_HEADS}0.")


def _initial(key: str, old: Tensor | None, new: Tensor) -> Tensor:
    """The weight that `new`, of the large network, starts with."""
    if old is None:
        raise _difference(f"'{key}' exists only in the large-kernel one")
    if old.shape == new.shape:
        return old
    if not key.endswith(_KERNEL) or old.ndim != 5 or old.shape[:2] != new.shape[:2]:
        raise _difference(f"'{key}' is {_size(old)} in the one and {_size(new)} in the other")
    if old.shape[-1] > new.shape[-1]:
        raise ModelError(
            f"UpKern enlarges kernels, but '{key}' would shrink from {_size(old)} to {_size(new)}.",
            "Give the network with the smaller kernel first.",
        )
    return F.interpolate(old.float(), size=new.shape[2:], mode="trilinear", align_corners=False)


def _size(weight: Tensor) -> str:
    return " x ".join(str(n) for n in weight.shape)


def _difference(what: str) -> ModelError:
    return ModelError(
        f"UpKern needs two networks that differ in kernel size only, but {what}.",
        "Choose the same configuration for both.",
    )

"""A network and the weights of a checkpoint brought together, without trusting either."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn


def build_with_weights(build: Callable[[], nn.Module], weights: Mapping[str, Tensor]) -> nn.Module:
    """Builds a network and loads `weights` into it as private fp32 copies, on the CPU.

    `build` is first called on PyTorch's meta device, where tensors have shapes and no memory, so
    that a layout the weights do not fit costs nothing.

    Raises:
        ModelError: the weights belong to another network or are not finite.
    """
    import torch

    with torch.device("meta"):
        layout = build()
    _compare(layout, weights)
    copies = _finite_copies(weights)
    network = _loaded(layout, copies, assign=True)
    if any(t.is_meta for t in (*network.parameters(), *network.buffers())):
        # Heads for deep supervision that the file lacks keep their random start.
        network = _loaded(build(), copies, assign=False)
    return network


def _compare(layout: nn.Module, weights: Mapping[str, Tensor]) -> None:
    expected = layout.state_dict()
    for key, tensor in weights.items():
        if key in expected and expected[key].shape != tensor.shape:
            raise ModelError(
                f"The weights do not fit the network that plans.json describes: '{key[:100]}' has "
                f"the shape {list(tensor.shape)} instead of {list(expected[key].shape)}."
            )


def _finite_copies(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Private fp32 copies of the floating tensors; a tensor with two names is copied once."""
    import torch

    copies: dict[str, Tensor] = {}
    known: dict[tuple[Any, ...], Tensor] = {}
    for key, tensor in weights.items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if place not in known:
            dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
            known[place] = torch.empty(tensor.shape, dtype=dtype).copy_(tensor)
            if not torch.isfinite(known[place]).all():
                raise ModelError(f"The weights hold values that are not finite ('{key[:100]}').")
        copies[key] = known[place]
    return copies


def _loaded(network: nn.Module, weights: Mapping[str, Tensor], *, assign: bool) -> nn.Module:
    try:
        network.load_state_dict(weights, strict=True, assign=assign)
    except RuntimeError as error:
        expected = set(network.state_dict())
        missing = sorted(expected - set(weights))[:1]
        extra = sorted(set(weights) - expected)[:1]
        facts = [f"'{missing[0]}' is missing"] * bool(missing)
        facts += [f"'{extra[0][:100]}' is unknown"] * bool(extra)
        reason = " and ".join(facts) or str(error).splitlines()[0][:200]
        raise ModelError(
            f"The weights do not fit the network that plans.json describes: {reason}.",
            "The model may have been trained with a network of its own.",
        ) from None
    return network

"""A network and the weights of a checkpoint brought together, without trusting either."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError
from ..networks.parameters import MedNeXtParameters, Shape

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


def parameters_from(
    shapes: Mapping[str, Shape], arrays: Mapping[str, np.ndarray]
) -> MedNeXtParameters:
    """The parameters of a MedNeXt in fp32, without its module: `shapes` are those it should have.

    Heads for deep supervision are left away.

    Raises:
        ModelError: the weights belong to another network or are not finite.
    """
    given = {
        name: array
        for name, array in arrays.items()
        if name in shapes or not name.startswith("decoder.heads.")
    }
    _compare_shapes(shapes, given)
    if set(given) != set(shapes):
        raise _misfit(set(shapes), set(given), "")
    copies = {name: np.array(given[name], np.float32, order="C") for name in shapes}
    for name, values in copies.items():
        if not np.isfinite(values).all():
            raise _not_finite(name)
    return MedNeXtParameters(copies)


def _compare(layout: nn.Module, weights: Mapping[str, Tensor]) -> None:
    _compare_shapes({name: tuple(t.shape) for name, t in layout.state_dict().items()}, weights)


def _compare_shapes(expected: Mapping[str, Shape], given: Mapping[str, Any]) -> None:
    for key, values in given.items():
        if key in expected and expected[key] != tuple(values.shape):
            raise ModelError(
                f"The weights do not fit the network that plans.json describes: '{key[:100]}' has "
                f"the shape {list(values.shape)} instead of {list(expected[key])}."
            )


def _not_finite(key: str) -> ModelError:
    return ModelError(f"The weights hold values that are not finite ('{key[:100]}').")


def _misfit(expected: set[str], given: set[str], otherwise: str) -> ModelError:
    facts = [f"'{key}' is missing" for key in sorted(expected - given)[:1]]
    facts += [f"'{key[:100]}' is unknown" for key in sorted(given - expected)[:1]]
    return ModelError(
        "The weights do not fit the network that plans.json describes: "
        f"{' and '.join(facts) or otherwise}.",
        "The model may have been trained with a network of its own.",
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
                raise _not_finite(key)
        copies[key] = known[place]
    return copies


def _loaded(network: nn.Module, weights: Mapping[str, Tensor], *, assign: bool) -> nn.Module:
    try:
        network.load_state_dict(weights, strict=True, assign=assign)
    except RuntimeError as error:
        reason = str(error).splitlines()[0][:200]
        raise _misfit(set(network.state_dict()), set(weights), reason) from None
    return network

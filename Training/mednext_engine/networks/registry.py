"""Every network that may be built, by name: configurations of the papers, and class paths of plans.

A model folder names its network in `plans.json`. That name is looked up here and never imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import DependencyError, ModelError, UnsupportedModelError

if TYPE_CHECKING:
    from torch import nn

MEDNEXT = "mednext_engine.networks.MedNeXt"
LARGEST_PARAMETERS = 1_000_000_000  # four times v2 Wide


@dataclass(frozen=True)
class Configuration:
    """A named MedNeXt. `paper` is False for our own small networks."""

    name: str
    kwargs: dict[str, Any]
    paper: bool = True

    @property
    def kernel_size(self) -> int:
        return int(self.kwargs["kernel_size"])

    @property
    def key(self) -> str:
        """Identifier for the command line, such as `v1-s-k5`."""
        return f"{self.name.lower().replace(' ', '-')}-k{self.kernel_size}"

    @property
    def title(self) -> str:
        """For a person, such as `MedNeXt v1 S, kernel 5`."""
        return f"MedNeXt {self.name}, kernel {self.kernel_size}"

    @property
    def parameters(self) -> int:
        """Of one input channel and three classes, without heads for deep supervision."""
        from .parameters import mednext_shapes

        return sum(math.prod(shape) for shape in mednext_shapes(1, 3, **self.kwargs).values())

    def build(self, input_channels: int, num_classes: int, **kwargs: Any) -> nn.Module:
        from .mednext import MedNeXt

        return MedNeXt(input_channels, num_classes, **{**self.kwargs, **kwargs})


_R_B = (2, 3, 4, 4, 4, 4, 4, 3, 2)
_B_M = (3, 4, 4, 4, 4, 4, 4, 4, 3)
_B_L = (3, 4, 8, 8, 8, 8, 8, 4, 3)


def v1_s(kernel_size: int) -> Configuration:
    return _configuration("v1 S", kernel_size, blocks=2, expansion=2)


def v1_b(kernel_size: int) -> Configuration:
    return _configuration("v1 B", kernel_size, blocks=2, expansion=_R_B)


def v1_m(kernel_size: int) -> Configuration:
    return _configuration("v1 M", kernel_size, blocks=_B_M, expansion=_R_B)


def v1_l(kernel_size: int) -> Configuration:
    return _configuration("v1 L", kernel_size, blocks=_B_L, expansion=_B_L)


def v2_base() -> Configuration:
    return _configuration("v2 Base", 3, blocks=_B_L, expansion=_B_L, grn=True)


def v2_wide() -> Configuration:
    return _configuration("v2 Wide", 3, channels=64, blocks=_B_L, expansion=_B_L, grn=True)


def laptop(name: str, channels: int, blocks: int = 2) -> Configuration:
    """Our own small v2 networks, named so that nobody takes them for the paper's."""
    return _configuration(
        f"Laptop {name}", 3, channels=channels, blocks=blocks, expansion=2, grn=True, paper=False
    )


def _configuration(
    name: str,
    kernel_size: int,
    *,
    channels: int = 32,
    blocks: int | tuple[int, ...],
    expansion: int | tuple[int, ...],
    grn: bool = False,
    paper: bool = True,
) -> Configuration:
    kwargs = {
        "channels": channels,
        "blocks": [blocks] * 9 if isinstance(blocks, int) else list(blocks),
        "expansion": [expansion] * 9 if isinstance(expansion, int) else list(expansion),
        "kernel_size": kernel_size,
        "grn": grn,
    }
    return Configuration(name, kwargs, paper)


CONFIGURATIONS: dict[str, Configuration] = {
    c.key: c
    for c in (
        *(make(k) for make in (v1_s, v1_b, v1_m, v1_l) for k in (3, 5)),
        v2_base(),
        v2_wide(),
        laptop("Nano", 8, blocks=1),
        laptop("Tiny", 16),
        laptop("Small", 32),
    )
}


def _sequence(value: Any, largest: int, *, length: int | None = None, depth: int = 2) -> bool:
    """Whether `value` is one whole number of [1, largest], or a list of (lists of) them."""
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return 1 <= value <= largest
    if depth == 0 or not isinstance(value, (list, tuple)) or not 0 < len(value) <= 64:
        return False
    if length is not None and len(value) != length:
        return False
    return all(_sequence(v, largest, depth=depth - 1) for v in value)


def _whole(value: Any, largest: int) -> bool:
    return _sequence(value, largest, depth=0)


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "channels": lambda v: _whole(v, 1024),
    "blocks": lambda v: _sequence(v, 64, length=9, depth=1),
    "expansion": lambda v: _sequence(v, 16, length=9, depth=1),
    "kernel_size": lambda v: _whole(v, 15) and v % 2 == 1,
    "grn": lambda v: isinstance(v, bool),
    "resampling": lambda v: v in ("mednext", "standard"),
    "checkpointing": lambda v: (
        v in (None, "block", "expansion")
        or (
            (isinstance(v, (list, tuple)) and len(v) == 9)
            and all(w in (None, "block", "expansion") for w in v)
        )
    ),
}

_FLAG: Callable[[Any], bool] = lambda v: isinstance(v, bool)  # noqa: E731
_UNET_CHECKS: dict[str, Callable[[Any], bool]] = {
    "n_stages": lambda v: _whole(v, 12),
    "features_per_stage": lambda v: _sequence(v, 4096),
    "kernel_sizes": lambda v: _sequence(v, 15),
    "strides": lambda v: _sequence(v, 8),
    "n_conv_per_stage": lambda v: _sequence(v, 32),
    "n_blocks_per_stage": lambda v: _sequence(v, 64),
    "n_conv_per_stage_decoder": lambda v: _sequence(v, 32),
    "bottleneck_channels": lambda v: v is None or _sequence(v, 4096),
    "stem_channels": lambda v: v is None or _sequence(v, 4096),
    "conv_bias": _FLAG,
    "nonlin_first": _FLAG,
    "squeeze_excitation": _FLAG,
}
_UNET_NAMED = ("conv_op", "norm_op", "dropout_op", "nonlin")
_UNET_KWARGS = ("norm_op_kwargs", "dropout_op_kwargs", "nonlin_kwargs")
_UNETS = ("PlainConvUNet", "ResidualEncoderUNet")


def _named_operators() -> dict[str, Any]:
    """Layers that a plan may name (`_kw_requires_import`), by every spelling nnU-Net writes."""
    from torch import nn

    allowed = [nn.Conv3d, nn.InstanceNorm3d, nn.BatchNorm3d, nn.Dropout3d]
    allowed += [nn.LeakyReLU, nn.ReLU, nn.GELU]
    table: dict[str, Any] = {}
    for operator in allowed:
        table[f"{operator.__module__}.{operator.__qualname__}"] = operator
        table[f"torch.nn.{operator.__qualname__}"] = operator
    return table


def _plain_kwargs(name: str, value: Any) -> dict[str, Any] | None:
    """Arguments of a layer: a small dictionary of numbers and flags."""
    if value is None:
        return None
    plain = isinstance(value, dict) and len(value) <= 8
    if not plain or any(not isinstance(v, (bool, int, float)) for v in value.values()):
        raise ModelError(f"The network's argument '{name}' is not a table of plain numbers.")
    return {str(k): v for k, v in value.items()}


def _unet_class(class_path: str) -> Any | None:
    name = class_path.rsplit(".", 1)[-1]
    known = {f"dynamic_network_architectures.architectures.unet.{n}": n for n in _UNETS}
    known |= {n: n for n in _UNETS}
    if class_path not in known:
        return None
    try:
        from dynamic_network_architectures.architectures import unet
    except ImportError as error:
        raise DependencyError(
            f"This model is a {name}, which needs the package dynamic_network_architectures.",
            "Install it with: pip install --no-deps dynamic_network_architectures",
        ) from error
    return getattr(unet, known[class_path])


def _checked(kwargs: dict[str, Any], checks: dict[str, Callable[[Any], bool]]) -> dict[str, Any]:
    for name, value in kwargs.items():
        if name not in checks:
            raise ModelError(
                f"The network's argument '{name}' is unknown.", "The model may be newer than this."
            )
        if not checks[name](value):
            raise ModelError(f"The network's argument '{name}' has an impossible value.")
    return kwargs


def _unet_kwargs(kwargs: dict[str, Any]) -> dict[str, Any]:
    operators = _named_operators()
    plain: dict[str, Any] = {}
    for name, value in kwargs.items():
        if name in _UNET_NAMED:
            if value is not None and (not isinstance(value, str) or value not in operators):
                raise UnsupportedModelError(
                    f"The network asks for a layer that is not on the list of known ones ({name})."
                )
            plain[name] = operators[value] if value is not None else None
        elif name in _UNET_KWARGS:
            plain[name] = _plain_kwargs(name, value)
        else:
            plain |= _checked({name: value}, _UNET_CHECKS)
    return plain


def mednext_layout(
    class_path: str, kwargs: dict[str, Any], input_channels: int, num_classes: int
) -> dict[str, tuple[int, ...]] | None:
    """Names and shapes of a MedNeXt's parameters, without PyTorch; None for another class.

    Raises:
        ModelError: as `build_network`.
    """
    if class_path != MEDNEXT:
        return None
    from .parameters import mednext_shapes

    _check_arguments(class_path, kwargs, input_channels, num_classes)
    shapes = mednext_shapes(input_channels, num_classes, **_checked(kwargs, _CHECKS))
    _check_size(sum(math.prod(shape) for shape in shapes.values()))
    return shapes


def _check_arguments(class_path: Any, kwargs: Any, input_channels: Any, num_classes: Any) -> None:
    if not (isinstance(class_path, str) and isinstance(kwargs, dict)):
        raise ModelError("The model's plans do not name a network and its arguments.")
    if not (_whole(input_channels, 1024) and _whole(num_classes, 4096)):
        raise ModelError("The model's number of channels or of labels is out of bounds.")


def _check_size(parameters: int) -> None:
    if parameters > LARGEST_PARAMETERS:
        raise ModelError(
            f"The network would have {parameters:,} parameters, which is out of bounds."
        )


def build_network(
    class_path: str,
    kwargs: dict[str, Any],
    input_channels: int,
    num_classes: int,
    deep_supervision: bool = False,
) -> nn.Module:
    """Builds a network that a model folder names, on the CPU, with random weights.

    The arguments are checked one by one, and the whole is laid out without memory first, so that a
    file can make us neither import anything nor allocate more than `LARGEST_PARAMETERS`.

    Args:
        class_path: `architecture.network_class_name` of nnU-Net's plans.
        kwargs: its `arch_kwargs`; layers are named by strings.
        input_channels: channels of the image, up to 1,024.
        num_classes: output channels, up to 4,096.
        deep_supervision: as in `MedNeXt`.

    Raises:
        UnsupportedModelError: the class or a layer is not one of the known ones.
        ModelError: an argument is unknown, out of bounds, or the network would be too large.
        DependencyError: a U-Net, and `dynamic_network_architectures` is not installed.
    """
    import torch

    _check_arguments(class_path, kwargs, input_channels, num_classes)
    if class_path == MEDNEXT:
        from .mednext import MedNeXt

        network_class: Any = MedNeXt
        arguments = _checked(kwargs, _CHECKS)
    else:
        network_class = _unet_class(class_path)
        if network_class is None:
            raise UnsupportedModelError(
                f"Networks of the class '{class_path[:80]}' are not supported, because only "
                "MedNeXt and nnU-Net's plain and residual-encoder U-Nets are known.",
            )
        arguments = _unet_kwargs(kwargs)
    arguments = dict(arguments, deep_supervision=deep_supervision)

    def construct() -> nn.Module:
        return network_class(input_channels, num_classes=num_classes, **arguments)

    try:
        with torch.device("meta"):
            size = sum(p.numel() for p in construct().parameters())
    except Exception as error:  # a foreign class may refuse its arguments with anything
        raise ModelError("The network cannot be built from its arguments.") from error
    _check_size(size)
    return construct()

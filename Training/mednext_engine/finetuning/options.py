"""The settings of a job that have a default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..models.jsonfile import read_bool, read_dict, read_int, read_list, read_number, read_text
from .reading import check_keys, read_choice, read_id

TRANSFERS = ("whole", "encoder", "scratch")
CHECKPOINTINGS = ("auto", "block", "expansion")


@dataclass(frozen=True)
class JobOptions:
    """Settings that have a default; None and "auto" leave the choice to the plan.

    Attributes:
        device: "auto", "cpu", "cuda", "cuda:1", "mps", ...
        transfer: "whole" network, "encoder" only, or "scratch".
        network: of a training without a base model, a name of `networks.registry.CONFIGURATIONS`;
            None: a small one that this device can train.
        upkern: start a kernel-5 network from the base's kernel 3.
        spacing: "base", "own" (the cases' median) or mm in plan axes.
        patch, batch, steps: voxels in plan axes; samples a step; steps in all.
        mirror: "auto" (off across left and right where labels have sides) or a decision.
        precision, checkpointing: see `mednext_engine.training`.
        context: factor on the patch.
        seed: of every random choice.
        threads: CPU threads; None: all.
        preview_case, preview_every: the case segmented every so many epochs.
    """

    device: str = "auto"
    transfer: str = "whole"
    network: str | None = None
    upkern: bool = False
    spacing: str | tuple[float, float, float] = "base"
    patch: tuple[int, int, int] | None = None
    batch: int | None = None
    steps: int | None = None
    mirror: str | bool = "auto"
    precision: str = "auto"
    checkpointing: str | None = "auto"
    context: float = 1.0
    seed: int = 0
    threads: int | None = None
    preview_case: str | None = None
    preview_every: int = 5


def read_options(raw: Any) -> JobOptions:
    """Reads `options` of a job.json; what is left out has its default.

    Raises:
        InputError, ModelError: an unknown option, or a value of the wrong kind.
    """
    table = read_dict(raw, "'options'")
    check_keys(table, _READERS, "'options'")
    return JobOptions(
        **{key: _READERS[key](value, f"The option '{key}'") for key, value in table.items()}
    )


Reader = Callable[[Any, str], Any]


def _text(value: Any, what: str) -> str:
    return read_text(value, what, limit=64)


def _choice(*choices: str) -> Reader:
    return lambda value, what: read_choice(value, what, choices)


def _integer(low: int, high: int) -> Reader:
    return lambda value, what: read_int(value, what, low, high)


def _optional(reader: Reader) -> Reader:
    return lambda value, what: None if value is None else reader(value, what)


def _spacing(value: Any, what: str) -> str | tuple[float, ...]:
    if isinstance(value, str):
        return read_choice(value, what, ("base", "own"))
    return tuple(read_number(v, what, 0.01, 100.0) for v in read_list(value, what, length=3))


def _patch(value: Any, what: str) -> tuple[int, ...]:
    return tuple(read_int(v, what, 8, 1024) for v in read_list(value, what, length=3))


def _mirror(value: Any, what: str) -> str | bool:
    if value == "auto":
        return "auto"
    if not isinstance(value, bool):
        raise InputError(f"{what} is none of auto, true, false.")
    return value


_READERS: Mapping[str, Reader] = {
    "device": _text,
    "transfer": _choice(*TRANSFERS),
    "network": _optional(_text),
    "upkern": read_bool,
    "spacing": _spacing,
    "patch": _optional(_patch),
    "batch": _optional(_integer(1, 1024)),
    "steps": _optional(_integer(1, 10**7)),
    "mirror": _mirror,
    "precision": _text,
    "checkpointing": _optional(_choice(*CHECKPOINTINGS)),
    "context": lambda value, what: read_number(value, what, 0.25, 8.0),
    "seed": _integer(0, 2**32 - 1),
    "threads": _optional(_integer(1, 1024)),
    "preview_case": _optional(read_id),
    "preview_every": _integer(1, 10**6),
}

"""The pickle inside a checkpoint, read as data: nothing that it names is imported or called.

First the instructions are looked through without executing them: only those that `torch.save`
writes may occur. Then Python's own unpickler runs over them with every name it asks for replaced by
an inert stand-in of this module: a tensor becomes a note of where its numbers lie, a number of
NumPy a plain number. (PyTorch's restricted unpickler takes minutes for the log of a long training
with many labels, which nobody needs.)
"""

from __future__ import annotations

import io
import pickle
import re
import struct
from collections.abc import Callable
from typing import Any

from ..errors import ModelError

STORAGES = ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Char", "Byte", "Bool")
DISTRUST = "Do not use this model unless you trust its origin."

# Instructions with no argument or one of fixed length: PROTO, MARK, REDUCE, BUILD, constants,
# numbers, tuples, containers, BINPERSID, and the memo. A memo index of four bytes is kept below
# 2^24, because the unpickler sets aside room for as many entries.
_FIXED = re.compile(
    rb"(?:\x80[\x02-\x03]|[(RbNtQ})\]asu\x85\x86\x87\x88\x89\x8f]|e|[Khq].|M..|J....|G.{8}"
    rb"|[jr].{3}\x00)+",
    re.DOTALL,
)
_FORMATS = {"b1": "?", "f2": "e", "f4": "f", "f8": "d"}
_FORMATS |= {"i1": "b", "i2": "h", "i4": "i", "i8": "q"}
_FORMATS |= {"u1": "B", "u2": "H", "u4": "I", "u8": "Q"}


def scan(data: bytes, name: str) -> frozenset[str]:
    """Every text in the pickle, if it holds nothing but what nnU-Net's checkpoints hold.

    Raises:
        ModelError: it names or does something else, or breaks off.
    """
    texts: set[str] = set()
    place = 0
    try:
        while data[place] != 0x2E:  # STOP
            if run := _FIXED.match(data, place):
                place = run.end()
                continue
            place = _variable(data, place, name, texts)
    except (IndexError, struct.error, ValueError):
        raise ModelError(f"{name} is truncated or damaged.") from None
    return frozenset(texts)


def _variable(data: bytes, place: int, name: str, texts: set[str]) -> int:
    """Looks at one instruction of variable length; returns the place after it."""
    code = data[place : place + 1]
    if code == b"X":  # BINUNICODE
        start = place + 5
        end = start + struct.unpack_from("<I", data, place + 1)[0]
        texts.add(data[start:end].decode("utf-8", "surrogatepass"))
    elif code == b"c":  # GLOBAL
        first = data.index(b"\n", place)
        end = data.index(b"\n", first + 1) + 1
        asked = data[place + 1 : end - 1].decode("utf-8", "replace").replace("\n", ".")
        if asked not in STAND_INS:
            raise ModelError(
                f"{name} was not opened, because it asks for '{asked[:100]}', "
                "which could run code.",
                DISTRUST,
            )
    elif code in (b"U", b"\x8a"):  # SHORT_BINSTRING, LONG1
        end = place + 2 + data[place + 1]
    elif len(data) - place < 9 and code in b"\x80KMJGhqjr":  # its argument is cut off
        raise ModelError(f"{name} is truncated or damaged.")
    else:
        raise ModelError(
            f"{name} was not opened, because it holds an instruction (0x{data[place]:02x}) "
            "that checkpoints do not need.",
            DISTRUST,
        )
    if end > len(data):
        raise ModelError(f"{name} is truncated or damaged.")
    return end


def read(data: bytes, name: str) -> Any:
    """The pickle's content with stand-ins for all that is no plain value. Raises ModelError."""
    scan(data, name)
    try:
        return _Reader(io.BytesIO(data)).load()
    except Exception as error:  # whatever a damaged pickle makes of the stand-ins
        raise ModelError(
            f"{name} is damaged or not a checkpoint of nnU-Net v2 "
            f"({type(error).__name__} while reading it)."
        ) from error


class StorageNote:
    """Where a tensor's numbers lie: record `data/<key>` of the archive."""

    __slots__ = ("count", "key", "kind")

    def __init__(self, identity: Any) -> None:
        word, kind, key, _location, count = identity
        plain = word == "storage" and isinstance(kind, StandIn) and isinstance(key, str)
        if (
            not plain
            or not isinstance(count, int)
            or count < 0
            or not kind.name.endswith("Storage")
        ):
            raise pickle.UnpicklingError("not a storage")
        self.kind, self.key, self.count = kind.name, key, count

    def __setstate__(self, _: Any) -> None:
        raise pickle.UnpicklingError("a storage has no state")


class TensorNote:
    """A tensor as the checkpoint describes it: storage, offset, shape, strides."""

    __slots__ = ("offset", "shape", "storage", "strides")

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> None:
        whole = all(isinstance(n, int) and n >= 0 for n in (offset, *shape, *strides))
        if not isinstance(storage, StorageNote) or not whole or len(shape) != len(strides):
            raise pickle.UnpicklingError("not a tensor")
        self.storage, self.offset = storage, offset
        self.shape, self.strides = tuple(shape), tuple(strides)

    def __setstate__(self, _: Any) -> None:
        raise pickle.UnpicklingError("a tensor has no state")


class StandIn:
    """What the unpickler gets for a name: it may be called, and cannot be changed."""

    __slots__ = ("_make", "name")

    def __init__(self, name: str, make: Callable[..., Any]) -> None:
        self.name, self._make = name, make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, _: Any) -> None:
        raise pickle.UnpicklingError("a function has no state")


class _Dictionary(dict[Any, Any]):
    """Stands in for OrderedDict; PyTorch hangs a table of versions on it, which is dropped."""

    def __setstate__(self, _: Any) -> None:
        return None


class _Type:
    """Stands in for `numpy.dtype`: keeps the type's code and its byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code = code if isinstance(code, str) else ""
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] == ">":
            self.order = ">"


def _scalar(kind: Any, data: Any = b"") -> float | int | bool | None:
    """Stands in for NumPy's `scalar`: a plain number, or None for what is no number."""
    code = _FORMATS.get(getattr(kind, "code", ""))
    if code is None or not isinstance(data, bytes) or len(data) != struct.calcsize(code):
        return None
    number: float | int | bool = struct.unpack(kind.order + code, data)[0]
    return number


def _nothing(*_: Any) -> None:
    return None


def _stand_ins() -> dict[str, StandIn]:
    table: dict[str, Callable[..., Any]] = {
        "collections.OrderedDict": lambda items=(): _Dictionary(items),
        "torch._utils._rebuild_tensor_v2": TensorNote,
        "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
        "torch.device": _nothing,
        "torch.Size": lambda sizes=(): tuple(sizes),
        "torch.storage.UntypedStorage": _nothing,
        "_codecs.encode": lambda text, _encoding="latin1": text.encode("latin1"),
        "numpy.dtype": _Type,
        "numpy.core.multiarray.scalar": _scalar,
        "numpy._core.multiarray.scalar": _scalar,
    }
    table |= {f"torch.{name}Storage": _nothing for name in STORAGES}
    return {name: StandIn(name, make) for name, make in table.items()}


STAND_INS = _stand_ins()


class _Reader(pickle.Unpickler):
    """Python's unpickler, which can find nothing but the stand-ins."""

    def find_class(self, module: str, name: str, /) -> Any:
        stand_in = STAND_INS.get(f"{module}.{name}")
        if stand_in is None:
            raise pickle.UnpicklingError("a name that is not allowed")
        return stand_in

    def persistent_load(self, identity: Any, /) -> Any:
        return StorageNote(identity)

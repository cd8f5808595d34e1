"""Checkpoints of nnU-Net v2, opened without trusting them.

A `.pth` file is a zip whose `data.pkl` is a pickle, and a pickle is a program. Three gates, each of
which would do alone:
1. The archive is inspected: nothing compressed (no bombs), no doubles, no TorchScript.
2. The pickle is read opcode by opcode, without executing it: it may name only what nnU-Net's own
   checkpoints name (tensors, their storages, dictionaries, numbers of NumPy).
3. `torch.load(weights_only=True)` of PyTorch 2.6 or newer (CVE-2025-32434), in which the names of
   NumPy lead to the small stand-ins below, so that NumPy unpickles nothing either.
"""

from __future__ import annotations

import io
import pickletools
import struct
import sys
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from .torch_version import require_torch

if TYPE_CHECKING:
    from torch import Tensor

MAX_FILE_BYTES = 16 * 2**30
MAX_PICKLE_BYTES = 256 * 2**20
MAX_MEMBERS = 100_000
MAX_TENSORS = 50_000

_STORAGES = ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Char", "Byte", "Bool")
ALLOWED_GLOBALS = frozenset(
    {
        "collections OrderedDict",
        "torch._utils _rebuild_tensor_v2",
        "torch._utils _rebuild_parameter",
        "torch.storage UntypedStorage",
        "torch device",
        "torch Size",
        "_codecs encode",
        "numpy dtype",
        "numpy.core.multiarray scalar",
        "numpy._core.multiarray scalar",
        *(f"torch {name}Storage" for name in _STORAGES),
    }
)
# Everything that torch.save writes; what builds instances or calls by other ways is not in it.
# fmt: off
_ALLOWED_OPCODES = frozenset(
    {
        "PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "NONE", "NEWTRUE",
        "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE",
        "SHORT_BINSTRING", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE",
        "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET", "APPEND", "APPENDS", "SETITEM",
        "SETITEMS", "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT", "BINPERSID",
    }
)
# fmt: on


@dataclass(frozen=True)
class Checkpoint:
    """What the engine takes from a checkpoint; everything else in it is left alone.

    Attributes:
        weights: the network's state dict, prefixes of wrappers removed; tensors on the CPU, which
            may be mapped from the file: copy before writing to them.
        trainer: nnU-Net's trainer class, by name ("" when the file does not say).
        configuration: name of the configuration it was trained with ("" likewise).
        mirror_axes: spatial plan axes (0 to 2) that may be mirrored at inference.
    """

    weights: dict[str, Tensor]
    trainer: str = ""
    configuration: str = ""
    mirror_axes: tuple[int, ...] = ()


def load_checkpoint(path: Path) -> Checkpoint:
    """Loads a checkpoint that nnU-Net v2 or this package wrote, from an untrusted file.

    Keys other than the four that are used are tolerated, whatever their names.

    Raises:
        DependencyError: see `require_torch`.
        ModelError: the file is missing, truncated, no such checkpoint, or asks for code.
    """
    require_torch()
    inspect_checkpoint(path)
    content = _load(path)
    if not isinstance(content, dict):
        raise ModelError(f"{path.name} is not a checkpoint of nnU-Net v2.")
    init_args = content.get("init_args")
    configuration = init_args.get("configuration") if isinstance(init_args, dict) else ""
    return Checkpoint(
        weights=_read_weights(content.get("network_weights"), path.name),
        trainer=_name(content.get("trainer_name")),
        configuration=_name(configuration),
        mirror_axes=_read_axes(content.get("inference_allowed_mirroring_axes"), path.name),
    )


def inspect_checkpoint(path: Path) -> frozenset[str]:
    """Gates 1 and 2 above; executes nothing and does not need torch.

    Returns:
        Every text in the checkpoint: keys, names, settings.

    Raises:
        ModelError: the file is missing, truncated, no such checkpoint, or asks for code.
    """
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, io.SEEK_END)
            stream.seek(0)
            if size > MAX_FILE_BYTES:
                raise ModelError(f"{path.name} is larger than {MAX_FILE_BYTES // 2**30} GiB.")
            if stream.read(4) != b"PK\x03\x04":
                raise ModelError(
                    f"{path.name} is truncated or not a checkpoint of nnU-Net v2.",
                    "Checkpoints of PyTorch before 1.6 are not opened.",
                )
            with zipfile.ZipFile(stream) as archive:
                return _scan_pickle(_read_pickle(archive, size, path.name), path.name)
    except (zipfile.BadZipFile, EOFError, struct.error):
        raise ModelError(
            f"{path.name} is truncated or damaged.", "Download or copy the model again."
        ) from None
    except FileNotFoundError:
        raise ModelError(f"The checkpoint {path} is missing.") from None
    except (OSError, NotImplementedError, RuntimeError, ValueError) as error:
        raise ModelError(f"{path.name} cannot be read: {error}.") from None


def _read_pickle(archive: zipfile.ZipFile, size: int, name: str) -> bytes:
    """The bytes of `data.pkl` after the archive's table of contents was checked."""
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise ModelError(f"{name} has more than {MAX_MEMBERS} entries.")
    names = [m.filename for m in members]
    # PyTorch finds records whatever their case, so two such names would be two readings.
    if len({n.casefold() for n in names}) != len(names):
        raise ModelError(f"{name} holds two entries of one name.")
    if any(m.compress_type != zipfile.ZIP_STORED for m in members):
        raise ModelError(f"{name} is compressed, which checkpoints of PyTorch never are.")
    if sum(m.file_size for m in members) > size:
        raise ModelError(f"{name} claims to hold more than its size.")
    prefix = names[0].split("/")[0] if names else ""
    if any(n.split("/")[0] != prefix for n in names) or f"{prefix}/data.pkl" not in names:
        raise ModelError(f"{name} is not a checkpoint of nnU-Net v2.")
    if f"{prefix}/constants.pkl" in names:
        raise ModelError(f"{name} is a TorchScript program, not a checkpoint of nnU-Net v2.")
    if archive.getinfo(f"{prefix}/data.pkl").file_size > MAX_PICKLE_BYTES:
        raise ModelError(f"The table of contents of {name} is implausibly large.")
    return archive.read(f"{prefix}/data.pkl")


def _scan_pickle(data: bytes, name: str) -> frozenset[str]:
    """The pickle's texts, if it holds nothing but what nnU-Net's checkpoints hold."""
    texts: set[str] = set()
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "GLOBAL" and argument not in ALLOWED_GLOBALS:
                raise ModelError(
                    f"{name} was not opened, because it asks for "
                    f"'{str(argument)[:100].replace(' ', '.')}', which could run code.",
                    "Do not use this model unless you trust its origin.",
                )
            if opcode.name not in _ALLOWED_OPCODES:
                raise ModelError(
                    f"{name} was not opened, because it holds an instruction ({opcode.name}) "
                    "that checkpoints do not need.",
                    "Do not use this model unless you trust its origin.",
                )
            if opcode.name == "BINUNICODE":
                texts.add(str(argument))
    except (ValueError, IndexError, UnicodeDecodeError, struct.error, OverflowError):
        raise ModelError(f"{name} is truncated or damaged.") from None
    return frozenset(texts)


class _Type:
    """Stands in for `numpy.dtype`: keeps the type's code and ignores its state."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code = code if isinstance(code, str) and len(code) <= 4 else ""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self.order = state[1]

    order = "<"


_FORMATS = {"b1": "?", "f2": "e", "f4": "f", "f8": "d"}
_FORMATS |= {"i1": "b", "i2": "h", "i4": "i", "i8": "q"}
_FORMATS |= {"u1": "B", "u2": "H", "u4": "I", "u8": "Q"}


def _scalar(kind: Any, data: Any = b"") -> float | int | bool | None:
    """Stands in for NumPy's `scalar`: a plain number, or None for what is no number."""
    code = _FORMATS.get(getattr(kind, "code", ""))
    if code is None or not isinstance(data, bytes) or len(data) != struct.calcsize(code):
        return None
    number: float | int | bool = struct.unpack((">" if kind.order == ">" else "<") + code, data)[0]
    return number


def _stand_ins() -> list[Any]:
    """The stand-ins under the names that checkpoints ask for, before and since NumPy 2.

    PyTorch looks allowed names up by `__module__` and `__name__`.
    """
    stand_ins: list[Any] = [type("dtype", (_Type,), {"__module__": "numpy"})]
    for package in ("numpy.core", "numpy._core"):
        function = FunctionType(_scalar.__code__, globals(), "scalar", _scalar.__defaults__)
        function.__module__, function.__qualname__ = f"{package}.multiarray", "scalar"
        stand_ins.append(function)
    return stand_ins


def _load(path: Path) -> Any:
    import torch

    # Mapping the file spares the memory of what is not used (the optimiser's state). Windows
    # would keep a mapped file locked, and its paths are safest in Python's own hands.
    mapped = sys.platform != "win32"
    try:
        with torch.serialization.safe_globals(_stand_ins()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if mapped:
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            with path.open("rb") as stream:
                return torch.load(stream, map_location="cpu", weights_only=True)
    except MemoryError:
        raise ModelError(f"{path.name} is too large for this computer's memory.") from None
    except Exception as error:  # PyTorch has no family of errors for damaged files
        raise ModelError(
            f"{path.name} is damaged or not a checkpoint of nnU-Net v2 "
            f"({type(error).__name__} while reading it)."
        ) from error


def _read_weights(raw: Any, name: str) -> dict[str, Tensor]:
    import torch

    if not isinstance(raw, Mapping) or not raw:
        raise ModelError(f"{name} holds no network weights.")
    if len(raw) > MAX_TENSORS:
        raise ModelError(f"{name} holds more than {MAX_TENSORS} tensors.")
    weights: dict[str, Tensor] = {}
    for key, tensor in raw.items():
        if not isinstance(key, str) or not isinstance(tensor, torch.Tensor):
            raise ModelError(f"The network weights of {name} are not a table of tensors.")
        _check_tensor(key, tensor, name)
        weights[strip_prefixes(key)] = tensor.detach()
    if len(weights) != len(raw):
        raise ModelError(f"{name} holds two tensors of one name.")
    return weights


def _check_tensor(key: str, tensor: Tensor, name: str) -> None:
    """A tensor may not claim more elements than the file holds (expanded views do)."""
    import torch

    plain = (
        tensor.layout == torch.strided and not tensor.is_quantized and tensor.device.type == "cpu"
    )
    held = tensor.untyped_storage().nbytes() if plain else 0
    if not plain or tensor.numel() * tensor.element_size() > held:
        raise ModelError(f"The tensor '{key[:100]}' of {name} is not a plain array of numbers.")


def strip_prefixes(key: str) -> str:
    """Removes what DataParallel (`module.`) and torch.compile (`_orig_mod.`) put before a name."""
    parts = key.split(".")
    while parts and parts[0] in ("module", "_orig_mod"):
        parts = parts[1:]
    return ".".join(parts)


def _read_axes(raw: Any, name: str) -> tuple[int, ...]:
    if raw is None:
        return ()
    plain = isinstance(raw, (list, tuple)) and len(raw) <= 3
    if not plain or any(isinstance(a, bool) or a not in (0, 1, 2) for a in raw):
        raise ModelError(f"The mirroring axes of {name} are not axes of a volume.")
    return tuple(sorted({int(a) for a in raw}))


def _name(raw: Any) -> str:
    return raw if isinstance(raw, str) and len(raw) <= 200 else ""

"""Checkpoints of nnU-Net v2, opened without trusting them.

A `.pth` file is a zip whose `data.pkl` is a pickle, and a pickle is a program. Three gates, each of
which would do alone:
1. The archive is inspected: nothing compressed (no bombs), no doubles, no TorchScript.
2. The pickle is read as data (`pickled.py`): it may name only what nnU-Net's own checkpoints name
   (tensors, their storages, dictionaries, numbers of NumPy), and none of it is imported or called.
3. What is needed of it is put into a new, small pickle, and PyTorch reads that in place of the old
   one, with `weights_only=True` and version 2.6 or newer (CVE-2025-32434). Of a training's
   checkpoint the optimiser's state is thus never read, nor the log.
"""

from __future__ import annotations

import io
import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from ..errors import ModelError
from .pickled import StorageNote, TensorNote, read, scan
from .torch_version import require_torch

if TYPE_CHECKING:
    from torch import Tensor

MAX_FILE_BYTES = 16 * 2**30
MAX_PICKLE_BYTES = 256 * 2**20
MAX_MEMBERS = 100_000
MAX_TENSORS = 50_000


@dataclass(frozen=True)
class Checkpoint:
    """What the engine takes from a checkpoint; everything else in it is left alone.

    Attributes:
        weights: the network's state dict, prefixes of wrappers removed; tensors on the CPU.
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
    data = _pickle_of(path)
    content = read(data, path.name)
    if not isinstance(content, dict):
        raise ModelError(f"{path.name} is not a checkpoint of nnU-Net v2.")
    init_args = content.get("init_args")
    configuration = init_args.get("configuration") if isinstance(init_args, dict) else ""
    notes = _read_notes(content.get("network_weights"), path.name)
    return Checkpoint(
        weights=_read_tensors(path, notes),
        trainer=_name(content.get("trainer_name")),
        configuration=_name(configuration),
        mirror_axes=_read_axes(content.get("inference_allowed_mirroring_axes"), path.name),
    )


def inspect_checkpoint(path: Path) -> frozenset[str]:
    """Gate 1 and the first half of gate 2; executes nothing and does not need torch.

    Returns:
        Every text in the checkpoint: keys, names, settings.

    Raises:
        ModelError: the file is missing, truncated, no such checkpoint, or asks for code.
    """
    return scan(_pickle_of(path), path.name)


def _pickle_of(path: Path) -> bytes:
    """The bytes of `data.pkl`, after the archive was inspected. Raises ModelError."""
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
                return _read_pickle(archive, size, path.name)
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


def _read_notes(raw: Any, name: str) -> dict[str, TensorNote]:
    """The table of tensors, each checked to claim no more elements than its storage holds."""
    if not isinstance(raw, Mapping) or not raw:
        raise ModelError(f"{name} holds no network weights.")
    if len(raw) > MAX_TENSORS:
        raise ModelError(f"{name} holds more than {MAX_TENSORS} tensors.")
    notes: dict[str, TensorNote] = {}
    for key, note in raw.items():
        if not isinstance(key, str) or not isinstance(note, TensorNote):
            raise ModelError(f"The network weights of {name} are not a table of tensors.")
        elements = 1
        for edge in note.shape:
            elements *= edge
        if elements > note.storage.count:  # expanded views claim what is not there
            raise ModelError(f"The tensor '{key[:100]}' of {name} is not a plain array of numbers.")
        notes[strip_prefixes(key)] = note
    if len(notes) != len(raw):
        raise ModelError(f"{name} holds two tensors of one name.")
    return notes


def _read_tensors(path: Path, notes: dict[str, TensorNote]) -> dict[str, Tensor]:
    """Lets PyTorch read the tensors of `notes` from the archive, and nothing else of it."""
    import torch

    try:
        with path.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            archive = _replaced_pickle(stream, _small_pickle(notes))
            weights = torch.load(cast(BinaryIO, archive), map_location="cpu", weights_only=True)
    except MemoryError:
        raise ModelError(f"{path.name} is too large for this computer's memory.") from None
    except Exception as error:  # PyTorch has no family of errors for damaged files
        raise ModelError(
            f"{path.name} is damaged or not a checkpoint of nnU-Net v2 "
            f"({type(error).__name__} while reading it)."
        ) from error
    for key, tensor in weights.items():
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ModelError(f"The tensor '{key[:100]}' of {path.name} claims more than it holds.")
    return {key: tensor.detach() for key, tensor in weights.items()}


def _small_pickle(notes: dict[str, TensorNote]) -> bytes:
    """A pickle as `torch.save` writes it of a plain dictionary of tensors."""
    from collections import OrderedDict

    import torch

    class Writer(pickle.Pickler):
        def persistent_id(self, item: Any, /) -> Any:
            if not isinstance(item, StorageNote):
                return None
            kind = getattr(torch, item.kind.rpartition(".")[2])
            return ("storage", kind, item.key, "cpu", item.count)

        def reducer_override(self, item: Any, /) -> Any:
            if not isinstance(item, TensorNote):
                return NotImplemented
            place = (item.storage, item.offset, item.shape, item.strides)
            return torch._utils._rebuild_tensor_v2, (*place, False, OrderedDict())

    stream = io.BytesIO()
    Writer(stream, protocol=2).dump(notes)
    return stream.getvalue()


def _replaced_pickle(stream: BinaryIO, data: bytes) -> _Overlay:
    """The archive in `stream` with another `data.pkl`; its records stay in the file."""
    overlay = _Overlay(stream)
    with zipfile.ZipFile(cast(BinaryIO, overlay), "a") as archive:
        old = next(m for m in archive.infolist() if m.filename.endswith("/data.pkl"))
        archive.filelist.remove(old)
        del archive.NameToInfo[old.filename]
        archive.writestr(zipfile.ZipInfo(old.filename), data)
    overlay.seek(0)
    return overlay


class _Overlay(io.RawIOBase):
    """A file of which the end, from the first write on, is replaced in memory only."""

    def __init__(self, base: BinaryIO) -> None:
        super().__init__()
        self._base, self._place, self._tail = base, 0, bytearray()
        self._cut = base.seek(0, io.SEEK_END)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place}.get(whence, self._cut + len(self._tail))
        self._place = max(start + offset, 0)
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer across the seam: PyTorch takes a short answer for the file's end."""
        view = memoryview(buffer).cast("B")
        piece = b""
        if self._place < self._cut:
            self._base.seek(self._place)
            piece = self._base.read(min(len(view), self._cut - self._place))
            view[: len(piece)] = piece
        done = len(piece)
        start = max(self._place + done - self._cut, 0)
        rest = self._tail[start : start + len(view) - done]
        view[done : done + len(rest)] = rest
        self._place += done + len(rest)
        return done + len(rest)

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(self._cut + len(self._tail) - self._place, 0)
        pieces = bytearray(left if size is None or size < 0 else min(size, left))
        return bytes(pieces[: self.readinto(pieces)])

    def write(self, data: Any) -> int:
        if self._place < self._cut:
            self._cut, self._tail = self._place, bytearray()
        start = self._place - self._cut
        self._tail[start : start + len(data)] = data
        self._place += len(data)
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        end = self._place if size is None else size
        del self._tail[max(end - self._cut, 0) :]
        return end


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

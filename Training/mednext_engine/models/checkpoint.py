"""Checkpoints of nnU-Net v2, opened without trusting them, and without PyTorch.

A `.pth` file is a zip whose `data.pkl` is a pickle, and a pickle is a program. Three gates:
1. The archive is inspected: nothing compressed (no bombs), no doubles, no TorchScript.
2. The pickle is read as data (`pickled.py`): it may name only what nnU-Net's own checkpoints name
   (tensors, their storages, dictionaries, numbers of NumPy), and none of it is imported or called.
3. The numbers of the tensors that are needed are read from their records (`tensors.py`), within
   their bounds. Of a training's checkpoint the optimiser's state is never read, nor the log.
"""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError
from .pickled import TensorNote, read, scan
from .tensors import read_tensors

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
        arrays: the network's state dict, prefixes of wrappers removed. Not to be written to; names
            of one tensor share memory.
        trainer: nnU-Net's trainer class, by name ("" when the file does not say).
        configuration: name of the configuration it was trained with ("" likewise).
        mirror_axes: spatial plan axes (0 to 2) that may be mirrored at inference.
    """

    arrays: dict[str, np.ndarray]
    trainer: str = ""
    configuration: str = ""
    mirror_axes: tuple[int, ...] = ()

    @property
    def weights(self) -> dict[str, Tensor]:
        """The state dict as PyTorch tensors on the CPU, sharing the arrays' memory."""
        import torch

        with warnings.catch_warnings():  # PyTorch warns of memory that is read-only
            warnings.simplefilter("ignore", UserWarning)
            return {name: torch.from_numpy(array) for name, array in self.arrays.items()}


def load_checkpoint(path: Path) -> Checkpoint:
    """Loads a checkpoint that nnU-Net v2 or this package wrote, from an untrusted file.

    Keys other than the four that are used are tolerated, whatever their names.

    Raises:
        ModelError: the file is missing, truncated, no such checkpoint, or asks for code.
    """
    data = _pickle_of(path)
    content = read(data, path.name)
    if not isinstance(content, dict):
        raise ModelError(f"{path.name} is not a checkpoint of nnU-Net v2.")
    init_args = content.get("init_args")
    configuration = init_args.get("configuration") if isinstance(init_args, dict) else ""
    notes = _read_notes(content.get("network_weights"), path.name)
    return Checkpoint(
        arrays=read_tensors(path, notes),
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

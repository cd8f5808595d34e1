"""Tensors of a checkpoint as NumPy arrays, straight from the records of its zip archive.

PyTorch is not needed for it. A tensor is a storage (the record `data/<key>`, plain numbers one
after the other) seen through an offset, a shape and strides, all in elements; nothing outside its
storage can be seen (https://pytorch.org/docs/stable/notes/serialization.html).
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import ModelError
from .pickled import StorageNote, TensorNote

_TYPES = {
    "Float": "f4",
    "Half": "f2",
    "BFloat16": "u2",
    "Double": "f8",
    "Long": "i8",
    "Int": "i4",
    "Short": "i2",
    "Char": "i1",
    "Byte": "u1",
    "Bool": "?",
}


def read_tensors(path: Path, notes: Mapping[str, TensorNote]) -> dict[str, np.ndarray]:
    """The arrays that `notes` describe, by their names; bfloat16, which NumPy lacks, as float32.

    Names that share a storage share memory. The archive was inspected before.

    Raises:
        ModelError: a record is missing, damaged or shorter than what it should hold.
    """
    storages: dict[str, np.ndarray] = {}
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            prefix = archive.namelist()[0].split("/")[0]
            archive.getinfo(f"{prefix}/version")  # PyTorch always writes it
            order = _byte_order(archive, prefix)
            for name, note in notes.items():
                key = note.storage.key
                if key not in storages:
                    storages[key] = _storage(archive, f"{prefix}/data/{key}", note.storage, order)
                arrays[name] = _view(storages[key], note, name, path.name)
    except MemoryError:
        raise ModelError(f"{path.name} is too large for this computer's memory.") from None
    except (KeyError, OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelError(
            f"{path.name} is damaged or not a checkpoint of nnU-Net v2 "
            f"({type(error).__name__} while reading it)."
        ) from error
    return arrays


def _byte_order(archive: zipfile.ZipFile, prefix: str) -> str:
    """ "<" or ">"; files from before PyTorch 2.1 do not say, and are little-endian in practice."""
    name = f"{prefix}/byteorder"
    said = archive.read(name) if name in archive.namelist() else b"little"
    if said not in (b"little", b"big"):
        raise ValueError("byte order")
    return "<" if said == b"little" else ">"


def _storage(archive: zipfile.ZipFile, record: str, note: StorageNote, order: str) -> np.ndarray:
    kind = note.kind.rpartition(".")[2].removesuffix("Storage")
    dtype = np.dtype(order + _TYPES[kind])
    if archive.getinfo(record).file_size < note.count * dtype.itemsize:
        raise ValueError("a storage is shorter than it should be")
    # `read` compares the checksum, too.
    numbers = np.frombuffer(archive.read(record), dtype, note.count)
    numbers = numbers.astype(dtype.newbyteorder("="), copy=False)
    if kind == "BFloat16":  # the upper half of a float32
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    return numbers


def _view(storage: np.ndarray, note: TensorNote, name: str, file: str) -> np.ndarray:
    """Raises ModelError where the tensor would reach beyond its storage."""
    if 0 in note.shape:
        return np.empty(note.shape, storage.dtype)
    last = note.offset + sum((n - 1) * s for n, s in zip(note.shape, note.strides, strict=True))
    if last >= storage.size:
        raise ModelError(f"The tensor '{name[:100]}' of {file} claims more than it holds.")
    # The stride of an axis with one entry leads nowhere and may be any number.
    pairs = zip(note.shape, note.strides, strict=True)
    strides = [s * storage.itemsize if n > 1 else storage.itemsize for n, s in pairs]
    return np.lib.stride_tricks.as_strided(
        storage[note.offset :], note.shape, strides, writeable=False
    )

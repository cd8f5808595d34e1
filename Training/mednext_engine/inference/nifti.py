"""What ITK's NIfTI reader and writer let pass in silence: missing data and zero voxel sizes.

Only the fixed header is read, by the NIfTI-1 and NIfTI-2 standards (nifti.nimh.nih.gov); the
voxels are left to SimpleITK.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class NiftiHeader:
    """Sizes, voxel spacing and affine of a NIfTI file.

    Attributes:
        shape: voxels along x, y, z, t, ...
        spacing: mm along x, y, z as in `pixdim` (its sign does not count).
        data_end: bytes the uncompressed file must have.
        sform: 3 x 4 matrix to RAS mm, if the file has one (`sform_code` > 0).
        qform_code: above 0 where the file also has a rotation by quaternion.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    data_end: int
    sform: np.ndarray | None
    qform_code: int

    @property
    def shear(self) -> float:
        """How far the sform's axes are from a right angle: the largest cosine between two."""
        if self.sform is None:
            return 0.0
        columns = self.sform[:, :3]
        lengths = np.linalg.norm(columns, axis=0)
        if not (lengths > 0).all():
            return math.inf
        cosines = (columns / lengths).T @ (columns / lengths)
        return float(np.abs(cosines - np.eye(3)).max())


def is_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


def read_header(path: Path) -> NiftiHeader | None:
    """The header of a .nii or .nii.gz file, or None where it is no NIfTI at all.

    Raises:
        OSError, EOFError, zlib.error: the file cannot be read.
    """
    with open(path, "rb") as plain:
        zipped = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        raw = gzip.GzipFile(fileobj=plain).read(540) if zipped else plain.read(540)
    for order in "<>":
        if len(raw) >= 348 and struct.unpack_from(order + "i", raw)[0] == 348:
            return _first(raw, order)
        if len(raw) >= 540 and struct.unpack_from(order + "i", raw)[0] == 540:
            return _second(raw, order)
    return None


def is_complete(path: Path, header: NiftiHeader) -> bool:
    """Whether the file holds all the voxels its header announces."""
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0, 2)
        size = file.tell()
        if not zipped:
            return size >= header.data_end
        file.seek(max(size - 4, 0))
        tail = file.read(4)
    # gzip ends with the uncompressed size; where that fits, nothing was cut off.
    if len(tail) == 4 and struct.unpack("<I", tail)[0] == header.data_end % 2**32:
        return True
    return _unpacked_size(path) >= header.data_end


def _unpacked_size(path: Path) -> int:
    """Bytes that can be unpacked; needed only for files of several gzip members."""
    total = 0
    try:
        with gzip.open(path, "rb") as file:
            while chunk := file.read(1 << 22):
                total += len(chunk)
    except (OSError, EOFError, zlib.error):
        pass
    return total


def _first(raw: bytes, order: str) -> NiftiHeader:
    dims = struct.unpack_from(order + "8h", raw, 40)
    bits = struct.unpack_from(order + "h", raw, 72)[0]
    spacing = struct.unpack_from(order + "8f", raw, 76)
    offset = struct.unpack_from(order + "f", raw, 108)[0]
    qform, sform = struct.unpack_from(order + "2h", raw, 252)
    rows = struct.unpack_from(order + "12f", raw, 280)
    return _header(dims, bits, spacing, offset, qform, sform, rows)


def _second(raw: bytes, order: str) -> NiftiHeader:
    bits = struct.unpack_from(order + "h", raw, 14)[0]
    dims = struct.unpack_from(order + "8q", raw, 16)
    spacing = struct.unpack_from(order + "8d", raw, 104)
    offset = struct.unpack_from(order + "q", raw, 168)[0]
    qform, sform = struct.unpack_from(order + "2i", raw, 344)
    rows = struct.unpack_from(order + "12d", raw, 400)
    return _header(dims, bits, spacing, offset, qform, sform, rows)


def _header(
    dims: tuple[int, ...],
    bits: int,
    spacing: tuple[float, ...],
    offset: float,
    qform: int,
    sform: int,
    rows: tuple[float, ...],
) -> NiftiHeader:
    rank = min(max(dims[0], 0), 7)
    shape = tuple(max(int(n), 1) for n in dims[1 : rank + 1])
    start = int(offset) if math.isfinite(offset) else 0
    return NiftiHeader(
        shape=shape,
        spacing=tuple(float(value) for value in spacing[1 : min(rank, 3) + 1]),
        data_end=start + math.prod(shape) * max(bits, 0) // 8,
        sform=np.array(rows, dtype=float).reshape(3, 4) if sform > 0 else None,
        qform_code=int(qform),
    )

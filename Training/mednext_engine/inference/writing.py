"""Results to files, in the geometry of the image they belong to, whole or not at all.

A file is written under a temporary name in its own folder, checked, and renamed. Voxels and
geometry are all it holds: no tag of the input gets into it.
"""

from __future__ import annotations

import math
import os
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..atomic import replacing
from ..errors import OutputError
from . import nifti
from .images import Volume

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")


def write_labels(path: Path | str, labels: np.ndarray, like: Volume) -> None:
    """Writes label values (z, y, x) of the grid of `like`, as the smallest unsigned integer.

    Raises:
        OutputError: unknown suffix, no such folder, no permission, no space; nothing is left.
    """
    highest = int(labels.max()) if labels.size else 0
    kind = np.uint8 if highest < 2**8 else np.uint16 if highest < 2**16 else np.uint32
    _write(Path(path), labels.astype(kind, copy=False), like)


def write_scalar(path: Path | str, values: np.ndarray, like: Volume) -> None:
    """Writes one number a voxel (z, y, x), float32, on the grid of `like`; raises as above."""
    _write(Path(path), values.astype(np.float32, copy=False), like)


def write_probabilities(
    path: Path | str, heads: Iterable[np.ndarray], count: int, like: Volume
) -> None:
    """Writes probabilities as nnU-Net's .npz: "probabilities", (heads, z, y, x), float32.

    Args:
        heads: `count` arrays (z, y, x) of the grid of `like`; only one is in memory at a time.

    Raises:
        OutputError: as above.
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise OutputError(f"{path.name} does not end in .npz.", "Probabilities are written so.")
    _check_folder(path)
    size = count * math.prod(like.shape) * 4
    header = {"descr": "<f4", "fortran_order": False, "shape": (count, *like.shape)}
    try:
        with replacing(path) as temporary:
            with (
                zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
                archive.open("probabilities.npy", "w", force_zip64=True) as file,
            ):
                np.lib.format.write_array_header_1_0(file, header)
                for head in heads:
                    file.write(np.ascontiguousarray(head, dtype="<f4").data)
            _check_written(temporary)
    except OSError as error:
        raise _failed(path, size, error) from None


def suffix_of(path: Path) -> str:
    """The suffix that names the format, ".nii.gz" included.

    Raises:
        OutputError: it is none of `SUFFIXES`.
    """
    name = path.name.lower()
    for suffix in SUFFIXES:
        if name.endswith(suffix) and len(name) > len(suffix):
            return suffix
    raise OutputError(
        f"{path.name} does not end in a format that can be written.",
        f"End the name in one of {', '.join(SUFFIXES)}.",
    )


def _write(path: Path, array: np.ndarray, like: Volume) -> None:
    if array.shape != like.shape:
        raise OutputError(
            f"The result has {array.shape} voxels, but the image has {like.shape} (z, y, x)."
        )
    suffix = suffix_of(path)
    _check_folder(path)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing(like.spacing[::-1])
    image.SetOrigin(like.origin)
    image.SetDirection(like.direction)
    try:
        with replacing(path, suffix) as temporary:
            sitk.WriteImage(image, str(temporary), suffix != ".nii")
            _check_written(temporary)
    except (RuntimeError, OSError) as error:
        raise _failed(path, array.nbytes, error) from None


def _check_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise OutputError(f"There is no folder {path.parent}.", "Create it, or choose another.")


def _check_written(path: Path) -> None:
    """Finds what ITK does not report: a full disk leaves it content with half a NIfTI file."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
    if nifti.is_nifti(path):
        header = nifti.read_header(path)
        if header is None or not nifti.is_complete(path, header):
            raise OSError("incomplete")


def _failed(path: Path, size: int, error: Exception) -> OutputError:
    if path.is_dir():
        return OutputError(f"{path} is a folder.", "Give the name of a file.")
    if not os.access(path.parent, os.W_OK) or isinstance(error, PermissionError):
        return OutputError(
            f"{path.name} cannot be written: no permission in {path.parent}.",
            "Choose another folder.",
        )
    free = shutil.disk_usage(path.parent).free
    if free < size:
        return OutputError(
            f"{path.name} cannot be written: only {free // 2**20} MB are free in {path.parent}.",
            "Free some space or choose another folder.",
        )
    return OutputError(
        f"{path.name} could not be written completely to {path.parent}.",
        "Check the free space, your quota and your permissions there.",
    )

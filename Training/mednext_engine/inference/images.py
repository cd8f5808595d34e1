"""Volumes from files: NIfTI, NRRD, MetaImage or a DICOM series, with the geometry they have.

Arrays are (c, z, y, x) in the file's own axes, as nnU-Net's `SimpleITKIO` gives them; `spacing` is
in array order (z, y, x), `origin` and `direction` are SimpleITK's (x, y, z; LPS; mm). Whatever
cannot be segmented is refused here, in words, before anything else is computed.
"""

from __future__ import annotations

import itertools
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from . import nifti
from .dicom import read_series

if TYPE_CHECKING:
    from ..monitor import Monitor

MAX_SHEAR = 2e-3
"""Largest cosine between two axes that still counts as a right angle (0.1 degrees)."""

_PERMISSIVE = "ITK_NIFTI_SFORM_PERMISSIVE"


@dataclass
class Volume:
    """An image of one or several channels on one grid.

    Attributes:
        array: float32, (c, z, y, x).
        spacing: mm, in array order (z, y, x).
        origin: of the first voxel's centre, LPS mm (x, y, z).
        direction: SimpleITK's direction cosines, 3 x 3 row by row; column j is image axis j (x, y,
            z) in LPS.
        sources: the files it came from.
    """

    array: np.ndarray
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    sources: tuple[Path, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along z, y and x."""
        z, y, x = self.array.shape[1:]
        return z, y, x

    def to_lps(self, index: Sequence[float]) -> np.ndarray:
        """World position (LPS, mm) of a continuous voxel index (i, j, k) = (x, y, z)."""
        axes = np.asarray(self.direction, dtype=float).reshape(3, 3)
        steps = np.asarray(index, dtype=float) * np.asarray(self.spacing[::-1], dtype=float)
        return np.asarray(self.origin, dtype=float) + axes @ steps


def read_volume(
    paths: Path | str | Sequence[Path | str],
    channel_names: Sequence[str] | None = None,
    monitor: Monitor | None = None,
) -> Volume:
    """Reads one image: a file or a folder with a DICOM series, or several of them as channels.

    Args:
        paths: one path, or one a channel in the model's order, all on the same grid.
        channel_names: what the model expects; a different number of images is refused.

    Raises:
        InputError: whatever makes the image unusable, in one sentence, with a hint.
    """
    files = [Path(p) for p in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
    _check_count(files, channel_names)
    volume: Volume | None = None
    for channel, path in enumerate(files):
        if monitor is not None:
            monitor.check()
        image = _read_image(path)
        if volume is None:
            volume = _like(image, len(files), files)
        elif not _same_grid(volume, image):
            raise InputError(
                f"The channels lie on different grids: {path.name} does not have the size, "
                f"spacing, origin and direction of {files[0].name}.",
                "Resample all channels to the same grid first.",
            )
        _fill(volume.array[channel], image, path)
    if volume is None:
        raise InputError("No image was given.")
    return volume


def _like(image: sitk.Image, channels: int, files: list[Path]) -> Volume:
    size, spacing = image.GetSize(), image.GetSpacing()
    return Volume(
        array=np.empty((channels, size[2], size[1], size[0]), dtype=np.float32),
        spacing=(spacing[2], spacing[1], spacing[0]),
        origin=image.GetOrigin(),
        direction=image.GetDirection(),
        sources=tuple(files),
    )


def _fill(target: np.ndarray, image: sitk.Image, path: Path) -> None:
    """Copies the voxels and looks at their range."""
    target[...] = sitk.GetArrayViewFromImage(image)
    low, high = float(target.min()), float(target.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = sum(int(np.count_nonzero(~np.isfinite(plane))) for plane in target)
        raise InputError(
            f"{path.name} has {bad} voxels that are not finite numbers (NaN or infinite).",
            "Replace them by a value such as that of air, for example in the program that made "
            "the image.",
        )
    if low == high:
        what = "is empty: every voxel is 0" if low == 0 else f"is constant: every voxel is {low:g}"
        raise InputError(f"{path.name} {what}.", "Check that the right volume was chosen.")


def _check_count(files: list[Path], names: Sequence[str] | None) -> None:
    if names is None or len(files) == len(names):
        return
    expected = "1 image" if len(names) == 1 else f"{len(names)} images"
    given = "1 was" if len(files) == 1 else f"{len(files)} were"
    raise InputError(
        f"The model expects {expected} ({', '.join(names)}), but {given} given.",
        "Give one image for each channel, in this order.",
    )


# --- one file --------------------------------------------------------------------------------


def _read_image(path: Path) -> sitk.Image:
    if not path.exists():
        raise InputError(f"There is no file or folder {path}.")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path} cannot be read: permission denied.")
    if path.is_dir():
        image = read_series(path)
    else:
        permissive = nifti.is_nifti(path) and _check_nifti(path)
        image = _read_file(path, permissive)
    _check_geometry(image, path.name)
    return image


def _read_file(path: Path, permissive: bool) -> sitk.Image:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with _permissive_sform() if permissive else _strict():
            reader.ReadImageInformation()
            single = _check_kind(reader, path.name)
            image = reader.Execute()
    except RuntimeError as error:
        raise _unreadable(path, str(error)) from None
    except MemoryError:
        raise InputError(f"{path.name} is too large for the memory of this computer.") from None
    return image[..., 0] if single else image


def _check_kind(reader: sitk.ImageFileReader, name: str) -> bool:
    """Refuses what is not one scalar volume; True for a fourth axis with one entry."""
    size = reader.GetSize()
    rank = len(size) - (1 if len(size) == 4 and size[3] == 1 else 0)
    if rank == 2 or (rank == 3 and min(size[:3]) == 1):
        raise InputError(
            f"{name} is a 2D image ({' x '.join(map(str, size))} voxels); a volume is needed.",
            "Give the whole stack of slices as one 3D image.",
        )
    if rank != 3:
        raise InputError(
            f"{name} has {len(size)} dimensions ({' x '.join(map(str, size))} voxels); "
            "a single 3D volume is needed.",
            "Save the time point or echo that you want as a 3D image.",
        )
    if "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()):
        raise InputError(f"{name} has complex voxels.", "Save its magnitude as a new image.")
    components = reader.GetNumberOfComponents()
    if components != 1:
        what = "a colour (RGB) image" if components in (3, 4) else "a vector image"
        raise InputError(
            f"{name} is {what} with {components} values a voxel; one value a voxel is needed.",
            "Convert it to a scalar (grey-value) volume, or save each component as a file.",
        )
    return len(size) == 4


def _check_nifti(path: Path) -> bool:
    """Looks for what ITK's reader does not see; True where it must be told to be permissive."""
    try:
        header = nifti.read_header(path)
    except (OSError, EOFError, zlib.error):
        raise _unreadable(path, "") from None
    if header is None:
        raise _unreadable(path, "")
    if not all(np.isfinite(value) and value != 0 for value in header.spacing):
        raise _no_spacing(path.name)
    if not nifti.is_complete(path, header):
        raise InputError(
            f"{path.name} is truncated: it ends before its last voxel.",
            "Copy or download the file again.",
        )
    return header.qform_code == 0 and 0 < header.shear <= MAX_SHEAR


@contextmanager
def _permissive_sform() -> Iterator[None]:
    """Lets ITK take the nearest rotation to an sform that rounding made slightly oblique."""
    before = os.environ.get(_PERMISSIVE)
    os.environ[_PERMISSIVE] = "ON"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_PERMISSIVE]
        else:
            os.environ[_PERMISSIVE] = before


@contextmanager
def _strict() -> Iterator[None]:
    yield


def _unreadable(path: Path, reason: str) -> InputError:
    """ITK's reason in our words."""
    if "orthonormal direction" in reason or "determinant is 0" in reason:
        return _sheared(path.name)
    if "Zero-valued spacing" in reason:
        return _no_spacing(path.name)
    if "trouble reading" in reason or "cannot be read" in reason:
        return InputError(
            f"{path.name} is damaged or truncated and cannot be read.",
            "Copy or download the file again.",
        )
    return InputError(
        f"{path.name} is not an image that can be read.",
        "Give a NIfTI, NRRD or MetaImage (.mha) file or a folder with a DICOM series.",
    )


def _no_spacing(name: str) -> InputError:
    return InputError(
        f"{name} has a voxel spacing of zero.", "Set its true spacing (mm) and save it again."
    )


def _sheared(name: str) -> InputError:
    return InputError(
        f"The axes of {name} are sheared: they are not at right angles to each other.",
        "Resample the image to a rectangular grid first.",
    )


def _check_geometry(image: sitk.Image, name: str) -> None:
    if not all(np.isfinite(value) and value > 0 for value in image.GetSpacing()):
        raise _no_spacing(name)
    axes = np.asarray(image.GetDirection()).reshape(3, 3)
    if not np.abs(axes.T @ axes - np.eye(3)).max() <= MAX_SHEAR:
        raise _sheared(name)
    if not np.isfinite(image.GetOrigin()).all():
        raise InputError(f"The origin of {name} is not a number.", "Set it and save it again.")


def _same_grid(volume: Volume, image: sitk.Image) -> bool:
    """Whether no corner of the two grids is more than a twentieth of a voxel apart."""
    if volume.shape != image.GetSize()[::-1]:
        return False
    tolerance = 0.05 * min(volume.spacing)
    ends: Any = [(0, n - 1) for n in image.GetSize()]
    for corner in itertools.product(*ends):
        there = np.asarray(image.TransformContinuousIndexToPhysicalPoint(corner))
        if np.abs(volume.to_lps(corner) - there).max() > tolerance:
            return False
    return True

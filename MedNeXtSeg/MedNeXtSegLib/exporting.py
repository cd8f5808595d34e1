"""Volumes on their way to the worker: written as they appear in the world, nothing left behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

from .errors import UserError
from .geometry import Grid, hardened_copy, own_grid
from .job_folder import JobFolder

# Images of these types are read by the worker as they are; others are cast to double.
_WRITABLE = (
    vtk.VTK_UNSIGNED_CHAR,
    vtk.VTK_SHORT,
    vtk.VTK_UNSIGNED_SHORT,
    vtk.VTK_INT,
    vtk.VTK_UNSIGNED_INT,
    vtk.VTK_FLOAT,
    vtk.VTK_DOUBLE,
)
SPACE_FACTOR = 1.2  # room for headers and for the labels that come back, compressed


@dataclass(frozen=True)
class Exported:
    """The files of a run, one a channel, and the grid in the world that all of them have."""

    paths: tuple[Path, ...]
    grid: Grid


def export_channels(
    volumes: Sequence[Any],
    names: Sequence[str],
    folder: JobFolder,
    placed_as: Sequence[Any] | None = None,
) -> Exported:
    """Writes one uncompressed NRRD file a volume node, parent transforms applied to a copy.

    `names` are the channels', for messages; `placed_as` see `hardened_copy`. Raises UserError for
    volumes without an image, of several components, on different grids, and where the disk is full.
    """
    copies = []
    for volume, name, place in zip(volumes, names, placed_as or volumes, strict=True):
        require_scalar_image(volume, name)
        copies.append(hardened_copy(volume, place))
    grid = own_grid(copies[0])
    for copy, name in zip(copies[1:], names[1:], strict=True):
        other = own_grid(copy)
        if not grid.same_as(other):
            raise UserError(
                _(
                    "{volume} (channel {channel}) does not lie on the grid of {first}: "
                    "{other} against {grid}."
                ).format(
                    volume=copy.GetName(),
                    channel=name,
                    first=copies[0].GetName(),
                    other=other,
                    grid=grid,
                ),
                _(
                    "Resample it to the first volume, for example with the module "
                    "'Resample Scalar/Vector/DWI Volume', then run again."
                ),
            )
    needed = sum(c.GetImageData().GetActualMemorySize() * 1024 for c in copies)
    folder.require_space(int(needed * SPACE_FACTOR))
    paths = tuple(folder.path / f"channel{n}.nrrd" for n in range(len(copies)))
    for copy, path in zip(copies, paths, strict=True):
        _write(copy, path)
    return Exported(paths, grid)


def require_scalar_image(volume: Any, name: str) -> None:
    """Raises UserError unless the node holds voxels of one number each."""
    image = volume.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        raise UserError(
            _("{volume} (channel {channel}) holds no image.").format(
                volume=volume.GetName(), channel=name
            ),
            _("Pick another one."),
        )
    if image.GetNumberOfScalarComponents() != 1:
        raise UserError(
            _(
                "{volume} (channel {channel}) has {count} numbers a voxel; a channel has one."
            ).format(
                volume=volume.GetName(), channel=name, count=image.GetNumberOfScalarComponents()
            ),
            _("Convert it with the module 'Vector to Scalar Volume'."),
        )


def _write(copy: Any, path: Path) -> None:
    image = copy.GetImageData()
    if image.GetScalarType() not in _WRITABLE:
        cast = vtk.vtkImageCast()
        cast.SetInputData(image)
        cast.SetOutputScalarTypeToDouble()
        cast.Update()
        copy.SetAndObserveImageData(cast.GetOutput())
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    storage.UseCompressionOff()
    if not storage.WriteData(copy) or not path.is_file():
        raise UserError(
            _("{volume} could not be written to {folder}.").format(
                volume=copy.GetName(), folder=path.parent
            ),
            _("The disk may be full, or the temporary folder of Slicer's settings not writable."),
        )

"""Segments on their way to the training: one label map on the volume's grid, overlaps counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import updateVolumeFromArray
from vtk.util.numpy_support import vtk_to_numpy

from .errors import UserError
from .geometry import Grid, linear_to_world, to_array, to_matrix

_Box = tuple[slice, slice, slice]


@dataclass
class _Part:
    """The voxels of one segment: the smallest box [k, j, i] that holds them, and which in it."""

    name: str
    box: _Box
    mask: np.ndarray


@dataclass
class LabelMap:
    """Values [k, j, i] of a case; `overlaps` are pairs of names and the voxels both hold."""

    values: np.ndarray
    overlaps: list[list[Any]] = field(default_factory=list)


def label_map_steps(
    segmentation: Any, grid: Grid, values: Mapping[str, int]
) -> Iterator[LabelMap | None]:
    """Puts the segments named in `values` on `grid` (in the world), one a step; the map is last.

    Later segments win where two overlap. The scene and the segmentation are not changed. Raises
    UserError where a segment cannot be made a label map.
    """
    shape = grid.dimensions[::-1]
    result = LabelMap(np.zeros(shape, np.uint8 if len(values) < 256 else np.uint16))
    held = _with_label_maps(segmentation, grid)
    to_world = _to_world(segmentation)
    parts: list[_Part] = []
    for index in range(held.GetNumberOfSegments()):
        segment = held.GetNthSegment(index)
        name = segment.GetName() or ""
        if name not in values:
            continue
        part = _part(segment, grid, to_world)
        if part is not None:
            result.values[part.box][part.mask] = values[name]
            parts.append(part)
        yield None
    result.overlaps = _overlaps(parts)
    yield result


def write_label_map(label_map: LabelMap, grid: Grid, path: Path) -> None:
    """Writes an uncompressed NRRD file; no node enters the scene. Raises UserError."""
    node = slicer.vtkMRMLLabelMapVolumeNode()
    updateVolumeFromArray(node, label_map.values)
    node.SetIJKToRASMatrix(to_matrix(grid.ijk_to_ras))
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    storage.UseCompressionOff()
    if not storage.WriteData(node) or not path.is_file():
        raise UserError(
            _("The labels could not be written to {folder}.").format(folder=path.parent),
            _("The disk may be full or not writable."),
        )


def _with_label_maps(node: Any, grid: Grid) -> Any:
    """The node's vtkSegmentation; a converted copy where it holds no label maps."""
    held = node.GetSegmentation()
    converter = slicer.vtkSegmentationConverter
    name = converter.GetSegmentationBinaryLabelmapRepresentationName()
    if held.ContainsRepresentation(name):
        return held
    copy = slicer.vtkSegmentation()
    copy.DeepCopy(held)
    parent = linear_to_world(node)
    own = grid.ijk_to_ras if parent is None else np.linalg.inv(parent) @ grid.ijk_to_ras
    reference = _empty_image(Grid(grid.dimensions, own))
    copy.SetConversionParameter(
        converter.GetReferenceImageGeometryParameterName(),
        converter.SerializeImageGeometry(reference),
    )
    if not copy.CreateRepresentation(name):
        raise UserError(
            _("{name} could not be converted to label maps.").format(name=node.GetName()),
            _("Convert it in the module 'Segmentations', then try again."),
        )
    return copy


def _to_world(node: Any) -> np.ndarray | Any:
    """A matrix (4, 4), or a vtkGeneralTransform where the parent is not linear."""
    linear = linear_to_world(node)
    if linear is not None:
        return linear
    general = vtk.vtkGeneralTransform()
    node.GetParentTransformNode().GetTransformToWorld(general)
    return general


def _part(segment: Any, grid: Grid, to_world: Any) -> _Part | None:
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    shared = segment.GetRepresentation(name)
    if shared is None or shared.GetPointData().GetScalars() is None or _is_empty(shared):
        return None
    image = _own_voxels(shared, segment.GetLabelValue())
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    arguments = []
    if isinstance(to_world, np.ndarray):
        image.SetGeometryFromImageToWorldMatrix(to_matrix(to_world @ to_array(matrix)))
    else:
        arguments = [to_world]
    resampled = slicer.vtkOrientedImageData()
    done = slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
        image, _empty_image(grid), resampled, False, False, *arguments
    )
    if not done:
        raise UserError(
            _("The segment {name} could not be put on the volume's grid.").format(
                name=segment.GetName()
            )
        )
    return _cut(segment.GetName() or "", resampled, grid)


def _own_voxels(shared: Any, value: int) -> Any:
    """A copy of an image that segments may share, with 1 where it holds `value`."""
    image = slicer.vtkOrientedImageData()
    image.DeepCopy(shared)
    scalars = vtk_to_numpy(image.GetPointData().GetScalars())
    scalars[:] = scalars == value
    return image


def _empty_image(grid: Grid) -> Any:
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(grid.dimensions)
    image.SetGeometryFromImageToWorldMatrix(to_matrix(grid.ijk_to_ras))
    return image


def _is_empty(image: Any) -> bool:
    extent = image.GetExtent()
    return any(extent[2 * axis] > extent[2 * axis + 1] for axis in range(3))


def _cut(name: str, image: Any, grid: Grid) -> _Part | None:
    """What of an image on the grid holds voxels; what lies outside of the grid is left out."""
    if _is_empty(image):
        return None
    extent = image.GetExtent()
    lows, highs = extent[4::-2], extent[5::-2]
    shape = [high - low + 1 for low, high in zip(lows, highs, strict=True)]
    array = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape) > 0
    slices = []
    for axis, (low, count) in enumerate(zip(lows, grid.dimensions[::-1], strict=True)):
        others = tuple(other for other in range(3) if other != axis)
        where = np.flatnonzero(array.any(axis=others)) + low
        where = where[(where >= 0) & (where < count)]
        if not len(where):
            return None
        slices.append(slice(int(where[0]), int(where[-1]) + 1))
    box: _Box = (slices[0], slices[1], slices[2])
    inside = tuple(slice(s.start - low, s.stop - low) for s, low in zip(box, lows, strict=True))
    return _Part(name, box, array[inside].copy())


def _overlaps(parts: list[_Part]) -> list[list[Any]]:
    """[one name, other name, voxels that both hold] for every pair that has any."""
    counts: dict[tuple[str, str], int] = {}
    for index, one in enumerate(parts):
        for other in parts[:index]:
            shared = _shared(one, other)
            if shared and one.name != other.name:
                pair = (other.name, one.name)
                counts[pair] = counts.get(pair, 0) + shared
    return [[*pair, count] for pair, count in counts.items()]


def _shared(one: _Part, other: _Part) -> int:
    common = [
        slice(max(a.start, b.start), min(a.stop, b.stop))
        for a, b in zip(one.box, other.box, strict=True)
    ]
    if any(c.start >= c.stop for c in common):
        return 0

    def within(part: _Part) -> np.ndarray:
        inside = tuple(
            slice(c.start - s.start, c.stop - s.start)
            for c, s in zip(common, part.box, strict=True)
        )
        return part.mask[inside]

    return int(np.count_nonzero(within(one) & within(other)))

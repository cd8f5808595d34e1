"""Labels on their way back: into a segmentation node, by name, in the place of the volume.

Segments of other names are not touched. Everything that is done can be undone exactly, and is
undone at once where a step fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import arrayFromVolume, updateVolumeFromArray

from .errors import UserError
from .geometry import Grid, linear_to_world, own_grid, to_matrix
from .undo import Undo, remove_with_belongings

LabelInfo = Mapping[str, Any]  # value, name, color (0 to 255), terminology


@dataclass(frozen=True)
class LabelImage:
    """Label values [k, j, i] and where they lie in the world."""

    values: np.ndarray
    grid: Grid


def read_image(path: Path) -> LabelImage:
    """Reads an image with a storage node of its own; no node enters the scene.

    A left-handed image comes back with another order of slices, in the same physical place.
    """
    node = slicer.vtkMRMLScalarVolumeNode()
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    storage.SetCenterImage(False)
    if not path.is_file() or not storage.ReadData(node) or node.GetImageData() is None:
        raise UserError(
            _("The result {file} could not be read.").format(file=path.name),
            _("The log may say why; run again."),
        )
    return LabelImage(np.array(arrayFromVolume(node)), own_grid(node))


def new_segmentation(scene: Any, volume: Any, grid: Grid, name: str, undo: Undo) -> Any:
    """An empty segmentation node beside `volume`: its transform, geometry and folder.

    `grid` is the volume's in the world. Under a transform that is not linear the segmentation
    stands in the world itself, on that grid.
    """
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", scene.GenerateUniqueName(name))
    undo.node_added(node)
    node.CreateDefaultDisplayNodes()
    if linear_to_world(volume) is not None:
        node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    else:
        _set_reference_geometry(node, volume, grid)
    file_beside(scene, node, volume)
    return node


def _set_reference_geometry(node: Any, volume: Any, grid: Grid) -> None:
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(grid.dimensions)
    image.SetGeometryFromImageToWorldMatrix(to_matrix(grid.ijk_to_ras))
    converter = slicer.vtkSegmentationConverter
    node.GetSegmentation().SetConversionParameter(
        converter.GetReferenceImageGeometryParameterName(), converter.SerializeImageGeometry(image)
    )
    role = node.GetReferenceImageGeometryReferenceRole()
    node.SetNodeReferenceID(role, volume.GetID())


def file_beside(scene: Any, node: Any, volume: Any) -> None:
    """Puts `node` where `volume` is in the subject hierarchy, where either is in it at all."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    if hierarchy is None:
        return
    own, other = hierarchy.GetItemByDataNode(node), hierarchy.GetItemByDataNode(volume)
    if own and other:
        hierarchy.SetItemParent(own, hierarchy.GetItemParent(other))


def place_segments(
    node: Any,
    image: LabelImage,
    labels: Sequence[LabelInfo],
    logic: Any,
    undo: Undo,
    own: Grid | None = None,
) -> list[str]:
    """Fills the segments of `node` from an image of labels; returns the IDs of those with voxels.

    A label whose name a segment has already replaces what that segment held (its colour stays);
    others become new segments with name, colour and terminology. A label without voxels empties
    the segment of its name and adds none. `logic` is the Segmentations module's; `own` the grid in
    the coordinates of `node` that the labels are resampled to under a transform that is not linear.

    Raises UserError where the segmentation cannot take label maps, or Slicer refuses the import.
    """
    segmentation = node.GetSegmentation()
    _require_label_maps(node)
    counts = np.bincount(image.values.reshape(-1).astype(np.int64))
    present = [int(v) for v in np.flatnonzero(counts) if v > 0]
    known = {int(info["value"]): info for info in labels}
    lookup = np.zeros(len(counts), dtype=np.uint16 if len(present) > 255 else np.uint8)
    ids = vtk.vtkStringArray()
    found: list[str] = []
    for info in labels:
        if int(info["value"]) not in present:
            _empty(node, str(info["name"]), undo)
    for index, value in enumerate(present, start=1):
        info = known.get(
            value, {"name": _("Label {value}").format(value=value), "color": (128, 174, 128)}
        )
        identifier = _segment_for(node, info, undo)
        lookup[value] = index
        ids.InsertNextValue(identifier)
        found.append(identifier)
    image = LabelImage(lookup[image.values], image.grid)
    if found and not _import(node, image, ids, logic, own):
        raise UserError(
            _("Slicer could not import the labels into {name}.").format(name=node.GetName())
        )
    if segmentation.GetNumberOfSegments() and _shows_surface(node):
        node.CreateClosedSurfaceRepresentation()
    return found


def _require_label_maps(node: Any) -> None:
    segmentation = node.GetSegmentation()
    binary = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    held = segmentation.GetSourceRepresentationName()
    if segmentation.GetNumberOfSegments() and held != binary:
        raise UserError(
            _("{name} holds {kind}, not label maps.").format(
                name=node.GetName(), kind=held.lower() or _("nothing")
            ),
            _("Pick another segmentation, or convert it in the module 'Segmentations'."),
        )
    if held != binary:
        segmentation.SetSourceRepresentationName(binary)


def _segment_for(node: Any, info: LabelInfo, undo: Undo) -> str:
    """The ID of the segment of that name, emptied; a new one where there is none."""
    name = str(info["name"])
    found = _empty(node, name, undo)
    if found:
        return found
    color = [float(c) / 255.0 for c in info.get("color") or (128, 174, 128)]
    identifier = node.GetSegmentation().AddEmptySegment("", name, color)
    undo.segment_added(node, identifier)
    terminology = str(info.get("terminology") or "")
    if terminology:
        segment = node.GetSegmentation().GetSegment(identifier)
        segment.SetTag(segment.GetTerminologyEntryTagName(), terminology)
    return identifier


def _empty(node: Any, name: str, undo: Undo) -> str:
    segmentation = node.GetSegmentation()
    identifier = segmentation.GetSegmentIdBySegmentName(name)
    if identifier:
        undo.segment_changes(node, identifier)
        segmentation.ClearSegment(identifier)
    return identifier


def _import(
    node: Any, image: LabelImage, ids: vtk.vtkStringArray, logic: Any, own: Grid | None
) -> bool:
    parent = linear_to_world(node)
    if parent is None:
        image, parent = unwarped(image, node.GetParentTransformNode(), own), np.eye(4)
    carrier = slicer.vtkMRMLLabelMapVolumeNode()
    updateVolumeFromArray(carrier, image.values)
    carrier.SetIJKToRASMatrix(to_matrix(np.linalg.inv(parent) @ image.grid.ijk_to_ras))
    scene = node.GetScene()
    if node.GetParentTransformNode() is None:
        return bool(logic.ImportLabelmapToSegmentationNode(carrier, node, ids))
    # Slicer 5.13 applies a difference of parent transforms twice, so the carrier gets the same
    # parent; for that it must be in the scene for a moment.
    carrier.SetHideFromEditors(True)
    scene.AddNode(carrier)
    try:
        carrier.SetAndObserveTransformNodeID(node.GetTransformNodeID())
        return bool(logic.ImportLabelmapToSegmentationNode(carrier, node, ids))
    finally:
        remove_with_belongings(scene, carrier)


def unwarped(image: LabelImage, transform: Any, own: Grid | None = None) -> LabelImage:
    """Labels of the world in the coordinates below a transform node, by the nearest voxel.

    Where `own` is not given, the grid is a box with the smallest spacing that holds `image`.
    """
    to_world = vtk.vtkGeneralTransform()
    transform.GetTransformToWorld(to_world)
    own = own or _box_below(image.grid, to_world)
    # Indices of the result -> its coordinates -> the world -> indices of the image.
    path = vtk.vtkGeneralTransform()
    path.PostMultiply()
    path.Concatenate(to_matrix(own.ijk_to_ras))
    path.Concatenate(to_world)
    path.Concatenate(to_matrix(np.linalg.inv(image.grid.ijk_to_ras)))
    carrier = slicer.vtkMRMLLabelMapVolumeNode()
    updateVolumeFromArray(carrier, image.values)
    reslice = vtk.vtkImageReslice()
    reslice.SetInputData(carrier.GetImageData())
    reslice.SetResliceTransform(path)
    reslice.SetInterpolationModeToNearestNeighbor()
    reslice.SetOutputSpacing(1.0, 1.0, 1.0)
    reslice.SetOutputOrigin(0.0, 0.0, 0.0)
    i, j, k = own.dimensions
    reslice.SetOutputExtent(0, i - 1, 0, j - 1, 0, k - 1)
    reslice.Update()
    carrier.SetAndObserveImageData(reslice.GetOutput())
    return LabelImage(np.array(arrayFromVolume(carrier)), own)


def _box_below(grid: Grid, to_world: Any) -> Grid:
    """A box along the axes that holds a grid of the world, taken below a transform."""
    ends = [np.linspace(0, n - 1, min(n, 9)) for n in grid.dimensions]
    indices = np.stack([*np.meshgrid(*ends, indexing="ij"), np.ones([len(e) for e in ends])], -1)
    inverse = to_world.GetInverse()
    below = [inverse.TransformPoint(*p[:3]) for p in indices.reshape(-1, 4) @ grid.ijk_to_ras.T]
    spacing = grid.spacing.min()
    low = np.min(below, axis=0) - spacing
    size = np.ceil((np.max(below, axis=0) + spacing - low) / spacing).astype(int) + 1
    matrix = np.diag([spacing, spacing, spacing, 1.0])
    matrix[:3, 3] = low
    return Grid((int(size[0]), int(size[1]), int(size[2])), matrix)


def _shows_surface(node: Any) -> bool:
    name = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    return bool(node.GetSegmentation().ContainsRepresentation(name))


def place_volume(scene: Any, path: Path, volume: Any, name: str, undo: Undo) -> Any:
    """Adds a scalar volume of the scene's own from a file, under `volume`'s linear transform."""
    image = read_image(path)
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(name))
    undo.node_added(node)
    updateVolumeFromArray(node, image.values)
    parent = linear_to_world(volume)
    matrix = image.grid.ijk_to_ras
    if parent is not None:
        node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        matrix = np.linalg.inv(parent) @ matrix
    node.SetIJKToRASMatrix(to_matrix(matrix))
    node.CreateDefaultDisplayNodes()
    file_beside(scene, node, volume)
    return node

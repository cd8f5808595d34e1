"""Which volume a segmentation was drawn on: all pairs of the scene, and the current one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

from .channel_matching import match_channels
from .errors import UserError
from .finetune_cases import TrainingCase, guess_annotated
from .geometry import Grid, own_grid, to_array
from .inputs_panel import volumes_of_scene

PREVIEW_ATTRIBUTE = "MedNeXtSeg.Preview"  # of the segmentation that a training shows


def scene_pairs(channels: Sequence[str], taken: Sequence[TrainingCase]) -> list[TrainingCase]:
    """A case for every segmentation of the scene that has segments and a volume it was drawn on.

    Segmentations that stand in `taken` already are passed over.
    """
    known = {case.segmentation for case in taken if case.segmentation is not None}
    found = []
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        if node in known or not _is_drawn(node):
            continue
        volume = volume_of(node)
        if volume is not None:
            found.append(make_case(volume, node, channels))
    return found


def current_pair(channels: Sequence[str], volume: Any, segmentation: Any) -> TrainingCase:
    """What is open in the Segment Editor; else `volume` and `segmentation`, chosen elsewhere.

    Raises UserError where there is no segmentation with segments.
    """
    editor = slicer.mrmlScene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
    if editor is not None and editor.GetSegmentationNode() is not None:
        segmentation = editor.GetSegmentationNode()
        volume = editor.GetSourceVolumeNode() or volume_of(segmentation) or volume
    if segmentation is None:
        drawn = [n for n in slicer.util.getNodesByClass("vtkMRMLSegmentationNode") if _is_drawn(n)]
        segmentation = drawn[-1] if drawn else None
    if segmentation is None or not _is_drawn(segmentation):
        raise UserError(
            _("There is no segmentation with segments to learn from."),
            _("Draw segments in the Segment Editor, then add them here."),
        )
    return make_case(volume_of(segmentation) or volume, segmentation, channels)


def make_case(volume: Any, segmentation: Any, channels: Sequence[str]) -> TrainingCase:
    """A case with the other channels' volumes where they are obviously meant."""
    volumes: list[Any] = [volume, *([None] * (len(channels) - 1))]
    if len(channels) > 1 and volume is not None and volume.GetImageData() is not None:
        beside = [v for v in volumes_of_scene() if _lies_as(v, volume)]
        matches = match_channels(channels, [v.GetName() or "" for v in beside])
        volumes = [None if match is None else beside[match] for match in matches]
        if volume not in volumes and None in volumes:
            volumes[volumes.index(None)] = volume
    return TrainingCase(volumes, segmentation, guess_annotated(segmentation))


def volume_of(segmentation: Any) -> Any:
    """The volume a segmentation was drawn on: by reference, place, folder or name, else None."""
    volume = segmentation.GetNodeReference(segmentation.GetReferenceImageGeometryReferenceRole())
    if volume is not None and volume.IsA("vtkMRMLScalarVolumeNode"):
        return volume
    volumes = volumes_of_scene()
    for one in (_of_same_grid, _in_same_folder, _of_same_name):
        fitting = one(segmentation, volumes)
        if len(fitting) == 1:
            return fitting[0]
    return None


def _is_drawn(node: Any) -> bool:
    return bool(
        not node.GetHideFromEditors()
        and node.GetAttribute(PREVIEW_ATTRIBUTE) is None
        and node.GetSegmentation().GetNumberOfSegments() > 0
    )


def _of_same_grid(segmentation: Any, volumes: Sequence[Any]) -> list[Any]:
    converter = slicer.vtkSegmentationConverter
    text = segmentation.GetSegmentation().GetConversionParameter(
        converter.GetReferenceImageGeometryParameterName()
    )
    image = slicer.vtkOrientedImageData()
    if not text or not converter.DeserializeImageGeometry(text, image, False):
        return []
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    grid = Grid(image.GetDimensions(), to_array(matrix))
    same_parent = segmentation.GetTransformNodeID()
    return [
        volume
        for volume in volumes
        if volume.GetImageData() is not None
        and volume.GetTransformNodeID() == same_parent
        and grid.same_as(own_grid(volume))
    ]


def _in_same_folder(segmentation: Any, volumes: Sequence[Any]) -> list[Any]:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(segmentation) if hierarchy is not None else 0
    parent = hierarchy.GetItemParent(item) if item else 0
    if not parent or parent == hierarchy.GetSceneItemID():
        return []
    return [
        volume
        for volume in volumes
        if hierarchy.GetItemByDataNode(volume)
        and hierarchy.GetItemParent(hierarchy.GetItemByDataNode(volume)) == parent
    ]


def _of_same_name(segmentation: Any, volumes: Sequence[Any]) -> list[Any]:
    """The volume whose name the segmentation's begins with; of several, the longest."""
    name = (segmentation.GetName() or "").casefold()
    fitting = [v for v in volumes if v.GetName() and name.startswith(v.GetName().casefold())]
    longest = max((len(v.GetName()) for v in fitting), default=0)
    return [v for v in fitting if len(v.GetName()) == longest]


def _lies_as(one: Any, other: Any) -> bool:
    return bool(
        one.GetImageData() is not None
        and one.GetTransformNodeID() == other.GetTransformNodeID()
        and own_grid(one).same_as(own_grid(other))
    )

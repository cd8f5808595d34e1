"""What one result changed in the scene, kept so that it can be taken back exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import slicer


@dataclass
class _Kept:
    """A segment as it was: its own voxels, apart from the layers that segments share."""

    node_id: str
    segment_id: str
    image: Any  # vtkOrientedImageData, or None where it held nothing


@dataclass
class Undo:
    """Collects changes while they are made; `restore` takes them back in the reverse order."""

    scene: Any
    logic: Any  # the Segmentations module's
    _nodes: list[str] = field(default_factory=list)
    _added: list[tuple[str, str]] = field(default_factory=list)
    _kept: list[_Kept] = field(default_factory=list)
    _first: list[Callable[[], None]] = field(default_factory=list)
    _surfaces: dict[str, bool] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        return not (self._nodes or self._added or self._kept)

    def first(self, action: Callable[[], None]) -> None:
        """Something to do before anything else is taken back."""
        self._first.append(action)

    def node_added(self, node: Any) -> None:
        self._nodes.append(node.GetID())

    def segment_added(self, node: Any, segment_id: str) -> None:
        self._note_surface(node)
        self._added.append((node.GetID(), segment_id))

    def segment_changes(self, node: Any, segment_id: str) -> None:
        """Call before the segment's voxels change."""
        if node.GetID() in self._nodes:
            return
        self._note_surface(node)
        image = slicer.vtkOrientedImageData()
        if not node.GetBinaryLabelmapRepresentation(segment_id, image) or _is_empty(image):
            image = None
        self._kept.append(_Kept(node.GetID(), segment_id, image))

    def _note_surface(self, node: Any) -> None:
        if node.GetID() not in self._surfaces:
            self._surfaces[node.GetID()] = node.GetSegmentation().ContainsRepresentation(
                _surface_name()
            )

    def restore(self) -> None:
        """Takes everything back. Nodes and segments that are gone meanwhile are passed over."""
        for action in self._first:
            action()
        for kept in reversed(self._kept):
            node = self.scene.GetNodeByID(kept.node_id)
            if node is not None and node.GetSegmentation().GetSegment(kept.segment_id):
                node.GetSegmentation().ClearSegment(kept.segment_id)
                if kept.image is not None:
                    self.logic.SetBinaryLabelmapToSegment(kept.image, node, kept.segment_id)
        for node_id, segment_id in reversed(self._added):
            node = self.scene.GetNodeByID(node_id)
            if node is not None and node_id not in self._nodes:
                node.GetSegmentation().RemoveSegment(segment_id)
        for node_id, had_surface in self._surfaces.items():
            node = self.scene.GetNodeByID(node_id)
            if node is not None and node_id not in self._nodes:
                _restore_surface(node, had_surface)
        for node_id in reversed(self._nodes):
            node = self.scene.GetNodeByID(node_id)
            if node is not None:
                remove_with_belongings(self.scene, node)
        for forget in (self._first, self._nodes, self._added, self._kept, self._surfaces):
            forget.clear()


def _surface_name() -> str:
    return slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()


def _is_empty(image: Any) -> bool:
    first, last, *_ = image.GetExtent()
    return first > last


def _restore_surface(node: Any, had_surface: bool) -> None:
    if had_surface:
        node.CreateClosedSurfaceRepresentation()
    else:
        node.GetSegmentation().RemoveRepresentation(_surface_name())


def remove_with_belongings(scene: Any, node: Any) -> None:
    """Removes a node with the display and storage nodes that only it uses."""
    belongings = []
    if node.IsA("vtkMRMLDisplayableNode"):
        belongings += [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())]
    if node.IsA("vtkMRMLStorableNode"):
        belongings += [node.GetNthStorageNode(n) for n in range(node.GetNumberOfStorageNodes())]
    scene.RemoveNode(node)
    for one in belongings:
        if one is not None and scene.IsNodePresent(one):
            scene.RemoveNode(one)

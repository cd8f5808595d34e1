"""qMRML's selectors of hierarchy items and segments, over the real scene."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6.QtCore import Property, QSignalBlocker, Signal
from PySide6.QtWidgets import QComboBox, QVBoxLayout, QWidget

from .ctk_buttons import ctkMenuButton
from .ctk_fields import ctkComboBox
from .mrml_base import SCENE_EVENTS, Observed, qMRMLWidget
from .mrml_nodes import qMRMLNodeComboBox
from .properties import classes_of, refilling, shown


class qMRMLSubjectHierarchyComboBox(ctkComboBox):
    """Items of the subject hierarchy whose node is of one of some types."""

    currentItemChanged = Signal("qlonglong")
    currentItemModified = Signal("qlonglong")

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._observed = Observed(self)
        self._types: list[str] = []
        self._none, self._none_text = False, "None"
        self._item = 0
        self.currentIndexChanged.connect(self._row_changed)

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        self._observed.clear()
        self._scene = scene
        if scene is not None:
            self._observed.watch(scene, SCENE_EVENTS, self._scene_changed)
            self._observed.watch(
                self.subjectHierarchyNode(), (vtk.vtkCommand.AnyEvent,), self._scene_changed
            )
        self._fill()

    def subjectHierarchyNode(self) -> Any:
        kind = slicer.vtkMRMLSubjectHierarchyNode
        return kind.GetSubjectHierarchyNode(self._scene) if self._scene else None

    def _scene_changed(self, caller: Any, event: str) -> None:
        self._fill()

    def _fill(self) -> None:
        hierarchy = self.subjectHierarchyNode()
        if hierarchy is None:
            return
        items = vtk.vtkIdList()
        hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
        with QSignalBlocker(self):
            self.clear()
            if self._none:
                self.addItem(self._none_text, 0)
            for index in range(items.GetNumberOfIds()):
                item = items.GetId(index)
                node = hierarchy.GetItemDataNode(item)
                if node is not None and any(node.IsA(kind) for kind in self._types):
                    self.addItem(hierarchy.GetItemName(item), item)
            row = self.findData(self._item)
            self.setCurrentIndex(row if row >= 0 else (0 if self._none else -1))
        self._row_changed(self.currentIndex())

    def _row_changed(self, row: int) -> None:
        item = int(self.itemData(row) or 0) if row >= 0 else 0
        if item != self._item:
            self._item = item
            self.currentItemChanged.emit(item)

    def currentItem(self) -> int:
        return self._item

    def setCurrentItem(self, item: int) -> None:
        self.setCurrentIndex(self.findData(item))

    def currentNode(self) -> Any:
        hierarchy = self.subjectHierarchyNode()
        return hierarchy.GetItemDataNode(self._item) if hierarchy and self._item else None

    def setCurrentNode(self, node: Any) -> None:
        hierarchy = self.subjectHierarchyNode()
        self.setCurrentItem(hierarchy.GetItemByDataNode(node) if node is not None else 0)

    def clearSelection(self) -> None:
        self.setCurrentItem(0)

    def setNodeTypes(self, types: list[str]) -> None:
        self._types = list(types)
        self._fill()

    nodeTypes = refilling("QStringList", "_types", [])
    noneEnabled = refilling(bool, "_none", False)
    noneDisplay = refilling(str, "_none_text", "None")


class qMRMLSegmentSelectorWidget(qMRMLWidget):
    """A segmentation and one of its segments."""

    currentNodeChanged = Signal(object)
    currentNodeChangedBool = Signal(bool)
    currentSegmentChanged = Signal(str)
    segmentSelectionChanged = Signal("QStringList")
    SIGNALS = {"currentNodeChanged(bool)": "currentNodeChangedBool"}  # noqa: RUF012

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._nodes = qMRMLNodeComboBox(self)
        self._nodes.setProperty("nodeTypes", ["vtkMRMLSegmentationNode"])
        self._nodes.setProperty("noneEnabled", True)
        self._nodes.setProperty("addEnabled", False)
        self._segments = QComboBox(self)
        layout.addWidget(self._nodes)
        layout.addWidget(self._segments)
        self._observed = Observed(self)
        self._none = True
        self._segment = ""
        self._nodes.currentNodeChanged.connect(self._node_chosen)
        self._segments.currentIndexChanged.connect(self._segment_chosen)

    def setMRMLScene(self, scene: Any) -> None:
        super().setMRMLScene(scene)
        self._nodes.setMRMLScene(scene)

    def _node_chosen(self, node: Any) -> None:
        self._observed.clear()
        if node is not None:
            events = tuple(
                getattr(slicer.vtkSegmentation, name)
                for name in ("SegmentAdded", "SegmentRemoved", "SegmentModified")
            )
            self._observed.watch(node.GetSegmentation(), events, self._segments_changed)
        self._segments_changed(None, "")
        self.currentNodeChanged.emit(node)
        self.currentNodeChangedBool.emit(node is not None)

    def _segments_changed(self, caller: Any, event: str) -> None:
        with QSignalBlocker(self._segments):
            self._segments.clear()
            if self._none:
                self._segments.addItem("None", "")
            for identifier in self.segmentIDs():
                segment = self.currentNode().GetSegmentation().GetSegment(identifier)
                self._segments.addItem(segment.GetName(), identifier)
            row = self._segments.findData(self._segment)
            self._segments.setCurrentIndex(max(row, 0) if self._segments.count() else -1)
        self._segment_chosen(self._segments.currentIndex())

    def _segment_chosen(self, row: int) -> None:
        identifier = self._segments.itemData(row) or ""
        if identifier != self._segment:
            self._segment = identifier
            self.currentSegmentChanged.emit(identifier)

    def segmentIDs(self) -> list[str]:
        node = self.currentNode()
        return list(node.GetSegmentation().GetSegmentIDs()) if node is not None else []

    def currentNode(self) -> Any:
        return self._nodes.currentNode()

    def setCurrentNode(self, node: Any) -> None:
        self._nodes.setCurrentNode(node)

    def currentNodeID(self) -> str:
        return str(self._nodes.property("currentNodeID"))

    def setCurrentNodeID(self, identifier: str) -> None:
        self._nodes.setCurrentNodeID(identifier)

    def currentSegmentID(self) -> str:
        return self._segment

    def setCurrentSegmentID(self, identifier: str) -> None:
        self._segments.setCurrentIndex(self._segments.findData(identifier))

    def _set_none(self, value: bool) -> None:
        self._none = value
        self._segments_changed(None, "")

    noneEnabled = Property(bool, lambda self: self._none, _set_none)
    segmentationNodeSelectorVisible = shown("_nodes")


class qMRMLSegmentationShow3DButton(ctkMenuButton):
    """Makes and shows the closed surface of a segmentation."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setText("Show 3D")
        self.setCheckable(True)
        self._node: Any = None
        self.toggled.connect(self._show)

    def _show(self, shown: bool) -> None:
        if self._node is not None and shown:
            self._node.CreateClosedSurfaceRepresentation()

    def segmentationNode(self) -> Any:
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        self._node = node
        self.setEnabled(node is not None)


CLASSES = classes_of(globals(), "qMRML")

"""qMRML's selectors, as small real Qt widgets over the real scene."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import shiboken6
import slicer
import vtk
from PySide6.QtCore import Property, QSignalBlocker, Signal
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QVBoxLayout, QWidget

from .ctk_widgets import ctkCollapsibleButton, ctkComboBox, ctkMenuButton, ctkSliderWidget

SCENE_EVENTS = (
    slicer.vtkMRMLScene.NodeAddedEvent,
    slicer.vtkMRMLScene.NodeRemovedEvent,
    slicer.vtkMRMLScene.EndBatchProcessEvent,
    slicer.vtkMRMLScene.EndCloseEvent,
    slicer.vtkMRMLScene.EndImportEvent,
)


class Observed:
    """Observations of VTK objects that end with the widget, whoever dies first."""

    def __init__(self, widget: QWidget) -> None:
        self._widget = weakref.ref(widget)
        self._tags: list[tuple[Any, int]] = []

    def watch(self, thing: Any, events: tuple[int, ...], method: Callable[..., None]) -> None:
        name = method.__name__
        for event in events:
            self._tags.append((thing, thing.AddObserver(event, self._relay(name))))

    def _relay(self, name: str) -> Callable[[Any, str], None]:
        def relay(caller: Any, event: str) -> None:
            widget = self._widget()
            if widget is not None and shiboken6.isValid(widget):
                getattr(widget, name)(caller, event)

        return relay

    def clear(self) -> None:
        for thing, tag in self._tags:
            thing.RemoveObserver(tag)
        self._tags.clear()


class qMRMLWidget(QWidget):
    """A widget that knows a scene."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


class qMRMLCollapsibleButton(ctkCollapsibleButton):
    """A collapsible button that knows a scene."""

    mrmlSceneChanged = Signal(object)

    def setMRMLScene(self, scene: Any) -> None:
        self.mrmlSceneChanged.emit(scene)


class qMRMLSliderWidget(ctkSliderWidget):
    """A slider that knows a scene (and could show its units)."""

    def setMRMLScene(self, scene: Any) -> None:
        pass


class qMRMLNodeComboBox(QWidget):
    """Nodes of some types of a scene, "None", and the actions to make and remove one."""

    currentNodeChanged = Signal(object)
    currentNodeChangedBool = Signal(bool)
    currentNodeIDChanged = Signal(str)
    currentNodeRenamed = Signal(str)
    nodeAboutToBeEdited = Signal(object)
    nodeAboutToBeRemoved = Signal(object)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    SIGNALS = {"currentNodeChanged(bool)": "currentNodeChangedBool"}  # noqa: RUF012

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._combo = QComboBox(self)
        self._combo.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self._combo.setMinimumContentsLength(6)
        layout.addWidget(self._combo)
        self.setFocusProxy(self._combo)
        self._scene: Any = None
        self._node: Any = None
        self._observed = Observed(self)
        self._node_observed = Observed(self)
        self._types: list[str] = []
        self._hidden_types: list[str] = []
        self._attributes: list[tuple[str, str, Any]] = []
        self._labels: dict[str, str] = {}
        self._none, self._none_text = False, "None"
        self._add, self._remove, self._rename, self._edit = True, True, False, False
        self._children, self._hidden, self._select_new = True, False, True
        self._base_name = self._tag = ""
        self._combo.activated.connect(self._chosen)
        self.setEnabled(False)

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        self._observed.clear()
        self._scene = scene
        if scene is not None:
            self._observed.watch(scene, SCENE_EVENTS, self._scene_changed)
        self._fill()
        self.setEnabled(scene is not None)

    def _scene_changed(self, caller: Any, event: str) -> None:
        if not self._scene.IsBatchProcessing():
            self._fill()

    def _nodes(self) -> Iterator[Any]:
        for index in range(self._scene.GetNumberOfNodes() if self._scene else 0):
            node = self._scene.GetNthNode(index)
            if self._offers(node):
                yield node

    def _offers(self, node: Any) -> bool:
        if node.GetHideFromEditors() and not self._hidden:
            return False
        if not any(
            node.IsA(kind) if self._children else node.GetClassName() == kind
            for kind in self._types
        ):
            return False
        if any(node.IsA(kind) for kind in self._hidden_types):
            return False
        return all(
            node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name))
            for kind, name, value in self._attributes
            if node.IsA(kind)
        )

    def _fill(self) -> None:
        """Lists the nodes anew; the choice stays, or falls to "None" or to the first node."""
        nodes = list(self._nodes())
        with QSignalBlocker(self._combo):
            self._combo.clear()
            if self._none or not nodes:
                self._combo.addItem(self._none_text, "")
            for node in nodes:
                self._combo.addItem(node.GetName() or "", node.GetID())
            self._add_actions()
        wanted = self._node if self._node in nodes else None
        if wanted is None and not self._none and nodes:
            wanted = nodes[0]
        self._select(wanted)

    def _add_actions(self) -> None:
        kind = self._label_of(self._types[0]) if self._types else ""
        first = self._combo.count()
        if self._add:
            self._combo.addItem(f"Create new {kind}", "create")
        if self._remove and self._node is not None:
            self._combo.addItem(f"Delete current {kind}", "delete")
        if self._combo.count() > first:
            self._combo.insertSeparator(first)

    def _label_of(self, kind: str) -> str:
        return self._labels.get(kind) or kind.removeprefix("vtkMRML").removesuffix("Node")

    def _select(self, node: Any) -> None:
        with QSignalBlocker(self._combo):
            row = self._combo.findData(node.GetID()) if node is not None else 0
            none_row = self._combo.findData("")
            self._combo.setCurrentIndex(row if node is not None else none_row)
        if node is self._node:
            return
        self._node_observed.clear()
        self._node = node
        if node is not None:
            self._node_observed.watch(node, (vtk.vtkCommand.ModifiedEvent,), self._node_modified)
        self.currentNodeChanged.emit(node)
        self.currentNodeChangedBool.emit(node is not None)
        self.currentNodeIDChanged.emit(node.GetID() if node is not None else "")

    def _node_modified(self, caller: Any, event: str) -> None:
        row = self._combo.findData(caller.GetID())
        if row >= 0 and self._combo.itemText(row) != caller.GetName():
            self._combo.setItemText(row, caller.GetName())
            if caller is self._node:
                self.currentNodeRenamed.emit(caller.GetName())

    def _chosen(self, row: int) -> None:
        data = self._combo.itemData(row)
        if data == "create":
            self.addNode()
        elif data == "delete":
            self.removeCurrentNode()
        else:
            node = self._scene.GetNodeByID(data) if data else None
            self._select(node)
            self.nodeActivated.emit(node)

    def addNode(self, kind: str = "") -> Any:
        kind = kind or self._types[0]
        name = self._base_name or self._label_of(kind)
        node = self._scene.AddNewNodeByClass(kind, self._scene.GenerateUniqueName(name))
        for of, attribute, value in self._attributes:
            if node.IsA(of):
                node.SetAttribute(attribute, str(value if value is not None else ""))
        if self._select_new:
            self.setCurrentNode(node)
        self.nodeAdded.emit(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        if self._node is not None:
            self.nodeAboutToBeRemoved.emit(self._node)
            self._scene.RemoveNode(self._node)

    def currentNode(self) -> Any:
        return self._node

    def setCurrentNode(self, node: Any) -> None:
        if isinstance(node, str):
            node = self._scene.GetNodeByID(node) if self._scene else None
        if node is not None and (self._combo.findData(node.GetID()) < 0):
            node = None
        self._select(node)

    def setCurrentNodeID(self, identifier: str) -> None:
        self.setCurrentNode(identifier or None)

    def setCurrentNodeIndex(self, index: int) -> None:
        self._select(self.nodeFromIndex(index))

    def nodeCount(self) -> int:
        return len(list(self._nodes()))

    def nodeFromIndex(self, index: int) -> Any:
        nodes = list(self._nodes())
        return nodes[index] if 0 <= index < len(nodes) else None

    def addAttribute(self, kind: str, name: str, value: Any = None) -> None:
        self.removeAttribute(kind, name)
        self._attributes.append((kind, name, None if value is None else str(value)))
        self._fill()

    def removeAttribute(self, kind: str, name: str) -> None:
        self._attributes = [one for one in self._attributes if one[:2] != (kind, name)]

    def setNodeTypeLabel(self, label: str, kind: str) -> None:
        self._labels[kind] = label
        self._fill()

    def nodeTypeLabel(self, kind: str) -> str:
        return self._label_of(kind)

    def addMenuAction(self, action: Any) -> None:
        pass

    def editCurrentNode(self) -> None:
        self.nodeAboutToBeEdited.emit(self._node)

    def renameCurrentNode(self) -> None:
        pass

    def _set(self, name: str, value: Any) -> None:
        setattr(self, name, value)
        self._fill()

    nodeTypes = Property(
        "QStringList", lambda self: self._types, lambda self, v: self._set("_types", list(v))
    )
    hideChildNodeTypes = Property(
        "QStringList",
        lambda self: self._hidden_types,
        lambda self, v: self._set("_hidden_types", list(v)),
    )
    noneEnabled = Property(bool, lambda self: self._none, lambda self, v: self._set("_none", v))
    noneDisplay = Property(
        str, lambda self: self._none_text, lambda self, v: self._set("_none_text", v)
    )
    addEnabled = Property(bool, lambda self: self._add, lambda self, v: self._set("_add", v))
    removeEnabled = Property(
        bool, lambda self: self._remove, lambda self, v: self._set("_remove", v)
    )
    renameEnabled = Property(
        bool, lambda self: self._rename, lambda self, v: self._set("_rename", v)
    )
    editEnabled = Property(bool, lambda self: self._edit, lambda self, v: self._set("_edit", v))
    showHidden = Property(bool, lambda self: self._hidden, lambda self, v: self._set("_hidden", v))
    showChildNodeTypes = Property(
        bool, lambda self: self._children, lambda self, v: self._set("_children", v)
    )
    selectNodeUponCreation = Property(
        bool, lambda self: self._select_new, lambda self, v: self._set("_select_new", v)
    )
    baseName = Property(
        str, lambda self: self._base_name, lambda self, v: self._set("_base_name", v)
    )
    interactionNodeSingletonTag = Property(
        str, lambda self: self._tag, lambda self, v: self._set("_tag", v)
    )
    currentNodeID = Property(
        str, lambda self: self._node.GetID() if self._node is not None else "", setCurrentNodeID
    )
    currentNodeId = currentNodeID


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

    def _set(self, name: str, value: Any) -> None:
        setattr(self, name, value)
        self._fill()

    nodeTypes = Property("QStringList", lambda self: self._types, setNodeTypes)
    noneEnabled = Property(bool, lambda self: self._none, lambda self, v: self._set("_none", v))
    noneDisplay = Property(
        str, lambda self: self._none_text, lambda self, v: self._set("_none_text", v)
    )


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
    segmentationNodeSelectorVisible = Property(
        bool, lambda self: not self._nodes.isHidden(), lambda self, v: self._nodes.setVisible(v)
    )


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


CLASSES = {
    name: value for name, value in list(globals().items())
    if name.startswith("qMRML") and isinstance(value, type)
}  # fmt: skip

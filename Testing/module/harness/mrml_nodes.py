"""qMRML's node selector, as a small real Qt widget over the real scene."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import vtk
from PySide6.QtCore import Property, QSignalBlocker, Signal
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QWidget

from .mrml_base import SCENE_EVENTS, Observed
from .properties import classes_of, refilling, stored


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

    nodeTypes = refilling("QStringList", "_types", [])
    hideChildNodeTypes = refilling("QStringList", "_hidden_types", [])
    noneEnabled = refilling(bool, "_none", False)
    noneDisplay = refilling(str, "_none_text", "None")
    addEnabled = refilling(bool, "_add", True)
    removeEnabled = refilling(bool, "_remove", True)
    renameEnabled = stored(bool, "_rename", False)
    editEnabled = stored(bool, "_edit", False)
    showHidden = refilling(bool, "_hidden", False)
    showChildNodeTypes = refilling(bool, "_children", True)
    selectNodeUponCreation = stored(bool, "_select_new", True)
    baseName = stored(str, "_base_name", "")
    interactionNodeSingletonTag = stored(str, "_tag", "")
    currentNodeID = Property(
        str, lambda self: self._node.GetID() if self._node is not None else "", setCurrentNodeID
    )
    currentNodeId = currentNodeID


CLASSES = classes_of(globals(), "qMRML")

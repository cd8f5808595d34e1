"""Loads `.ui` files as Slicer does, and refuses what Slicer's widgets do not offer."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

from PySide6.QtCore import QBuffer, QByteArray, QIODevice
from PySide6.QtUiTools import QUiLoader as _QUiLoader
from PySide6.QtWidgets import QWidget

from . import api, binding, convert, signals

LAYOUT_PROPERTIES = {
    "leftMargin", "topMargin", "rightMargin", "bottomMargin", "spacing", "horizontalSpacing",
    "verticalSpacing", "sizeConstraint", "fieldGrowthPolicy", "rowWrapPolicy", "labelAlignment",
    "formAlignment",
}  # fmt: skip
"""What both Qt 5 and Qt 6 know ("margin" is gone)."""


class UiError(RuntimeError):
    """The file names a class, property, signal or slot real Slicer does not have."""


class QUiLoader(_QUiLoader):
    """Qt's loader that also makes CTK's and qMRML's widgets."""

    def createWidget(
        self, class_name: str, parent: QWidget | None = None, name: str = ""
    ) -> QWidget:
        if class_name in convert.custom_classes:
            widget = convert.custom_classes[class_name](parent)
            widget.setObjectName(name)
            return widget
        return super().createWidget(class_name, parent, name)

    def load(self, device: QIODevice, parent: QWidget | None = None) -> QWidget:
        text = bytes(device.readAll().data())
        root = ElementTree.fromstring(text)
        scoped = [*check_classes(root)]
        connections = _take(root, "connections")
        buffer = QBuffer()
        buffer.setData(QByteArray(ElementTree.tostring(root)))
        buffer.open(QIODevice.OpenModeFlag.ReadOnly)
        widget = super().load(buffer, parent)
        if widget is None:
            return widget
        for name, property_name, value in scoped:
            _named(widget, name).setProperty(property_name, value)
        for connection in connections:
            _connect(widget, connection)
        return widget


def check_classes(root: ElementTree.Element) -> list[tuple[str, str, int]]:
    """Refuses unknown classes and properties; takes CTK's enumerators out and returns them."""
    for layout in root.iter("layout"):
        for entry in layout.findall("property"):
            if entry.get("name") not in LAYOUT_PROPERTIES:
                raise UiError(f"{layout.get('class')} has no property '{entry.get('name')}'.")
    scoped = []
    for element in root.iter("widget"):
        class_name = element.get("class", "")
        if not api.known(class_name):
            raise UiError(f"Slicer has no widget class {class_name} (or it is not in the extract).")
        members = api.members(class_name)
        for entry in list(element.findall("property")):
            name = entry.get("name", "")
            if entry.get("stdset") == "0" or (class_name, name) == ("QLabel", "buddy"):
                continue
            if name not in members.properties:
                raise UiError(f"{class_name} has no property '{name}'.")
            kind = members.properties[name]
            if kind.endswith("(read-only)"):
                raise UiError(f"The property '{name}' of {class_name} cannot be set.")
            value = entry[0]
            if value.tag in ("enum", "set") and class_name in convert.custom_classes:
                number = _enumerators(value.text or "", class_name, members)
                if number is not None:
                    scoped.append((element.get("name", ""), name, number))
                    element.remove(entry)
    return scoped


def _enumerators(text: str, class_name: str, members: api.Members) -> int | None:
    """`ctkPathLineEdit::Files|ctkPathLineEdit::Writable` as a number; None if it is Qt's own."""
    number = 0
    for word in text.split("|"):
        scope, _, key = word.rpartition("::")
        if scope.split("::")[0] != class_name:
            return None
        found = members.enum_value(key)
        if found is None:
            raise UiError(f"{class_name} has no enumerator '{key}'.")
        number |= found[1]
    return number


def _take(root: ElementTree.Element, tag: str) -> list[ElementTree.Element]:
    found = root.find(tag)
    if found is None:
        return []
    root.remove(found)
    return list(found)


def _named(widget: QWidget, name: str) -> Any:
    if widget.objectName() == name:
        return widget
    found = widget.findChild(QWidget, name)
    if found is None:
        raise UiError(f"There is no widget called '{name}'.")
    return found


def _connect(widget: QWidget, connection: ElementTree.Element) -> None:
    text = {part.tag: part.text or "" for part in connection}
    sender = _named(widget, text["sender"])
    receiver = _named(widget, text["receiver"])
    slot = signals.normalized(text["slot"])
    name, parameters = slot.split("(")[0], api.split_types(slot.split("(", 1)[1][:-1])
    offered = api.members(binding.class_name(receiver))
    shapes = [
        [kind.rstrip("*&") for kind in one.parameters] for one in offered.methods.get(name, [])
    ]
    if [kind.rstrip("*&") for kind in parameters] not in shapes:
        raise UiError(f"{offered.name} has no slot {slot}.")
    taken = len(parameters)

    def relay(*arguments: Any) -> None:
        getattr(receiver, name)(*[convert.unwrapped(one) for one in arguments[:taken]])

    if not signals.connect(sender, binding.class_name(sender), text["signal"], relay):
        raise UiError(f"{binding.class_name(sender)} has no signal {text['signal']}.")


CLASSES = {"QUiLoader": QUiLoader}

"""What qMRML's stand-ins share: a scene, and observations that end with the widget."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import shiboken6
import slicer
from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from .ctk_buttons import ctkCollapsibleButton
from .ctk_numbers import ctkSliderWidget
from .properties import classes_of

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


CLASSES = classes_of(globals(), "qMRML")

"""Scripted modules: what Slicer wraps around MedNeXtSeg.py."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import shiboken6
import slicer
from PySide6.QtCore import Property, QObject
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QVBoxLayout, QWidget

from . import binding
from .mrml_base import qMRMLWidget
from .properties import classes_of, stored


class qSlicerAbstractCoreModule(QObject):
    """A module; those of C++ are known to the tests by name and logic only."""

    def __init__(self, name: str = "", logic: Any = None) -> None:
        super().__init__()
        self._name, self._logic = name, logic

    def logic(self) -> Any:
        return self._logic

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene

    name = Property(str, lambda self: self._name)
    path = Property(str, lambda self: "")


class qSlicerAbstractModule(qSlicerAbstractCoreModule):
    """A module with an icon."""


class qSlicerLoadableModule(qSlicerAbstractModule):
    """A module in a library."""

    def widgetRepresentation(self) -> None:
        return None


class qSlicerScriptedLoadableModule(qSlicerLoadableModule):
    """What a module's constructor gets as `parent`."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__()
        self.file = Path()
        self.script: ModuleType | None = None
        self._widget: qSlicerScriptedLoadableModuleWidget | None = None

    def load(self, file: Path) -> Any:
        """Runs the file and constructs its module class; the object it returns is Python's."""
        self._name, self.file = file.stem, file
        folder = str(file.parent)
        if folder not in sys.path:
            sys.path.insert(0, folder)
        spec = importlib.util.spec_from_file_location(file.stem, file)
        self.script = importlib.util.module_from_spec(spec)
        sys.modules[file.stem] = self.script
        spec.loader.exec_module(self.script)
        return getattr(self.script, file.stem)(binding.wrap(self))

    def widgetRepresentation(self) -> qSlicerScriptedLoadableModuleWidget:
        if self._widget is None:
            self._widget = self.createNewWidgetRepresentation()
        return self._widget

    def createNewWidgetRepresentation(self) -> qSlicerScriptedLoadableModuleWidget:
        widget = qSlicerScriptedLoadableModuleWidget()
        widget.start(self)
        return widget

    def drop_widget(self) -> None:
        """What quitting does: cleanup, then the widget dies."""
        if self._widget is not None:
            self._widget.finish()
            shiboken6.delete(self._widget)
            self._widget = None

    def _own_path(self) -> str:
        return str(self.file)

    path = Property(str, _own_path)
    title = stored(str, "_title", "")
    categories = stored("QStringList", "_categories", [])
    dependencies = stored("QStringList", "_dependencies", [])
    contributors = stored("QStringList", "_contributors", [])
    associatedNodeTypes = stored("QStringList", "_associated", [])
    helpText = stored(str, "_help", "")
    acknowledgementText = stored(str, "_acknowledgement", "")
    hidden = stored(bool, "_hidden", False)
    index = stored(int, "_index", -1)
    icon = stored(QIcon, "_icon", QIcon())


class qSlicerWidget(qMRMLWidget):
    """A widget that knows a scene."""


class qSlicerAbstractModuleWidget(qSlicerWidget):
    """The panel of a module."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._entered = False

    isEntered = Property(bool, lambda self: self._entered)


class qSlicerScriptedLoadableModuleWidget(qSlicerAbstractModuleWidget):
    """The panel of a scripted module: hosts the object of Python and passes on what happens."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._module: qSlicerScriptedLoadableModule | None = None
        self._self: Any = None

    def start(self, module: qSlicerScriptedLoadableModule) -> None:
        self._module = module
        QVBoxLayout(self)
        self.setMRMLScene(slicer.mrmlScene)
        self.reload()

    def reload(self) -> None:
        kind = getattr(sys.modules[self._module.file.stem], f"{self._module.file.stem}Widget")
        self._self = kind(binding.wrap(self))
        setattr(slicer.modules, kind.__name__, self._self)
        self._self.setup()

    def self(self) -> Any:
        return self._self

    def module(self) -> Any:
        return self._module

    def enter(self) -> None:
        self._entered = True
        if hasattr(self._self, "enter"):
            self._self.enter()

    def exit(self) -> None:
        self._entered = False
        if hasattr(self._self, "exit"):
            self._self.exit()

    def finish(self) -> None:
        if self._self is not None:
            self._self.cleanup()
            self._self = None

    moduleName = Property(str, lambda self: self._module.file.stem)


CLASSES = classes_of(globals(), "qSlicer")

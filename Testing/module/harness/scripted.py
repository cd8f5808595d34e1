"""Scripted modules: what Slicer wraps around MedNeXtSeg.py, and its Python base classes."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import os
import sys
import unittest
from pathlib import Path
from types import ModuleType
from typing import Any

import shiboken6
import slicer
from PySide6.QtCore import Property, QObject
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QVBoxLayout, QWidget

from . import binding
from .mrml_widgets import qMRMLWidget


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


def _stored(kind: Any, key: str, default: Any) -> Property:
    return Property(
        kind,
        lambda self: self.__dict__.get(key, default),
        lambda self, value: self.__dict__.__setitem__(key, value),
    )


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
    title = _stored(str, "_title", "")
    categories = _stored("QStringList", "_categories", [])
    dependencies = _stored("QStringList", "_dependencies", [])
    contributors = _stored("QStringList", "_contributors", [])
    associatedNodeTypes = _stored("QStringList", "_associated", [])
    helpText = _stored(str, "_help", "")
    acknowledgementText = _stored(str, "_acknowledgement", "")
    hidden = _stored(bool, "_hidden", False)
    index = _stored(int, "_index", -1)
    icon = _stored(QIcon, "_icon", QIcon())


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


class ScriptedLoadableModule:
    """Base class of a module's metadata."""

    def __init__(self, parent: Any) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__
        parent.title = ""
        parent.categories = []
        parent.dependencies = []
        parent.contributors = []
        parent.helpText = ""
        parent.acknowledgementText = ""
        folder = Path(sys.modules[type(self).__module__].__file__).parent / "Resources" / "Icons"
        for suffix in (".svg", ".png"):
            icon = folder / f"{self.moduleName}{suffix}"
            if icon.exists():
                parent.icon = binding.make_class("QIcon")(str(icon))
                break

    def resourcePath(self, name: str) -> str:
        file = Path(sys.modules[type(self).__module__].__file__)
        return str(file.parent / "Resources" / name)

    def getDefaultModuleDocumentationLink(
        self, docPage: str | None = None, linkText: str | None = None
    ) -> str:
        return f'<p>For more information see the <a href="">{linkText or "documentation"}</a>.</p>'

    def runTest(self, msec: int = 100, **keywords: Any) -> None:
        test = getattr(sys.modules[type(self).__module__], f"{self.moduleName}Test")()
        test.messageDelay = msec
        test.runTest(**keywords)


class ScriptedLoadableModuleWidget:
    """Base class of a module's panel."""

    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        if parent is None:
            self.parent = binding.make_class("qMRMLWidget")()
            self.parent.setLayout(binding.make_class("QVBoxLayout")())
            self.parent.setMRMLScene(slicer.mrmlScene)
            self.layout = self.parent.layout()
            self.setup()
            self.parent.show()
        else:
            self.parent = parent
            self.layout = parent.layout()
        slicer.app.moduleManager().connect(
            "moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded
        )

    def resourcePath(self, name: str) -> str:
        file = Path(sys.modules[type(self).__module__].__file__)
        return str(file.parent / "Resources" / name)

    def setup(self) -> None:
        pass

    def cleanup(self) -> None:
        pass

    def setupDeveloperSection(self) -> None:
        pass

    def onReload(self) -> Any:
        logging.debug("Reloading scripted module: %s", self.moduleName)
        return slicer.util.reloadScriptedModule(self.moduleName)

    def onReloadAndTest(self, **keywords: Any) -> None:
        self.onReload()
        self.onTest(**keywords)

    def onTest(self, **keywords: Any) -> None:
        module = sys.modules[self.moduleName]
        getattr(module, f"{self.moduleName}Test")().runTest(**keywords)

    def onEditSource(self) -> None:
        pass

    def _onModuleAboutToBeUnloaded(self, moduleName: str) -> None:
        if moduleName == self.moduleName:
            self.cleanup()
            slicer.app.moduleManager().disconnect(
                "moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded
            )


class ScriptedLoadableModuleLogic:
    """Base class of a module's logic; knows the parameter node."""

    def __init__(self, parent: Any = None) -> None:
        del parent
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self) -> Any:
        if self.isSingletonParameterNode:
            for node in self.getAllParameterNodes():
                return node
        node = self.createParameterNode()
        slicer.mrmlScene.AddNode(node)
        return node

    def getAllParameterNodes(self) -> list[Any]:
        return [
            node
            for node in slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
            if node.GetAttribute("ModuleName") == self.moduleName
        ]

    def createParameterNode(self) -> Any:
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Base class of a module's test inside Slicer."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.messageDelay = 100

    def delayDisplay(
        self, message: str, requestedDelay: int | None = None, msec: int | None = None
    ) -> None:
        slicer.util.delayDisplay(message, 0)

    def takeScreenshot(self, name: str, description: str, type: int = -1) -> None:
        pass

    def runTest(self) -> None:
        logging.warning("No test is defined in %s", type(self).__name__)


def context_of(source_file: str) -> str:
    return os.path.splitext(os.path.basename(source_file))[0]


def make_modules() -> dict[str, ModuleType]:
    """The modules Slicer's Python has for scripted modules."""
    base = ModuleType("slicer.ScriptedLoadableModule")
    names = [
        "ScriptedLoadableModule", "ScriptedLoadableModuleWidget",
        "ScriptedLoadableModuleLogic", "ScriptedLoadableModuleTest",
    ]  # fmt: skip
    for name in names:
        setattr(base, name, globals()[name])
    base.__all__ = names
    i18n = ModuleType("slicer.i18n")
    i18n.getContext = context_of
    i18n.translate = lambda context, text: text
    i18n.tr = lambda text: text
    testing = ModuleType("slicer.testing")
    return {module.__name__: module for module in (base, i18n, testing)}


CLASSES = {
    name: value for name, value in list(globals().items())
    if name.startswith("qSlicer") and isinstance(value, type) and inspect.isclass(value)
}  # fmt: skip

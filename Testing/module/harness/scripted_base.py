"""`slicer.ScriptedLoadableModule` and `slicer.i18n`: the base classes of scripted modules."""

from __future__ import annotations

import logging
import os
import sys
import unittest
from pathlib import Path
from types import ModuleType
from typing import Any

import slicer

from . import binding


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

"""`slicer.app` and the module manager, as a real QApplication with the names Slicer adds."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

from PySide6.QtCore import (
    Property,
    QObject,
    QProcessEnvironment,
    QSettings,
    QtMsgType,
    Signal,
    qInstallMessageHandler,
)
from PySide6.QtWidgets import QApplication

from .properties import classes_of

VERSION = (5, 13, 0)


class qSlicerCommandOptions(QObject):
    """What was said on the command line: nothing but "testing"."""

    noMainWindow = Property(bool, lambda self: True)


class qSlicerModuleFactoryManager(QObject):
    """Knows which modules are loaded."""

    moduleLoaded = Signal(str)
    moduleUnloaded = Signal(str)
    moduleAboutToBeUnloaded = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.modules: dict[str, QObject] = {}

    def loadedModuleNames(self) -> list[str]:
        return list(self.modules)

    def loadedModule(self, name: str) -> QObject | None:
        return self.modules.get(name)

    def isLoaded(self, name: str) -> bool:
        return name in self.modules


class qSlicerModuleManager(QObject):
    """Finds a module by its name."""

    moduleLoaded = Signal(str)
    moduleAboutToBeUnloaded = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._factory = qSlicerModuleFactoryManager(self)

    def factoryManager(self) -> qSlicerModuleFactoryManager:
        return self._factory

    def module(self, name: str) -> QObject | None:
        return self._factory.modules.get(name)

    def modulesNames(self) -> list[str]:
        return list(self._factory.modules)


class qSlicerApplication(QApplication):
    """The application object of the tests: no main window, no layout manager, testing."""

    startupCompleted = Signal()
    mrmlSceneChanged = Signal(object)
    renderPaused = Signal(bool)

    testing = True
    """What `testingEnabled()` answers; a test may say False for a while."""

    def __init__(self, arguments: list[str]) -> None:
        qInstallMessageHandler(_print_message)
        super().__init__(arguments)
        self.setOrganizationName("slicer.org")
        self.setApplicationName("Slicer")
        self.folder = Path(tempfile.mkdtemp(prefix="mednext-slicer-"))
        self.paused = 0
        self.opened_urls: list[str] = []
        self.boot: Any = None
        self._managers = qSlicerModuleManager(self)
        self._options = qSlicerCommandOptions(self)
        self._settings: QSettings | None = None
        self._temporary = self.folder / "tmp"
        self._temporary.mkdir()
        QSettings.setDefaultFormat(QSettings.Format.IniFormat)
        self.new_settings()

    def new_settings(self) -> None:
        """Empty settings in a file of their own."""
        where = tempfile.mkdtemp(prefix="settings-", dir=self.folder)
        for scope in (QSettings.Scope.UserScope, QSettings.Scope.SystemScope):
            QSettings.setPath(QSettings.Format.IniFormat, scope, where)
        self._settings = None

    def settings(self) -> QSettings:
        if self._settings is None:
            self._settings = QSettings()
        return self._settings

    def userSettings(self) -> QSettings:
        return self.settings()

    def revisionUserSettings(self) -> QSettings:
        return self.settings()

    @staticmethod
    def testingEnabled() -> bool:
        return qSlicerApplication.testing

    def mrmlScene(self) -> Any:
        return self.boot.scene

    def applicationLogic(self) -> Any:
        return self.boot.application_logic

    def moduleLogic(self, name: str) -> Any:
        return self.boot.logics.get(name.lower())

    def moduleManager(self) -> qSlicerModuleManager:
        return self._managers

    def commandOptions(self) -> qSlicerCommandOptions:
        return self._options

    def layoutManager(self) -> None:
        return None  # as without a main window

    def pythonConsole(self) -> None:
        return None

    def startupEnvironment(self) -> QProcessEnvironment:
        return QProcessEnvironment.systemEnvironment()

    def environment(self) -> QProcessEnvironment:
        return QProcessEnvironment.systemEnvironment()

    def pauseRender(self) -> None:
        self.paused += 1

    def resumeRender(self) -> None:
        self.paused -= 1

    def openUrl(self, url: str) -> None:
        self.opened_urls.append(url)

    def currentLogFile(self) -> str:
        return str(self.folder / "Slicer.log")

    def recentLogFiles(self) -> list[str]:
        return [self.currentLogFile()]

    def logUsageEvent(self, component: str, event: str) -> None:
        pass

    temporaryPath = Property(
        str, lambda self: str(self._temporary), lambda self, v: setattr(self, "_temporary", Path(v))
    )
    slicerHome = Property(str, lambda self: str(self.folder / "Slicer"))
    slicerSharePath = Property(str, lambda self: "share/Slicer-5.13")
    slicerUserSettingsFilePath = Property(str, lambda self: self.settings().fileName())
    slicerRevisionUserSettingsFilePath = Property(str, lambda self: self.settings().fileName())
    extensionsInstallPath = Property(str, lambda self: str(self.folder / "Extensions"))
    cachePath = Property(str, lambda self: str(self.folder / "cache"))
    startupWorkingPath = Property(str, lambda self: os.getcwd())
    majorVersion = Property(int, lambda self: VERSION[0])
    minorVersion = Property(int, lambda self: VERSION[1])
    mainApplicationMajorVersion = Property(int, lambda self: VERSION[0])
    mainApplicationMinorVersion = Property(int, lambda self: VERSION[1])
    mainApplicationPatchVersion = Property(int, lambda self: VERSION[2])
    mainApplicationName = Property(str, lambda self: "Slicer")
    mainApplicationDisplayName = Property(str, lambda self: "3D Slicer")
    revision = Property(str, lambda self: "31053")
    repositoryRevision = Property(str, lambda self: "harness")
    mainApplicationRevision = Property(str, lambda self: "31053")
    releaseType = Property(str, lambda self: "Experimental")
    os = Property(str, lambda self: {"Darwin": "macosx"}.get(platform.system(), "linux"))
    arch = Property(str, lambda self: "amd64")
    platform = Property(str, lambda self: "linux-amd64")
    isInstalled = Property(bool, lambda self: True)
    intDir = Property(str, lambda self: ".")


def _print_message(kind: QtMsgType, context: Any, text: str) -> None:
    """Qt's messages on stderr, without what an offscreen window always says."""
    del kind, context
    if "propagateSizeHints" not in text:
        print(text, file=sys.stderr)


CLASSES = classes_of(globals(), "qSlicer")

"""A stand-in for Slicer's application, for tests: real MRML, real Qt, PythonQt's rules.

`start()` makes `import slicer, qt, ctk` work in a plain Python: the scene and its logics are
slicer-core's, widgets are PySide6's behind objects that behave like PythonQt's. Inside real
Slicer it does nothing, so the same tests run there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .application import qSlicerApplication
    from .scene import Boot

_started: Harness | None = None


class Harness:
    """What the stand-in consists of, for fixtures and for the harness's own tests."""

    def __init__(self, application: qSlicerApplication, boot: Boot) -> None:
        self.application = application
        self.boot = boot


def inside_slicer() -> bool:
    """Whether this Python is the one of a real Slicer."""
    return "PythonQt" in sys.modules


def started() -> Harness | None:
    return _started


def start() -> Harness | None:
    """Sets everything up, once; None inside real Slicer."""
    global _started
    if inside_slicer() or _started is not None:
        return _started
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    import slicer

    from . import application, convert, scene, scripted_base, stand_ins

    convert.custom_classes.update(stand_ins.CLASSES)
    from PySide6.QtCore import QCoreApplication

    if QCoreApplication.instance() is not None:
        raise RuntimeError("There is a Qt application already; start the harness first.")
    app = application.qSlicerApplication(["Slicer"])
    boot = scene.Boot()
    app.boot = boot
    _install(slicer, app, boot, scripted_base.make_modules())
    _started = Harness(app, boot)
    return _started


def _install(slicer: Any, app: Any, boot: Any, modules: dict[str, ModuleType]) -> None:
    from . import binding, scripted

    for name in ("qt", "ctk"):
        sys.modules[name] = _BindingModule(name)
    slicer.__getattr__ = _lookup("slicer")
    for full_name, module in modules.items():
        sys.modules[full_name] = module
        setattr(slicer, full_name.split(".")[1], module)
    slicer.app = binding.wrap(app)
    slicer.modules = SimpleNamespace()
    for name, logic in boot.logics.items():
        if name != "remoteio":
            module = scripted.qSlicerLoadableModule(name.capitalize(), logic)
            setattr(slicer.modules, name, binding.wrap(module))
    from . import sample_data

    sys.modules["SampleData"] = sample_data.make_module()


def _lookup(module: str) -> Any:
    from . import api, binding

    def lookup(name: str) -> Any:
        if not name.startswith("_") and api.known(name):
            members = api.members(name)
            if members.module == module or (module == "slicer" and name.startswith("qSlicer")):
                return binding.make_class(name)
        raise AttributeError(
            f"module '{module}' has no attribute '{name}' (or it is not in the harness's extract)"
        )

    return lookup


class _BindingModule(ModuleType):
    """`qt` or `ctk`: classes appear when they are asked for."""

    def __getattr__(self, name: str) -> Any:
        found = _lookup(self.__name__)(name)
        setattr(self, name, found)
        return found


def load_module(file: Path) -> Any:
    """Loads a scripted module as Slicer does at start; `slicer.util.getModuleWidget` finds it."""
    import slicer

    from . import binding, scripted

    harness = start()
    if harness is None:
        return None
    module = scripted.qSlicerScriptedLoadableModule()
    instance = module.load(file)
    harness.application.moduleManager().factoryManager().modules[file.stem] = module
    setattr(slicer.modules, file.stem.lower(), binding.wrap(module))
    setattr(slicer.modules, f"{file.stem}Instance", instance)
    return instance


def unload_module(name: str) -> None:
    """What quitting does: cleanup of the panel, then everything of the module goes."""
    import slicer

    harness = start()
    if harness is None:
        return
    module = harness.application.moduleManager().factoryManager().modules.pop(name, None)
    if module is None:
        return
    module.drop_widget()
    for attribute in (name.lower(), f"{name}Instance", f"{name}Widget"):
        if hasattr(slicer.modules, attribute):
            delattr(slicer.modules, attribute)
    sys.modules.pop(name, None)

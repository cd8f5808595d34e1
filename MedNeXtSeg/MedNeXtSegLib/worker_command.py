"""How the worker is started in Slicer: Slicer's own Python runs the engine's script."""

from __future__ import annotations

import os
import shutil
import sys

from .engine_location import models_folder, trainings_folder, worker_script
from .process import Command


def worker_command() -> Command:
    """PythonSlicer with the absolute path of the worker's script and Slicer's clean environment.

    `--parent` lets the worker end when Slicer is gone, however it went.
    """
    program = shutil.which("PythonSlicer") or sys.executable
    environment = {
        **startup_environment(),
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
        "MEDNEXT_MODELS": str(models_folder()),
        "MEDNEXT_RUNS": str(trainings_folder()),
    }
    arguments = [str(worker_script()), "--parent", str(os.getpid())]
    return Command(program, arguments, environment)


def startup_environment() -> dict[str, str]:
    """The environment Slicer itself was started with; this process's own outside of Slicer."""
    import slicer

    if hasattr(getattr(slicer, "app", None), "startupEnvironment"):
        return dict(slicer.util.startupEnvironment())
    return dict(os.environ)

"""The CMake lists: nothing forgotten, CMake accepts them, and what is installed works."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tools import list_files

ROOT = Path(__file__).resolve().parents[2]
STUBS = Path(__file__).parent / "cmake"
SCRIPTED = Path("lib") / "Slicer-5.13" / "qt-scripted-modules"

needs_git = pytest.mark.skipif(
    not (ROOT / ".git").exists() or shutil.which("git") is None, reason="not a clone"
)
needs_cmake = pytest.mark.skipif(shutil.which("cmake") is None, reason="CMake is not installed")


@needs_git
@pytest.mark.parametrize("one", list_files.LISTS, ids=lambda one: one.variable)
def test_the_list_is_what_git_tracks(one: list_files.FileList) -> None:
    listed, wanted = list_files.listed_files(one), list_files.wanted_files(one)
    assert listed == wanted, "run: python Testing/module/tools/list_files.py --write"


@needs_git
def test_every_file_of_the_shipped_folders_is_in_some_list() -> None:
    shipped = ("MedNeXtSeg/", "Training/mednext_engine/", "Resources/Models/", "Resources/Catalog/")
    for path in list_files.tracked_files():
        if path.startswith(shipped) and not path.endswith(("CMakeLists.txt", "ruff.toml")):
            assert any(one.wants(path) for one in list_files.LISTS), f"{path} would not be shipped"


def test_no_python_file_but_the_module_lies_beside_it() -> None:
    """Slicer loads every .py directly in the folder of scripted modules as a module."""
    top = [
        path
        for one in list_files.LISTS
        for path in list_files.listed_files(one)
        if path.endswith(".py") and "/" not in path
    ]
    assert top in ([], ["MedNeXtSeg.py"])


def test_no_package_has_a_name_that_other_extensions_use() -> None:
    folders = {
        path.split("/")[0]
        for one in list_files.LISTS
        if one.python is not None
        for path in list_files.listed_files(one)
        if "/" in path
    }
    assert folders <= {"MedNeXtSegLib", "mednext_engine", "Resources"}


def test_a_list_is_rewritten_from_what_git_tracks(tmp_path: Path) -> None:
    (tmp_path / "Resources" / "Catalog").mkdir(parents=True)
    (tmp_path / "Resources" / "Catalog" / "b.json").write_text("{}")
    (tmp_path / "Resources" / "Catalog" / "not tracked.json").write_text("{}")
    (tmp_path / "Resources" / "Other.txt").write_text("")
    lists = tmp_path / "Resources" / "CMakeLists.txt"
    lists.write_text("set(EXTENSION_RESOURCES\n  Catalog/gone.json\n  )\nkept()\n")
    git = {"cwd": tmp_path, "check": True, "capture_output": True}
    subprocess.run(["git", "init", "-q"], **git)
    subprocess.run(["git", "add", "Resources/Catalog/b.json", "Resources/Other.txt"], **git)
    list_files.write(list_files.LISTS[-1], tmp_path)
    assert lists.read_text() == "set(EXTENSION_RESOURCES\n  Catalog/b.json\n  )\nkept()\n"


@pytest.fixture(scope="session")
def an_installed_extension(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder qt-scripted-modules of the extension, installed by CMake with stub macros."""
    if shutil.which("cmake") is None:
        pytest.skip("CMake is not installed")
    build = tmp_path_factory.mktemp("cmake") / "build"
    prefix = build.parent / "MedNeXtSeg"
    configured = run(["cmake", "-S", str(ROOT), "-B", str(build), f"-DSlicer_DIR={STUBS}"])
    assert configured.returncode == 0, configured.stdout
    for line in ("module MedNeXtSeg", "module MedNeXtEngine", "extension MedNeXtSeg", "package"):
        assert f"stub: {line}" in configured.stdout
    installed = run(["cmake", "--install", str(build), "--prefix", str(prefix)])
    assert installed.returncode == 0, installed.stdout
    shutil.rmtree(build)
    return prefix / SCRIPTED


def run(command: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, **more
    )


@needs_cmake
def test_cmake_refuses_a_file_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16.3...3.28)\nproject(X NONE)\n"
        "find_package(Slicer REQUIRED)\ninclude(${Slicer_USE_FILE})\n"
        "slicerMacroBuildScriptedModule(NAME X SCRIPTS X.py)\n"
    )
    result = run(["cmake", "-S", str(tmp_path), "-B", str(tmp_path / "b"), f"-DSlicer_DIR={STUBS}"])
    assert result.returncode != 0
    assert "there is no file 'X.py'" in result.stdout


def test_everything_listed_is_installed(an_installed_extension: Path) -> None:
    for one in list_files.LISTS:
        below = Path("Resources/MedNeXtSeg") if one.variable == "EXTENSION_RESOURCES" else Path()
        for path in list_files.listed_files(one):
            source = ROOT / Path(one.cmake).parent / path
            target = an_installed_extension / below / path
            assert target.read_bytes() == source.read_bytes(), path


def test_nothing_else_is_installed(an_installed_extension: Path) -> None:
    files = [path for path in an_installed_extension.rglob("*") if path.is_file()]
    assert len(files) == sum(len(list_files.listed_files(one)) for one in list_files.LISTS)


def test_the_installed_engine_finds_what_ships_with_it(an_installed_extension: Path) -> None:
    script = (
        "import json, mednext_engine\n"
        "from mednext_engine.models.resources import resource_path\n"
        "print(json.dumps([mednext_engine.__file__,\n"
        "    *[str(resource_path(name)) for name in ('Catalog', 'SampleData')]]))"
    )
    result = run([sys.executable, "-c", script], env=clean_environment(an_installed_extension))
    assert result.returncode == 0, result.stdout
    for path in json.loads(result.stdout):
        assert Path(path).is_relative_to(an_installed_extension)


def test_the_installed_worker_answers(an_installed_extension: Path, tmp_path: Path) -> None:
    """As Slicer starts it: the script by its path, no engine on the path."""
    script = an_installed_extension / "mednext_engine" / "jobs" / "worker.py"
    environment = {**clean_environment(None), "XDG_STATE_HOME": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as worker:
        assert json.loads(worker.stdout.readline())["type"] == "ready"
        models = answer(worker, "models")
        assert models["type"] == answer(worker, "doctor")["type"] == "result"
        shipped = {
            path.parent.name for path in (ROOT / "Resources" / "Models").glob("*/plans.json")
        }
        assert {f'"id": "{name}"' in json.dumps(models) for name in shipped} <= {True}
        worker.stdin.close()  # Slicer is gone
        assert worker.wait(timeout=30) == 0


def answer(worker: subprocess.Popen[str], request: str) -> dict[str, Any]:
    """The worker's last word on one request."""
    worker.stdin.write(json.dumps({"v": 1, "type": request, "job": request}) + "\n")
    worker.stdin.flush()
    for line in worker.stdout:
        reply = json.loads(line)
        if reply["job"] == request and reply["type"] != "progress":
            return reply
    raise AssertionError("The worker has gone.")


def clean_environment(path: Path | None) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MEDNEXT_")}
    kept["PYTHONPATH"] = "" if path is None else str(path)
    kept["MEDNEXT_MODELS"] = os.devnull + "-models"
    return kept


@pytest.fixture
def an_installed_face(an_installed_extension: Path) -> Callable[[str], str]:
    """Runs Python with the installed folder on its path, as Slicer has it, and returns stdout."""

    def run_python(script: str) -> str:
        result = run([sys.executable, "-c", script], env=clean_environment(an_installed_extension))
        assert result.returncode == 0, result.stdout
        return result.stdout.strip()

    return run_python


def test_the_installed_face_finds_engine_and_resources(
    an_installed_face: Callable[[str], str], an_installed_extension: Path
) -> None:
    script = (
        "from MedNeXtSegLib import engine_location as where\n"
        "print(where.engine_root()); print(where.resources_folder())"
    )
    engine, resources = an_installed_face(script).splitlines()
    assert Path(engine) == an_installed_extension
    wanted = an_installed_extension / "Resources" / "MedNeXtSeg"
    assert Path(resources) == wanted, "engine_location.resources_folder must look there, too"

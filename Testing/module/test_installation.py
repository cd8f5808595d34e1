"""Nothing is installed without asking; what is missing is said, and how to get it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import slicer
from panel_fixtures import *  # noqa: F403 - fixtures
from panel_fixtures import ROOT, a_head, until

from MedNeXtSegLib import installation  # isort: skip
from MedNeXtSegLib.errors import UserError  # isort: skip

PACKAGE = {"version": "", "required": True, "problem": "It is not installed."}
DOCTOR = {
    "packages": [
        {**PACKAGE, "name": "torch", "hint": 'pip install "torch>=2.6,!=2.9.*,<2.14"'},
        {**PACKAGE, "name": "psutil", "hint": 'pip install "psutil>=5.9,<8"'},
        {**PACKAGE, "name": "openvino", "required": False, "hint": 'pip install "openvino>=2025"'},
        {"name": "numpy", "version": "2.0", "required": True, "problem": ""},
    ]
}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would have been installed, instead of installing it."""
    done: list[Any] = []

    class Logic:
        def installTorch(self, **keywords: Any) -> object:
            done.append(("torch", keywords["torchVersionRequirement"]))
            return object()

    module = ModuleType("PyTorchUtils")
    module.PyTorchUtilsLogic = Logic  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "PyTorchUtils", module)
    monkeypatch.setattr(installation, "_pip_install", lambda names: done.append(("pip", names)))
    return done


def test_what_is_missing_is_read_from_the_report() -> None:
    what = installation.missing(DOCTOR)
    assert what.torch == "torch>=2.6,!=2.9.*,<2.14"
    assert what.packages == ("psutil>=5.9,<8",)
    assert what.accelerator == "openvino>=2025"
    assert what.anything
    assert not installation.missing({"packages": [DOCTOR["packages"][2]]}).anything
    text = installation.question(what)
    assert "psutil" in text
    assert "torch" in text


def test_a_package_of_slicer_is_never_replaced() -> None:
    old = {**PACKAGE, "name": "SimpleITK", "problem": "SimpleITK 1.0 is installed.", "hint": ""}
    what = installation.missing({"packages": [old]})
    assert what.packages == ()
    with pytest.raises(UserError, match=r"SimpleITK 1\.0"):
        installation.install(what, False, lambda sentence: None)


def test_torch_comes_through_the_extension(installed: list[Any]) -> None:
    said: list[str] = []
    installation.install(installation.missing(DOCTOR), True, said.append)
    assert installed == [
        ("torch", ">=2.6,!=2.9.*,<2.14"),
        ("pip", ["psutil>=5.9,<8", "openvino>=2025"]),
    ]
    assert said[0] == "Installing PyTorch…"


def test_without_the_pytorch_extension_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    with pytest.raises(UserError, match="PyTorch extension, which is missing") as raised:
        installation.install(installation.missing(DOCTOR), False, lambda sentence: None)
    assert "Extensions Manager" in raised.value.hint


def test_offline_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(names: Any, **keywords: Any) -> None:
        raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(slicer.util, "pip_install", refuse)
    monkeypatch.setitem(sys.modules, "slicer.packaging", SimpleNamespace(pip_install=refuse))
    with pytest.raises(UserError, match="could not be installed") as raised:
        installation._pip_install(["psutil"])
    assert "internet" in raised.value.hint


def test_openvino_is_offered_where_no_gpu_is(monkeypatch: pytest.MonkeyPatch) -> None:
    what = installation.missing(DOCTOR)
    monkeypatch.setattr(installation.shutil, "which", lambda name: None)
    monkeypatch.setattr(installation.sys, "platform", "linux")
    assert "OpenVINO" in installation.accelerator_offer(what)
    monkeypatch.setattr(installation.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    assert installation.accelerator_offer(what) == ""


def test_the_panel_asks_once_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, installed: list[Any]
) -> None:
    monkeypatch.setenv("PRETEND_MISSING", "torch,psutil,openvino")
    live = request.getfixturevalue("a_live_panel")
    ui = live.ui
    monkeypatch.setattr(sys.modules["MedNeXtSegLib.installation"], "_pip_install",
                        lambda names: installed.append(("pip", names)))  # fmt: skip
    request.getfixturevalue("a_volume")("Head", a_head(), np.eye(4))
    until(lambda: ui.runButton.enabled and not ui.installButton.isHidden())
    asked: list[str] = []

    def answer(agreed: bool) -> Any:
        def confirm(question: str, extra: str) -> tuple[bool, bool]:
            asked.append(question)
            return agreed, False

        return SimpleNamespace(confirm_installation=confirm)

    live.panel.install.dialogs = answer(False)
    ui.runButton.click()
    assert "Nothing was installed" in ui.statusLabel.text
    assert installed == []
    live.panel.install.dialogs = answer(True)
    monkeypatch.setenv("PRETEND_MISSING", "")
    ui.runButton.click()
    until(lambda: ui.runButton.text == "&Segment")
    assert len(asked) == 2
    assert ("torch", ">=1,<9") in installed
    assert ui.statusLabel.text.startswith("Done in ")
    assert ui.installButton.isHidden()


def test_models_lie_where_the_engine_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    platformdirs = pytest.importorskip("platformdirs")
    from MedNeXtSegLib.engine_location import models_folder, trainings_folder

    monkeypatch.delenv("MEDNEXT_MODELS", raising=False)
    monkeypatch.delenv("MEDNEXT_RUNS", raising=False)
    wanted = platformdirs.user_data_path("MedNeXtSeg", appauthor=False)
    assert models_folder() == wanted / "models"
    assert trainings_folder() == wanted / "finetuning"
    monkeypatch.setenv("MEDNEXT_MODELS", "/somewhere/models")
    assert models_folder() == Path("/somewhere/models")


def test_nothing_imports_torch_or_pip_at_file_scope() -> None:
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]; import MedNeXtSegLib; "
        "import mednext_engine.jobs.protocol; "
        "assert not {'torch', 'pip', 'numpy', 'SimpleITK'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(ROOT / "MedNeXtSeg")], check=True)
    for file in [*(ROOT / "MedNeXtSeg").rglob("*.py")]:
        text = Path(file).read_text(encoding="utf-8")
        assert "import torch" not in text, file
        for line in text.splitlines():
            if line.lstrip().startswith(("import mednext", "from mednext")):
                assert line.strip() == "from mednext_engine.jobs import protocol as p", file

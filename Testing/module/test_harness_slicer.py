"""The harness's Slicer: scene, scripted modules, settings, dialogs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer

harness = pytest.importorskip("harness")
if harness.inside_slicer():
    pytest.skip("the harness stands for Slicer, which is here itself", allow_module_level=True)

import qt  # noqa: E402
from harness import api, signals  # noqa: E402

SCRIPT = """
import slicer
from slicer.ScriptedLoadableModule import *
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

class Pretend(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Pretend {what}").format(what="module")
        self.parent.categories = ["Segmentation"]

class PretendWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.story = []
    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = PretendLogic()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onClose)
        self.story.append("setup")
    def onClose(self, caller, event):
        self.story.append("close")
    def enter(self):
        self.story.append("enter")
    def exit(self):
        self.story.append("exit")
    def cleanup(self):
        self.removeObservers()
        self.story.append("cleanup")

class PretendLogic(ScriptedLoadableModuleLogic):
    pass
"""


@pytest.fixture
def a_pretended_module(tmp_path: Path, a_scene: Any) -> Any:
    file = tmp_path / "Pretend.py"
    file.write_text(SCRIPT)
    yield harness.load_module(file)
    harness.unload_module("Pretend")
    sys.path.remove(str(tmp_path))


class TestScriptedModule:
    def test_has_the_data_it_gives_itself(self, a_pretended_module: Any) -> None:
        module = slicer.modules.pretend
        assert (module.title, module.categories) == ("Pretend module", ("Segmentation",))
        assert module.path.endswith("Pretend.py")
        assert slicer.modules.PretendInstance is a_pretended_module
        with pytest.raises(AttributeError):
            a_pretended_module.parent.nosuch = 1

    def test_lives_through_enter_close_exit_and_reload(self, a_pretended_module: Any) -> None:
        widget = slicer.util.getModuleWidget("Pretend")
        frame = slicer.modules.pretend.widgetRepresentation()
        assert widget.parent is frame
        frame.enter()
        assert frame.isEntered
        slicer.mrmlScene.Clear(0)
        frame.exit()
        slicer.util.reloadScriptedModule("Pretend")
        assert widget.story == ["setup", "enter", "close", "exit", "cleanup"]
        again = slicer.util.getModuleWidget("Pretend")
        assert (again.story, again is widget) == (["setup"], False)

    def test_leaves_nothing_when_it_is_unloaded(self, a_pretended_module: Any) -> None:
        widget = slicer.util.getModuleWidget("Pretend")
        frame = widget.parent
        manager = slicer.app.moduleManager().__dict__["_qt"]
        harness.unload_module("Pretend")
        assert widget.story[-1] == "cleanup"
        assert not frame
        assert not hasattr(slicer.modules, "pretend")
        with pytest.raises(RuntimeError, match="Could not find module"):
            slicer.util.getModule("Pretend")
        assert signals.connection_count(manager) >= 0

    def test_logic_has_one_parameter_node(self, a_pretended_module: Any) -> None:
        logic = slicer.util.getModuleLogic("Pretend")
        node = logic.getParameterNode()
        assert node.GetClassName() == "vtkMRMLScriptedModuleNode"
        assert logic.getParameterNode() is node
        assert logic.getAllParameterNodes() == [node]
        assert node.GetAttribute("ModuleName") == "Pretend"


class TestScene:
    def test_is_slicers_own(self, a_segmentation_node: Any, a_volume_node: Any) -> None:
        """Segments can be added and read back: that needs the real logics."""
        a_segmentation_node.SetReferenceImageGeometryParameterFromVolumeNode(a_volume_node)
        array = np.zeros((6, 5, 4), np.uint8)
        array[2:4, 1:3, 1:2] = 1
        identifier = a_segmentation_node.GetSegmentation().AddEmptySegment()
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            array, a_segmentation_node, identifier, a_volume_node
        )
        back = slicer.util.arrayFromSegmentBinaryLabelmap(
            a_segmentation_node, identifier, a_volume_node
        )
        np.testing.assert_array_equal(back, array)

    def test_files_new_nodes_in_the_hierarchy(self, a_volume_node: Any) -> None:
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        assert hierarchy.GetItemByDataNode(a_volume_node) != 0

    def test_is_empty_at_each_test(self, a_scene: Any) -> None:
        assert slicer.util.getNodesByClass("vtkMRMLVolumeNode") == []
        assert slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode") == []

    def test_has_modules_with_real_logics(self) -> None:
        logic = slicer.modules.segmentations.logic()
        assert logic.IsA("vtkSlicerSegmentationsModuleLogic")
        with pytest.raises(AttributeError):
            _ = slicer.modules.nosuch


class TestApplication:
    def test_has_only_slicers_names(self) -> None:
        offered = set(api.extract()["slicer.app"]["attributes"])
        for name in ("testingEnabled", "pauseRender", "layoutManager", "temporaryPath"):
            assert name in offered
            assert hasattr(slicer.app, name)
        assert not hasattr(slicer.app, "nosuch")

    def test_runs_without_a_window(self) -> None:
        assert slicer.util.mainWindow() is None
        assert slicer.app.layoutManager() is None
        slicer.util.infoDisplay("nobody sees this")

    def test_gives_a_clean_environment_and_folders(self) -> None:
        assert "PATH" in slicer.util.startupEnvironment()
        assert Path(slicer.util.tempDirectory()).is_dir()

    def test_settings_start_empty(self, new_settings: None) -> None:
        assert slicer.app.userSettings().allKeys() == ()

    def test_registers_sample_data(self) -> None:
        import SampleData

        try:
            SampleData.SampleDataLogic.registerCustomSampleDataSource(
                category="Pretend", sampleName="head", uris="https://x", fileNames="h.nii.gz"
            )
            assert slicer.modules.sampleDataSources["Pretend"][0].sampleName == "head"
        finally:
            slicer.modules.sampleDataSources.pop("Pretend", None)


class TestDialogs:
    def test_are_skipped_in_testing_mode(self, answers: Any) -> None:
        """What Slicer 5.13 answers then is False, against its own description."""
        assert slicer.util.confirmYesNoDisplay("Sure?") is False
        assert answers.seen == []

    def test_are_answered_by_the_test(self, asking: None, answers: Any) -> None:
        answers += ["No", "Yes"]
        assert slicer.util.confirmYesNoDisplay("Sure?") is False
        assert slicer.util.confirmYesNoDisplay("Really?") is True
        assert answers.seen == ["Sure?", "Really?"]

    def test_nobody_answers_are_closed(self, asking: None, answers: Any) -> None:
        assert qt.QMessageBox.question(None, "Title", "Really?") != qt.QMessageBox.Yes
        assert answers.seen == ["Really?"]

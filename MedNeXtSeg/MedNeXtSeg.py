# ruff: noqa: PT009 - Slicer runs the self-test with unittest
"""MedNeXt Segmentation: the module's metadata, its panel and its logic for scripts.

from MedNeXtSeg import MedNeXtSegLogic
segmentation = MedNeXtSegLogic().segment(slicer.util.getNode("Colin27_T1"))
"""

from __future__ import annotations

import importlib
import sys

import qt
import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class MedNeXtSeg(ScriptedLoadableModule):
    """What Slicer shows of the module before its panel is opened."""

    def __init__(self, parent):
        super().__init__(parent)
        parent.title = _("MedNeXt Segmentation")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = []
        parent.contributors = ["MedNeXtSeg contributors"]
        parent.helpText = (
            _(
                "Segments structures in CT, MR and other volumes with MedNeXt and other nnU-Net v2 "
                "models. Pick a model and a volume and click Segment. Images stay on this computer."
            )
            + self.getDefaultModuleDocumentationLink()
        )
        parent.acknowledgementText = _(
            "MedNeXt: Roy et al., MICCAI 2023. nnU-Net: Isensee et al., Nature Methods 2021."
        )
        slicer.app.connect("startupCompleted()", self._register_sample_data)

    def _register_sample_data(self):
        from MedNeXtSegLib import sample_data

        sample_data.register(self.resourcePath("Icons"))


class MedNeXtSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Wires the panel to the scene's life."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.panel = None
        self.finetune = None
        self.quitGuard = None

    def setup(self):
        from MedNeXtSegLib.dialogs import Dialogs
        from MedNeXtSegLib.finetune_panel import FinetunePanel
        from MedNeXtSegLib.quit_guard import QuitGuard
        from MedNeXtSegLib.segment_panel import SegmentPanel

        super().setup()
        root = slicer.util.loadUI(self.resourcePath("UI/MedNeXtSeg.ui"))
        self.layout.addWidget(root)
        self.ui = slicer.util.childWidgetVariables(root)
        root.setMRMLScene(slicer.mrmlScene)
        self.logic = MedNeXtSegLogic()
        self.panel = SegmentPanel(self.ui, self.logic.runs, Dialogs(root))
        tab = slicer.util.loadUI(self.resourcePath("UI/MedNeXtSegFineTune.ui"))
        self.ui.tabs.addTab(tab, _("Fine-tune"))
        self.fineTuneUi = slicer.util.childWidgetVariables(tab)
        tab.setMRMLScene(slicer.mrmlScene)
        self.finetune = FinetunePanel(
            self.fineTuneUi, self.logic.trainings, self.panel, Dialogs(root)
        )
        window = slicer.util.mainWindow()
        if window:
            self.quitGuard = QuitGuard(window, self.finetune.may_quit)
            self.finetune.on_training = self.quitGuard.watch
        scene = slicer.vtkMRMLScene
        self.addObserver(slicer.mrmlScene, scene.StartCloseEvent, self._scene_closes)
        self.addObserver(slicer.mrmlScene, scene.StartImportEvent, self._scene_loads)
        for event in (scene.EndCloseEvent, scene.EndImportEvent):
            self.addObserver(slicer.mrmlScene, event, self._scene_changed)
        self._show_settings()  # after a reload: Slicer enters a panel only when it is opened

    def enter(self):
        from MedNeXtSegLib.settings import SceneSettings

        settings = SceneSettings(self.logic.getParameterNode())
        self.panel.enter(settings)
        self.finetune.enter(settings)

    def cleanup(self):
        """At reload and when Slicer quits: no process, file or observer of ours is left."""
        from MedNeXtSegLib.session import stop_shared_client

        self.removeObservers()
        if self.quitGuard is not None:
            self.quitGuard.watch(False)
        for panel in (self.finetune, self.panel):
            if panel is not None:
                panel.close()
        stop_shared_client()

    def onReload(self):
        """Reloads the parts too; Slicer itself reloads this file only."""
        self.cleanup()
        self.panel = self.finetune = self.quitGuard = None
        # The package itself too: its attributes are the old parts, which `from . import` finds.
        for name in [name for name in sys.modules if name.split(".")[0] == "MedNeXtSegLib"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        super().onReload()

    def _scene_closes(self, caller, event):
        self.panel.leave()
        self.finetune.leave()

    def _scene_loads(self, caller, event):
        self.panel.pause()
        self.finetune.pause()

    def _scene_changed(self, caller, event):
        # The selectors learn of the scene's nodes by the same event; they come first.
        qt.QTimer.singleShot(0, self.panel.guard(self._show_settings))

    def _show_settings(self):
        if getattr(self.parent, "isEntered", False):
            self.enter()


class MedNeXtSegLogic(ScriptedLoadableModuleLogic):
    """Segmentation for scripts and notebooks; the panel uses it too."""

    def __init__(self):
        from MedNeXtSegLib.finetune_job import TrainingContext
        from MedNeXtSegLib.finetune_logic import FinetuneLogic
        from MedNeXtSegLib.segment_job import Context
        from MedNeXtSegLib.segment_logic import SegmentLogic
        from MedNeXtSegLib.session import shared_client, training_client

        super().__init__()
        logic = slicer.modules.segmentations.logic()
        folder = slicer.app.temporaryPath
        self.runs = SegmentLogic(Context(shared_client(), slicer.mrmlScene, logic, folder))
        training = TrainingContext(training_client(), slicer.mrmlScene, qt.QTimer.singleShot)
        self.trainings = FinetuneLogic(training, shared_client())

    def models(self):
        """The installed models, as dictionaries with "id", "title", "channels", "labels"…"""
        return self.runs.models()

    def segment(
        self,
        volumeNode,
        model=None,
        segmentation=None,
        roi=None,
        quality="balanced",
        device="auto",
        uncertainty=False,
        show3D=False,
        allTimePoints=False,
        wait=True,
        onProgress=None,
        onFinished=None,
    ):
        """Segments one volume, or one volume a channel in a list.

            logic = MedNeXtSegLogic()
            segmentation = logic.segment(getNode("Colin27_T1"))       # waits
            job = logic.segment(getNode("Colin27_T1"), wait=False)    # returns at once
            job.cancel()

        Args:
            volumeNode: a scalar volume node, or a list with one for each channel of the model.
            model: the id of an installed model; by default the one that ships.
            segmentation: an existing segmentation node to merge into by name; None makes a new one.
            roi: a markups ROI node to restrict the run to.
            quality: "fast", "balanced" or "best".
            device: "auto", "cpu", "cuda", "cuda:1", "mps"…
            uncertainty: also add a volume with the uncertainty of each voxel, 0 to 1.
            show3D: show the result in the 3D views.
            allTimePoints: segment every time point of the volume's sequence.
            wait: wait for the end (Slicer stays alive) or return the running job.
            onProgress: called with messages that have `stage`, `fraction` and `seconds_left`.
            onFinished: called with the outcome: `state` ("done", "failed", "cancelled"),
                `segmentation`, `message`, `seconds`.

        Returns:
            The segmentation node; without waiting the job (`cancel()`, `over`, `outcome`).

        Raises:
            MedNeXtSegLib.errors.UserError: the reason in words; CancelledError when cancelled.
        """
        from MedNeXtSegLib.parameter import SegmentParameter
        from MedNeXtSegLib.segment_logic import as_volumes

        parameter = SegmentParameter(
            model=self.runs.find_model(model),
            volumes=as_volumes(volumeNode),
            segmentation=segmentation,
            roi=roi,
            quality=quality,
            device=device,
            uncertainty=uncertainty,
            show_3d=show3D,
            time_points=allTimePoints,
        )
        callbacks = {
            "on_progress": onProgress or (lambda progress: None),
            "on_end": onFinished or (lambda outcome: None),
        }
        run = self.runs.segment if wait else self.runs.start
        return run(parameter, **callbacks)

    def undo(self):
        """Takes the last result back; the scene is as it was before the run."""
        self.runs.undo()


class MedNeXtSegTest(ScriptedLoadableModuleTest):
    """The main path inside Slicer: from the sample volume to named segments."""

    def setUp(self):
        slicer.mrmlScene.Clear(0)

    def runTest(self):
        self.setUp()
        self.test_segment_sample()

    def test_segment_sample(self):
        from MedNeXtSegLib import sample_data

        self.delayDisplay(_("Segmenting the sample volume"))
        volume = sample_data.load_sample(slicer.mrmlScene)
        before = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
        logic = MedNeXtSegLogic()
        node = logic.segment(volume, quality="fast")
        segmentation = node.GetSegmentation()
        self.assertGreater(segmentation.GetNumberOfSegments(), 0)
        names = {label["name"] for label in logic.runs.job.parameter.model["labels"]}
        for index in range(segmentation.GetNumberOfSegments()):
            self.assertIn(segmentation.GetNthSegment(index).GetName(), names)
        after = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
        self.assertEqual(after, before)
        logic.undo()
        self.assertIsNone(slicer.mrmlScene.GetNodeByID(node.GetID() or ""))
        self.delayDisplay(_("Test passed"))

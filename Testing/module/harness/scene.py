"""The real MRML scene of slicer-core, with the logics Slicer's application would set up."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import slicer
from vtkmodules.vtkCommonCore import vtkObject

LOGICS = {
    "segmentations": "vtkSlicerSegmentationsModuleLogic",
    "volumes": "vtkSlicerVolumesLogic",
    "markups": "vtkSlicerMarkupsLogic",
    "models": "vtkSlicerModelsLogic",
    "tables": "vtkSlicerTablesLogic",
    "texts": "vtkSlicerTextsLogic",
    "plots": "vtkSlicerPlotsLogic",
    "sequences": "vtkSlicerSequencesLogic",
    "transforms": "vtkSlicerTransformLogic",
    "terminologies": "vtkSlicerTerminologiesModuleLogic",
    "subjecthierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "units": "vtkSlicerUnitsLogic",
    "cropvolume": "vtkSlicerCropVolumeLogic",
}
"""Modules that Slicer has at start, each with the class of its logic."""

_IN_HIERARCHY = (
    "vtkMRMLVolumeNode", "vtkMRMLSegmentationNode", "vtkMRMLModelNode", "vtkMRMLMarkupsNode",
    "vtkMRMLTransformNode", "vtkMRMLTableNode", "vtkMRMLTextNode", "vtkMRMLPlotChartNode",
    "vtkMRMLPlotSeriesNode", "vtkMRMLSequenceBrowserNode", "vtkMRMLSequenceNode",
)  # fmt: skip


class Boot:
    """Scene and logics of one test process."""

    def __init__(self) -> None:
        self.scene = slicer.vtkMRMLScene()
        self.application_logic = slicer.vtkSlicerApplicationLogic()
        self.logics: dict[str, Any] = {}
        self.subject_hierarchy_follows = True
        self._cache = tempfile.TemporaryDirectory(prefix="mednext-harness-")
        self._start()

    def _start(self) -> None:
        scene, application = self.scene, self.application_logic
        slicer.mrmlScene = scene
        application.SetMRMLScene(scene)
        application.SetTemporaryPath(self._cache.name)
        colors = slicer.vtkMRMLColorLogic()
        colors.SetMRMLScene(scene)
        application.SetColorLogic(colors)
        self.logics["colors"] = colors
        vtkObject.GlobalWarningDisplayOff()  # slicer-core ships no terminology files and says so
        for name, class_name in LOGICS.items():
            logic = getattr(slicer, class_name)()
            logic.SetMRMLApplicationLogic(application)
            logic.SetMRMLScene(scene)
            application.SetModuleLogic(name.capitalize(), logic)
            self.logics[name] = logic
        vtkObject.GlobalWarningDisplayOn()
        remote = slicer.vtkMRMLRemoteIOLogic()
        remote.SetMRMLScene(scene)
        remote.AddDataIOToScene()
        folder = Path(self._cache.name) / "RemoteIO"
        folder.mkdir()
        scene.GetCacheManager().SetRemoteCacheDirectory(str(folder))
        self.logics["remoteio"] = remote
        scene.AddObserver(slicer.vtkMRMLScene.NodeAddedEvent, self._node_added)
        self.clear()

    def _node_added(self, caller: Any, event: str) -> None:
        """Files new nodes in the subject hierarchy, as Slicer's plugins do (all at once)."""
        if not self.subject_hierarchy_follows or caller.IsClosing():
            return
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(caller)
        for kind in _IN_HIERARCHY:
            for node in slicer.util.getNodesByClass(kind, caller):
                if not node.GetHideFromEditors() and not hierarchy.GetItemByDataNode(node):
                    hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)

    def clear(self) -> None:
        """An empty scene; what survives closing in Slicer (singletons) goes, too."""
        self.subject_hierarchy_follows = True
        self.scene.Clear(0)
        for node in slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode", self.scene):
            self.scene.RemoveNode(node)
        slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self.scene)

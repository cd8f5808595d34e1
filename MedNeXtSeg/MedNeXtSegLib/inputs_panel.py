"""One volume selector a channel, the region of interest and the output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from .channel_matching import match_channels
from .guard import Guard
from .placing import MODEL_ATTRIBUTE
from .sequences import browser_of
from .settings import SceneSettings
from .volume_selector import labelled_selector


class InputsPanel:
    """The section "Volumes". `on_changed` is called when something of it changes."""

    def __init__(self, ui: Any, guard: Guard) -> None:
        self._ui, self._guard = ui, guard
        self._channels: list[str] = []
        self._rows: list[tuple[Any, Any]] = []  # label, selector
        self._has_sequence = False
        self._filling = False
        self.enabled = True
        self.on_changed: Callable[[], None] = lambda: None
        for selector in (ui.roiSelector, ui.segmentationSelector):
            guard.connect(selector, "currentNodeChanged(vtkMRMLNode*)", self._changed)
        guard.connect(ui.timePointsCheck, "toggled(bool)", self._changed)
        guard.observe(slicer.mrmlScene, slicer.vtkMRMLScene.NodeAddedEvent, self._node_added)
        ui.timePointsCheck.visible = False

    def set_channels(self, channels: Sequence[str]) -> None:
        """Makes one row a channel; what was picked for a channel of the same name stays."""
        if list(channels) == self._channels:
            return
        picked = dict(zip(self._channels, self.volumes, strict=True))
        single = len(channels) == len(self._channels) == 1
        kept = self.volumes[:1] if single else []
        for label, selector in self._rows:
            self._guard.forget(selector)
            self._ui.inputForm.removeRow(label)
        self._channels, self._rows = list(channels), []
        for index, name in enumerate(channels):
            label, selector = self._make_row(index, name)
            self._rows.append((label, selector))
            node = picked.get(name) or (kept[0] if kept else None)
            selector.setCurrentNode(node)
            self._guard.connect(selector, "currentNodeChanged(vtkMRMLNode*)", self._changed)
        self.fill_obvious()

    def _make_row(self, index: int, name: str) -> tuple[Any, Any]:
        only = len(self._channels) == 1
        label, selector = labelled_selector(name, only, f"volumeSelector{index}")
        selector.renameEnabled = True
        selector.toolTip = _("The volume for channel {channel} of the model").format(channel=name)
        selector.accessibleName = _("Volume for channel {channel}").format(channel=name)
        self._ui.inputForm.insertRow(index, label, selector)
        return label, selector

    @property
    def volumes(self) -> list[Any]:
        return [selector.currentNode() for _label, selector in self._rows]

    @property
    def roi(self) -> Any:
        return self._ui.roiSelector.currentNode()

    @property
    def segmentation(self) -> Any:
        return self._ui.segmentationSelector.currentNode()

    @property
    def time_points(self) -> bool:
        return bool(self._has_sequence and self._ui.timePointsCheck.checked)

    def fill_obvious(self) -> None:
        """Picks, for channels without a volume, the one that is obviously meant."""
        if not self._rows:
            return
        free = [i for i, volume in enumerate(self.volumes) if volume is None]
        taken = [volume for volume in self.volumes if volume is not None]
        nodes = [node for node in volumes_of_scene() if node not in taken]
        if len(self._channels) > 1 or len(nodes) == 1:
            names = [node.GetName() or "" for node in nodes]
            found = match_channels([self._channels[i] for i in free], names)
            for index, match in zip(free, found, strict=True):
                if match is not None:
                    self._rows[index][1].setCurrentNode(nodes[match])
        self._changed()

    def pick(self, index: int, node: Any) -> None:
        """Picks `node` for a channel."""
        self._rows[index][1].setCurrentNode(node)

    def load(self, settings: SceneSettings) -> None:
        for (_label, selector), node in zip(
            self._rows, settings.channels(len(self._rows)), strict=True
        ):
            if node is not None:
                selector.setCurrentNode(node)
        self._ui.roiSelector.setCurrentNode(settings.reference("ROI"))
        self._ui.segmentationSelector.setCurrentNode(settings.reference("Segmentation"))
        self._ui.timePointsCheck.checked = settings.flag("TimePoints", False)

    def save(self, settings: SceneSettings) -> None:
        settings.set_channels(self.volumes)
        settings.set_reference("ROI", self.roi)
        settings.set_reference("Segmentation", self.segmentation)
        settings.set_flag("TimePoints", bool(self._ui.timePointsCheck.checked))

    def set_enabled(self, enabled: bool) -> None:
        self.enabled = enabled
        for _label, selector in self._rows:
            selector.enabled = enabled
        for widget in (
            self._ui.roiSelector,
            self._ui.segmentationSelector,
            self._ui.timePointsCheck,
            self._ui.sampleDataButton,
        ):
            widget.enabled = enabled

    def _node_added(self) -> None:
        # The node's name and image may be set only after it was added.
        if not self._filling:
            self._filling = True
            qt.QTimer.singleShot(0, self._guard(self._fill_later))

    def _fill_later(self) -> None:
        self._filling = False
        if self.enabled:
            self.fill_obvious()

    def _changed(self) -> None:
        first = self.volumes[0] if self._rows else None
        self._has_sequence = browser_of(first) is not None
        self._ui.timePointsCheck.visible = self._has_sequence
        self.on_changed()


def volumes_of_scene() -> list[Any]:
    """The volumes that may be meant as inputs: those that no run of ours made."""
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [
        node
        for node in nodes
        if node.GetClassName() == "vtkMRMLScalarVolumeNode"
        and not node.GetHideFromEditors()
        and not node.GetAttribute(MODEL_ATTRIBUTE)
    ]

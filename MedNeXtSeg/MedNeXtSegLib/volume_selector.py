"""A labelled selector of a volume for one channel of a model."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _


def labelled_selector(channel: str, only: bool, object_name: str) -> tuple[Any, Any]:
    """(label, node selector), for a form's row; the only channel is called "Volume"."""
    label = qt.QLabel(_("{channel}:").format(channel=_("Volume") if only else channel))
    selector = slicer.qMRMLNodeComboBox()
    selector.objectName = object_name
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.showChildNodeTypes = False
    selector.noneEnabled = True
    selector.noneDisplay = _("Pick a volume")
    selector.addEnabled = False
    selector.removeEnabled = False
    selector.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Fixed)
    label.setBuddy(selector)
    selector.setMRMLScene(slicer.mrmlScene)
    return label, selector

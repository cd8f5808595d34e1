"""What an export as DICOM SEG asks of a segmentation: codes, reference volume and its geometry.

The writer itself is not part of Slicer's core; what it reads is checked here with Slicer's own
terminology and export logic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from panel_fixtures import *  # noqa: F403 - fixtures
from panel_fixtures import ROOT, a_head
from test_geometry import MATRICES

from MedNeXtSegLib.models_logic import Model  # isort: skip
from MedNeXtSegLib.parameter import SegmentParameter  # isort: skip


def codes(entry: Any) -> list[tuple[str, str, str]]:
    return [
        (code.GetCodingSchemeDesignator(), code.GetCodeValue(), code.GetCodeMeaning())
        for code in (entry.GetCategoryObject(), entry.GetTypeObject())
    ]


def read_entry(text: str) -> Any:
    entry = slicer.vtkSlicerTerminologyEntry()
    logic = slicer.vtkSlicerTerminologiesModuleLogic()
    assert logic.DeserializeTerminologyEntry(text, entry), text
    return entry


@pytest.mark.parametrize("name", MATRICES)
def test_segments_have_codes_and_the_volumes_geometry(
    a_logic: Any, a_volume: Any, a_scene: Any, name: str
) -> None:
    volume = a_volume("Head", a_head(), MATRICES[name])
    node = a_logic.segment(SegmentParameter(a_logic.find_model("one"), [volume]))
    role = node.GetReferenceImageGeometryReferenceRole()
    assert node.GetNodeReference(role) is volume
    segmentation = node.GetSegmentation()
    for index in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(index)
        tag = vtk.reference("")
        assert segment.GetTag(segment.GetTerminologyEntryTagName(), tag)
        for scheme, value, meaning in codes(read_entry(str(tag))):
            assert scheme
            assert value
            assert meaning
        # One label map a segment, on exactly the grid of the reference volume.
        ids = vtk.vtkStringArray()
        ids.InsertNextValue(segmentation.GetNthSegmentID(index))
        labels = a_scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
        assert slicer.vtkSlicerSegmentationsModuleLogic.ExportSegmentsToLabelmapNode(
            node, ids, labels, volume, slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY
        )
        assert labels.GetImageData().GetDimensions() == volume.GetImageData().GetDimensions()
        matrix = vtk.vtkMatrix4x4()
        labels.GetIJKToRASMatrix(matrix)
        np.testing.assert_allclose(
            slicer.util.arrayFromVTKMatrix(matrix), MATRICES[name], atol=1e-6
        )
        low = 200 if segment.GetName() == "Very bright" else 100
        found = slicer.util.arrayFromVolume(labels) > 0
        wanted = (a_head() > low) & ((a_head() <= 200) | (low == 200))
        np.testing.assert_array_equal(found, wanted)


def test_the_embedded_models_labels_have_codes() -> None:
    import json

    cards = sorted((ROOT / "Resources" / "Models").glob("*/mednext.json"))
    if not cards:
        pytest.skip("no embedded model here")
    for card in cards:
        labels: list[Model] = json.loads(card.read_text(encoding="utf-8"))["labels"]
        assert labels
        for label in labels:
            for scheme, value, meaning in codes(read_entry(label["terminology"])):
                assert scheme in ("SCT", "SRT")
                assert value.isdigit() or value[0].isalpha()
                assert meaning

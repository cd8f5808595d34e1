"""Labels become named, coloured segments; others stay; undo restores; nothing is left behind."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from panel_fixtures import *  # noqa: F403 - fixtures
from panel_fixtures import a_head, class_counts, voxels_in_world

from MedNeXtSegLib.errors import UserError  # isort: skip
from MedNeXtSegLib.parameter import SegmentParameter  # isort: skip

MATRIX = np.diag([0.8, -1.1, 2.5, 1.0])


@pytest.fixture
def a_head_volume(a_volume: Any) -> Any:
    return a_volume("Müller, Änne", a_head(), MATRIX)


def run(logic: Any, volume: Any, **options: Any) -> Any:
    return logic.segment(SegmentParameter(logic.find_model("one"), [volume], **options))


def draw(segmentation: Any, volume: Any, name: str, array: np.ndarray) -> str:
    """Adds a segment as somebody would have drawn it."""
    identifier = segmentation.GetSegmentation().AddEmptySegment("", name, (0.1, 0.2, 0.3))
    carrier = slicer.vtkOrientedImageData()
    from vtk.util.numpy_support import numpy_to_vtk

    from MedNeXtSegLib.geometry import to_matrix

    carrier.SetDimensions(*array.shape[::-1])
    scalars = numpy_to_vtk(np.ascontiguousarray(array, np.uint8).reshape(-1), deep=True)
    carrier.GetPointData().SetScalars(scalars)
    carrier.SetGeometryFromImageToWorldMatrix(to_matrix(MATRIX))
    logic = slicer.modules.segmentations.logic()
    assert logic.SetBinaryLabelmapToSegment(carrier, segmentation, identifier)
    return identifier


def test_segments_have_name_color_terminology_and_geometry(
    a_logic: Any, a_head_volume: Any
) -> None:
    node = run(a_logic, a_head_volume)
    segmentation = node.GetSegmentation()
    names = [segmentation.GetNthSegment(i).GetName() for i in range(2)]
    assert names == ["Bright", "Very bright"]
    assert segmentation.GetNumberOfSegments() == 2  # "Never there" has no voxel
    first, second = segmentation.GetNthSegment(0), segmentation.GetNthSegment(1)
    assert first.GetColor() == pytest.approx((1, 0, 0))
    assert second.GetColor() == pytest.approx((0, 128 / 255, 1), abs=1e-6)
    import vtk

    text = vtk.reference("")
    assert first.GetTag(first.GetTerminologyEntryTagName(), text)
    assert "SCT^85756007^Tissue" in str(text)
    assert node.GetName() == "Müller, Änne segmentation"
    role = node.GetReferenceImageGeometryReferenceRole()
    assert node.GetNodeReference(role) is a_head_volume
    converter = slicer.vtkSegmentationConverter
    name = converter.GetReferenceImageGeometryParameterName()
    assert segmentation.GetConversionParameter(name)
    assert node.GetDisplayNode() is not None


def test_it_is_filed_beside_the_volume(a_logic: Any, a_head_volume: Any, a_scene: Any) -> None:
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(a_scene)
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "Study")
    volume_item = hierarchy.GetItemByDataNode(a_head_volume)
    if not volume_item:
        volume_item = hierarchy.CreateItem(folder, a_head_volume)
    hierarchy.SetItemParent(volume_item, folder)
    node = run(a_logic, a_head_volume)
    item = hierarchy.GetItemByDataNode(node)
    assert item == 0 or hierarchy.GetItemParent(item) == folder


def test_only_the_result_is_added(
    a_logic: Any, a_head_volume: Any, a_scene: Any, a_context: Any
) -> None:
    before = class_counts(a_scene)
    run(a_logic, a_head_volume, uncertainty=True)
    added = {
        name: count - before.get(name, 0)
        for name, count in class_counts(a_scene).items()
        if count != before.get(name, 0)
    }
    assert added == {
        "vtkMRMLSegmentationNode": 1,
        "vtkMRMLSegmentationDisplayNode": 1,
        "vtkMRMLScalarVolumeNode": 1,
        "vtkMRMLScalarVolumeDisplayNode": 1,
    }
    assert os.listdir(a_context.temporary_folder) == []


def test_the_uncertainty_lies_on_the_volume(a_logic: Any, a_head_volume: Any) -> None:
    run(a_logic, a_head_volume, uncertainty=True)
    node = slicer.util.getNode("Müller, Änne uncertainty")
    found = slicer.util.arrayFromVolume(node)
    # MATRIX is left-handed: Slicer reads such files with the order of slices reversed.
    wanted = (a_head() > 150) * 0.5
    assert sorted(np.unique(found)) == [0.0, 0.5]
    assert np.array_equal(found, wanted) or np.array_equal(found[::-1], wanted)


def test_a_run_merges_by_name_and_leaves_others(
    a_logic: Any, a_head_volume: Any, a_segmentation_node: Any
) -> None:
    mine = np.zeros(a_head().shape)
    mine[1:9, 2:10, 3:13] = 1  # overlaps what the model finds
    old = np.zeros(a_head().shape)
    old[0, 0, 0] = 1
    draw(a_segmentation_node, a_head_volume, "Drawn by hand", mine)
    bright = draw(a_segmentation_node, a_head_volume, "Bright", old)
    before = voxels_in_world(a_segmentation_node, "Drawn by hand")
    node = run(a_logic, a_head_volume, segmentation=a_segmentation_node)
    assert node is a_segmentation_node
    segmentation = node.GetSegmentation()
    assert segmentation.GetNumberOfSegments() == 3
    np.testing.assert_array_equal(voxels_in_world(node, "Drawn by hand"), before)
    assert len(voxels_in_world(node, "Bright")) == int(((a_head() > 100) & (a_head() < 201)).sum())
    assert segmentation.GetSegmentIdBySegmentName("Bright") == bright
    assert segmentation.GetSegment(bright).GetColor() == pytest.approx((0.1, 0.2, 0.3))


def test_a_label_that_is_not_found_empties_its_segment(
    a_logic: Any, a_head_volume: Any, a_segmentation_node: Any
) -> None:
    old = np.ones(a_head().shape)
    draw(a_segmentation_node, a_head_volume, "Never there", old)
    run(a_logic, a_head_volume, segmentation=a_segmentation_node)
    assert len(voxels_in_world(a_segmentation_node, "Never there")) == 0
    a_logic.undo()
    assert len(voxels_in_world(a_segmentation_node, "Never there")) == old.size


def test_undo_restores_an_existing_segmentation(
    a_logic: Any, a_head_volume: Any, a_segmentation_node: Any, a_scene: Any
) -> None:
    mine, old = np.zeros(a_head().shape), np.zeros(a_head().shape)
    mine[1:9, 2:10, 3:13] = 1
    old[0:5, 0:6, 0:7] = 1
    draw(a_segmentation_node, a_head_volume, "Drawn by hand", mine)
    draw(a_segmentation_node, a_head_volume, "Bright", old)
    nodes = class_counts(a_scene)
    before = {
        name: voxels_in_world(a_segmentation_node, name) for name in ("Drawn by hand", "Bright")
    }
    run(a_logic, a_head_volume, segmentation=a_segmentation_node, show_3d=True)
    assert a_logic.can_undo
    a_logic.undo()
    segmentation = a_segmentation_node.GetSegmentation()
    assert segmentation.GetNumberOfSegments() == 2
    for name, points in before.items():
        np.testing.assert_array_equal(voxels_in_world(a_segmentation_node, name), points)
    surface = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    assert not segmentation.ContainsRepresentation(surface)
    assert class_counts(a_scene) == nodes
    assert not a_logic.can_undo
    with pytest.raises(UserError, match="no result"):
        a_logic.undo()


def test_undo_removes_a_new_segmentation(a_logic: Any, a_head_volume: Any, a_scene: Any) -> None:
    before = class_counts(a_scene)
    run(a_logic, a_head_volume, uncertainty=True, show_3d=True)
    a_logic.undo()
    assert class_counts(a_scene) == before


def test_an_import_that_fails_takes_everything_back(
    a_logic: Any, a_head_volume: Any, a_scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MedNeXtSegLib import placing

    def full(*arguments: Any) -> None:
        raise UserError("The disk is full.")

    before = class_counts(a_scene)
    monkeypatch.setattr(placing, "place_volume", full)
    with pytest.raises(UserError, match="disk is full"):
        run(a_logic, a_head_volume, uncertainty=True)
    assert class_counts(a_scene) == before


def test_a_result_without_its_file_is_an_error(
    a_logic: Any, a_head_volume: Any, a_scene: Any
) -> None:
    before = class_counts(a_scene)
    with pytest.raises(UserError, match="could not be read"):
        a_logic.segment(SegmentParameter(a_logic.find_model("silent"), [a_head_volume]))
    assert class_counts(a_scene) == before


def test_3d_is_shown_where_asked(a_logic: Any, a_head_volume: Any) -> None:
    surface = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    node = run(a_logic, a_head_volume)
    assert not node.GetSegmentation().ContainsRepresentation(surface)
    node = run(a_logic, a_head_volume, show_3d=True)
    assert node.GetSegmentation().ContainsRepresentation(surface)


def test_channels_must_share_a_grid(a_logic: Any, a_volume: Any) -> None:
    first = a_volume("Head T1", a_head(), np.eye(4))
    other = a_volume("Head T2", a_head(), np.diag([1, 1, 1.2, 1]))
    model = a_logic.find_model("two")
    with pytest.raises(UserError, match=r"Head T2 \(channel T2\) does not lie on the grid"):
        a_logic.segment(SegmentParameter(model, [first, other]))
    other.SetSpacing(1, 1, 1)
    assert a_logic.segment(SegmentParameter(model, [first, other])) is not None


@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "u2", "i4", "f4", "f8", "i8"])
def test_voxels_of_every_type_are_exported(a_logic: Any, a_volume: Any, kind: str) -> None:
    array = a_head().clip(0, 127 if kind == "i1" else 255)
    volume = a_volume("Typed", np.zeros((2, 2, 2), np.float32), np.eye(4))
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    image = vtk.vtkImageData()
    image.SetDimensions(*array.shape[::-1])
    scalars = numpy_to_vtk(array.astype(kind).reshape(-1), deep=True)
    image.GetPointData().SetScalars(scalars)
    volume.SetAndObserveImageData(image)
    node = run(a_logic, volume)
    assert len(voxels_in_world(node, "Bright")) > 0


def test_the_folder_of_a_run_is_private(a_logic: Any, a_head_volume: Any, a_context: Any) -> None:
    job = a_logic.start(SegmentParameter(a_logic.find_model("slow"), [a_head_volume]))
    (folder,) = Path(a_context.temporary_folder).iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    job.cancel()
    job.wait()
    assert not folder.exists()


def test_every_time_point_of_a_sequence(a_logic: Any, a_volume: Any, a_scene: Any) -> None:
    volume = a_volume("Moving", a_head(), np.eye(4))
    sequence = a_scene.AddNewNodeByClass("vtkMRMLSequenceNode", "Frames")
    for number in range(3):
        array = a_head() if number < 2 else np.full_like(a_head(), 50)
        slicer.util.updateVolumeFromArray(volume, array)
        sequence.SetDataNodeAtValue(volume, str(number))
    browser = a_scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.AddProxyNode(volume, sequence, False)
    browser.SetSelectedItemNumber(1)
    before = class_counts(a_scene)
    node = run(a_logic, volume, time_points=True)
    result = browser.GetSequenceNode(node)
    assert result is not None
    assert a_scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1
    assert result.GetNumberOfDataNodes() == 3
    counts = [
        result.GetDataNodeAtValue(str(n)).GetSegmentation().GetNumberOfSegments() for n in range(3)
    ]
    assert counts[:2] == [2, 2]
    last = result.GetDataNodeAtValue("2")
    assert (
        sum(
            len(voxels_in_world(last, last.GetSegmentation().GetNthSegment(i).GetName()))
            for i in range(counts[2])
        )
        == 0
    )
    assert browser.GetSelectedItemNumber() == 1
    a_logic.undo()
    assert class_counts(a_scene) == before

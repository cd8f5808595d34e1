"""What is written for a training lies where it was drawn, whatever the grid and the transform."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from finetune_fixtures import a_left_and_right, draw
from panel_fixtures import *  # noqa: F403 - fixtures
from panel_fixtures import a_head, class_counts

from MedNeXtSegLib.errors import UserError  # isort: skip
from MedNeXtSegLib.finetune_cases import (  # isort: skip
    BOX, CORONAL, SLICES, AXIAL, SAGITTAL, TrainingCase, array_axis, guess_annotated,
)  # fmt: skip
from MedNeXtSegLib.finetune_export import RunFolder, export_steps  # isort: skip
from MedNeXtSegLib.finetune_labels import UNUSED, LabelTable  # isort: skip
from MedNeXtSegLib.finetune_pairs import make_case, scene_pairs, volume_of  # isort: skip
from MedNeXtSegLib.finetune_parameter import FinetuneParameter  # isort: skip
from MedNeXtSegLib.importing import LabelImage, read_image  # isort: skip

ANGLE = np.deg2rad(20)
ROTATION = np.array(
    [[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, 1]]
)


def a_matrix(name: str) -> np.ndarray:
    matrix = np.eye(4)
    axes = {
        "plain": np.eye(3),
        "rotated": ROTATION @ np.diag([0.8, 1.1, 2.5]),
        "left-handed": np.diag([1.0, 1.5, -2.0]),
        "permuted": np.array([[0, 0, 2.0], [1.5, 0, 0], [0, -1.0, 0]]),
    }
    matrix[:3, :3] = axes[name]
    matrix[:3, 3] = (-12.0, 7.5, 30.0)
    return matrix


def a_transform(linear: bool = True) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    if linear:
        matrix = np.eye(4)
        matrix[:3, :3] = ROTATION.T
        matrix[:3, 3] = (5, -3, 11)
        node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
        return node
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetBasisToR()
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for point in ((0, 0, 0), (40, 0, 0), (0, 40, 0), (0, 0, 40), (20, 20, 20)):
        source.InsertNextPoint(*point)
        target.InsertNextPoint(point[0] + 3, point[1], point[2] + (2 if point == (20,) * 3 else 0))
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    node.SetAndObserveTransformToParent(spline)
    return node


def export(case: TrainingCase, folder: Path, **choices: str) -> tuple[dict[str, Any], LabelImage]:
    """Writes a job of one case; returns its case.json and its labels in the world."""
    table = LabelTable()
    table.update([case])
    for row in table.rows:
        row.kind = choices.get(row.name, row.kind)
    parameter = FinetuneParameter("New", None, channels=["Volume"], cases=[case], labels=table)
    run = RunFolder(folder)
    fractions = [fraction for fraction, _text in export_steps(parameter, run)]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    place = run.path / "cases" / "case_001"
    content = json.loads((place / "case.json").read_text())
    image = read_image(place / "image_0000.nrrd")
    labels = read_image(place / content["labels"])
    assert labels.grid.same_as(image.grid)
    return content, labels


def world_points(image: LabelImage, value: int) -> np.ndarray:
    k, j, i = np.nonzero(image.values == value)
    points = np.c_[i, j, k, np.ones(len(i))] @ image.grid.ijk_to_ras.T
    return in_order(points[:, :3])


def in_order(points: np.ndarray) -> np.ndarray:
    rounded = np.round(points, 3)
    return points[np.lexsort(rounded.T[::-1])]


def drawn_points(mask: np.ndarray, ijk_to_world: np.ndarray) -> np.ndarray:
    k, j, i = np.nonzero(mask)
    return in_order((np.c_[i, j, k, np.ones(len(i))] @ ijk_to_world.T)[:, :3])


@pytest.mark.parametrize("under_transform", [False, True])
@pytest.mark.parametrize("name", ["plain", "rotated", "left-handed", "permuted"])
def test_labels_lie_where_they_were_drawn(
    a_volume: Callable[..., Any], tmp_path: Path, name: str, under_transform: bool
) -> None:
    matrix = a_matrix(name)
    volume = a_volume("Head", a_head(), matrix)
    to_world = np.eye(4)
    if under_transform:
        transform = a_transform()
        volume.SetAndObserveTransformNodeID(transform.GetID())
        found = vtk.vtkMatrix4x4()
        transform.GetMatrixTransformToWorld(found)
        to_world = slicer.util.arrayFromVTKMatrix(found)
    masks = a_left_and_right()
    case = TrainingCase([volume], draw(volume, masks))
    before = class_counts(slicer.mrmlScene)
    _content, labels = export(case, tmp_path)
    assert class_counts(slicer.mrmlScene) == before
    for value, mask in enumerate(masks.values(), start=1):
        wanted = drawn_points(mask, to_world @ matrix)
        found_points = world_points(labels, value)
        assert found_points.shape == wanted.shape
        assert np.abs(found_points - wanted).max() < 1e-3


def test_a_segmentation_under_another_transform_than_its_volume(
    a_volume: Callable[..., Any], tmp_path: Path
) -> None:
    """It is shown shifted by two voxels, so it is exported shifted by two voxels."""
    volume = a_volume("Head", a_head(), np.eye(4))
    node = draw(volume, a_left_and_right())
    shift = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    matrix = np.eye(4)
    matrix[0, 3] = 2
    shift.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(shift.GetID())
    _content, labels = export(TrainingCase([volume], node), tmp_path)
    wanted = drawn_points(a_left_and_right()["Left"], matrix)
    assert np.abs(world_points(labels, 1) - wanted).max() < 1e-3


def test_labels_under_a_transform_that_is_not_linear(
    a_volume: Callable[..., Any], tmp_path: Path
) -> None:
    matrix = np.diag([3.0, 3.0, 3.0, 1.0])
    volume = a_volume("Head", a_head(), matrix)
    node = draw(volume, a_left_and_right())
    transform = a_transform(linear=False)
    for one in (volume, node):
        one.SetAndObserveTransformNodeID(transform.GetID())
    _content, labels = export(TrainingCase([volume], node), tmp_path)
    general = vtk.vtkGeneralTransform()
    transform.GetTransformToWorld(general)
    for value, mask in enumerate(a_left_and_right().values(), start=1):
        moved = [general.TransformPoint(*p) for p in drawn_points(mask, matrix)]
        centre = np.mean(moved, axis=0)
        found = world_points(labels, value)
        assert np.linalg.norm(found.mean(axis=0) - centre) < 1.0  # a third of a voxel
        assert abs(len(found) / mask.sum() - 1) < 0.2


def test_segments_of_another_grid_come_onto_the_volumes(
    a_volume: Callable[..., Any], tmp_path: Path
) -> None:
    """Drawn on voxels twice as fine, and partly outside of the volume."""
    volume = a_volume("Head", np.full((6, 6, 6), 100, np.int16), np.diag([2.0, 2.0, 2.0, 1.0]))
    fine = np.eye(4)
    fine[:3, 3] = -0.5
    other = a_volume("Fine", np.zeros((12, 12, 18), np.int16), fine)
    mask = np.zeros((12, 12, 18), bool)
    mask[4:8, 4:8, 8:18] = True  # in the volume's own voxels: k, j 2 to 3, i 4 to 8 (it has 6)
    _content, labels = export(TrainingCase([volume], draw(other, {"One": mask})), tmp_path)
    wanted = np.zeros((6, 6, 6), bool)
    wanted[2:4, 2:4, 4:6] = True
    assert (labels.values.astype(bool) == wanted).all()


def test_overlaps_are_counted_and_the_later_wins(
    a_volume: Callable[..., Any], tmp_path: Path
) -> None:
    volume = a_volume("Head", a_head(), np.eye(4))
    shape = a_head().shape
    masks = {name: np.zeros(shape, bool) for name in "ABC"}
    masks["A"][2:6, 2:6, 2:6] = True
    masks["B"][4:8, 2:6, 2:6] = True  # 2 x 4 x 4 voxels in common with A
    masks["C"][5:7, 3, 3] = True  # one of A and B, one of B alone
    content, labels = export(TrainingCase([volume], draw(volume, masks)), tmp_path)
    found = sorted((a, b, n) for a, b, n in content["overlaps"])
    assert found == [("A", "B", 32), ("A", "C", 1), ("B", "C", 2)]
    assert content["values"] == {"A": 1, "B": 2, "C": 3}
    assert (labels.values == 3).sum() == 2
    assert (labels.values == 1).sum() == 64 - 32


def test_what_is_left_out_is_not_written(a_volume: Callable[..., Any], tmp_path: Path) -> None:
    volume = a_volume("Head", a_head(), np.eye(4))
    case = TrainingCase([volume], draw(volume, a_left_and_right()))
    content, labels = export(case, tmp_path, Left=UNUSED)
    assert content["values"] == {"Right": 1}
    assert (labels.values == 1).sum() == a_left_and_right()["Right"].sum()


def test_surfaces_are_converted_on_a_copy(a_volume: Callable[..., Any], tmp_path: Path) -> None:
    volume = a_volume("Head", a_head(), np.eye(4))
    node = draw(volume, a_left_and_right())
    node.CreateClosedSurfaceRepresentation()
    held = node.GetSegmentation()
    converter = slicer.vtkSegmentationConverter
    surface = converter.GetSegmentationClosedSurfaceRepresentationName()
    binary = converter.GetSegmentationBinaryLabelmapRepresentationName()
    held.SetSourceRepresentationName(surface)
    held.RemoveRepresentation(binary)
    _content, labels = export(TrainingCase([volume], node), tmp_path)
    for value, mask in enumerate(a_left_and_right().values(), start=1):
        both = (labels.values == value) & mask
        dice = 2 * both.sum() / ((labels.values == value).sum() + mask.sum())
        assert dice > 0.8  # the surface is smooth, the corners of so small a block are not
    assert not held.ContainsRepresentation(binary)


def test_the_box_is_in_voxels_of_the_label_file(
    a_volume: Callable[..., Any], tmp_path: Path
) -> None:
    volume = a_volume("Head", a_head(), np.diag([1.0, 1.0, 2.0, 1.0]))
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Seen")
    roi.SetCenter(6.5, 4.5, 9)  # i 4 to 9, j 2 to 7; k 3 to 6 lie from 5 to 13 mm
    roi.SetSize(6, 6, 8)
    case = TrainingCase([volume], draw(volume, a_left_and_right()), BOX, roi=roi)
    content, _labels = export(case, tmp_path)
    assert content["annotated"] == {"kind": "box", "box": [[3, 7], [2, 8], [4, 10]]}
    roi.SetCenter(600, 0, 0)
    with pytest.raises(UserError, match=r"Case 1: .* lies outside of the volume"):
        export(case, tmp_path)


def test_slices_are_named_by_their_direction() -> None:
    plain, permuted = a_matrix("plain"), a_matrix("permuted")
    assert [array_axis(d, plain) for d in (AXIAL, CORONAL, SAGITTAL)] == [0, 1, 2]
    # i runs along A, j against S, k along R: of the array [k, j, i] these are axes 2, 1, 0.
    assert [array_axis(d, permuted) for d in (AXIAL, CORONAL, SAGITTAL)] == [1, 2, 0]
    assert array_axis("", plain) is None


def test_single_slices_are_noticed(a_volume: Callable[..., Any]) -> None:
    volume = a_volume("Head", a_head(), np.eye(4))
    assert guess_annotated(draw(volume, a_left_and_right())) == "everything"
    few = {name: mask.copy() for name, mask in a_left_and_right().items()}
    for mask in few.values():
        mask[[0, 1, 3, 4, 6, 7, 8, 9, 10, 11]] = False
    assert guess_annotated(draw(volume, few)) == SLICES


def test_pairs_are_found_by_reference_grid_and_name(a_volume: Callable[..., Any]) -> None:
    first = a_volume("First", a_head(), np.eye(4))
    second = a_volume("Second", a_head(), a_matrix("rotated"))
    by_reference = draw(first, a_left_and_right(), "anything")
    by_grid = draw(second, a_left_and_right(), "something")
    role = by_grid.GetReferenceImageGeometryReferenceRole()
    by_grid.SetNodeReferenceID(role, None)
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "First empty")
    assert volume_of(by_reference) is first
    assert volume_of(by_grid) is second
    assert volume_of(empty) is first  # by its name
    pairs = scene_pairs(["MR"], [])
    assert [(c.volumes, c.segmentation) for c in pairs] == [
        ([first], by_reference), ([second], by_grid),
    ]  # fmt: skip
    assert [c.segmentation for c in scene_pairs(["MR"], pairs[:1])] == [by_grid]


def test_channels_of_a_case_are_found_by_name(a_volume: Callable[..., Any]) -> None:
    t1 = a_volume("sub_T1w", a_head(), np.eye(4))
    t2 = a_volume("sub_T2w", a_head(), np.eye(4))
    a_volume("other_T2w", a_head(), a_matrix("rotated"))
    case = make_case(t2, draw(t2, a_left_and_right()), ["T1", "T2"])
    assert case.volumes == [t1, t2]


def test_the_disk_is_full(
    a_volume: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    volume = a_volume("Head", a_head(), np.eye(4))
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(UserError, match="Case 1: The disk is full"):
        export(TrainingCase([volume], draw(volume, a_left_and_right())), tmp_path)


def test_the_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match="No folder for the training"):
        RunFolder(tmp_path / "file")

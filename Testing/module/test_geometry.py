"""Results lie where the volume lies: rotated, anisotropic, left-handed, under transforms."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from panel_fixtures import *  # noqa: F403 - fixtures
from panel_fixtures import a_head, class_counts, in_order, voxels_in_world

from MedNeXtSegLib.errors import UserError  # isort: skip
from MedNeXtSegLib.geometry import Grid, hardened_copy, own_grid, roi_box, to_matrix  # isort: skip
from MedNeXtSegLib.parameter import SegmentParameter  # isort: skip


def rotation(degrees: float, axis: int) -> np.ndarray:
    angle = np.deg2rad(degrees)
    matrix = np.eye(4)
    a, b = [n for n in range(3) if n != axis]
    matrix[a, a] = matrix[b, b] = np.cos(angle)
    matrix[a, b], matrix[b, a] = -np.sin(angle), np.sin(angle)
    return matrix


def placed(spacing: tuple[float, float, float], *turns: tuple[float, int]) -> np.ndarray:
    matrix = np.eye(4)
    for degrees, axis in turns:
        matrix = matrix @ rotation(degrees, axis)
    matrix = matrix @ np.diag([*spacing, 1.0])
    matrix[:3, 3] = (-31.7, 12.25, 8.5)
    return matrix


MATRICES = {
    "straight": placed((1, 1, 1)),
    "anisotropic": placed((0.7, 0.9, 4.2)),
    "oblique": placed((0.8, 1.1, 2.5), (25, 2), (-13, 0)),
    "left-handed": placed((1.0, 1.2, -3.0), (40, 1)),
    "left-handed oblique": placed((-0.8, 1.1, 2.5), (25, 2), (10, 1)),
    "axes permuted": placed((1, 2, 3))[:, [1, 2, 0, 3]],
}


def expected_world(array: np.ndarray, matrix: np.ndarray, low: float) -> np.ndarray:
    """Centres of the voxels above `low`, by definition of the IJK-to-RAS matrix."""
    k, j, i = np.nonzero(array > low)
    return in_order((np.c_[i, j, k, np.ones(len(i))] @ matrix.T)[:, :3])


def one(logic: Any) -> Any:
    return logic.find_model("one")


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("moved", [False, True], ids=["", "under a transform"])
def test_segments_lie_where_the_voxels_lie(
    a_logic: Any, a_volume: Any, name: str, moved: bool
) -> None:
    array, matrix = a_head(), MATRICES[name]
    volume = a_volume("Schädel", array, matrix)
    world = matrix
    if moved:
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        to_parent = placed((1, 1, 1), (33, 0), (-70, 2))
        transform.SetMatrixTransformToParent(to_matrix(to_parent))
        volume.SetAndObserveTransformNodeID(transform.GetID())
        world = to_parent @ matrix
    node = a_logic.segment(SegmentParameter(one(a_logic), [volume]))
    bright = np.where(array > 200, 0, array)
    for segment, voxels, low in (("Bright", bright, 100), ("Very bright", array, 200)):
        found, wanted = voxels_in_world(node, segment), expected_world(voxels, world, low)
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() < 1e-3  # mm
    assert node.GetTransformNodeID() == volume.GetTransformNodeID()


def a_warp() -> Any:
    """A transform that is not linear: a thin plate that bulges by 3 mm."""
    warp = vtk.vtkThinPlateSplineTransform()
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for corner in itertools.product((-40, 40), (0, 60), (0, 60)):
        source.InsertNextPoint(corner)
        target.InsertNextPoint(corner)
    source.InsertNextPoint(-24, 20, 14)
    target.InsertNextPoint(-21, 20, 14)
    warp.SetSourceLandmarks(source)
    warp.SetTargetLandmarks(target)
    warp.SetBasisToR()
    return warp


def test_a_volume_under_a_warp_is_segmented_where_it_appears(a_logic: Any, a_volume: Any) -> None:
    volume = a_volume("Warped", a_head(), placed((1, 1, 1)))
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    transform.SetAndObserveTransformToParent(a_warp())
    volume.SetAndObserveTransformNodeID(transform.GetID())
    node = a_logic.segment(SegmentParameter(one(a_logic), [volume]))
    hardened = slicer.modules.volumes.logic().CloneVolume(slicer.mrmlScene, volume, "Hardened")
    hardened.HardenTransform()
    array = slicer.util.arrayFromVolume(hardened)
    wanted = expected_world(np.where(array > 200, 0, array), own_grid(hardened).ijk_to_ras, 100)
    found = voxels_in_world(node, "Bright")
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 1e-3
    assert node.GetParentTransformNode() is None


def in_own_coordinates(segmentation: Any, name: str) -> np.ndarray:
    """The voxels' centres without the parent transform."""
    parent = segmentation.GetTransformNodeID()
    segmentation.SetAndObserveTransformNodeID(None)
    found = voxels_in_world(segmentation, name)
    segmentation.SetAndObserveTransformNodeID(parent)
    return found


@pytest.mark.parametrize("together", [True, False], ids=["with the volume", "on its own"])
def test_an_existing_segmentation_under_a_warp_takes_the_result(
    a_logic: Any, a_volume: Any, a_segmentation_node: Any, together: bool
) -> None:
    array, matrix = a_head(), placed((1, 1, 1))
    volume, node = a_volume("Head", array, matrix), a_segmentation_node
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    transform.SetAndObserveTransformToParent(a_warp())
    node.SetAndObserveTransformNodeID(transform.GetID())
    if together:
        volume.SetAndObserveTransformNodeID(transform.GetID())
    assert a_logic.segment(SegmentParameter(one(a_logic), [volume], node)) is node
    assert node.GetTransformNodeID() == transform.GetID()
    wanted = expected_world(np.where(array > 200, 0, array), matrix, 100)
    found = in_own_coordinates(node, "Bright")
    if not together:  # it appears where the volume is: below the warp it lies elsewhere
        found = np.array([transform.GetTransformToParent().TransformPoint(p) for p in found])
    # Labels move by whole voxels: each found one is near a wanted one, and about as many.
    apart = np.linalg.norm(found[:, None] - wanted[None], axis=2)
    assert apart.min(axis=1).max() < 1.8  # the diagonal of a voxel of 1 mm
    assert apart.min(axis=0).max() < 1.8
    assert abs(len(found) - len(wanted)) < 0.15 * len(wanted)
    a_logic.undo()
    assert node.GetSegmentation().GetNumberOfSegments() == 0


def test_a_copy_under_a_warp_equals_slicers_own_hardening(a_scene: Any, a_volume: Any) -> None:
    volume = a_volume("Warped", a_head(), placed((1, 1.5, 2)))
    outer = a_scene.AddNewNodeByClass("vtkMRMLTransformNode")
    outer.SetAndObserveTransformToParent(a_warp())
    inner = a_scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    inner.SetMatrixTransformToParent(to_matrix(placed((1, 1, 1), (9, 1))))
    inner.SetAndObserveTransformNodeID(outer.GetID())
    volume.SetAndObserveTransformNodeID(inner.GetID())
    before = class_counts(a_scene)
    copy = hardened_copy(volume)
    assert class_counts(a_scene) == before
    volume.HardenTransform()
    assert own_grid(copy).same_as(own_grid(volume))
    np.testing.assert_array_equal(
        slicer.util.arrayFromVolume(copy), slicer.util.arrayFromVolume(volume)
    )


def test_a_sheared_volume_is_resampled_to_a_straight_grid(a_scene: Any, a_volume: Any) -> None:
    volume = a_volume("Sheared", a_head(), placed((1, 1, 1)))
    transform = a_scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    shear = np.eye(4)
    shear[0, 1] = 0.3
    transform.SetMatrixTransformToParent(to_matrix(shear))
    volume.SetAndObserveTransformNodeID(transform.GetID())
    assert Grid((2, 2, 2), shear).sheared()
    assert not own_grid(hardened_copy(volume)).sheared()


def test_the_box_of_a_turned_roi_holds_its_corners(a_scene: Any) -> None:
    # By hand: a cube of 4 mm turned by 45 degrees about z reaches 2*sqrt(2) = 2.83 mm to each side
    # in x and y and 2 mm in z. About the point (10, 10, 10) of a grid of 1 mm: voxels 7 to 13
    # (their cells reach from 6.5 to 13.5) and 8 to 12.
    roi = a_scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Box")
    roi.SetSize(4, 4, 4)
    transform = a_scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = rotation(45, 2)
    matrix[:3, 3] = 10
    transform.SetMatrixTransformToParent(to_matrix(matrix))
    roi.SetAndObserveTransformNodeID(transform.GetID())
    low, high = roi_box(roi, Grid((20, 20, 20), np.eye(4)))
    assert low == [7, 7, 8]
    assert high == [14, 14, 13]


def test_a_roi_is_clipped_and_refused_outside(a_scene: Any) -> None:
    roi = a_scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Box")
    grid = Grid((10, 10, 10), np.diag([2.0, 2.0, 2.0, 1.0]))
    with pytest.raises(UserError, match="no size"):
        roi_box(roi, grid)
    roi.SetSize(8, 8, 100)
    roi.SetCenter(0, 0, 9)
    assert roi_box(roi, grid) == ([0, 0, 0], [3, 3, 10])  # -4..4 mm are indices -2..2
    roi.SetCenter(500, 0, 0)
    with pytest.raises(UserError, match="outside"):
        roi_box(roi, grid)


def test_only_the_roi_is_segmented(a_logic: Any, a_volume: Any, a_scene: Any) -> None:
    matrix = MATRICES["left-handed oblique"]
    volume = a_volume("Head", a_head(), matrix)
    roi = a_scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Box")
    roi.SetSize(1.2, 1.2, 1.2)
    roi.SetCenter(*(matrix @ [6, 5, 4, 1])[:3])
    node = a_logic.segment(SegmentParameter(one(a_logic), [volume], roi=roi))
    far = np.abs(voxels_in_world(node, "Very bright") - (matrix @ [6, 5, 4, 1])[:3]).max()
    assert far < 4  # the whole block reaches farther
    assert len(voxels_in_world(node, "Very bright")) < 2 * 2 * 3

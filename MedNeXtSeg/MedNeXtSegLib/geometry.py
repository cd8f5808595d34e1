"""Where a volume's voxels lie: grids, transforms and regions of interest, in RAS millimetres.

Matrices are numpy arrays (4, 4) that take voxel indices (i, j, k, 1) to points; arrays of voxels
are indexed [k, j, i].
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from .errors import UserError

SHEAR_TOLERANCE = 1e-4  # of the cosine between two axes
GRID_TOLERANCE = 0.01  # of the smallest voxel spacing, between corners of two grids


@dataclass(frozen=True)
class Grid:
    """Dimensions (i, j, k) and the matrix that takes them to RAS."""

    dimensions: tuple[int, int, int]
    ijk_to_ras: np.ndarray

    @property
    def spacing(self) -> np.ndarray:
        return np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)

    def corners(self) -> np.ndarray:
        """The centres of the eight corner voxels, (8, 3)."""
        ends = [(0.0, n - 1.0) for n in self.dimensions]
        indices = np.array([(*c, 1.0) for c in itertools.product(*ends)])
        return (indices @ self.ijk_to_ras.T)[:, :3]

    def same_as(self, other: Grid) -> bool:
        """Whether both have the same voxels in the same places."""
        if self.dimensions != other.dimensions:
            return False
        apart = np.linalg.norm(self.corners() - other.corners(), axis=1).max()
        return bool(apart <= GRID_TOLERANCE * min(self.spacing.min(), other.spacing.min()))

    def sheared(self) -> bool:
        """Whether the axes are not at right angles, so that no image format can say the grid."""
        axes = self.ijk_to_ras[:3, :3] / np.maximum(self.spacing, 1e-30)
        return bool(np.abs(axes.T @ axes - np.eye(3)).max() > SHEAR_TOLERANCE)

    def __str__(self) -> str:
        size = "×".join(str(n) for n in self.dimensions)
        spacing = "×".join(f"{s:.3g}" for s in self.spacing)
        return f"{size} voxels of {spacing} mm"


def own_grid(volume: Any) -> Grid:
    """The grid of a volume node in its own coordinates, without parent transforms."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return Grid(volume.GetImageData().GetDimensions(), to_array(matrix))


def linear_to_world(node: Any) -> np.ndarray | None:
    """The matrix of a node's parent transforms, or None where one of them is not linear."""
    transform = node.GetParentTransformNode()
    if transform is None:
        return np.eye(4)
    if not transform.IsTransformToWorldLinear():
        return None
    matrix = vtk.vtkMatrix4x4()
    transform.GetMatrixTransformToWorld(matrix)
    return to_array(matrix)


def to_array(matrix: vtk.vtkMatrix4x4) -> np.ndarray:
    return np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])


def to_matrix(array: np.ndarray) -> vtk.vtkMatrix4x4:
    matrix = vtk.vtkMatrix4x4()
    for row, column in itertools.product(range(4), range(4)):
        matrix.SetElement(row, column, float(array[row, column]))
    return matrix


def roi_box(roi: Any, grid: Grid) -> tuple[list[int], list[int]]:
    """The voxels of `grid` (in the world) that hold a markups ROI: low and high (i, j, k),
    half-open, as small as its eight corners allow.

    Raises UserError where the ROI has no size yet or lies outside.
    """
    size = np.array(roi.GetSize(), dtype=float)
    if not (size > 0).all():
        raise UserError(
            _("The region of interest {name} has no size yet.").format(name=roi.GetName()),
            _("Place it in a slice view."),
        )
    to_world = to_array(roi.GetObjectToWorldMatrix())
    signs = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))
    corners = np.c_[signs * size, np.ones(8)] @ to_world.T
    indices = (corners @ np.linalg.inv(grid.ijk_to_ras).T)[:, :3]
    # A voxel reaches half an index to each side of its centre; 1e-6 takes back rounding.
    low = np.floor(indices.min(axis=0) + 0.5 + 1e-6).astype(int)
    high = np.ceil(indices.max(axis=0) + 0.5 - 1e-6).astype(int)
    low, high = np.maximum(low, 0), np.minimum(high, grid.dimensions)
    if not (low < high).all():
        raise UserError(
            _("The region of interest {name} lies outside of the volume.").format(
                name=roi.GetName()
            ),
            _("Move it onto the volume, or choose none."),
        )
    return low.tolist(), high.tolist()


def hardened_copy(volume: Any, placed_as: Any = None) -> Any:
    """A volume node outside of the scene that lies where `volume` appears in the world.

    Its voxels are shared with `volume`, or resampled where a parent transform is not linear (or
    shears) as Slicer's own "Harden transform" does it. The scene is not touched. `placed_as` is
    the node whose parent transform counts: the proxy, for a time point kept in a sequence.
    """
    placed_as = placed_as or volume
    copy = slicer.vtkMRMLScalarVolumeNode()
    copy.SetName(volume.GetName())
    copy.SetAndObserveImageData(volume.GetImageData())
    own = own_grid(volume)
    linear = linear_to_world(placed_as)
    if linear is not None:
        world = Grid(own.dimensions, linear @ own.ijk_to_ras)
        if not world.sheared():
            copy.SetIJKToRASMatrix(to_matrix(world.ijk_to_ras))
            return copy
    copy.SetIJKToRASMatrix(to_matrix(own.ijk_to_ras))
    to_world = vtk.vtkGeneralTransform()
    placed_as.GetParentTransformNode().GetTransformToWorld(to_world)
    return _resampled(copy, to_world)


def _resampled(copy: Any, to_world: Any) -> Any:
    """Hardened in a scene of its own, because a transform's node must be in the volume's scene."""
    scene = slicer.vtkMRMLScene()
    transform = scene.AddNewNodeByClass("vtkMRMLTransformNode")
    # An identity that is not linear: without it a shear would be multiplied into the matrix.
    to_world.Concatenate(vtk.vtkThinPlateSplineTransform())
    transform.SetAndObserveTransformToParent(to_world)
    scene.AddNode(copy)
    copy.SetAndObserveTransformNodeID(transform.GetID())
    if not copy.HardenTransform():
        raise UserError(
            _("The transform of {name} could not be applied to a copy.").format(name=copy.GetName())
        )
    result = slicer.vtkMRMLScalarVolumeNode()
    result.SetName(copy.GetName())
    result.SetAndObserveImageData(copy.GetImageData())
    matrix = vtk.vtkMatrix4x4()
    copy.GetIJKToRASMatrix(matrix)
    result.SetIJKToRASMatrix(matrix)
    scene.Clear(1)
    return result

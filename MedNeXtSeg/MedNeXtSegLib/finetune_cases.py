"""What a model is fine-tuned on: volumes with their segmentation, and what of them is annotated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

EVERYTHING, SLICES, BOX, PAINTED = "everything", "slices", "box", "painted"
ANNOTATED = (EVERYTHING, SLICES, BOX, PAINTED)
AUTO, TRAIN, VALIDATE = "auto", "train", "validate"
USES = (AUTO, TRAIN, VALIDATE)
FOUND, AXIAL, CORONAL, SAGITTAL = "", "axial", "coronal", "sagittal"
AXES = (FOUND, AXIAL, CORONAL, SAGITTAL)
_RAS_ROW = {AXIAL: 2, CORONAL: 1, SAGITTAL: 0}


@dataclass
class TrainingCase:
    """One row of the table. Nodes are MRML nodes, None where nothing is picked.

    `kept` is the case's folder of an earlier training: it stands in where the nodes are gone, and
    `kept_name` says what it was made from.
    """

    volumes: list[Any] = field(default_factory=list)
    segmentation: Any = None
    annotated: str = EVERYTHING
    axis: str = FOUND
    roi: Any = None
    use: str = AUTO
    kept: Path | None = None
    kept_name: str = ""
    beyond: bool = False  # of `SLICES`: nothing lies beyond the first and the last of them

    @property
    def from_scene(self) -> bool:
        """Whether the case is made from nodes; else from the files of an earlier training."""
        return self.kept is None or self.segmentation is not None

    @property
    def volume(self) -> Any:
        return next((volume for volume in self.volumes if volume is not None), None)

    def nodes(self) -> list[Any]:
        """What must stay in the scene while the case is exported."""
        if not self.from_scene:
            return []
        wanted = [*self.volumes, self.segmentation, self.roi if self.annotated == BOX else None]
        return [node for node in wanted if node is not None]

    def title(self) -> str:
        if not self.from_scene:
            return _("{name} (kept from the last training)").format(name=self.kept_name)
        return self.volume.GetName() if self.volume is not None else _("no volume yet")

    def problem(self, channels: Sequence[str]) -> str:
        """Why this case cannot be used, in words; empty where it can."""
        if not self.from_scene:
            gone = not (self.kept and (self.kept / "case.json").is_file())
            return _("its files are gone; take it off the list.") if gone else ""
        for index, channel in enumerate(channels):
            volume = self.volumes[index] if index < len(self.volumes) else None
            if volume is None:
                if len(channels) == 1:
                    return _("pick its volume.")
                return _("pick its volume for channel {channel}.").format(channel=channel)
            if volume.GetImageData() is None:
                return _("{volume} holds no image.").format(volume=volume.GetName())
        if self.segmentation is None:
            return _("pick its segmentation.")
        if self.segmentation.GetSegmentation().GetNumberOfSegments() == 0:
            return _("{name} has no segments; draw them in the Segment Editor.").format(
                name=self.segmentation.GetName()
            )
        if self.annotated == BOX and self.roi is None:
            return _("pick the box that is annotated, or choose another annotated part.")
        return ""


def segment_names(segmentation: Any) -> list[str]:
    """Names of the segments in their order, each once."""
    if segmentation is None:
        return []
    held = segmentation.GetSegmentation()
    names = [held.GetNthSegment(n).GetName() or "" for n in range(held.GetNumberOfSegments())]
    return list(dict.fromkeys(names))


def array_axis(direction: str, ijk_to_ras: np.ndarray) -> int | None:
    """The axis (0 to 2) of an array [k, j, i] along which slices of a direction are stacked."""
    if direction not in _RAS_ROW:
        return None
    column = int(np.argmax(np.abs(ijk_to_ras[_RAS_ROW[direction], :3])))
    return 2 - column


def label_map_of(segment: Any) -> Any:
    """A segment's own image of voxels (vtkOrientedImageData), None where it holds none."""
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    image = segment.GetRepresentation(name)
    if image is None or image.GetPointData().GetScalars() is None:
        return None
    return image


def guess_annotated(segmentation: Any) -> str:
    """`SLICES` where segments lie on single slices with gaps between them, else `EVERYTHING`."""
    runs: dict[int, list[np.ndarray]] = {0: [], 1: [], 2: []}
    held = segmentation.GetSegmentation()
    for index in range(held.GetNumberOfSegments()):
        segment = held.GetNthSegment(index)
        image = label_map_of(segment)
        if image is None:
            continue
        i0, i1, j0, j1, k0, k1 = image.GetExtent()
        if i0 > i1 or j0 > j1 or k0 > k1:
            continue
        voxels = vtk_to_numpy(image.GetPointData().GetScalars())
        mask = voxels.reshape(k1 - k0 + 1, j1 - j0 + 1, i1 - i0 + 1) == segment.GetLabelValue()
        for axis, first in enumerate((k0, j0, i0)):
            others = tuple(other for other in range(3) if other != axis)
            runs[axis].append(np.flatnonzero(mask.any(axis=others)) + first)
    for found in runs.values():
        if found and _sparse(np.unique(np.concatenate(found))):
            return SLICES
    return EVERYTHING


def _sparse(slices: np.ndarray) -> bool:
    """Whether most of the used slices stand alone (at most two side by side), with gaps."""
    if len(slices) < 2:
        return False
    groups = np.split(slices, np.flatnonzero(np.diff(slices) > 1) + 1)
    return len(groups) > 1 and float(np.median([len(group) for group in groups])) <= 2

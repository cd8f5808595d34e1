"""The last step of a run: its files become nodes, all of them or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from .geometry import own_grid
from .importing import LabelInfo, new_segmentation, place_segments, place_volume, read_image
from .parameter import SegmentParameter
from .sequences import TimePoints, place_sequence
from .undo import Undo

if TYPE_CHECKING:
    from .segment_job import Context, Frame


MODEL_ATTRIBUTE = "MedNeXtSeg.Model"  # of every node that a run made: the model's id


@dataclass(frozen=True)
class Placed:
    """The nodes of a result; `found` is the number of labels with voxels."""

    segmentation: Any
    uncertainty: Any
    found: int


def place_result(
    parameter: SegmentParameter,
    points: TimePoints,
    frames: Sequence[Frame],
    values: Sequence[Mapping[str, Any]],
    context: Context,
    undo: Undo,
) -> Placed:
    """Brings the results of all `frames` into the scene. What it did stands in `undo`, also where
    it raises: the caller takes it back."""
    volume, first = parameter.volumes[0], frames[0]
    labels: Sequence[LabelInfo] = values[0].get("labels", [])
    if points.count > 1:
        return place_sequence(points, frames, labels, context, undo)
    image = read_image(first.labels)
    node = parameter.segmentation
    model = str(parameter.model["id"] if parameter.model else "")
    if node is None:
        name = _("{volume} segmentation").format(volume=volume.GetName())
        node = new_segmentation(context.scene, volume, first.exported.grid, name, undo)
        node.SetAttribute(MODEL_ATTRIBUTE, model)
    together = node.GetTransformNodeID() == volume.GetTransformNodeID()
    own = own_grid(volume) if together else None
    found = place_segments(node, image, labels, context.segmentations_logic, undo, own)
    if parameter.show_3d:
        node.CreateClosedSurfaceRepresentation()
    uncertainty = None
    if first.uncertainty is not None:
        name = _("{volume} uncertainty").format(volume=volume.GetName())
        uncertainty = place_volume(context.scene, first.uncertainty, volume, name, undo)
        uncertainty.SetAttribute(MODEL_ATTRIBUTE, model)
    return Placed(node, uncertainty, len(found))

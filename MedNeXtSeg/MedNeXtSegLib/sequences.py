"""Time points: every volume of a sequence, and the sequence of segmentations that comes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from .errors import UserError
from .importing import LabelInfo, new_segmentation, place_segments, read_image
from .undo import Undo

if TYPE_CHECKING:
    from .parameter import SegmentParameter
    from .placing import Placed
    from .segment_job import Context, Frame


def browser_of(volume: Any) -> Any:
    """The sequence browser that shows `volume` as a proxy; None where there is none."""
    if volume is None or volume.GetScene() is None:
        return None
    scene = volume.GetScene()
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode")):
        browser = scene.GetNthNodeByClass(index, "vtkMRMLSequenceBrowserNode")
        if browser.GetSequenceNode(volume) is not None:
            return browser
    return None


@dataclass(frozen=True)
class TimePoints:
    """The volumes of a run, time point by time point; one time point where there is no sequence."""

    shown: Sequence[Any]  # the volume nodes of the scene, one a channel
    browser: Any = None
    sequences: Sequence[Any] = field(default_factory=list)  # one a channel; None: always the same

    @classmethod
    def of(cls, parameter: SegmentParameter) -> TimePoints:
        volumes = list(parameter.volumes)
        browser = browser_of(volumes[0]) if parameter.time_points and volumes else None
        if browser is None:
            return cls(volumes)
        return cls(volumes, browser, [browser.GetSequenceNode(volume) for volume in volumes])

    @property
    def count(self) -> int:
        return self.sequences[0].GetNumberOfDataNodes() if self.browser is not None else 1

    def index_value(self, number: int) -> str:
        return str(self.sequences[0].GetNthIndexValue(number))

    def volumes(self, number: int) -> list[Any]:
        """The volumes of one time point; the browser and the views stay where they are."""
        if self.browser is None:
            return list(self.shown)
        found = []
        for volume, sequence in zip(self.shown, self.sequences, strict=True):
            if sequence is None:
                found.append(volume)
                continue
            node = sequence.GetDataNodeAtValue(self.index_value(number), True)
            if node is None:
                raise UserError(
                    _("{name} has no time point {value}.").format(
                        name=volume.GetName(), value=self.index_value(number)
                    )
                )
            found.append(node)
        return found


def place_sequence(
    points: TimePoints,
    frames: Sequence[Frame],
    labels: Sequence[LabelInfo],
    context: Context,
    undo: Undo,
) -> Placed:
    """Adds one sequence of segmentations to the browser, in step with the volume's."""
    from .placing import Placed

    scene, volume, source = context.scene, points.shown[0], points.sequences[0]
    name = _("{volume} segmentation").format(volume=volume.GetName())
    proxy = new_segmentation(scene, volume, frames[0].exported.grid, name, undo)
    sequence = scene.AddNewNodeByClass(
        "vtkMRMLSequenceNode", scene.GenerateUniqueName(_("{name} sequence").format(name=name))
    )
    undo.node_added(sequence)
    sequence.SetIndexName(source.GetIndexName())
    sequence.SetIndexUnit(source.GetIndexUnit())
    sequence.SetIndexType(source.GetIndexType())
    found: set[str] = set()
    for number, frame in enumerate(frames):
        found.update(
            place_segments(
                proxy, read_image(frame.labels), labels, context.segmentations_logic, undo
            )
        )
        sequence.SetDataNodeAtValue(proxy, points.index_value(number))
    # Together, or the browser makes a proxy of its own in between.
    modifying = points.browser.StartModify()
    points.browser.AddSynchronizedSequenceNode(sequence)
    points.browser.AddProxyNode(proxy, sequence, False)
    points.browser.EndModify(modifying)
    # Once its sequence is out of the browser, a proxy that is removed does not come back.
    undo.first(lambda: points.browser.RemoveSynchronizedSequenceNode(sequence.GetID()))
    slicer.vtkSlicerSequencesLogic().UpdateProxyNodesFromSequences(points.browser)
    return Placed(proxy, None, len(found))

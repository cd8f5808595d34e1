"""What the network of a running training finds in one case: a segmentation replaced each time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from .finetune_labels import LabelRow
from .finetune_pairs import PREVIEW_ATTRIBUTE
from .importing import new_segmentation, place_segments, read_image
from .undo import Undo


class PreviewSegmentation:
    """Shows label files of the training; `remove` leaves nothing of them in the scene."""

    def __init__(self, scene: Any, segmentations_logic: Any) -> None:
        self._scene, self._logic = scene, segmentations_logic
        self._node_id = ""
        self._undo: Undo | None = None

    @property
    def node(self) -> Any:
        return self._scene.GetNodeByID(self._node_id) if self._node_id else None

    def show(self, path: Path, volume: Any, labels: Sequence[LabelRow], title: str) -> bool:
        """Replaces what is shown of `volume`; False where the volume is no more.

        The file holds 1, 2, … in the order of `labels`. Raises UserError where it cannot be read;
        the scene is then as it was before.
        """
        if volume is None or not self._scene.IsNodePresent(volume):
            return False
        image = read_image(path)
        made = self.node is None
        if made or self._undo is None:
            self._undo = Undo(self._scene, self._logic)
            node = new_segmentation(self._scene, volume, image.grid, title, self._undo)
            node.SetAttribute(PREVIEW_ATTRIBUTE, "1")
            self._node_id = node.GetID()
        infos = [
            {
                "value": value,
                "name": row.name,
                "color": row.color or (128, 174, 128),
                "terminology": row.terminology,
            }
            for value, row in enumerate(labels, start=1)
        ]
        try:
            place_segments(self.node, image, infos, self._logic, self._undo)
        except BaseException:
            if made:
                self.remove()
            raise
        self.node.SetName(title)
        return True

    def remove(self) -> None:
        if self._undo is not None and self.node is not None:
            self._undo.restore()
        self.forget()

    def forget(self) -> None:
        """The scene was closed: the node is gone."""
        self._node_id, self._undo = "", None


def preview_title(volume: Any, epoch: int) -> str:
    return _("{volume} preview (epoch {epoch})").format(volume=volume.GetName(), epoch=epoch)

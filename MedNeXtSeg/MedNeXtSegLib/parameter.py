"""Everything one run is told, with the reason where it cannot run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slicer.i18n import tr as _

from .errors import UserError

FAST, BALANCED, BEST = "fast", "balanced", "best"
QUALITIES = (FAST, BALANCED, BEST)


@dataclass
class SegmentParameter:
    """One run. Nodes are MRML nodes; `model` is a ModelSummary of the protocol.

    `segmentation` None asks for a new one. `time_points` runs every time point of the sequence
    that the first volume belongs to.
    """

    model: Mapping[str, Any] | None = None
    volumes: Sequence[Any] = field(default_factory=list)
    segmentation: Any = None
    roi: Any = None
    quality: str = BALANCED
    device: str = "auto"
    uncertainty: bool = False
    show_3d: bool = False
    keep_loaded: bool = True
    time_points: bool = False

    @property
    def channels(self) -> list[str]:
        return list(self.model.get("channels", [])) if self.model else []

    def problem(self) -> str:
        """Why this cannot run, in words; empty when it can."""
        if not self.model:
            return _("Pick a model.")
        channels = self.channels
        for index, name in enumerate(channels):
            volume = self.volumes[index] if index < len(self.volumes) else None
            if volume is None:
                if len(channels) == 1:
                    return _("Pick a volume.")
                return _("Pick a volume for channel {channel}.").format(channel=name)
            if volume.GetImageData() is None:
                return _("{volume} holds no image; pick another volume.").format(
                    volume=volume.GetName()
                )
        chosen = [volume.GetID() for volume in self.volumes[: len(channels)]]
        for index, one in enumerate(chosen):
            if one in chosen[:index]:
                return _("{volume} is picked for two channels; each needs its own.").format(
                    volume=self.volumes[index].GetName()
                )
        if self.quality not in QUALITIES:
            return _("The quality is one of {qualities}.").format(qualities=", ".join(QUALITIES))
        return ""

    def require_valid(self) -> None:
        """Raises UserError with the reason where this cannot run."""
        problem = self.problem()
        if problem:
            raise UserError(problem)

    def options(self, box: tuple[list[int], list[int]] | None) -> dict[str, Any]:
        """The engine's options; `box` is the region of interest in voxels, low and high."""
        folds = list((self.model or {}).get("folds", []))
        options: dict[str, Any] = {
            "device": self.device,
            "step": 0.75 if self.quality == FAST else 0.5,
            "mirror": self.quality == BEST,
            "folds": folds[:1] if self.quality == FAST and folds else None,
            "uncertainty": self.uncertainty,
        }
        if box is not None:
            low, high = box
            options["roi"] = {"low": list(low), "high": list(high), "space": "voxel"}
        return options

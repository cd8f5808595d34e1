"""What runs took on this computer: told in tooltips and after installation, never guessed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from slicer.i18n import tr as _

from .wording import time_text

_KEY = "MedNeXtSeg/Measured"


class Measurements:
    """The last run of each model, in Slicer's application settings (a QSettings)."""

    def __init__(self, settings: Any) -> None:
        self._settings = settings

    def record(self, value: Mapping[str, Any], seconds: float, voxels: int) -> None:
        """Keeps a finished run: a SegmentValue, seconds from click to segmentation."""
        known = self._read()
        known[str(value.get("model", ""))] = {
            "seconds": round(seconds, 1),
            "voxels": int(voxels),
            "device": str(value.get("device", "")),
            "backend": str(value.get("backend", "")),
            "precision": str(value.get("precision", "")),
        }
        self._settings.setValue(_KEY, json.dumps(known))

    def text(self, model: str) -> str:
        """One sentence about the model's last run here; empty where it never ran."""
        entry = self._read().get(model)
        if not isinstance(entry, dict):
            return ""
        try:
            return _(
                "Measured here: {time} for {millions} million voxels "
                "({device}, {backend}, {precision})"
            ).format(
                time=time_text(float(entry["seconds"])),
                millions=f"{entry['voxels'] / 1e6:.1f}",
                device=entry["device"],
                backend=entry["backend"],
                precision=entry["precision"],
            )
        except (KeyError, TypeError, ValueError):
            return ""

    def _read(self) -> dict[str, Any]:
        try:
            known = json.loads(str(self._settings.value(_KEY, "{}")))
        except ValueError:
            return {}
        return known if isinstance(known, dict) else {}

"""`mednext.json`, the card of a model: what it is for, whose it is, how its labels look.

Format 1:
    {"format": 1, "id": str, "title": str, "description": str, "license": str, "citation": str,
     "intended_use": str, "modality": str, "configuration": str, "orientation": str,
     "channels": [str],
     "labels": [{"value": int, "name": str, "color": [r, g, b], "terminology": str}],
     "provenance": {...}, "files": {"relative/path": "sha256"}}
Every key but `format` may be missing; what is missing is derived from nnU-Net's own files.
`orientation` says towards which side of the patient the voxel indices i, j, k grow in the images
the model was trained on, such as "RAS" or "LPS"; empty: whatever the plans' image reader gives.
Colours are 0 to 255; `terminology` is 3D Slicer's serialised terminology entry, or empty.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..errors import ModelError
from .jsonfile import MAX_BYTES, read_dict, read_int, read_list, read_text
from .labels import MAX_LABELS, MAX_VALUE, Labels

FILE_NAME = "mednext.json"
FORMAT = 1
_TEXTS = (
    "id",
    "title",
    "description",
    "license",
    "citation",
    "intended_use",
    "modality",
    "configuration",
    "orientation",
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_GOLDEN = 0.618033988749895  # successive hues stay apart however many there are


@dataclass(frozen=True)
class LabelCard:
    """How one label value is shown. `color` is (r, g, b), 0 to 255."""

    value: int
    name: str
    color: tuple[int, int, int]
    terminology: str = ""


@dataclass(frozen=True)
class Card:
    """A model's card; see the module for the file format. `derived` says no file was there."""

    title: str
    id: str = ""
    description: str = ""
    license: str = ""
    citation: str = ""
    intended_use: str = ""
    modality: str = ""
    configuration: str = ""
    orientation: str = ""
    channels: tuple[str, ...] = ()
    labels: tuple[LabelCard, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    derived: bool = False

    def to_json(self) -> dict[str, Any]:
        """The content of `mednext.json`."""
        content = asdict(self)
        del content["derived"]
        content["channels"] = list(self.channels)
        content["labels"] = [{**asdict(e), "color": list(e.color)} for e in self.labels]
        content["provenance"], content["files"] = dict(self.provenance), dict(self.files)
        return {"format": FORMAT, **content}


def read_card(raw: Mapping[str, Any]) -> Card:
    """Checks the content of a `mednext.json`; missing keys stay empty.

    Raises:
        ModelError: a newer format, or an entry of the wrong kind.
    """
    version = read_int(raw.get("format", FORMAT), f"'format' of {FILE_NAME}", 1, 10**6)
    if version > FORMAT:
        raise ModelError(
            f"{FILE_NAME} has format {version}, which is newer than this program knows.",
            "Update MedNeXtSeg.",
        )
    texts: dict[str, Any] = {
        key: read_text(raw.get(key, ""), f"'{key}' of {FILE_NAME}") for key in _TEXTS
    }
    read_orientation(texts["orientation"], FILE_NAME)
    channels = read_list(raw.get("channels", []), f"'channels' of {FILE_NAME}", limit=64)
    labels = read_list(raw.get("labels", []), f"'labels' of {FILE_NAME}", limit=MAX_LABELS)
    files = read_dict(raw.get("files", {}), f"'files' of {FILE_NAME}")
    for name, digest in files.items():
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise ModelError(f"{FILE_NAME} has no valid SHA-256 for '{name[:100]}'.")
    return Card(
        **texts,
        channels=tuple(read_text(c, f"A channel of {FILE_NAME}", limit=200) for c in channels),
        labels=tuple(_read_label(entry) for entry in labels),
        provenance=read_dict(raw.get("provenance", {}), f"'provenance' of {FILE_NAME}"),
        files=files,
    )


def read_orientation(value: str, name: str) -> str:
    """Three letters, one of each of R/L, A/P and S/I, or none. Raises ModelError."""
    letters = sorted("RAS"["RLAPSI".index(c) // 2] for c in value if c in "RLAPSI")
    if value and (len(value) != 3 or letters != ["A", "R", "S"]):
        raise ModelError(f"'orientation' of {name} is not a code such as RAS or LPS.")
    return value


def _read_label(entry: Any) -> LabelCard:
    what = f"A label of {FILE_NAME}"
    raw = read_dict(entry, what)
    value = read_int(raw.get("value"), f"{what}: its value", 0, MAX_VALUE)
    color = raw.get("color")
    if color is None:
        red, green, blue = default_color(value)
    else:
        red, green, blue = (
            read_int(c, f"{what}: its color", 0, 255)
            for c in read_list(color, f"{what}: its color", length=3)
        )
    return LabelCard(
        value,
        read_text(raw.get("name", ""), f"{what}: its name", limit=200),
        (red, green, blue),
        read_text(raw.get("terminology") or "", f"{what}: its terminology", limit=2000),
    )


def complete_card(
    card: Card | None,
    *,
    name: str,
    labels: Labels,
    channels: tuple[str, ...],
    dataset_json: Mapping[str, Any],
) -> Card:
    """The card with what it lacks derived from `dataset.json`; one label card a segment."""
    if card is None:
        card = Card(title="", derived=True)
    known = {entry.value: entry for entry in card.labels}
    shown = []
    for value, label in sorted(labels.segments.items()):
        entry = known.get(value) or LabelCard(value, label, default_color(value))
        shown.append(entry if entry.name else replace(entry, name=label))
    return replace(
        card,
        title=card.title or _text(dataset_json, "name") or name,
        description=card.description or _text(dataset_json, "description"),
        license=card.license or _text(dataset_json, "licence", "license"),
        citation=card.citation or _text(dataset_json, "reference", "citation"),
        modality=card.modality or _modality(channels),
        channels=channels,
        labels=tuple(shown),
    )


def default_color(value: int) -> tuple[int, int, int]:
    """A bright colour for a label value, stable and unlike its neighbours'; (r, g, b) 0 to 255."""
    hue = (value * _GOLDEN) % 1.0
    saturation = (0.55, 0.8, 0.4)[value % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)


def _text(raw: Mapping[str, Any], *keys: str) -> str:
    for key in keys:
        value = raw.get(key)
        if isinstance(value, str) and value.strip():
            return value.strip()[: MAX_BYTES // 2**12]
    return ""


def _modality(channels: tuple[str, ...]) -> str:
    """nnU-Net names CT channels "CT"; common names of MR contrasts say MR."""
    names = [c.strip().casefold() for c in channels]
    if all(n == "ct" for n in names):
        return "CT"
    if all(n.startswith(("t1", "t2", "flair", "mr", "dwi", "adc", "pd")) for n in names):
        return "MR"
    return ""

"""Segment names of the cases and what each becomes: a label of the new model, or not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _

from .finetune_cases import TrainingCase

BY_NAME, FROM_BASE, NEW, BACKGROUND, UNUSED = "by name", "base", "new", "background", "unused"


@dataclass
class LabelRow:
    """One segment name. `kind` is what was chosen for it, `base` the base model's label where one
    was named; `color` is red, green, blue, 0 to 255."""

    name: str
    color: tuple[int, int, int] | None = None
    terminology: str = ""
    kind: str = BY_NAME
    base: str = ""

    @property
    def used(self) -> bool:
        return self.kind != UNUSED

    def matched(self, base_names: Sequence[str]) -> str:
        """The label of the base model that this one goes on from; empty where it is new."""
        if self.kind == FROM_BASE and self.base in base_names:
            return self.base
        if self.kind in (BY_NAME, FROM_BASE):
            return next((name for name in base_names if plain(name) == plain(self.name)), "")
        return ""

    def state(self, base_names: Sequence[str]) -> str:
        """In a word what becomes of it."""
        if self.kind == UNUSED:
            return _("left out")
        if self.kind == BACKGROUND:
            return _("background")
        return _("matched") if self.matched(base_names) else _("new")


class LabelTable:
    """The rows, in the order in which the names came up; choices outlive changes of the cases."""

    def __init__(self) -> None:
        self.rows: list[LabelRow] = []
        self._remembered: dict[str, LabelRow] = {}

    def update(self, cases: Sequence[TrainingCase], kept: Sequence[LabelRow] = ()) -> None:
        """Takes the names of the cases' segments, and `kept` of cases whose nodes are gone."""
        found: dict[str, LabelRow] = {}
        for case in cases:
            for row in segments_of(case.segmentation) if case.from_scene else ():
                found.setdefault(row.name, row)
        if any(not case.from_scene for case in cases):
            for row in kept:
                found.setdefault(row.name, row)
        for row in self.rows:
            self._remembered[row.name] = row
        for name, row in found.items():
            known = self._remembered.get(name)
            if known is not None:
                row.kind, row.base = known.kind, known.base
            elif row.kind == BY_NAME and plain(name) in ("background", plain(_("background"))):
                row.kind = BACKGROUND
        self.rows = list(found.values())

    def follow_base(self) -> None:
        """The base model is what was trained of these very labels: each goes on from itself."""
        for row in self.rows:
            if row.kind in (NEW, FROM_BASE):
                row.kind, row.base = BY_NAME, ""

    def names(self) -> list[str]:
        """Names of what the new model finds."""
        return [row.name for row in self.rows if row.kind not in (UNUSED, BACKGROUND)]

    def backgrounds(self) -> list[str]:
        return [row.name for row in self.rows if row.kind == BACKGROUND]

    def dropped(self, base_names: Sequence[str]) -> list[str]:
        """Labels of the base model that the new one will not have."""
        kept = {row.matched(base_names) for row in self.rows}
        return [name for name in base_names if name not in kept]

    def problem(self, base_names: Sequence[str]) -> str:
        """Why these labels cannot be trained, in words."""
        if not self.names():
            return _("No segment is left to learn; choose what each goes on from.")
        if len(self.backgrounds()) > 1:
            return _("Only one segment can be the background: {names}.").format(
                names=", ".join(self.backgrounds())
            )
        taken: dict[str, str] = {}
        for row in self.rows:
            base = row.matched(base_names)
            if base and base in taken:
                return _("{one} and {other} both go on from {base}; choose 'New' for one.").format(
                    one=taken[base], other=row.name, base=base
                )
            taken[base] = row.name
        return ""

    def values(self) -> dict[str, int]:
        """The value of each used name in the label files, the same in all cases."""
        used = [row.name for row in self.rows if row.used]
        return {name: value for value, name in enumerate(used, start=1)}

    def as_json(self, base_names: Sequence[str]) -> list[dict[str, Any]]:
        """As job.json wants them, in the order of the rows."""
        labels = []
        for row in self.rows:
            if row.used:
                label: dict[str, Any] = {
                    "name": row.name,
                    "color": list(row.color) if row.color else None,
                    "terminology": row.terminology,
                    "background": row.kind == BACKGROUND,
                }
                label["base"] = row.matched(base_names) or None
                labels.append(label)
        return labels


def rows_from_json(labels: Any) -> list[LabelRow]:
    """The labels of an earlier job.json, as far as they can be read."""
    rows = []
    for label in labels if isinstance(labels, list) else ():
        if isinstance(label, Mapping) and isinstance(label.get("name"), str):
            color = label.get("color")
            sound = isinstance(color, list) and len(color) == 3
            rows.append(
                LabelRow(
                    label["name"],
                    tuple(int(c) for c in color) if sound else None,  # type: ignore[union-attr, arg-type]
                    str(label.get("terminology") or ""),
                    BACKGROUND if label.get("background") else BY_NAME,
                )
            )
    return rows


def segments_of(segmentation: Any) -> list[LabelRow]:
    """Name, colour and terminology of every segment."""
    if segmentation is None:
        return []
    held = segmentation.GetSegmentation()
    rows = []
    for index in range(held.GetNumberOfSegments()):
        segment = held.GetNthSegment(index)
        red, green, blue = (round(255 * part) for part in segment.GetColor())
        terminology = segment.GetTerminology() if hasattr(segment, "GetTerminology") else ""
        rows.append(LabelRow(segment.GetName() or "", (red, green, blue), str(terminology or "")))
    return rows


def plain(name: str) -> str:
    """A name as it is compared: letters and digits only, upper and lower case alike."""
    return " ".join(re.findall(r"[^\W_]+", name.casefold()))

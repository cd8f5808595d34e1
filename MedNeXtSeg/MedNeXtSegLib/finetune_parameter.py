"""Everything one training is told, with the reason where it cannot start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from slicer.i18n import tr as _

from .errors import UserError
from .finetune_cases import PAINTED, VALIDATE, TrainingCase, label_map_of
from .finetune_labels import LabelTable

QUICK, STANDARD, THOROUGH = "quick", "standard", "thorough"
PRESETS = (QUICK, STANDARD, THOROUGH)
WHOLE, ENCODER, SCRATCH = "whole", "encoder", "scratch"
TRANSFERS = (WHOLE, ENCODER, SCRATCH)


@dataclass
class FinetuneParameter:
    """One training. `base` is a ModelSummary of the protocol, None from scratch; `options` are
    those of job.json; `previous` is the folder of the training that this one continues."""

    name: str = ""
    base: Mapping[str, Any] | None = None
    preset: str = STANDARD
    channels: Sequence[str] = ()
    cases: Sequence[TrainingCase] = ()
    labels: LabelTable = field(default_factory=LabelTable)
    options: Mapping[str, Any] = field(default_factory=dict)
    preview_case: int | None = None  # index into `cases`
    previous: str = ""

    @property
    def base_names(self) -> list[str]:
        """Names of the base model's labels."""
        return [str(label["name"]) for label in self.base["labels"]] if self.base else []

    def problem(self) -> str:
        """Why this cannot start, in words; empty when it can."""
        if not self.cases:
            return _("Add a case: a volume with segments drawn on it.")
        for number, case in enumerate(self.cases, start=1):
            problem = case.problem(self.channels)
            if problem:
                return _("Case {number}: {problem}").format(number=number, problem=problem)
        problem = self._doubled() or self.labels.problem(self.base_names)
        if problem:
            return problem
        if all(case.use == VALIDATE for case in self.cases):
            return _("All cases are measured on; let the model learn from at least one.")
        if any(case.annotated == PAINTED for case in self.cases) and not self.labels.backgrounds():
            return _(
                "'Painted voxels only' needs a segment for what is background; paint one, or "
                "choose 'Background' for it among the labels."
            )
        if not self.name.strip():
            return _("Give the new model a name.")
        return ""

    def _doubled(self) -> str:
        seen: set[tuple[str, ...]] = set()
        for number, case in enumerate(self.cases, start=1):
            ids = tuple(node.GetID() for node in case.nodes())
            if ids and ids in seen:
                return _("Case {number} is on the list twice; remove one.").format(number=number)
            seen.add(ids)
        return ""

    def frozen(self) -> FinetuneParameter:
        """A copy that later changes of the panel do not reach."""
        labels = LabelTable()
        labels.rows = [replace(row) for row in self.labels.rows]
        cases = [replace(case, volumes=list(case.volumes)) for case in self.cases]
        return replace(self, cases=cases, labels=labels, options=dict(self.options))

    def require_valid(self) -> None:
        """Raises UserError with the reason where this cannot start."""
        problem = self.problem()
        if problem:
            raise UserError(problem)

    def case_ids(self) -> list[str]:
        """Names of the cases' folders; they tell nothing of the patient."""
        return [f"case_{number:03d}" for number in range(1, len(self.cases) + 1)]

    def as_json(self) -> dict[str, Any]:
        """The content of job.json."""
        ids = self.case_ids()
        chosen = self.preview_case
        preview = ids[chosen] if chosen is not None and chosen < len(ids) else None
        return {
            "version": 1,
            "name": self.name.strip(),
            "base": str(self.base["id"]) if self.base else None,
            "preset": self.preset,
            "channels": list(self.channels),
            "labels": self.labels.as_json(self.base_names),
            "cases": ids,
            "options": {**self.options, "preview_case": preview},
            "previous": self.previous or None,
        }

    def key(self) -> tuple[Any, ...]:
        """Changes whenever a job folder written of this would be another one."""
        times = tuple(
            (node.GetID(), node.GetMTime(), _content_time(node))
            for case in self.cases
            for node in case.nodes()
        )
        settings = repr(self.as_json())
        cases = tuple((c.annotated, c.axis, c.beyond, c.use, str(c.kept or "")) for c in self.cases)
        return (settings, cases, times)


def _content_time(node: Any) -> int:
    if node.IsA("vtkMRMLSegmentationNode"):
        held = node.GetSegmentation()
        segments = [held.GetNthSegment(index) for index in range(held.GetNumberOfSegments())]
        images = [label_map_of(segment) for segment in segments]
        return max(int(one.GetMTime()) for one in (held, *segments, *images) if one is not None)
    image = node.GetImageData() if node.IsA("vtkMRMLVolumeNode") else None
    return int(image.GetMTime()) if image is not None else 0

"""Cases that are remembered: in the scene's settings, and in the folders of earlier trainings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from .finetune_cases import ANNOTATED, AUTO, AXES, EVERYTHING, FOUND, USES, TrainingCase
from .finetune_export import read_json
from .finetune_labels import LabelRow, rows_from_json
from .settings import SceneSettings

_LIST = "FineTuneCases"


def save_cases(settings: SceneSettings, cases: list[TrainingCase]) -> None:
    """Writes those cases that are made of the scene; nodes as references, which survive a save."""
    held = [case for case in cases if case.nodes()]
    for number, case in enumerate(held):
        for index, volume in enumerate(case.volumes):
            settings.set_reference(_role(number, f"Volume{index}"), volume)
        settings.set_reference(_role(number, "Segmentation"), case.segmentation)
        settings.set_reference(_role(number, "Box"), case.roi)
    said = [
        {
            "channels": len(c.volumes),
            "annotated": c.annotated,
            "axis": c.axis,
            "beyond": c.beyond,
            "use": c.use,
        }
        for c in held
    ]
    settings.set_text(_LIST, json.dumps(said) if said else "")


def load_cases(settings: SceneSettings) -> list[TrainingCase]:
    """The cases that a scene remembers; what cannot be read is left out."""
    try:
        said = json.loads(settings.text(_LIST) or "[]")
    except ValueError:
        return []
    cases = []
    for number, entry in enumerate(said if isinstance(said, list) else []):
        if not isinstance(entry, Mapping):
            continue
        count = entry.get("channels")
        volumes = [
            settings.reference(_role(number, f"Volume{index}"))
            for index in range(count if isinstance(count, int) and 0 < count <= 64 else 1)
        ]
        case = TrainingCase(
            volumes,
            settings.reference(_role(number, "Segmentation")),
            _one_of(entry.get("annotated"), ANNOTATED, EVERYTHING),
            _one_of(entry.get("axis"), AXES, FOUND),
            settings.reference(_role(number, "Box")),
            _one_of(entry.get("use"), USES, AUTO),
            beyond=entry.get("beyond") is True,
        )
        if case.nodes():
            cases.append(case)
    return cases


def cases_of_run(folder: Path) -> tuple[list[TrainingCase], list[LabelRow]]:
    """Cases and labels of an earlier training. Nodes that are still in the scene are taken up
    again; where they are gone, the files of that training stand in."""
    job = read_json(folder / "job.json")
    ids = job.get("cases")
    cases = []
    for identifier in ids if isinstance(ids, list) else []:
        if not isinstance(identifier, str) or Path(identifier).name != identifier:
            continue
        place = folder / "cases" / identifier
        content = read_json(place / "case.json")
        if content:
            cases.append(_remembered(content, place, number=len(cases) + 1))
    return cases, rows_from_json(job.get("labels"))


def _remembered(content: Mapping[str, Any], place: Path, number: int) -> TrainingCase:
    source = content.get("source")
    source = source if isinstance(source, Mapping) else {}
    volumes = source.get("volumes")
    volumes = volumes if isinstance(volumes, list) and volumes else [None]
    nodes = [_find(said, "vtkMRMLScalarVolumeNode") for said in volumes]
    segmentation = _find(source.get("segmentation"), "vtkMRMLSegmentationNode")
    roi = _find(source.get("roi"), "vtkMRMLMarkupsROINode")
    complete = segmentation is not None and all(node is not None for node in nodes)
    complete = complete and (roi is not None or not source.get("roi"))
    return TrainingCase(
        nodes if complete else [None] * len(nodes),
        segmentation if complete else None,
        _one_of(source.get("annotated"), ANNOTATED, EVERYTHING),
        _one_of(source.get("axis"), AXES, FOUND),
        roi if complete else None,
        _one_of(content.get("use"), USES, AUTO),
        place,
        _name(volumes[0]) or _("Case {number}").format(number=number),
        beyond=source.get("beyond") is True,
    )


def _find(said: Any, kind: str) -> Any:
    """The node of that id and name, or else the only one of that name."""
    if not isinstance(said, Mapping) or not _name(said):
        return None
    node = slicer.mrmlScene.GetNodeByID(str(said.get("id") or ""))
    if node is not None and node.IsA(kind) and node.GetName() == said["name"]:
        return node
    named = [n for n in slicer.util.getNodesByClass(kind) if n.GetName() == said["name"]]
    return named[0] if len(named) == 1 else None


def _name(said: Any) -> str:
    return str(said.get("name") or "") if isinstance(said, Mapping) else ""


def _role(number: int, what: str) -> str:
    return f"FineTuneCase{number}{what}"


def _one_of(value: Any, known: tuple[str, ...], default: str) -> str:
    return value if value in known else default

"""Cases on their way to the training: a job folder, written in steps so that Slicer stays alive."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from .errors import UserError
from .exporting import export_channels
from .finetune_cases import BOX, EVERYTHING, SLICES, TrainingCase, array_axis, segment_names
from .finetune_parameter import FinetuneParameter
from .finetune_segments import LabelMap, label_map_steps, write_label_map
from .geometry import Grid, roi_box
from .job_folder import JobFolder

Step = tuple[float, str]  # how much of the export is done (0 to 1), and of what


class RunFolder(JobFolder):
    """A new, private folder of a training in the directory of the worker's `runs` answer."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        # The name tells nothing of the cases; the model's own name stands in job.json.
        path = Path(directory) / f"run-{secrets.token_hex(6)}"
        try:
            path.mkdir(mode=0o700, parents=True)
            (path / "cases").mkdir(mode=0o700)
        except OSError as error:
            raise UserError(
                _("No folder for the training could be made in {folder} ({reason}).").format(
                    folder=directory, reason=error.strerror
                ),
                _("Free space, or make the folder writable."),
            ) from error
        self.path = path

    def advice(self) -> str:
        return _("Free space, or remove earlier trainings from their list.")


def export_steps(parameter: FinetuneParameter, folder: RunFolder) -> Iterator[Step]:
    """Writes the job folder; each step takes about as long as one volume or segment takes.

    Raises UserError where a case cannot be written. `job.json` comes last: a folder without it is
    no job.
    """
    count = len(parameter.cases)
    values = parameter.labels.values()
    for number, (identifier, case) in enumerate(
        zip(parameter.case_ids(), parameter.cases, strict=True)
    ):
        place = folder.path / "cases" / identifier
        text = _("Exporting case {number} of {count}").format(number=number + 1, count=count)
        yield number / count, text
        try:
            place.mkdir(mode=0o700)
            steps = (
                _scene_case(case, parameter, place, values, folder)
                if case.from_scene
                else _kept_case(case, place, values, folder)
            )
            for part in steps:
                yield (number + part) / count, text
        except OSError as error:
            raise UserError(
                _("Case {number} could not be written ({reason}).").format(
                    number=number + 1, reason=error.strerror or error
                ),
                _("Free space on the disk, then try again."),
            ) from error
        except UserError as error:
            raise type(error)(
                _("Case {number}: {problem}").format(number=number + 1, problem=error.message),
                error.hint,
            ) from error
    write_json(folder.path / "job.json", parameter.as_json())
    yield 1.0, _("Exporting")


def _scene_case(
    case: TrainingCase,
    parameter: FinetuneParameter,
    place: Path,
    values: dict[str, int],
    folder: RunFolder,
) -> Iterator[float]:
    volumes = case.volumes[: len(parameter.channels)]
    names = list(parameter.channels)
    target = _CaseFolder(place, folder)
    exported = export_channels(volumes, names, target)
    images = []
    for index, path in enumerate(exported.paths):
        images.append(f"image_{index:04d}.nrrd")
        path.replace(place / images[-1])
    yield 0.5
    label_map: LabelMap | None = None
    total = max(1, case.segmentation.GetSegmentation().GetNumberOfSegments())
    for step, found in enumerate(label_map_steps(case.segmentation, exported.grid, values)):
        label_map = found
        yield 0.5 + 0.4 * min(1.0, step / total)
    if label_map is None:
        raise UserError(_("There are no segments."))
    target.require_space(2 * label_map.values.nbytes)
    write_label_map(label_map, exported.grid, place / "labels.nrrd")
    content = {
        "version": 1,
        "images": images,
        "labels": "labels.nrrd",
        "values": {n: values[n] for n in segment_names(case.segmentation) if n in values},
        "annotated": _annotated(case, exported.grid),
        "use": case.use,
        "overlaps": label_map.overlaps,
        "source": source_of(case),
    }
    write_json(place / "case.json", content)
    yield 1.0


class _CaseFolder(JobFolder):
    """A case's folder as `export_channels` writes to it; the whole run shares its disk."""

    def __init__(self, path: Path, run: RunFolder) -> None:
        self.path = path
        self._run = run

    def advice(self) -> str:
        return self._run.advice()


def _kept_case(
    case: TrainingCase, place: Path, used: dict[str, int], folder: RunFolder
) -> Iterator[float]:
    """The files of an earlier training once more: linked where the disk can, else copied."""
    if case.kept is None:
        raise UserError(_("Its files are gone."))
    content = read_json(case.kept / "case.json")
    names = [*content.get("images", []), content.get("labels")]
    if not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise UserError(_("Its files are gone."), _("Take it off the list, or pick its nodes."))
    for done, name in enumerate(names, start=1):
        try:
            os.link(case.kept / name, place / name)
        except FileNotFoundError:
            raise UserError(_("Its files are gone."), _("Take it off the list.")) from None
        except OSError:
            folder.require_space((case.kept / name).stat().st_size)
            shutil.copy2(case.kept / name, place / name)
        yield done / (len(names) + 1)
    held = content.get("values")
    content["values"] = {n: v for n, v in held.items() if n in used} if held else {}
    content["use"] = case.use
    write_json(place / "case.json", content)
    yield 1.0


def _annotated(case: TrainingCase, grid: Grid) -> dict[str, Any]:
    """The "annotated" of case.json; arrays are indexed [k, j, i], as in the label file."""
    said: dict[str, Any] = {"kind": case.annotated or EVERYTHING}
    if case.annotated == SLICES:
        said["axis"] = array_axis(case.axis, grid.ijk_to_ras)
        said["beyond"] = case.beyond
        said["slices"] = None
    elif case.annotated == BOX:
        low, high = roi_box(case.roi, grid)
        said["box"] = [[low[axis], high[axis]] for axis in (2, 1, 0)]
    return said


def source_of(case: TrainingCase) -> dict[str, Any]:
    """What the case was made from, so that it can be found again; stays in the job folder."""

    def said(node: Any) -> dict[str, str] | None:
        return {"id": node.GetID(), "name": node.GetName() or ""} if node is not None else None

    return {
        "volumes": [said(volume) for volume in case.volumes],
        "segmentation": said(case.segmentation),
        "roi": said(case.roi) if case.annotated == BOX else None,
        "annotated": case.annotated,
        "axis": case.axis,
        "beyond": case.beyond,
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes all of it or nothing."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(content, ensure_ascii=True, indent=1), encoding="ascii")
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """A file that this module or the engine wrote; empty where it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

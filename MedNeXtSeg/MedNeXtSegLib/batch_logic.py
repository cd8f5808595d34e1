"""Many cases, one after the other: volumes of the scene, or images of a folder.

A case that fails does not stop the others; a case that is done already is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from mednext_engine.jobs import protocol as p

from .channel_matching import cases_of
from .errors import UserError
from .parameter import SegmentParameter
from .placing import MODEL_ATTRIBUTE
from .segment_job import CANCELLED, DONE, Outcome
from .segment_logic import SegmentLogic
from .worker_client import Job, Reply, WorkerClient

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
_CHANNEL = re.compile(r"(.+)_(\d{4})")
WAITING, RUNNING, FINISHED, SKIPPED, FAILED, STOPPED = range(6)


@dataclass
class Case:
    """One case: its volume nodes, or the files of its channels and where the labels go."""

    name: str
    volumes: Sequence[Any] = field(default_factory=list)
    files: Sequence[Path] = field(default_factory=list)
    output: Path | None = None
    state: int = WAITING
    text: str = ""


def scene_cases(model: Mapping[str, Any], volumes: Sequence[Any]) -> list[Case]:
    """A case a volume; for models of several channels one for the volumes whose names differ in
    the channel only. Skipped where a segmentation of it by this model is in the scene.

    Raises UserError where no volume's name tells its channel.
    """
    channels = list(model.get("channels", []))
    if len(channels) == 1:
        return [_scene_case(model, volume.GetName(), [volume]) for volume in volumes]
    groups = cases_of(channels, [volume.GetName() or "" for volume in volumes])
    if volumes and not groups:
        raise UserError(
            _("The model needs {channels} for each case.").format(channels=", ".join(channels)),
            _("Name the volumes so, for example 'Case 1 {channel}', or use a folder.").format(
                channel=channels[0]
            ),
        )
    cases = []
    for title, found in groups.items():
        picked = [volumes[index] if index is not None else None for index in found]
        name = title or next(volume.GetName() for volume in picked if volume is not None)
        cases.append(_scene_case(model, name, picked))
    return cases


def _scene_case(model: Mapping[str, Any], name: str, volumes: Sequence[Any]) -> Case:
    case = Case(name, volumes=volumes, text=_("Waiting"))
    absent = [c for c, volume in zip(model["channels"], volumes, strict=True) if volume is None]
    if absent:
        case.state = FAILED
        case.text = _("Not one volume is named for channel {channels}").format(
            channels=", ".join(absent)
        )
    elif _segmented(volumes[0], str(model["id"])):
        case.state, case.text = SKIPPED, _("Skipped: it is segmented already")
    return case


def _segmented(volume: Any, model: str) -> bool:
    scene = volume.GetScene()
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")):
        node = scene.GetNthNodeByClass(index, "vtkMRMLSegmentationNode")
        if node.GetNodeReference(role) is volume and node.GetAttribute(MODEL_ATTRIBUTE) == model:
            return True
    return False


def folder_cases(model: Mapping[str, Any], source: str, target: str) -> list[Case]:
    """A case an image; for models of several channels one for files `case_0000`, `case_0001`…

    Raises UserError where a folder is not there or holds no image.
    """
    if not source or not Path(source).is_dir():
        raise UserError(_("Pick the folder with the images."))
    if not target:
        raise UserError(_("Pick the folder for the label maps."))
    if Path(source).resolve() == Path(target).resolve():
        raise UserError(_("The label maps must go to another folder than the images are in."))
    count = len(model.get("channels", []))
    groups: dict[str, dict[int, Path]] = {}
    for path in sorted(Path(source).iterdir()):
        suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)
        if suffix is None or path.name.startswith("."):
            continue
        stem = path.name[: -len(suffix)]
        match = _CHANNEL.fullmatch(stem)
        name, channel = (match[1], int(match[2])) if match and count > 1 else (stem, 0)
        groups.setdefault(name, {})[channel] = path
    if not groups:
        raise UserError(_("There is no image in {folder}.").format(folder=source))
    return [_folder_case(name, files, count, Path(target)) for name, files in groups.items()]


def _folder_case(name: str, files: Mapping[int, Path], count: int, target: Path) -> Case:
    output = target / f"{name}.nii.gz"
    case = Case(name, files=[files[i] for i in sorted(files)], output=output, text=_("Waiting"))
    if output.exists():
        case.state, case.text = SKIPPED, _("Skipped: its label map is there already")
    elif sorted(files) != list(range(count)):
        case.state = FAILED
        case.text = _("It needs {count} files, _0000 to _{last:04d}").format(
            count=count, last=count - 1
        )
    return case


class BatchLogic:
    """Runs cases one after the other. `on_case(index)` tells of a change, `on_end()` of the end."""

    def __init__(self, client: WorkerClient, segment: SegmentLogic) -> None:
        self._client, self._segment = client, segment
        self._parameter = SegmentParameter()
        self._job: Job | None = None
        self._stopping = False
        self.running = False
        self.cases: list[Case] = []
        self.on_case: Callable[[int], None] = lambda index: None
        self.on_end: Callable[[], None] = lambda: None

    def start(self, cases: list[Case], parameter: SegmentParameter) -> None:
        """`parameter` gives model and options; its volumes do not count. Raises UserError."""
        if self.running or self._segment.running:
            raise UserError(_("A run is under way; wait for it or cancel it."))
        if not parameter.model:
            raise UserError(_("Pick a model."))
        self.cases, self._parameter = cases, parameter
        self.running, self._stopping = True, False
        self._next()

    def cancel(self) -> None:
        self._stopping = True
        if self._job is not None and not self._job.over:
            self._client.cancel(self._job)
        elif self._segment.running and self._segment.job is not None:
            self._segment.job.cancel()

    def summary(self) -> str:
        """The states of all cases in one sentence."""
        counts = [sum(case.state == state for case in self.cases) for state in range(6)]
        text = _("{done} of {all} done, {skipped} skipped, {failed} failed.").format(
            done=counts[FINISHED],
            all=len(self.cases),
            skipped=counts[SKIPPED],
            failed=counts[FAILED],
        )
        return text if not counts[STOPPED] else text + " " + _("The batch was cancelled.")

    def _next(self) -> None:
        for index, case in enumerate(self.cases):
            if case.state != WAITING:
                continue
            if self._stopping:
                case.state, case.text = STOPPED, _("Not run")
                self.on_case(index)
                continue
            self._begin(index, case)
            return
        self.running = False
        self.on_end()

    def _begin(self, index: int, case: Case) -> None:
        case.state, case.text = RUNNING, _("Running")
        self.on_case(index)

        def progressed(progress: p.Progress) -> None:
            case.text = f"{progress.stage} ({progress.fraction:.0%})"
            self.on_case(index)

        def finished(state: int, text: str) -> None:
            case.state, case.text = state, text
            self.on_case(index)
            self._next()

        try:
            if case.volumes:
                self._begin_volumes(case, progressed, finished)
            else:
                self._begin_files(case, progressed, finished)
        except UserError as error:
            finished(FAILED, str(error))

    def _begin_volumes(
        self,
        case: Case,
        progressed: Callable[[p.Progress], None],
        finished: Callable[[int, str], None],
    ) -> None:
        def ended(outcome: Outcome) -> None:
            if outcome.state == DONE:
                finished(FINISHED, _("Done: {name}").format(name=outcome.segmentation.GetName()))
            elif outcome.state == CANCELLED:
                finished(STOPPED, outcome.message)
            else:
                finished(FAILED, f"{outcome.message} {outcome.hint}".strip())

        if any(volume.GetScene() is None for volume in case.volumes):
            raise UserError(_("The volume is not in the scene any more."))
        one = replace(
            self._parameter, volumes=case.volumes, segmentation=None, roi=None, time_points=False
        )
        self._segment.start(one, progressed, ended)

    def _begin_files(
        self,
        case: Case,
        progressed: Callable[[p.Progress], None],
        finished: Callable[[int, str], None],
    ) -> None:
        def replied(reply: Reply) -> None:
            if isinstance(reply, p.Result):
                finished(FINISHED, _("Done"))
            elif isinstance(reply, p.Cancelled):
                finished(STOPPED, _("Cancelled"))
            else:
                finished(FAILED, f"{reply.message} {reply.hint}".strip())

        output = case.output or Path()
        output.parent.mkdir(parents=True, exist_ok=True)
        options: Any = {**self._parameter.options(None), "uncertainty": False}
        request = p.Segment(
            inputs=[str(path.resolve()) for path in case.files],
            output=str(output.resolve()),
            model=str(self._parameter.model["id"]) if self._parameter.model else "",
            options=options,
        )
        self._job = self._client.ask(request, replied, progressed)

"""Cases as the training loop reads them: arrays on disk in the plan's grid.

Images go through the inference engine's own preprocessing, and labels follow in the same frame:
turned, cropped and brought to the plan's spacing with them. `index.json`, written last, says what
there is; without it a folder counts as unfinished.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..atomic import replacing
from ..errors import EngineError, InputError, OutputError
from ..models.jsonfile import read_dict, read_json, read_list, read_number, read_text, write_json
from .annotation import UNKNOWN, training_labels
from .case_file import CaseFile
from .facts import image_digest, read_case_arrays
from .job import Job
from .label_matching import LabelPlan
from .label_resampling import resample_labels, surviving_share
from .reading import read_id
from .splitting import HeldOut, Split, hold_out

if TYPE_CHECKING:
    from ..inference.preprocess import Frame
    from ..models.plan import Plan
    from ..monitor import Monitor
    from ..training.cases import TrainingCase

INDEX = "index.json"
_DATA, _TRAIN, _VALIDATION = "_image.npy", "_train.npy", "_validation.npy"


@dataclass(frozen=True)
class Prepared:
    """What training runs on.

    Attributes:
        train, validation: arrays on disk; a divided case stands in both, with other labels.
        surviving: case id -> share of its annotated voxels that are annotated in the plan's grid.
        sources: case id -> digest of its image's voxels.
        sentence: on what the figures are measured.
    """

    train: tuple[TrainingCase, ...]
    validation: tuple[TrainingCase, ...]
    surviving: dict[str, float]
    sources: dict[str, str] = field(default_factory=dict)
    sentence: str = ""


def prepare_cases(
    job: Job,
    plan: Plan,
    label_plan: LabelPlan,
    split: Split,
    folder: Path,
    monitor: Monitor,
    orientation: str = "",
) -> Prepared:
    """Writes the arrays of every case into `folder` (run/prepared), with an index beside them.

    Args:
        plan: its spacing, axes and normalisation are the arrays'.
        label_plan: its names are the classes 1 to N, as in `Job.classes`.
        orientation: what images are turned to (`Model.orientation`).

    Raises:
        InputError: a case cannot be read (any more) or does not fit the plan, or none of its
            annotated voxels is left.
        OutputError: no space or no permission.
        Cancelled: what was written is no prepared folder yet.
    """
    if label_plan.names != tuple(label.name for label in job.classes):
        raise InputError("The labels were matched for another job than this one.")
    folder = Path(folder)
    _make(folder)
    surviving, sources = {}, {}
    wanted = [case for case in job.cases if case.id in {*split.train, *split.validate}]
    for index, case in enumerate(wanted):
        monitor.advance(index / len(wanted), f"Preparing {case.id}.")
        try:
            surviving[case.id], sources[case.id] = _prepare(
                case, job, plan, split, folder, monitor, orientation
            )
        except InputError as error:
            raise InputError(f"{case.id}: {error.message}", error.hint) from None
    content = {
        "version": 1,
        "train": list(split.train),
        "validate": list(split.validate),
        "surviving": surviving,
        "sources": sources,
        "sentence": split.sentence,
    }
    write_json(folder / INDEX, content)
    return _prepared(folder, content)


def _make(folder: Path) -> None:
    """An empty folder of the user's own; an index of an earlier run goes first of all."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / INDEX).unlink(missing_ok=True)
        for old in (*folder.glob("*.npy"), *folder.glob("*.npz")):
            old.unlink()
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written: {error.strerror or error}.",
            "Check the permissions of the job's folder.",
        ) from None


def _prepare(
    case: CaseFile,
    job: Job,
    plan: Plan,
    split: Split,
    folder: Path,
    monitor: Monitor,
    orientation: str,
) -> tuple[float, str]:
    """Writes one case; its surviving share and the digest of its image."""
    from ..inference.preprocess import make_frame, preprocess

    volume, values, _ = read_case_arrays(case, job, monitor)
    frame = make_frame(volume, plan, orientation)
    labels = training_labels(values, case, job.class_values)
    whole = labels_on_plan(labels, plan, frame, monitor)
    share = surviving_in_frame(labels, whole, frame)
    if not (whole != UNKNOWN).any():
        raise InputError(
            "None of its voxels is annotated where the image is not zero.",
            "Annotate a part of the image, or leave the case out.",
        )
    held = split.inside.get(case.id)
    maps = _divided(labels, plan, frame, held) if held else {_TRAIN: whole, _VALIDATION: whole}
    uses = {_TRAIN: case.id in split.train, _VALIDATION: case.id in split.validate}
    for name, array in maps.items():
        if uses[name]:
            _save(folder / f"{case.id}{name}", array)
    monitor.check()
    data = np.asarray(preprocess(volume, plan, frame=frame).data, dtype=np.float32)
    _save(folder / f"{case.id}{_DATA}", data)
    return share, image_digest(volume)


def labels_on_plan(
    labels: np.ndarray, plan: Plan, frame: Frame, monitor: Monitor | None = None
) -> np.ndarray:
    """Labels (z, y, x) of the image's grid in the frame of the network's input, int16."""
    from ..inference.resampling import make_scheme

    scheme = make_scheme(
        frame.shape_after_crop, frame.plan_shape, plan.resample_data, frame.spacing, plan.spacing
    )
    apart = scheme.separate
    nearest = apart if apart is not None and scheme.orders[apart] <= 0 else None
    seen = np.ascontiguousarray(frame.view(labels))
    return resample_labels(seen, frame.plan_shape, nearest, monitor)


def surviving_in_frame(labels: np.ndarray, on_plan: np.ndarray, frame: Frame) -> float:
    """The share of the annotated voxels of `labels` (the image's grid) that are annotated in the
    plan's; those outside the image's non-zero box are lost."""
    seen = frame.view(labels)
    total = int(np.count_nonzero(labels != UNKNOWN))
    inside = int(np.count_nonzero(seen != UNKNOWN))
    return surviving_share(seen, on_plan) * inside / max(total, 1)


def _divided(labels: np.ndarray, plan: Plan, frame: Frame, held: HeldOut) -> dict[str, np.ndarray]:
    """Labels to train on and to validate with; no voxel of the plan's grid is known in both."""
    train, validation = (labels_on_plan(part, plan, frame) for part in hold_out(labels, held))
    train[validation != UNKNOWN] = UNKNOWN
    for array, what in ((train, "to train on"), (validation, "to validate with")):
        if not (array != UNKNOWN).any():
            raise InputError(
                f"When a part of the case is held out, nothing annotated is left {what}.",
                "Annotate more of it, or add a second case.",
            )
    return {_TRAIN: train, _VALIDATION: validation}


def _save(path: Path, array: np.ndarray) -> None:
    try:
        with replacing(path) as temporary:
            np.save(temporary, np.ascontiguousarray(array), allow_pickle=False)
    except OSError as error:
        raise OutputError(
            f"{path.name} cannot be written to {path.parent}: {error.strerror or error}.",
            f"It needs {array.nbytes / 2**20:.0f} MB; free some space or choose another folder.",
        ) from None


def _prepared(folder: Path, content: Mapping[str, object]) -> Prepared:
    from ..training.cases import TrainingCase

    def cases(key: str, labels: str) -> tuple[TrainingCase, ...]:
        ids = [read_id(i, "A case's id") for i in read_list(content.get(key), f"'{key}'")]
        return tuple(TrainingCase(i, folder / f"{i}{_DATA}", folder / f"{i}{labels}") for i in ids)

    return Prepared(
        train=cases("train", _TRAIN),
        validation=cases("validate", _VALIDATION),
        surviving={
            key: read_number(value, "A share", 0.0, 1.0)
            for key, value in read_dict(content.get("surviving"), "'surviving'").items()
        },
        sources={
            key: read_text(value, "A digest", limit=64)
            for key, value in read_dict(content.get("sources"), "'sources'").items()
        },
        sentence=read_text(content.get("sentence"), "'sentence'"),
    )


def read_index(folder: Path) -> Prepared:
    """What the index of a prepared folder says; whether the arrays are there is not asked.

    Raises:
        ModelError, InputError: there is no index, or it is damaged.
    """
    return _prepared(Path(folder), read_json(Path(folder) / INDEX))


def open_prepared(folder: Path) -> Prepared | None:
    """What an earlier run wrote, for resuming; None where it is missing, damaged or unfinished.

    The original images and label files are not needed for it.
    """
    try:
        prepared = read_index(folder)
        for case in (*prepared.train, *prepared.validation):
            case.open()
    except EngineError:
        return None
    return prepared


def prepared_bytes(job: Job, plan: Plan, orientation: str = "") -> int:
    """Disk space (bytes) that `prepare_cases` takes at most, from the images' headers.

    Images that cannot be read count nothing; a DICOM series is counted by its files.
    """
    import SimpleITK as sitk

    total = 0
    for case in job.cases:
        path = case.images[0]
        try:
            if path.is_dir():
                voxels = sum(file.stat().st_size for file in path.iterdir()) / 2
                total += round(voxels * (4 * len(case.images) + 4))
                continue
            reader = sitk.ImageFileReader()
            reader.SetFileName(str(path))
            reader.ReadImageInformation()
            volume = float(np.prod(reader.GetSize()[:3])) * float(np.prod(reader.GetSpacing()[:3]))
        except (OSError, RuntimeError):
            continue
        voxels = volume / float(np.prod(plan.spacing))
        if plan.resample_data.function == "no_resampling_hack":
            voxels = float(np.prod(reader.GetSize()[:3]))
        total += round(voxels * (4 * len(case.images) + 4))
    return total

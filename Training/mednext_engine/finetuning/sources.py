"""Job folders from data sets on disk: folders of image and label pairs, nnU-Net raw data sets.

Layouts of a folder of pairs, channels of an image named `NAME_0000`, `NAME_0001`, ... as nnU-Net
names them, or one file `NAME`:
    images/NAME.nii.gz   with labels/NAME.nii.gz
    NAME.nii.gz          with NAME_seg, NAME-seg, NAME_label(s), NAME-label(s) or NAME.seg.nrrd
Names of labels: `labels.json` or `dataset.json` in the folder ({"labels": {name: value}}, or
{name: value} alone), else those that 3D Slicer wrote into a .seg.nrrd, else "Label <value>".

Files stay where they are; the job names them by their absolute paths. Cases get neutral names
(case_001, ...); what they are made from stands in their `source`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..models.jsonfile import read_dict, read_int, read_json
from ..models.labels import MAX_VALUE, read_channel_names, read_labels
from .case_file import KINDS, Annotated, CaseFile
from .job import Job, JobLabel, JobOptions, write_job
from .label_files import segment_names
from .reading import as_input_error, read_name

WHOLLY = Annotated()
SUFFIXES = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
_CHANNEL = re.compile(r"(.+)_(\d{4})")
_LABEL_END = re.compile(r"(.+)[_-](?:seg|segmentation|labels?)", re.IGNORECASE)


@dataclass(frozen=True)
class _Pair:
    name: str
    images: tuple[Path, ...]
    labels: Path


def job_from_data(
    data: Path,
    folder: Path,
    *,
    name: str,
    base: str | None,
    preset: str = "standard",
    options: JobOptions | None = None,
    annotated: Annotated = WHOLLY,
    channels: Sequence[str] | None = None,
) -> Job:
    """Writes a job folder from whichever kind of data set `data` is; raises as the two below."""
    settings: dict[str, Any] = {
        "name": name,
        "base": base,
        "preset": preset,
        "options": options,
        "annotated": annotated,
    }
    if (Path(data) / "imagesTr").is_dir():
        return job_from_nnunet_raw(data, folder, **settings)
    return job_from_pairs(data, folder, channels=channels, **settings)


def job_from_pairs(
    data: Path,
    folder: Path,
    *,
    name: str,
    base: str | None,
    preset: str = "standard",
    options: JobOptions | None = None,
    annotated: Annotated = WHOLLY,
    channels: Sequence[str] | None = None,
) -> Job:
    """Writes a job folder from a folder of image and label pairs (see the module).

    Args:
        data: the folder of pairs.
        folder: where the job goes; made where it is not there.
        annotated: what of every label map was looked at; a box cannot be the same for all.
        channels: names of the image's channels (those of the base model); None: numbered.

    Raises:
        InputError: no pair is found, or a name list is not one.
        OutputError: the job folder cannot be written.
    """
    data = Path(data)
    if not data.is_dir():
        raise InputError(f"There is no folder {data}.")
    pairs = _pairs(data)
    if not pairs:
        raise InputError(
            f"{data} holds no pairs of image and label files.",
            "Put them into images/ and labels/ under equal names, or name the label file of "
            "NAME.nii.gz NAME_seg.nii.gz.",
        )
    count = len(pairs[0].images)
    names = tuple(channels or (f"Channel {index + 1}" for index in range(count)))
    with as_input_error():
        table = _named_values(data) or _found_values(pairs)
    return _write(
        folder, pairs, table, None, annotated, name=name, base=base, preset=preset,
        channels=names, options=options or JobOptions(),
    )  # fmt: skip


def job_from_nnunet_raw(
    data: Path,
    folder: Path,
    *,
    name: str,
    base: str | None,
    preset: str = "standard",
    options: JobOptions | None = None,
    annotated: Annotated = WHOLLY,
) -> Job:
    """Writes a job folder from an nnU-Net raw data set (imagesTr, labelsTr, dataset.json).

    Its ignore label becomes the value that means unknown.

    Raises:
        InputError: the data set is incomplete, or its labels are regions that overlap.
        OutputError: the job folder cannot be written.
    """
    data = Path(data)
    with as_input_error():
        dataset = read_json(data / "dataset.json")
        labels = read_labels(dataset)
        channels = read_channel_names(dataset)
    if labels.has_regions:
        raise InputError(
            "The labels of this data set are regions that overlap. Fine-tuning is not supported "
            "for them, because it trains classes that exclude each other.",
            "Give each value of the label maps a name of its own in dataset.json.",
        )
    if not (data / "labelsTr").is_dir():
        raise InputError(f"{data} has no folder labelsTr.", "It holds one label map a case.")
    pairs = _matched(data / "imagesTr", data / "labelsTr", len(channels))
    if not pairs:
        raise InputError(f"The folder {data / 'labelsTr'} holds no label map.")
    table = {name: value for value, name in labels.segments.items()}
    return _write(
        folder, pairs, table, labels.ignore, annotated, name=name, base=base, preset=preset,
        channels=channels, options=options or JobOptions(),
    )  # fmt: skip


def _write(
    folder: Path,
    pairs: Sequence[_Pair],
    table: Mapping[str, int],
    ignore: int | None,
    annotated: Annotated,
    **settings: Any,
) -> Job:
    if annotated.kind not in KINDS or annotated.kind == "box":
        raise InputError(f"'{annotated.kind}' is no way of annotating a whole data set.")
    cases = tuple(
        CaseFile(
            id=f"case_{number:03d}",
            images=tuple(path.resolve() for path in pair.images),
            labels=pair.labels.resolve(),
            values=dict(table),
            annotated=annotated,
            ignore=ignore,
            source={"name": pair.name},
        )
        for number, pair in enumerate(pairs, start=1)
    )
    labels = tuple(JobLabel(label) for label in table)
    job = Job(folder=Path(folder).resolve(), labels=labels, cases=cases, **settings)
    write_job(job.folder, job)
    return job


# --- files -----------------------------------------------------------------------------------


def _stem(path: Path) -> str | None:
    """The name without the suffix of an image format, or None for other files."""
    lower = path.name.lower()
    for suffix in SUFFIXES:
        if lower.endswith(suffix) and len(lower) > len(suffix) and not lower.startswith("."):
            return path.name[: -len(suffix)]
    return None


def _images(folder: Path) -> dict[str, Path]:
    """Name -> image file; of two files of one name the first in alphabetical order."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        stem = _stem(path) if path.is_file() else None
        if stem is not None:
            found.setdefault(stem, path)
    return found


def _channels_of(name: str, images: Mapping[str, Path]) -> tuple[Path, ...]:
    """The files of an image: `name` itself, or `name_0000`, `name_0001`, ..."""
    if name in images:
        return (images[name],)
    files: list[Path] = []
    while (key := f"{name}_{len(files):04d}") in images:
        files.append(images[key])
    return tuple(files)


def _matched(image_folder: Path, label_folder: Path, count: int | None) -> list[_Pair]:
    images = _images(image_folder)
    pairs = []
    for name, path in _images(label_folder).items():
        files = _channels_of(name, images)
        if not files or (count is not None and len(files) != count):
            expected = "an image" if count is None else f"{count} image files (channels)"
            raise InputError(
                f"{label_folder.name}/{path.name} needs {expected} in {image_folder.name}, but "
                f"{len(files)} are there.",
                f"They are named {name}_0000, {name}_0001, ...",
            )
        pairs.append(_Pair(name, files, path))
    return pairs


def _pairs(data: Path) -> list[_Pair]:
    if (data / "images").is_dir() and (data / "labels").is_dir():
        return _matched(data / "images", data / "labels", None)
    files = [path for path in sorted(data.iterdir()) if path.is_file() and _stem(path)]
    labels = {name: path for path in files if (name := _labelled(path))}
    images = {str(_stem(path)): path for path in files if path not in labels.values()}
    pairs = []
    for name, path in labels.items():
        channels = _channels_of(name, images)
        if channels:
            pairs.append(_Pair(name, channels, path))
    return pairs


def _labelled(path: Path) -> str | None:
    """The name of the image that a label file belongs to; None for an image."""
    if path.name.lower().endswith(".seg.nrrd"):
        stem = path.name[: -len(".seg.nrrd")]
        match = _LABEL_END.fullmatch(stem)
        return match[1] if match else stem
    match = _LABEL_END.fullmatch(_stem(path) or "")
    return match[1] if match else None


# --- names of labels -------------------------------------------------------------------------


def _named_values(data: Path) -> dict[str, int]:
    """Label name -> value from a list in the folder, or nothing."""
    for file in ("labels.json", "dataset.json"):
        if (data / file).is_file():
            raw = read_json(data / file)
            table = read_dict(raw.get("labels", raw), f"'labels' of {file}")
            values = {
                read_name(name, f"A label of {file}"): read_int(
                    value, f"Label '{name[:60]}' of {file}", 0, MAX_VALUE
                )
                for name, value in table.items()
            }
            return {name: value for name, value in values.items() if value != 0}
    return {}


def _found_values(pairs: Sequence[_Pair]) -> dict[str, int]:
    """Label name -> value from the label files themselves."""
    names: dict[int, str] = {}
    for pair in pairs:
        for value, name in segment_names(pair.labels).items():
            names.setdefault(value, name)
    if not names:
        raise InputError("No label file holds a label.", "Check that they are segmentations.")
    ordered: dict[str, int] = {}
    for value in sorted(names):
        name = names[value]
        ordered[name if name not in ordered else f"{name} ({value})"] = value
    return ordered

"""Which images are to be segmented, where each result goes, and whose share a case is."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .exits import UsageError

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
WRITABLE = (".nii.gz", ".nii", ".nrrd", ".mha")
_CHANNEL = re.compile(r"(.+)_(\d{4})")


@dataclass(frozen=True)
class Case:
    """One volume: its files (one a channel, or one DICOM folder) and its result's file."""

    name: str
    inputs: tuple[Path, ...]
    output: Path
    problem: str = ""

    @property
    def uncertainty(self) -> Path:
        return self.output.with_name(f"{stem(self.output)}_uncertainty{suffix(self.output)}")

    @property
    def probabilities(self) -> Path:
        return self.output.with_name(f"{stem(self.output)}_probabilities.npz")


@dataclass(frozen=True)
class Share:
    """This process does the cases `index`, `index + total`, ... of all (0 <= index < total)."""

    index: int = 0
    total: int = 1

    def of(self, cases: Sequence[Case]) -> list[Case]:
        return list(cases[self.index :: self.total])


# ---- cases -----------------------------------------------------------------------------------


def find_cases(
    source: Path, destination: Path, channels: int, more: Sequence[Path] = (), form: str = ".nii.gz"
) -> tuple[list[Case], bool]:
    """The cases at `source`, in the order of their names, and whether it is a batch of them.

    Args:
        source: an image, a folder with one DICOM series, a folder of images, or of such folders.
        destination: a file for one case, else a folder.
        channels: how many the model needs. In a folder the channels of a case are named as nnU-Net
            does: `name_0000.nii.gz`, `name_0001.nii.gz`, ...
        more: the further channels of a single image.
        form: suffix of the results in a folder.

    Raises:
        InputError, UsageError: nothing there, or nowhere to put it.
    """
    if not source.exists():
        raise InputError(f"There is no file or folder {source}.")
    if source.is_file() or _is_series(source):
        return [_single(source, destination, channels, more, form)], False
    if more:
        raise UsageError("--channel adds to a single image, not to a folder of them.")
    if suffix(destination) or destination.is_file():
        raise UsageError(f"{source} is a folder of images, so the results need a folder too.")
    if destination.resolve() == source.resolve():
        raise UsageError("The results must not go into the folder of the images.")
    images = _images(source)
    if images:
        cases = _grouped(images, destination, channels, form)
    else:
        folders = [p for p in _entries(source) if p.is_dir() and _is_series(p)]
        cases = [Case(p.name, (p,), destination / f"{p.name}{form}") for p in folders]
    if not cases:
        raise InputError(f"There are no images and no DICOM folders in {source}.")
    _check_unique(cases)
    return cases, True


def _single(
    source: Path, destination: Path, channels: int, more: Sequence[Path], form: str
) -> Case:
    inputs = (source, *more)
    name = stem(source) if source.is_file() else source.name
    match = _CHANNEL.fullmatch(name)
    if match and match[2] == "0000":
        name = match[1]
        if channels > 1 and not more:  # take the fellows that lie beside it
            fellows = [source.with_name(f"{name}_{n:04d}{suffix(source)}") for n in range(channels)]
            inputs = tuple(f for f in fellows if f.exists())
    output = destination
    if not suffix(destination) or destination.is_dir():
        output = destination / f"{name}{form}"
    if any(output.resolve() == one.resolve() for one in inputs):
        raise UsageError("The result must not overwrite the image.")
    return Case(name, inputs, output)


def _grouped(images: list[Path], destination: Path, channels: int, form: str) -> list[Case]:
    groups: dict[str, dict[int, Path]] = {}
    cases = []
    for image in images:
        match = _CHANNEL.fullmatch(stem(image))
        if match and (channels > 1 or match[2] == "0000"):
            groups.setdefault(match[1], {})[int(match[2])] = image
        else:
            cases.append(Case(stem(image), (image,), destination / f"{stem(image)}{form}"))
    for name, numbered in groups.items():
        inputs = tuple(numbered[n] for n in sorted(numbered))
        missing = [f"{name}_{n:04d}" for n in range(channels) if n not in numbered]
        extra = [f"{name}_{n:04d}" for n in numbered if n >= channels]
        problem = f"The channel {missing[0]} is missing." if missing else ""
        if extra:
            problem = problem or f"{extra[0]} is too many: the model has {channels} channels."
        cases.append(Case(name, inputs, destination / f"{name}{form}", problem))
    return sorted(cases, key=lambda case: case.name)


def _check_unique(cases: Sequence[Case]) -> None:
    seen: dict[str, Case] = {}
    for case in cases:
        key = case.output.name.casefold()
        if key in seen:
            first, second = seen[key].inputs[0].name, case.inputs[0].name
            raise InputError(
                f"{first} and {second} would both be written to {case.output.name}.",
                "Rename one of them.",
            )
        seen[key] = case


def _is_series(folder: Path) -> bool:
    """A folder of files that are no images of ours is taken for a DICOM series."""
    if not folder.is_dir() or _images(folder):
        return False
    return any(p.is_file() for p in _entries(folder))


def _images(folder: Path) -> list[Path]:
    return [p for p in _entries(folder) if p.is_file() and suffix(p)]


def _entries(folder: Path) -> list[Path]:
    try:
        return [p for p in sorted(folder.iterdir()) if not p.name.startswith(".")]
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be read: {error.strerror}.") from None


def suffix(path: Path) -> str:
    """The suffix of an image format, or an empty text."""
    name = path.name.lower()
    return next((s for s in SUFFIXES if name.endswith(s) and len(name) > len(s)), "")


def stem(path: Path) -> str:
    """The name without such a suffix."""
    return path.name[: len(path.name) - len(suffix(path))]


# ---- what is done ----------------------------------------------------------------------------


def is_complete(output: Path, more: Sequence[Path] = ()) -> bool:
    """Whether a result is there and can be read to its last voxel, and all `more` are there.

    Results are written under another name and renamed, so a killed run leaves none that is cut
    short; a copy that broke off, or a full disk, may.
    """
    if not output.is_file() or not all(path.is_file() for path in more):
        return False
    import SimpleITK as sitk

    from ..inference import nifti

    try:
        sitk.ReadImage(str(output))
        if nifti.is_nifti(output):  # ITK is content with half a file
            header = nifti.read_header(output)
            return header is not None and nifti.is_complete(output, header)
    except (RuntimeError, OSError, EOFError):
        return False
    return True


# ---- shares ----------------------------------------------------------------------------------


def find_share(part: str | None, environment: Mapping[str, str] = os.environ) -> Share:
    """Which share of the cases is this process's.

    `part` ("2/8": the second of eight) wins. Else torchrun's RANK and WORLD_SIZE and SLURM's array
    variables count, both together where an array's tasks run torchrun.

    Raises:
        UsageError: a part that is none, or an array with gaps, whose size cannot be told.
    """
    if part is not None:
        match = re.fullmatch(r"(\d+)/(\d+)", part)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise UsageError(f"--part is K/N with K from 1 to N, such as 2/8, not {part!r}.")
        return Share(int(match[1]) - 1, int(match[2]))
    outer, inner = _slurm_share(environment), _torchrun_share(environment)
    return Share(outer.index * inner.total + inner.index, outer.total * inner.total)


def _torchrun_share(environment: Mapping[str, str]) -> Share:
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        return Share()
    rank, size = _number(environment, "RANK"), _number(environment, "WORLD_SIZE")
    if not 0 <= rank < size:
        raise UsageError(f"RANK is {rank}, which is none of WORLD_SIZE={size} processes.")
    return Share(rank, size)


def _slurm_share(environment: Mapping[str, str]) -> Share:
    if "SLURM_ARRAY_TASK_ID" not in environment:
        return Share()
    task, count, low, high = (
        _number(environment, f"SLURM_ARRAY_TASK_{name}") for name in ("ID", "COUNT", "MIN", "MAX")
    )
    step = (high - low) // (count - 1) if count > 1 else 1
    if step < 1 or low + step * (count - 1) != high or (task - low) % step:
        raise UsageError(
            "The tasks of this SLURM array have gaps, so their shares cannot be told.",
            "Use --array=0-7 or the like, or say --part K/N.",
        )
    return Share((task - low) // step, count)


def _number(environment: Mapping[str, str], name: str) -> int:
    try:
        return int(environment[name])
    except (KeyError, ValueError):
        raise UsageError(
            f"The environment variable {name} is not a number.", "Say --part K/N instead."
        ) from None

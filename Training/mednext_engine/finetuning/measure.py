"""How well a model segments what was held out: Dice a label, on the images' own grids.

The whole way of a volume is taken, sliding window and resampling included, because that is what the
person will get. Voxels that nobody annotated, and those that were trained on, do not count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..evaluation.metrics import dice
from ..monitor import Monitor
from .annotation import UNKNOWN, training_labels
from .case_file import CaseFile
from .facts import image_digest, read_case_arrays
from .job import Job
from .parts import part_of
from .splitting import HeldOut, Split, hold_out

if TYPE_CHECKING:
    from ..inference.images import Volume
    from ..inference.options import Options
    from ..models.folder import Model


@dataclass(frozen=True)
class Measured:
    """Dice by class name, mean over cases that have it, and what was found in each case.

    Attributes:
        dice: class name -> mean; only names that could be measured.
        cases: case id -> its own Dice by class name.
        digests: case id -> `Segmented.digest`.
        missing: cases that cannot be read any more, or were changed.
    """

    dice: dict[str, float]
    cases: dict[str, dict[str, float]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Segmented:
    """A case's image, classes found in it, and the truth where it counts (else `UNKNOWN`).

    `digest` changes with the image's voxels and with that truth."""

    volume: Volume
    found: np.ndarray
    truth: np.ndarray
    digest: str


def class_table(model: Model, classes: Mapping[str, int]) -> np.ndarray:
    """Value in the model's output -> class of the job; 0 for what the job has no class for."""
    values = {name: value for value, name in model.labels.segments.items()}
    table = np.zeros(max([*values.values(), 0]) + 1, np.int16)
    for name, index in classes.items():
        if name in values:
            table[values[name]] = index
    return table


class Segmenting:
    """Segments cases of a job with one model; networks stay in memory between cases.

    Args:
        known: name in the model -> class of the job.
    """

    def __init__(self, model: Model, job: Job, known: Mapping[str, int], options: Options) -> None:
        from ..inference.engine import Segmenter

        self._job, self._options = job, options
        self._order = _channel_order(model.channel_names, job.channels)
        self._segmenter = Segmenter(model)
        self._table = class_table(model, known)

    def close(self) -> None:
        self._segmenter.close()

    def segment(self, case: CaseFile, held_out: HeldOut | None, monitor: Monitor) -> Segmented:
        """Raises InputError, besides what segmenting raises, when the case is not there."""
        volume, values, _ = read_case_arrays(case, self._job, monitor)
        seen = volume
        if self._order != list(range(len(self._order))):
            seen = replace(volume, array=volume.array[self._order])
        result = self._segmenter.segment(seen, self._options, monitor)
        truth = _truth(case, self._job, values, held_out)
        return Segmented(volume, self._table[result.labels], truth, _digest(volume, truth))


def _truth(case: CaseFile, job: Job, values: np.ndarray, held_out: HeldOut | None) -> np.ndarray:
    truth = training_labels(values, case, job.class_values)
    return truth if held_out is None else hold_out(truth, held_out)[1]


def _digest(volume: Volume, truth: np.ndarray) -> str:
    return f"{image_digest(volume)}-{hashlib.sha256(truth.tobytes()).hexdigest()[:32]}"


def digests_of(job: Job, split: Split, monitor: Monitor) -> dict[str, str]:
    """Case id -> what changes when the image or the labels of a held-out case do."""
    digests = {}
    for case in (case for case in job.cases if case.id in split.validate):
        volume, values, _ = read_case_arrays(case, job, monitor)
        digests[case.id] = _digest(volume, _truth(case, job, values, split.inside.get(case.id)))
    return digests


def score(found: np.ndarray, truth: np.ndarray, classes: Mapping[str, int]) -> dict[str, float]:
    """Dice by name of the classes that the truth or the result has, over known voxels."""
    known = truth != UNKNOWN
    scores = {}
    for name, index in classes.items():
        value = dice((found == index) & known, truth == index)
        if not np.isnan(value):
            scores[name] = float(value)
    return scores


def measure(
    model: Model,
    job: Job,
    split: Split,
    known: Mapping[str, str],
    options: Options,
    monitor: Monitor,
    look: Callable[[str, Segmented], None] | None = None,
    digests: Mapping[str, str] | None = None,
) -> Measured:
    """Segments every held-out case with `model` and scores it.

    Args:
        known: name of a class of the job -> its name in the model; others are not scored.
        look: called with each case.
        digests: of the cases as they were; one that has another now is left out.

    A case that is not there any more, or was changed, is left out and named in `missing`.
    """
    classes = {name: index for name, index in job.class_values.items() if index and name in known}
    if not classes or len(model.channel_names) != len(job.channels):
        return Measured({})
    table = {known[name]: index for name, index in classes.items()}
    segmenting = Segmenting(model, job, table, options)
    found = Measured({})
    by_id = {case.id: case for case in job.cases}
    for number, case_id in enumerate(split.validate):
        count = len(split.validate)
        part = part_of(monitor, number / count, (number + 1) / count)
        try:
            done = segmenting.segment(by_id[case_id], split.inside.get(case_id), part)
        except (InputError, KeyError):
            found.missing.append(case_id)
            continue
        if digests and digests.get(case_id, done.digest) != done.digest:
            found.missing.append(case_id)
            continue
        found.digests[case_id] = done.digest
        found.cases[case_id] = score(done.found, done.truth, classes)
        if look is not None:
            look(case_id, done)
    segmenting.close()
    found.dice.update(mean_scores(found.cases.values()))
    return found


def mean_scores(cases: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Mean by name over the cases that have it."""
    values: dict[str, list[float]] = {}
    for one in cases:
        for name, value in one.items():
            values.setdefault(name, []).append(value)
    return {name: sum(found) / len(found) for name, found in values.items()}


def _channel_order(model: Sequence[str], job: Sequence[str]) -> list[int]:
    """For each channel of the model, where it is among the job's; by name where all are known."""
    names = [name.strip().casefold() for name in job]
    wanted = [name.strip().casefold() for name in model]
    if sorted(names) == sorted(wanted) and len(set(names)) == len(names):
        return [names.index(name) for name in wanted]
    return list(range(len(model)))

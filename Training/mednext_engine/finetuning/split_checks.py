"""Whether what validates can: labels on both sides, and nothing there that was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import EngineError
from .facts import CaseFacts
from .job import Job
from .preparation import Prepared, read_index
from .problems import Problem, error, info, listed, warning
from .splitting import Split, held_counts


@dataclass(frozen=True)
class Previous:
    """Digests of the images of the run that a job continues: trained on, and validated."""

    trained: frozenset[str] = frozenset()
    validated: frozenset[str] = frozenset()


def read_previous(job: Job) -> Previous:
    """What the previous run used; nothing where there is none or it cannot be read."""
    if job.previous is None:
        return Previous()
    try:
        index: Prepared = read_index(job.previous / "run" / "prepared")
    except EngineError:
        return Previous()
    train = {index.sources.get(case.id, "") for case in index.train}
    validate = {index.sources.get(case.id, "") for case in index.validation}
    return Previous(frozenset(train - {""}), frozenset(validate - {""}))


def check_split(
    job: Job, cases: Sequence[CaseFacts], split: Split, previous: Previous
) -> list[Problem]:
    """Problems of the split of `cases`."""
    problems = _same_image(cases, split) + _trained_before(cases, split, previous)
    if split.trained_on:
        problems.append(
            warning(
                "",
                "Validation is on what was trained on: its figures are too good.",
                "Add a case, or set one to validate.",
            )
        )
    elif split.inside:
        problems.append(
            warning(
                "",
                split.sentence,
                "Add a second case to see how the model does on another. If only this one is to be "
                "completed, choose as its use that the model learns from it: then all of it does.",
            )
        )
    train, validation = _counts(cases, split)
    names = [label.name for label in job.classes]
    drawn = np.sum([case.counts for case in cases], axis=0)[1:] > 0
    untaught = [n for n, t, d in zip(names, train[1:], drawn, strict=True) if d and not t]
    unseen = [n for n, v, d in zip(names, validation[1:], drawn, strict=True) if d and not v]
    if untaught:
        problems.append(
            error(
                "",
                f"Only what validates holds {listed(untaught)}, so there is nothing to learn it "
                "from.",
                "Set a case that holds it to train.",
            )
        )
    if unseen:
        problems.append(
            warning(
                "",
                f"Nothing that validates holds {listed(unseen)}: no figure can be given for it.",
                "Set a case that holds it to validate, or annotate more slices.",
            )
        )
    return problems


def _counts(cases: Sequence[CaseFacts], split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Annotated voxels of each class that are trained on, and that validate."""
    train, validation = np.zeros_like(cases[0].counts), np.zeros_like(cases[0].counts)
    for case in cases:
        held = split.inside.get(case.id)
        if held is not None:
            out = held_counts(case, held)
            train, validation = train + case.counts - out, validation + out
            continue
        if case.id in split.train:
            train = train + case.counts
        if case.id in split.validate:
            validation = validation + case.counts
    return train, validation


def _same_image(cases: Sequence[CaseFacts], split: Split) -> list[Problem]:
    problems, seen = [], dict[str, CaseFacts]()
    for case in cases:
        first = seen.setdefault(case.digest, case)
        if first is case:
            continue
        message = f"{first.id} and {case.id} are the same image."
        if (first.id in split.validate) == (case.id in split.validate):
            problems.append(info(case.id, message, "Its annotations count twice."))
        else:
            message = f"{first.id} and {case.id} are the same image, but one validates the other."
            hint = "Use both for training or both for validation."
            problems.append(warning(case.id, message, hint))
    return problems


def _trained_before(cases: Sequence[CaseFacts], split: Split, previous: Previous) -> list[Problem]:
    return [
        warning(
            case.id,
            "This case validates, but the run that this one continues was trained on it: the "
            "figures are too good.",
            "Let the cases validate that did before.",
        )
        for case in cases
        if case.id in split.validate
        and case.id not in split.inside
        and case.digest in previous.trained
    ]

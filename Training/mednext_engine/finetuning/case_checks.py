"""What can be wrong with the labels of the cases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .case_file import CaseFile
from .facts import CaseFacts
from .job import Job
from .label_files import SAME_GRID
from .problems import Problem, counted, error, info, listed, warning

_FEW_SLICES = 5


def check_labels(job: Job, cases: Sequence[CaseFacts]) -> list[Problem]:
    """Of all cases together: labels that nobody drew, background that nobody marked."""
    names = [label.name for label in job.classes]
    if not names:
        return [error("", "The job has no label to learn.", "Add a segment that is no background.")]
    if not cases:
        return []
    totals = np.sum([case.counts for case in cases], axis=0)
    empty = [name for name, voxels in zip(names, totals[1:], strict=True) if voxels == 0]
    problems = []
    if empty and cases_read(job, cases):
        problems.append(
            error(
                "",
                f"No voxel of any case is labelled {listed(empty)}.",
                "Draw it in one case at least, or remove the label.",
            )
        )
    if totals[0] == 0 and totals.sum() > 0:
        problems.append(_no_background(len(names)))
    return problems


def cases_read(job: Job, cases: Sequence[CaseFacts]) -> bool:
    """Whether every case could be read, so that what is missing is missing everywhere."""
    return len(cases) == len(job.cases)


def _no_background(labels: int) -> Problem:
    message = "Nothing is marked as background, so the model would never answer 'nothing here'."
    hint = "Paint some background too, or say that what is not painted is background."
    return error("", message, hint) if labels == 1 else warning("", message, hint)


def check_case(case: CaseFile, facts: CaseFacts, job: Job) -> list[Problem]:
    """Of one case: what its label file holds and what of it is annotated."""
    problems = _annotation(case, facts)
    if facts.counts.sum() == 0:
        message = "Nothing in this case is annotated."
        return [error(case.id, message, "Annotate a part of it, or remove the case."), *problems]
    problems += _missing(case, facts, job)
    if facts.unnamed:
        values = [str(value) for value in facts.unnamed]
        problems.append(
            warning(
                case.id,
                f"{case.labels.name} holds values that no label of the job has: {listed(values)} "
                f"({counted(sum(facts.unnamed.values()), 'voxel')}).",
                "They count as background. Add labels for them if they are to be learnt.",
            )
        )
    problems += [
        warning(
            case.id,
            f"{first} and {second} overlap in {counted(voxels, 'voxel')}; each voxel can have one "
            "label only.",
            "Remove the overlap in the Segment Editor, so that you decide which one it is.",
        )
        for first, second, voxels in case.overlaps
        if voxels
    ]
    if facts.outside:
        problems.append(
            warning(
                case.id,
                f"{counted(facts.outside, 'labelled voxel')} lie where the image is zero all the "
                "way to its edge; the network never sees them.",
                "Check that the segmentation belongs to this image.",
            )
        )
    if facts.distance > SAME_GRID:
        problems.append(
            info(
                case.id,
                f"The corners of image and segmentation are {facts.distance:.2g} mm apart; they "
                "are taken as the same grid.",
            )
        )
    return problems


def _missing(case: CaseFile, facts: CaseFacts, job: Job) -> list[Problem]:
    pairs = zip(job.classes, facts.counts[1:], strict=True)
    missing = [label.name for label, voxels in pairs if voxels == 0]
    if not missing or len(job.cases) == 1:  # of a single case: missing everywhere
        return []
    message = f"Not in this case: {listed(missing)}."
    if facts.kind == "painted":
        return [info(case.id, message)]
    hint = (
        "If it can be seen in the image, draw it: otherwise the model learns that it is background."
    )
    return [warning(case.id, message, hint)]


def _annotation(case: CaseFile, facts: CaseFacts) -> list[Problem]:
    about = case.annotated
    if about.kind == "box" and about.box is not None:
        sides = zip(about.box, facts.shape, strict=True)
        if any(low < 0 or high > n for (low, high), n in sides):
            return [
                warning(
                    case.id,
                    "The annotated box reaches beyond the image; it is cut at its edge.",
                    "Check that the box was drawn on this image.",
                )
            ]
    if about.kind == "slices" and facts.slice_axis is not None:
        return _slices(case, facts)
    return []


def _slices(case: CaseFile, facts: CaseFacts) -> list[Problem]:
    about, problems = case.annotated, []
    beyond = len(about.slices or ()) - len(facts.slices) if about.slices is not None else 0
    if beyond:
        problems.append(
            warning(
                case.id,
                f"{counted(beyond, 'annotated slice')} of {len(about.slices or ())} lie outside "
                "the image.",
                "Check that the slices were drawn on this image.",
            )
        )
    if about.beyond and len(facts.slices) == 1:
        problems.append(
            warning(
                case.id,
                "With one annotated slice it cannot be told where the structures end, so what lies "
                "beyond it stays unknown.",
                "Annotate more slices.",
            )
        )
    if 0 < len(facts.slices) < _FEW_SLICES:
        problems.append(
            warning(
                case.id,
                f"Only {counted(len(facts.slices), 'slice')} of this case "
                f"{'is' if len(facts.slices) == 1 else 'are'} annotated.",
                "Annotate every tenth slice or so over the whole structure.",
            )
        )
    return problems

"""Whether cases fit the plan: spacing, intensities, what resampling leaves of the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .annotation import UNKNOWN, training_labels
from .case_file import CaseFile
from .facts import CaseFacts
from .job import Job
from .label_resampling import volume_ratios
from .preparation import labels_on_plan, surviving_in_frame
from .problems import Problem, error, info, listed, warning
from .sides import left_right_axis, paired_labels, sided_labels

if TYPE_CHECKING:
    from ..inference.preprocess import Frame
    from ..models.plan import Plan
    from ..monitor import Monitor

_FAR = 2.0
"""A voxel edge this many times longer or shorter than the plan's is far off."""

_SURVIVING = 0.7
_THIN, _SWOLLEN = 0.67, 1.5
"""Volumes of a label after resampling over before that say it is finer than the grid."""

_AIR = -500.0
"""No MR image is this dark; air on CT is -1000 HU."""


def check_grid(facts: CaseFacts, plan: Plan, orientation: str) -> list[Problem]:
    """Spacing of the image against that of the plan."""
    from ..inference.orientation import reorientation

    turn = reorientation(facts.direction, orientation, plan.transpose_forward)
    spacing = turn.permute(facts.spacing)
    ratios = [max(a / b, b / a) for a, b in zip(spacing, plan.spacing, strict=True)]
    if max(ratios) <= _FAR * (1 + 1e-3):
        return []
    return [
        warning(
            facts.id,
            f"Its voxels of {_mm(spacing)} are far from the model's {_mm(plan.spacing)}.",
            "Where the structures are finer than the model's voxels, choose the data's own "
            "spacing under Advanced.",
        )
    ]


def check_intensity(facts: CaseFacts, plan: Plan) -> list[Problem]:
    """Intensities against what the plan's normalisation expects."""
    problems = []
    schemes = zip(plan.normalization, plan.intensity, facts.intensity, strict=False)
    for channel, (scheme, expected, found) in enumerate(schemes):
        low, _, median, _, _ = found
        which = f"Channel {channel + 1}" if len(facts.intensity) > 1 else "The image"
        if scheme == "CTNormalization" and "percentile_99_5" in expected:
            inside = facts.samples[channel] if facts.samples.size else [median]
            middle = sorted(inside)[len(inside) // 2]
            first, last = expected["percentile_00_5"], expected["percentile_99_5"]
            if not first <= middle <= last:
                problems.append(
                    warning(
                        facts.id,
                        f"{which} has {middle:.4g} in the middle of the labels; the model expects "
                        f"{first:.4g} to {last:.4g} (HU).",
                        "Check that it is a CT in Hounsfield units.",
                    )
                )
        elif scheme == "ZScoreNormalization" and low < _AIR:
            problems.append(
                warning(
                    facts.id,
                    f"{which} goes down to {low:.4g}, as a CT does; the model normalises as for "
                    "MR.",
                    "Check that the image is of the kind the model was trained on.",
                )
            )
    return problems


def frame_of(facts: CaseFacts, plan: Plan, orientation: str) -> Frame:
    """The frame that preprocessing would find, from what is known of the image."""
    from ..inference.orientation import reorientation
    from ..inference.preprocess import Frame
    from ..inference.resampling import resampled_shape

    turn = reorientation(facts.direction, orientation, plan.transpose_forward)
    crop = turn.permute_box(facts.crop, facts.shape)
    spacing = turn.permute(facts.spacing)
    cropped = [part.stop - part.start for part in crop]
    return Frame(
        orientation=turn,
        shape_before_crop=turn.permute(facts.shape),
        crop=crop,
        spacing=spacing,
        plan_spacing=plan.spacing,
        plan_shape=resampled_shape(cropped, plan.resample_data, spacing, plan.spacing),
    )


def check_resampling(
    case: CaseFile,
    facts: CaseFacts,
    job: Job,
    plan: Plan,
    orientation: str,
    monitor: Monitor | None = None,
) -> tuple[list[Problem], float]:
    """What is left of the annotation in the plan's grid, and the share that survives.

    Raises:
        InputError: the label file cannot be read any more.
    """
    from .label_files import read_values

    values = read_values(case.labels)
    labels = training_labels(values, case, job.class_values)
    frame = frame_of(facts, plan, orientation)
    after = labels_on_plan(labels, plan, frame, monitor)
    if not (after != UNKNOWN).any():
        message = "Nothing that is annotated lies where the image is not zero."
        return [error(case.id, message, "Check that labels and image belong together.")], 0.0
    share = surviving_in_frame(labels, after, frame)
    problems = []
    if share < _SURVIVING:
        problems.append(
            warning(
                case.id,
                f"Only {share:.0%} of its annotated voxels are left in the network's grid.",
                "Annotate where the image is not zero, in whole slices or pieces.",
            )
        )
    names = [label.name for label in job.classes]
    odd = [
        names[value - 1]
        for value, ratio in volume_ratios(frame.view(labels), after).items()
        if not _THIN <= ratio <= _SWOLLEN
    ]
    if odd:
        problems.append(
            warning(
                case.id,
                f"At the model's spacing of {_mm(plan.spacing)} these labels change much in "
                f"volume, because they are finer than its voxels: {listed(odd)}.",
                "Choose the data's own spacing under Advanced.",
            )
        )
    return problems, share


def check_sides(
    job: Job, cases: Sequence[CaseFacts], plan: Plan, orientation: str
) -> tuple[list[Problem], tuple[int, ...]]:
    """Whether labels have sides, and the plan axes that may be mirrored then."""
    names = [label.name for label in job.classes]
    sided = sided_labels(names)
    if not sided:
        return [], (0, 1, 2)
    across = {left_right_axis(c.direction, orientation, plan.transpose_forward) for c in cases}
    pairs = paired_labels(names)
    what = f"{pairs[0][0]} and {pairs[0][1]}" if pairs else sided[0]
    axes = " and ".join(f"{'zyx'[axis]} (axis {axis})" for axis in sorted(across))
    message = (
        f"Labels have sides ({what}), so nothing is mirrored between left and right, which lie "
        f"along {axes} of the network's grid: neither in training nor when segmenting."
    )
    allowed = tuple(axis for axis in range(3) if axis not in across)
    return [info("", message)] if across else [], allowed


def _mm(spacing: Sequence[float]) -> str:
    return " x ".join(f"{value:.3g}" for value in spacing) + " mm"

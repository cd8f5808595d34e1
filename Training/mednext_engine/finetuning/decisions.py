"""What a run decided when it began, kept in `run.json`, so that resuming needs to decide nothing.

The free memory of the day, the files of the cases, the base model: all may be others when a run is
resumed; the network that is being trained is the one it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..errors import EngineError, InputError
from ..models.plan import Plan, read_plan
from ..models.writer import plans_from
from .job import Job
from .label_matching import LabelPlan, LabelState
from .plan import Grid
from .splitting import HeldOut, Split

if TYPE_CHECKING:
    from ..models.folder import Model
    from ..training.recipe import Recipe
    from .survey import Survey


@dataclass(frozen=True)
class Decisions:
    """Everything a run is determined by, beside its arrays.

    Attributes:
        transfer: "whole", "encoder" or "scratch".
        base, base_fingerprint: id of the base model and the sum of its weights; "" from scratch.
        matched: class of the job -> its class in the base model.
        job_digest: of what the job folder said; see `digest_of`.
        share: annotated share of the voxels of all cases.
        partial: whether some voxel of some case is unknown.
        trained_before: held-out images that the base model has learned from, by case.
        notes: sentences for the person.
    """

    grid: Grid
    recipe: Recipe
    label_plan: LabelPlan
    split: Split
    transfer: str
    base: str = ""
    base_fingerprint: str = ""
    matched: Mapping[str, str] | None = None
    job_digest: str = ""
    share: float = 1.0
    partial: bool = False
    trained_before: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def plan(self) -> Plan:
        return self.grid.plan


def decide(found: Survey, digest: str, trained_before: tuple[str, ...]) -> Decisions:
    """The decisions that a survey without errors leads to."""
    report, base, job = found.report, found.base, found.job
    if report.split is None:
        raise InputError("The cases cannot be divided into some to train on and some to validate.")
    states = found.label_plan.states
    known = sum(int(one.counts.sum()) for one in found.inspection.facts)
    voxels = sum(one.shape[0] * one.shape[1] * one.shape[2] for one in found.inspection.facts)
    return Decisions(
        grid=found.grid,
        recipe=found.recipe,
        label_plan=found.label_plan,
        split=report.split,
        transfer=job.options.transfer if base is not None else "scratch",
        base=base.id if base is not None else "",
        base_fingerprint=_fingerprint(base),
        matched={s.name: s.base for s in states if s.state == "matched" and s.base},
        job_digest=digest,
        share=known / max(voxels, 1),
        partial=known < voxels,
        trained_before=trained_before,
        notes=found.notes,
    )


def digest_of(job: Job) -> str:
    """SHA-256 of what the job folder says; another one means another training."""
    digest = hashlib.sha256()
    try:
        for path in (job.folder / "job.json", *(case_json(job, case.id) for case in job.cases)):
            digest.update(path.read_bytes())
    except OSError as error:
        raise InputError(f"The job cannot be read: {error.strerror or error}.") from None
    return digest.hexdigest()


def case_json(job: Job, case_id: str) -> Any:
    """Path of a case's `case.json`."""
    return job.folder / "cases" / case_id / "case.json"


def _fingerprint(base: Model | None) -> str:
    return "" if base is None else base.fingerprint(base.default_folds[0])


# ---- to JSON and back ------------------------------------------------------------------------


def to_json(decisions: Decisions) -> dict[str, Any]:
    """Plain values for `run.json`."""
    content = asdict(decisions)
    grid = decisions.grid
    content["grid"] = {
        "plans": plans_from(grid.plan),
        "orientation": grid.orientation,
        "reader": grid.reader,
        "median_shape": list(grid.median_shape),
    }
    content["recipe"] = decisions.recipe.as_dict()
    return content


def from_json(content: Mapping[str, Any]) -> Decisions:
    """What `to_json` wrote.

    Raises:
        InputError: it is damaged, or of another version of this program.
    """
    from ..training.recipe import Phase, Recipe

    try:
        grid, labels, split = content["grid"], content["label_plan"], content["split"]
        plans = grid["plans"]
        (configuration,) = plans["configurations"]
        recipe = dict(content["recipe"])
        recipe["phases"] = tuple(Phase(**one) for one in recipe["phases"])
        for name in ("patch_size", "mirror_axes", "masked_channels", "fresh"):
            recipe[name] = tuple(recipe[name])
        rest = {
            name: content[name]
            for name in ("transfer", "base", "base_fingerprint", "matched", "job_digest")
        }
        return Decisions(
            grid=Grid(
                read_plan(plans, configuration),
                grid["orientation"],
                grid["reader"],
                _three(grid["median_shape"]),
            ),
            recipe=Recipe(**recipe),
            label_plan=LabelPlan(
                tuple(labels["names"]),
                tuple(labels["base_rows"]),
                tuple(labels["dropped"]),
                tuple(LabelState(**state) for state in labels["states"]),
            ),
            split=Split(
                tuple(split["train"]),
                tuple(split["validate"]),
                {case: _held_out(raw) for case, raw in split["inside"].items()},
                split["sentence"],
            ),
            share=float(content["share"]),
            partial=bool(content["partial"]),
            trained_before=tuple(content["trained_before"]),
            notes=tuple(content["notes"]),
            **rest,
        )
    except (KeyError, TypeError, ValueError, AttributeError, EngineError):
        raise InputError(
            "What this run decided when it began cannot be read.", "Start it anew."
        ) from None


def _held_out(raw: Mapping[str, Any]) -> HeldOut:
    return HeldOut(int(raw["axis"]), tuple(raw["slices"]), int(raw["gap"]))


def _three(values: Any) -> tuple[int, int, int]:
    first, second, third = values
    return int(first), int(second), int(third)

"""How a run starts: anew, with everything decided, or from what an earlier one left."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import InputError, ModelError
from ..monitor import Monitor
from .decisions import Decisions, decide, digest_of, from_json, to_json
from .job import Job
from .measure import Measured
from .preparation import Prepared, open_prepared
from .problems import ERROR, WARNING
from .runs import read_state, write_state
from .survey import Survey, base_of, survey

if TYPE_CHECKING:
    from ..models.folder import Model


@dataclass(frozen=True)
class Start:
    """What a run has to begin with.

    Attributes:
        base: None from scratch, or where it is gone and not needed any more.
        prepared: None where the cases are still to be prepared.
        before: how the base did; None where that is still to be measured.
        begun: a checkpoint is there, from which the training goes on.
        ended: why the training had ended, where only its result was not written yet.
    """

    decisions: Decisions
    base: Model | None
    prepared: Prepared | None = None
    before: Measured | None = None
    begun: bool = False
    ended: str = ""


def start_anew(job: Job, monitor: Monitor) -> Start:
    """Looks at the job, decides everything, and throws away what an earlier run left.

    Raises:
        InputError: the check found errors; nothing was written or thrown away.
        And what `survey` raises.
    """
    from ..training.state import BEST, LATEST

    found = survey(job, monitor, timed=False)
    _refuse_errors(found)
    for problem in found.report.problems:
        if problem.level == WARNING:
            monitor.note(problem.message)
    earlier = _seen_before(job)
    digests = {one.id: one.digest for one in found.inspection.facts}
    split = found.report.split
    learned = [case for case in (split.validate if split else ()) if digests[case] in earlier]
    decisions = decide(found, digest_of(job), tuple(learned))
    for note in decisions.notes:
        monitor.note(note)
    for name in (LATEST, BEST):
        (job.run_folder / name).unlink(missing_ok=True)
    shutil.rmtree(job.run_folder / "preview", ignore_errors=True)
    trained = {digests[c] for c in decisions.split.train if c not in decisions.split.inside}
    write_state(
        job.folder,
        decisions=to_json(decisions),
        seen=sorted(earlier | trained),
        fraction=0.0,
        before=None,
        ended="",
    )
    return Start(decisions, found.base)


def take_up(job: Job, state: Mapping[str, Any], monitor: Monitor) -> Start:
    """What an interrupted run left.

    Raises:
        InputError: the job was changed since, or the state is damaged.
        ModelError: the base model is gone, and nothing was trained yet.
    """
    from ..training.state import LATEST

    decisions = from_json(state["decisions"])
    if decisions.job_digest != digest_of(job):
        raise InputError(
            "The job was changed after this training began, so it cannot go on.",
            "Start it anew, or take the changes back.",
        )
    begun = (job.run_folder / LATEST).is_file()
    base = None
    try:
        base = base_of(job)
    except (ModelError, InputError):
        if not begun:
            raise
        monitor.note("The base model is not installed any more; what was trained of it is.")
    ended = state.get("ended")
    return Start(
        decisions,
        base,
        open_prepared(job.run_folder / "prepared"),
        _measured(state.get("before")),
        begun,
        ended if begun and isinstance(ended, str) else "",
    )


def can_take_up(state: Mapping[str, Any]) -> bool:
    """Whether a run got as far as deciding."""
    return isinstance(state.get("decisions"), dict)


def before_json(before: Measured) -> dict[str, Any]:
    """For `run.json`."""
    return {"dice": before.dice, "digests": before.digests}


def _measured(raw: Any) -> Measured | None:
    if not isinstance(raw, dict):
        return None
    try:
        dice = {str(name): float(value) for name, value in raw["dice"].items()}
        return Measured(dice, digests={str(k): str(v) for k, v in raw["digests"].items()})
    except (KeyError, AttributeError, TypeError, ValueError):
        return None


def _refuse_errors(found: Survey) -> None:
    errors = [problem for problem in found.report.problems if problem.level == ERROR]
    if not errors:
        return
    first, more = errors[0], len(errors) - 1
    where = f"{first.case}: " if first.case else ""
    rest = f" ({more} more {'problem' if more == 1 else 'problems'})" if more else ""
    raise InputError(f"{where}{first.message}{rest}", first.hint)


def _seen_before(job: Job) -> set[str]:
    """Digests of images that the model which this run continues has learned from as a whole."""
    if job.previous is None:
        return set()
    seen = read_state(job.previous).get("seen", [])
    return {one for one in seen if isinstance(one, str)} if isinstance(seen, list) else set()

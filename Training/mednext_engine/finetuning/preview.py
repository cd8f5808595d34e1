"""The best weights so far at work on one case, every few epochs of a training."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import Cancelled, EngineError
from ..monitor import Monitor
from .decisions import Decisions
from .job import Job
from .measure import Segmenting, score
from .parts import quiet_part_of
from .result import write_plain_model

if TYPE_CHECKING:
    from ..inference.options import Options
    from ..models.folder import Model
    from ..training.control import EpochReport

FILE = "preview.nrrd"


@dataclass(frozen=True)
class PreviewReport:
    """`path` is a label file in the case's image grid, of values 1 to N; the next one replaces it.
    `dice` is by label, over what of the case is held out, or over all of it where nothing is."""

    case: str
    path: Path
    epoch: int
    dice: dict[str, float]


@dataclass
class Previewer:
    """Shows an epoch's work where it is due: every `preview_every` epochs, if there is new work.

    A preview that fails (the case was moved, memory is short) costs a note and no training.
    """

    job: Job
    decisions: Decisions
    base: Model | None
    options: Options
    monitor: Monitor
    tell: Callable[[PreviewReport], None]
    _shown: int = 0
    _best: int = 0
    _complained: bool = field(default=False)

    def after_epoch(self, report: EpochReport) -> None:
        if report.best:
            self._best = report.epoch
        every = self.job.options.preview_every
        due = every > 0 and report.epoch % every == 0
        if not due or self._best <= self._shown:
            return
        try:
            self._show(report.epoch)
            self._shown = self._best
        except Cancelled:
            raise
        except (EngineError, OSError, MemoryError, RuntimeError) as error:
            reason = error.message if isinstance(error, EngineError) else type(error).__name__
            if not self._complained:
                self.monitor.note(f"There is no preview: {reason}")
            self._complained = True

    def _show(self, epoch: int) -> None:
        from ..inference.writing import write_labels
        from ..training.state import BEST, load_weights

        run, split = self.job.run_folder, self.decisions.split
        wanted = self.job.options.preview_case
        known = [case.id for case in self.job.cases]
        case_id = wanted if wanted in known else (*split.validate, *split.train)[0]
        case = next(case for case in self.job.cases if case.id == case_id)
        folder = run / "preview"
        folder.mkdir(mode=0o700, exist_ok=True)
        model = write_plain_model(
            folder / "model",
            self.job,
            self.decisions,
            load_weights(run / BEST),
            self.base,
            overwrite=True,
        )
        names = {name: value for name, value in self.job.class_values.items() if value}
        segmenting = Segmenting(model, self.job, names, self.options)
        held_out = split.inside.get(case_id)
        done = segmenting.segment(case, held_out, quiet_part_of(self.monitor))
        segmenting.close()
        path = folder / FILE
        write_labels(path, done.found.astype("uint16"), done.volume)
        shutil.rmtree(folder / "model", ignore_errors=True)
        self.tell(PreviewReport(case_id, path, epoch, score(done.found, done.truth, names)))

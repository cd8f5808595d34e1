"""The job folder: what is to be trained, from which cases, with which settings.

    JOB/job.json              settings, labels, the list of cases
    JOB/cases/<id>/case.json  one folder a case (`case_file`)
    JOB/run/                  everything the training writes

`job.json`:
    {"version": 1, "name": str, "base": model id or path | null, "preset": str,
     "channels": [str],
     "labels": [{"name": str, "color": [r, g, b] | null, "terminology": str,
                 "base": name of the base's class | null (a new class) | absent (found by name),
                 "background": bool}],
     "cases": [id], "options": {...} (`JobOptions`), "previous": job folder | null}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .case_file import Annotated, CaseFile

__all__ = ["Annotated", "CaseFile", "Job", "JobLabel", "JobOptions", "read_job", "write_job"]

PRESETS = ("quick", "standard", "thorough")
BY_NAME = ""
"""`JobLabel.base` of a label whose class in the base model is found by its name."""


@dataclass(frozen=True)
class JobLabel:
    """A label of the new model. `base` names the base model's class whose row of the head it
    starts from; None: a new row; `BY_NAME`: found by name. `background`: drawn background, which
    becomes class 0 and no label of the model. `color` is (r, g, b), 0 to 255."""

    name: str
    color: tuple[int, int, int] | None = None
    terminology: str = ""
    base: str | None = BY_NAME
    background: bool = False


@dataclass(frozen=True)
class JobOptions:
    """Settings that have a default; None and "auto" leave the choice to the plan.

    Attributes:
        device: "auto", "cpu", "cuda", "cuda:1", "mps", ...
        transfer: "whole" network, "encoder" only, or "scratch".
        upkern: start a kernel-5 network from the base's kernel 3.
        spacing: "base", "own" (the cases' median) or mm in plan axes.
        patch, batch, steps: voxels in plan axes; samples a step; steps in all.
        mirror: "auto" (off across left and right where labels have sides) or a decision.
        precision, checkpointing: see `mednext_engine.training`.
        context: factor on the patch.
        seed: of every random choice.
        threads: CPU threads; None: all.
        preview_case, preview_every: the case segmented every so many epochs.
    """

    device: str = "auto"
    transfer: str = "whole"
    upkern: bool = False
    spacing: str | tuple[float, float, float] = "base"
    patch: tuple[int, int, int] | None = None
    batch: int | None = None
    steps: int | None = None
    mirror: str | bool = "auto"
    precision: str = "auto"
    checkpointing: str | None = "auto"
    context: float = 1.0
    seed: int = 0
    threads: int | None = None
    preview_case: str | None = None
    preview_every: int = 5


@dataclass(frozen=True)
class Job:
    """A job folder that was read; see the module."""

    folder: Path
    name: str
    base: str | None
    preset: str
    channels: tuple[str, ...]
    labels: tuple[JobLabel, ...]
    cases: tuple[CaseFile, ...]
    options: JobOptions = field(default_factory=JobOptions)
    previous: Path | None = None

    @property
    def run_folder(self) -> Path:
        """Where the training writes; it may not be there yet."""
        return self.folder / "run"

    @property
    def classes(self) -> tuple[JobLabel, ...]:
        """The labels of the new model: class i is `classes[i - 1]`."""
        return tuple(label for label in self.labels if not label.background)

    @property
    def class_values(self) -> Mapping[str, int]:
        """Label name -> class in training (explicit background: 0)."""
        values = {label.name: index for index, label in enumerate(self.classes, start=1)}
        return {**values, **{label.name: 0 for label in self.labels if label.background}}


def read_job(folder: Path) -> Job:
    """Reads a job folder.

    Raises:
        InputError: something is missing, of the wrong kind, or points out of the folder.
    """
    raise NotImplementedError


def write_job(folder: Path, job: Job) -> None:
    """Writes `job.json` and the cases' `case.json`, each whole or not at all, readable to the user
    alone. Paths within the folder are written relative, others absolute.

    Raises:
        OutputError: the folder cannot be written.
    """
    raise NotImplementedError

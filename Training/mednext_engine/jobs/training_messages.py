"""What is said about fine-tuning: requests that check, start, stop and list runs, and the news of a
training in flight.

A *job folder* holds the cases and the settings of one fine-tuning (`finetuning.job`); a *run* is
what has become of it. A face gives fine-tuning a worker process of its own, so that segmenting goes
on beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from .messages import Reply, Request


@dataclass(frozen=True)
class CheckFinetune(Request):
    """What is wrong with a job folder before anything is trained. Result: a `CheckValue`.

    Cases are read, nothing is written. What is wrong is part of the result; an `Error` means that
    the folder itself cannot be read.
    """

    type: ClassVar[str] = "check_finetune"
    job_folder: str = ""


@dataclass(frozen=True)
class Finetune(Request):
    """Trains the model that a job folder describes and installs it. Result: a `FinetuneValue`.

    `resume` goes on with what an interrupted run of this folder has left; without it, such a run
    begins anew. Answers with `Epoch` after every epoch and `Preview` after every preview; a resumed
    run tells the epochs before it first. `Cancel` keeps what `resume` needs.
    """

    type: ClassVar[str] = "finetune"
    job_folder: str = ""
    resume: bool = False


@dataclass(frozen=True)
class StopTraining(Request):
    """End the training of the job named `job` now and keep its best weights.

    Like `Cancel` it has no answer of its own: the training answers with its result. Of a job that
    is over, unknown or no training: nothing.
    """

    type: ClassVar[str] = "stop_training"


@dataclass(frozen=True)
class Runs(Request):
    """Which runs there are. Result: `{"directory": str, "runs": [RunInfo], "networks":
    [NetworkInfo]}`; `directory` is where a face makes its job folders, and is there, readable by
    its owner only; `networks` are those that a new run without a base model can be of."""

    type: ClassVar[str] = "runs"


@dataclass(frozen=True)
class RemoveRun(Request):
    """Delete a job folder in the directory of `Runs`, cases included. Result: `{"removed": str}`.

    The model that it made stays."""

    type: ClassVar[str] = "remove_run"
    folder: str = ""


@dataclass(frozen=True)
class Epoch(Reply):
    """An epoch of a training is over; epochs and steps count from 1.

    `dice` is by label, of the held-out patches, 0 to 1; a label that is in none of them is left
    out. `best` says that these are the best weights so far. `memory_bytes` is the peak.
    """

    type: ClassVar[str] = "epoch"
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    train_loss: float | None = None
    validation_loss: float | None = None
    dice: dict[str, float] = field(default_factory=dict)
    learning_rate: float = 0.0
    seconds_left: float | None = None
    memory_bytes: int = 0
    best: bool = False


@dataclass(frozen=True)
class Preview(Reply):
    """The best weights so far have segmented case `case`: `path` is a label file in its image's
    grid, of values 1, 2, ... in the order of the job's labels; the next preview replaces it."""

    type: ClassVar[str] = "preview"
    case: str = ""
    path: str = ""
    epoch: int = 0
    dice: dict[str, float] = field(default_factory=dict)

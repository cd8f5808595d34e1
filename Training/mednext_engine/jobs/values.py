"""What requests and results carry, key by key; all of it is plain JSON."""

from __future__ import annotations

from typing import TypedDict


class Roi(TypedDict, total=False):
    """A box from `low` to `high` (three numbers each) in `space`: "voxel" (i, j, k; half-open),
    "ras" or "lps" (millimetres in the patient)."""

    low: list[float]
    high: list[float]
    space: str


class SegmentOptions(TypedDict, total=False):
    """`mednext_engine.inference.Options` as JSON; what is left out has its default."""

    device: str
    step: float
    mirror: bool
    folds: list[str] | None
    precision: str
    backend: str
    roi: Roi | None
    probabilities: bool
    uncertainty: bool
    threads: int | None
    largest_memory: int | None


class LabelInfo(TypedDict, total=False):
    """One label of a model or a result. `color` is red, green, blue, 0 to 255. `terminology` is 3D
    Slicer's serialised terminology entry, empty where the model's card gives none."""

    value: int
    name: str
    color: list[int]
    terminology: str


class SegmentValue(TypedDict, total=False):
    """Of `Segment`. `labels` are those the model can give, `present` the values found. `loaded`
    says that the network had to be loaded for this job. `device_reason` says in a sentence why it
    was this device. `timings` are seconds a stage."""

    output: str
    uncertainty_output: str | None
    probabilities_output: str | None
    labels: list[LabelInfo]
    present: list[int]
    model: str
    loaded: bool
    device: str
    device_reason: str
    backend: str
    precision: str
    notes: list[str]
    timings: dict[str, float]
    peak_estimate: int


class ModelSummary(TypedDict, total=False):
    """One installed model, as `mednext_engine.models.store.describe` says it: `channels` are the
    names of the inputs it needs, in their order; `spacing` (mm) and `patch_size` are along the
    axes of its plan; `removable` is False for what ships with the product."""

    id: str
    title: str
    description: str
    license: str
    citation: str
    intended_use: str
    modality: str
    channels: list[str]
    labels: list[LabelInfo]
    configuration: str
    spacing: list[float]
    patch_size: list[int]
    network: str
    folds: list[str]
    path: str
    removable: bool


class CatalogueEntry(TypedDict, total=False):
    """One model that can be downloaded. `size` is in bytes, None where it is not known; `labels`
    are names; `checksums` says that all files can be verified, `verified` that this project's
    maintainers ran the model; `installed` that a model of that id is here."""

    id: str
    title: str
    description: str
    modality: str
    channels: list[str]
    labels: list[str]
    license: str
    citation: str
    homepage: str
    network: str
    size: int | None
    checksums: bool
    verified: bool
    notes: str
    installed: bool


class DeviceInfo(TypedDict):
    """One device that can be chosen: `name` as in the options, memory in bytes."""

    name: str
    title: str
    total: int
    free: int


class PackageInfo(TypedDict, total=False):
    """`version` is empty where the package is missing; `problem` a sentence where it is no use."""

    name: str
    version: str
    required: bool
    problem: str
    hint: str


class DoctorValue(TypedDict, total=False):
    """Of `Doctor`. `usable` says that Segment can run. Memory is in bytes. `devices`, the best
    first, are absent where they were not asked for or torch does not start."""

    usable: bool
    engine: str
    python: str
    platform: str
    cpu: str
    cores: int
    memory_total: int
    memory_free: int
    models_directory: str
    models_free: int
    log: str
    packages: list[PackageInfo]
    devices: list[DeviceInfo]
    problems: list[str]


# ---- fine-tuning ---------------------------------------------------------------------------------


class ProblemInfo(TypedDict):
    """`level` is "error" (cannot start), "warning" or "info"; `case` is empty where it is of all
    cases; `hint` says what to do."""

    level: str
    case: str
    message: str
    hint: str


class LabelMatch(TypedDict):
    """What becomes of a label: "matched" keeps what the base model learned as `base`, "new" starts
    afresh, "dropped" is one of the base model's that the new one will not have."""

    name: str
    state: str
    base: str | None


class EstimateInfo(TypedDict, total=False):
    """What a training will take: `seconds` is None where this device was not measured; `patch` is
    in voxels along the axes of the plan; `disk_bytes` are freed again when it is done."""

    seconds: float | None
    memory_bytes: int
    disk_bytes: int
    device: str
    patch: list[int]
    batch: int
    steps: int


class CheckValue(TypedDict, total=False):
    """Of `CheckFinetune`. `validation` says in a sentence what the model will be measured on."""

    problems: list[ProblemInfo]
    labels: list[LabelMatch]
    validation: str
    estimate: EstimateInfo | None
    can_start: bool


class BeforeAfter(TypedDict):
    """Dice (0 to 1) on held-out voxels, of the base model and of the fine-tuned one; None where the
    base model does not know the label, or nothing of it was held out."""

    label: str
    before: float | None
    after: float | None


class FinetuneValue(TypedDict, total=False):
    """Of `Finetune`. `held_out` says in a sentence what was measured; `reason` is why the training
    ended: "finished", "plateau" or "stopped"."""

    model: ModelSummary
    before_after: list[BeforeAfter]
    held_out: str
    reason: str
    notes: list[str]
    seconds: float


class NetworkInfo(TypedDict):
    """A network that can be trained from scratch: `id` is what `job.json` names; `parameters` are
    counted with one channel and three classes."""

    id: str
    title: str
    parameters: int


class RunInfo(TypedDict):
    """`state` is "new", "running", "interrupted", "finished" or "failed"; `fraction` is of the
    training, 0 to 1; `model` is the id of the model it made."""

    folder: str
    name: str
    state: str
    fraction: float
    model: str | None

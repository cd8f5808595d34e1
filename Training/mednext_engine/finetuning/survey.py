"""A job looked at as a whole before it starts: base model, plan, sizes that fit, what is wrong."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..errors import DependencyError, EngineError, InputError, ModelError, ResourceError
from ..models.store import find_model
from ..monitor import Monitor
from .checks import CheckReport, Estimate, check_job
from .facts import Inspection, inspect_cases
from .job import Job
from .label_matching import LabelPlan, match_labels
from .plan import Grid, choose_grid
from .preparation import prepared_bytes
from .presets import chosen_preset, fresh_factor, patience, phases
from .problems import ERROR, Problem
from .runs import read_state

if TYPE_CHECKING:
    from torch import nn

    from ..models.folder import Model
    from ..training.recipe import Checkpointing, Optimizer, Precision, Recipe

_PRECISIONS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
_STATES_KEPT = 4
"""Copies of all weights in a checkpoint: the weights, AdamW's two moments, the best so far."""
SPARE_DISK = 2**27
_IMPORTED = ("batchgeneratorsv2", "pandas", "scipy")


@dataclass(frozen=True)
class Survey:
    """What is known of a job. `recipe` and `report.can_start` go together."""

    job: Job
    base: Model | None
    inspection: Inspection
    grid: Grid
    label_plan: LabelPlan
    recipe: Recipe
    report: CheckReport
    estimate: Estimate
    notes: tuple[str, ...] = ()


def base_of(job: Job) -> Model | None:
    """The model that a job starts from: what its previous run made, else its base.

    Raises:
        InputError: the previous run made none.
        ModelError: it is not installed (any more), or cannot be opened.
    """
    if job.previous is not None:
        made = read_state(job.previous).get("model")
        if not isinstance(made, str):
            raise InputError(
                "The run that this one continues has made no model yet.",
                "Finish it first, or choose a base model.",
            )
        return find_model(made)
    return None if job.base is None else find_model(job.base)


def survey(job: Job, monitor: Monitor, *, timed: bool = True) -> Survey:
    """Looks at everything; writes nothing. `timed` measures a few steps for the estimate of time.

    Raises:
        InputError, ModelError, UnsupportedModelError: nothing can be planned at all.
        DependencyError: a package that training needs is missing.
        Cancelled.
    """
    require_training()
    with monitor.stage("Opening the base model", 0.0, 0.05):
        base = base_of(job)
        label_plan = match_labels(job.labels, base.labels if base is not None else None)
    with monitor.stage("Looking at the cases", 0.05, 0.7):
        inspection = inspect_cases(job, monitor)
    if not inspection.facts:
        raise _nothing_readable(inspection)
    with monitor.stage("Planning", 0.7, 1.0):
        device = _device(job.options.device)
        grid = choose_grid(job, base, inspection, on_gpu=device != "cpu")
        network = _network(grid, job, label_plan)
        monitor.check()
        recipe, estimate, notes = _sized(job, base, grid, network, device, timed)
        report = check_job(
            job,
            grid.plan,
            base=base,
            orientation=grid.orientation,
            estimate=estimate,
            inspection=inspection,
            monitor=monitor,
        )
        recipe = replace(recipe, mirror_axes=_mirror_axes(job, base, report))
    grid = replace(
        grid,
        plan=replace(grid.plan, patch_size=recipe.patch_size, batch_size=recipe.batch_size),
    )
    return Survey(job, base, inspection, grid, label_plan, recipe, report, estimate, notes)


def require_training() -> None:
    """Raises DependencyError, naming the packages, unless training can run here."""
    from ..models.torch_version import require_torch
    from ..training.requirements import missing

    require_torch()
    # Others are on the list because one of these asks for them, in some of its versions.
    if lacking := [one for one in missing() if one.startswith(_IMPORTED)]:
        raise DependencyError(
            f"Fine-tuning needs packages that are missing: {', '.join(lacking)}.",
            f"Install them: pip install --no-deps {' '.join(map(repr, lacking))}",
        )


def problem_of(error: EngineError) -> Problem:
    """An error that stands in the way of a check, as its finding."""
    return Problem(ERROR, "", error.message, error.hint)


def _nothing_readable(inspection: Inspection) -> InputError:
    for problem in inspection.problems:
        if problem.level == ERROR:
            where = f"Case {problem.case}: " if problem.case else ""
            return InputError(f"{where}{problem.message}", problem.hint)
    return InputError("The job has no case.", "Add a volume and its segmentation.")


def _device(wanted: str) -> str:
    from ..training.device import choose_device

    return str(choose_device(wanted))


def _network(grid: Grid, job: Job, label_plan: LabelPlan) -> nn.Module:
    """The network to measure, with random weights."""
    from ..networks.registry import build_network

    plan = grid.plan
    kwargs = dict(plan.network_kwargs)
    return build_network(
        plan.network_class, kwargs, len(job.channels), label_plan.num_classes, True
    )


def _sized(
    job: Job, base: Model | None, grid: Grid, network: nn.Module, device: str, timed: bool
) -> tuple[Recipe, Estimate, tuple[str, ...]]:
    """The recipe with sizes that fit this device, and what it will take."""
    from ..inference.devices import free_memory
    from ..networks.registry import MEDNEXT
    from ..training.memory import choose_patch, seconds_per_step, training_bytes
    from ..training.recipe import Recipe
    from .transfer import HEADS

    options, plan = job.options, grid.plan
    optimizer: Optimizer = "adamw" if plan.network_class == MEDNEXT else "sgd"
    precision = cast("Precision", _PRECISIONS.get(options.precision, options.precision))
    wanted = None if options.checkpointing == "auto" else options.checkpointing
    checkpointing = cast("Checkpointing", wanted)
    free = free_memory(device)
    common = {"device": device, "precision": precision, "optimizer": optimizer}
    notes: tuple[str, ...] = ()
    patch, batch = plan.patch_size, plan.batch_size
    try:
        fit = choose_patch(
            network, patch, batch, free, checkpointing=checkpointing, **cast(Any, common)
        )
        patch, batch, checkpointing, memory = (
            fit.patch_size,
            fit.batch_size,
            fit.checkpointing,
            fit.bytes,
        )
        notes = (fit.note,) if fit.note else ()
    except ResourceError:  # the check says it, with the figures
        memory = training_bytes(
            network, patch, batch, checkpointing=checkpointing, **cast(Any, common)
        )
    preset = chosen_preset(job.preset, options.steps)
    transfer = options.transfer if base is not None else "scratch"
    recipe = Recipe(
        patch_size=patch,
        phases=phases(preset.steps, transfer, optimizer),
        batch_size=batch,
        steps_per_epoch=preset.per_epoch,
        optimizer=optimizer,
        fresh=HEADS if transfer != "scratch" else (),
        fresh_factor=fresh_factor(preset.steps),
        masked_channels=tuple(i for i, m in enumerate(plan.use_mask_for_norm) if m),
        precision=precision,
        checkpointing=checkpointing,
        seed=options.seed,
        device=options.device,  # each process of several chooses its own
        patience_epochs=patience(preset.steps, preset.per_epoch),
    )
    seconds = None
    if timed:
        step = seconds_per_step(network, patch, batch, device=device, precision=precision)
        seconds = step * preset.steps
    weights = sum(p.numel() for p in network.parameters()) * 4
    disk = prepared_bytes(job, plan) + 2 * _STATES_KEPT * weights + SPARE_DISK
    estimate = Estimate(memory, free, disk, _disk_free(job.folder), seconds, device)
    return recipe, estimate, notes


def _disk_free(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _mirror_axes(job: Job, base: Model | None, report: CheckReport) -> tuple[int, ...]:
    """Axes to mirror: those that the labels' sides allow, and by default no other than the base's.

    A side's mirror image is the other side, so that no setting mirrors across paired labels.
    """
    if job.options.mirror is False:
        return ()
    allowed = set(report.mirror_axes)
    if job.options.mirror == "auto" and base is not None:
        try:
            allowed &= set(base.mirror_axes)
        except ModelError:  # said when the weights are loaded
            allowed = set()
    return tuple(sorted(allowed))

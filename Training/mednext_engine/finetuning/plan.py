"""Which grid, intensities, network and patch a new model has: the base model's, or computed.

With a base model everything is the base's, so that what it learned carries over; the voxels may
follow the cases where structures are much finer than the base's (paper 002, table 9). Without one,
the plan is the MedNeXt paper's: 1 mm isotropic, patches of 128 voxels (paper 001, section 3) as far
as image and memory allow; intensities as nnU-Net normalises them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, UnsupportedModelError
from ..inference.orientation import reorientation
from ..inference.resampling import resampled_shape
from ..models.plan import Plan, Resampling
from ..models.writer import READER, TURNING_READER
from ..networks.registry import CONFIGURATIONS, MEDNEXT, Configuration
from .facts import CaseFacts, Inspection
from .job import Job

if TYPE_CHECKING:
    from ..models.folder import Model

PAPER_SPACING = (1.0, 1.0, 1.0)  # mm
PAPER_PATCH = 128
CPU_PATCH = 80  # 128 voxels an axis cost four times as much, which no CPU trains in a day
LARGEST_PATCH = 256
SCRATCH_NETWORK = {"cpu": "laptop-tiny-k3", "gpu": "laptop-small-k3"}
UPKERN_SIZE = 5
MASK_BELOW = 0.75
"""Share of an image that is not zero below which nnU-Net normalises inside that part only."""
_SCHEMES = {
    "ct": "CTNormalization",
    "nonorm": "NoNormalization",
    "zscore": "ZScoreNormalization",
    "rescale_to_0_1": "RescaleTo01Normalization",
    "rgb_to_0_1": "RGBTo01Normalization",
}


@dataclass(frozen=True)
class Grid:
    """The plan of a new model, and how its images are turned.

    Attributes:
        plan: patch and batch as wanted, before memory is looked at.
        orientation: what images are turned to (`Model.orientation`); "" for their own axes.
        reader: nnU-Net's image reader that does the same.
        median_shape: of the cases' images at the plan's spacing, voxels in plan axes.
    """

    plan: Plan
    orientation: str
    reader: str
    median_shape: tuple[int, int, int]


def choose_grid(job: Job, base: Model | None, inspection: Inspection, on_gpu: bool) -> Grid:
    """The plan of the model that `job` describes.

    Raises:
        InputError: no case can be read, or a setting does not fit (a network beside a base model).
        UnsupportedModelError: UpKern for what is no MedNeXt with smaller kernels.
    """
    if not inspection.facts:
        raise InputError("No case can be read.", "See the problems of each case.")
    if base is not None and job.options.network is not None:
        raise InputError(
            "A network can be chosen only where none is taken over from a base model.",
            "Choose no base model, or no network.",
        )
    if base is None:
        plan, orientation, reader = _paper_plan(job, inspection, on_gpu), "RAS", TURNING_READER
    else:
        plan, orientation = _base_plan(job, base, inspection), base.orientation
        reader = str(base.plans_json.get("image_reader_writer") or READER)
    spacing = _spacing(job, plan, inspection.facts, orientation, scratch=base is None)
    plan = replace(plan, spacing=spacing)
    shape = _median_shape(plan, inspection.facts, orientation)
    patch = _patch(job, plan, shape, cap=base is None)
    plan = replace(plan, patch_size=patch, batch_size=job.options.batch or plan.batch_size)
    return Grid(plan, orientation, reader, shape)


def patch_multiple(plan: Plan) -> tuple[int, int, int]:
    """What the sides of a patch must be multiples of: the network's strides together."""
    if plan.network_class == MEDNEXT:
        return 16, 16, 16
    factors = [1, 1, 1]
    for stride in plan.network_kwargs.get("strides", []):
        sides = stride if isinstance(stride, (list, tuple)) else [stride] * 3
        factors = [f * int(s) for f, s in zip(factors, sides, strict=True)]
    return factors[0], factors[1], factors[2]


def new_network_kwargs(base: Model, upkern: bool) -> dict[str, Any]:
    """The network of a model fine-tuned from `base`.

    Raises:
        UnsupportedModelError: UpKern is asked for and impossible.
    """
    kwargs = {k: v for k, v in base.plan.network_kwargs.items() if k != "checkpointing"}
    if not upkern:
        return kwargs
    if base.plan.network_class != MEDNEXT:
        raise UnsupportedModelError(
            "UpKern enlarges the kernels of MedNeXt; this base model is another network.",
            "Switch UpKern off.",
        )
    if int(kwargs.get("kernel_size", 3)) >= UPKERN_SIZE:
        raise InputError(
            f"The base model has kernels of {kwargs['kernel_size']} already.", "Switch UpKern off."
        )
    return {**kwargs, "kernel_size": UPKERN_SIZE}


# ---- parts -----------------------------------------------------------------------------------


def _base_plan(job: Job, base: Model, inspection: Inspection) -> Plan:
    plan = base.plan
    known = {name.strip().casefold(): i for i, name in enumerate(base.channel_names)}
    same_count = len(base.channel_names) == len(job.channels)
    measured: Mapping[str, Mapping[str, float]] = {}
    schemes, masks, intensity = [], [], []
    for index, name in enumerate(job.channels):
        source = known.get(name.strip().casefold(), index if same_count else None)
        if source is not None:
            schemes.append(plan.normalization[source])
            masks.append(plan.use_mask_for_norm[source])
            intensity.append(dict(plan.intensity[source]))
            continue
        schemes.append(_SCHEMES.get(name.strip().casefold(), "ZScoreNormalization"))
        masks.append(False)
        measured = measured or inspection.foreground_intensity()
        intensity.append(dict(measured.get(str(index), {})))
    kwargs = new_network_kwargs(base, job.options.upkern)
    return replace(
        plan,
        normalization=tuple(schemes),
        use_mask_for_norm=tuple(masks),
        intensity=tuple(intensity),
        network_kwargs=kwargs,
    )


def _paper_plan(job: Job, inspection: Inspection, on_gpu: bool) -> Plan:
    schemes = tuple(_SCHEMES.get(n.strip().casefold(), "ZScoreNormalization") for n in job.channels)
    shares = [
        math.prod(p.stop - p.start for p in f.crop) / math.prod(f.shape) for f in inspection.facts
    ]
    masked = float(np.median(shares)) < MASK_BELOW
    measured = inspection.foreground_intensity()
    network = _scratch_network(job.options.network, on_gpu)
    return Plan(
        configuration="3d_fullres",
        spacing=PAPER_SPACING,
        patch_size=(PAPER_PATCH if on_gpu else CPU_PATCH,) * 3,
        transpose_forward=(0, 1, 2),
        transpose_backward=(0, 1, 2),
        normalization=schemes,
        use_mask_for_norm=tuple(masked and s == "ZScoreNormalization" for s in schemes),
        intensity=tuple(dict(measured.get(str(i), {})) for i in range(len(schemes))),
        network_class=MEDNEXT,
        network_kwargs=dict(network.kwargs),
        resample_data=Resampling(),
        batch_size=2,
    )


def _scratch_network(name: str | None, on_gpu: bool) -> Configuration:
    wanted = name or SCRATCH_NETWORK["gpu" if on_gpu else "cpu"]
    if wanted not in CONFIGURATIONS:
        raise InputError(
            f"There is no network '{wanted}'.", f"Choose one of: {', '.join(CONFIGURATIONS)}."
        )
    return CONFIGURATIONS[wanted]


def _spacing(
    job: Job, plan: Plan, facts: Sequence[CaseFacts], orientation: str, *, scratch: bool
) -> tuple[float, float, float]:
    wanted = job.options.spacing
    if not isinstance(wanted, str):
        return wanted
    if wanted == "base":
        return PAPER_SPACING if scratch else plan.spacing
    spacings = [
        reorientation(f.direction, orientation, plan.transpose_forward).permute(f.spacing)
        for f in facts
    ]
    first, second, third = (round(float(v), 6) for v in np.median(spacings, axis=0))
    return first, second, third


def _median_shape(plan: Plan, facts: Sequence[CaseFacts], orientation: str) -> tuple[int, int, int]:
    shapes = []
    for one in facts:
        turn = reorientation(one.direction, orientation, plan.transpose_forward)
        crop = turn.permute([part.stop - part.start for part in one.crop])
        spacing = turn.permute(one.spacing)
        shapes.append(resampled_shape(crop, plan.resample_data, spacing, plan.spacing))
    z, y, x = (round(float(v)) for v in np.median(shapes, axis=0))
    return z, y, x


def _patch(job: Job, plan: Plan, shape: tuple[int, int, int], *, cap: bool) -> tuple[int, int, int]:
    """The wanted patch in multiples of the network's strides; not larger than what it sees."""
    if job.options.patch is not None:
        wanted: Sequence[float] = job.options.patch
    else:
        wanted = [n * job.options.context for n in plan.patch_size]
    sides = []
    for axis, (side, multiple) in enumerate(zip(wanted, patch_multiple(plan), strict=True)):
        most: float = LARGEST_PATCH
        if job.options.patch is None and (cap or job.options.context > 1):
            own = plan.patch_size[axis] if not cap else 0
            most = max(own, math.ceil(shape[axis] / multiple) * multiple)
        sides.append(max(multiple, math.floor(min(side, most) / multiple + 0.5) * multiple))
    return sides[0], sides[1], sides[2]

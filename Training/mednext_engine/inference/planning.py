"""What a run will be, before anything large is computed: shapes, windows, memory, retreats."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..models.folder import Model
from ..monitor import Monitor
from .decide import scheme_back
from .devices import Execution, choose_execution, free_memory
from .memory import HALF_ABOVE, estimate_peak, finest_width
from .options import Options
from .preprocess import Frame, make_frame
from .resampling import Scheme
from .roi import Region, image_region, network_region, target_region
from .sliding import Windows

if TYPE_CHECKING:
    from .images import Volume


@dataclass(frozen=True)
class Attempt:
    """One way to run; the next one needs less memory of the device."""

    execution: Execution
    store_on: str
    store_as: str


@dataclass
class Job:
    """What all attempts at one volume share.

    Attributes:
        frame, scheme: from the image to the network's grid, and back.
        region: the box of the target grid to be decided, or None for all of it; may be empty.
        peak: bytes the run is expected to need at most.
        verdict_key: where the verdict about bfloat16 belongs, "" if none is wanted.
    """

    volume: Volume
    options: Options
    monitor: Monitor
    frame: Frame
    scheme: Scheme
    windows: Windows
    region: Region | None
    folds: tuple[str, ...]
    peak: int = 0
    verdict_key: str = ""

    @property
    def maps(self) -> bool:
        """Whether more than labels is asked for."""
        return self.options.probabilities or self.options.uncertainty

    @property
    def needs_logits(self) -> bool:
        """Whether the logits of the whole volume are needed, instead of a few planes at a time."""
        return self.maps or len(self.folds) > 1 or not self.scheme.linear

    @property
    def empty(self) -> bool:
        """Whether the region of interest holds nothing that the network sees."""
        return self.region is not None and self.windows.region is None


def plan_job(model: Model, volume: Volume, options: Options, monitor: Monitor) -> Job:
    """Everything about a run that shapes alone decide.

    Raises:
        InputError: the volume does not fit the model, or the region lies outside.
    """
    plan = model.plan
    frame = make_frame(volume, plan, model.orientation)
    scheme = scheme_back(frame, plan)
    region, needed = None, None
    if options.roi is not None:
        region = target_region(image_region(options.roi, volume), frame)
        region = region or (slice(0, 0), slice(0, 0), slice(0, 0))
        if all(part.stop > part.start for part in region):
            needed = [(p.start, p.stop) for p in network_region(region, scheme)]
    patch = (plan.patch_size[0], plan.patch_size[1], plan.patch_size[2])
    if needed is not None:  # windows lie in the padded volume
        missing = [max(p - n, 0) // 2 for p, n in zip(patch, frame.plan_shape, strict=True)]
        needed = [(a + m, b + m) for (a, b), m in zip(needed, missing, strict=True)]
    axes = model.mirror_axes if options.mirror else ()
    if options.mirror and not axes:
        monitor.note("This model was not trained with mirroring, so there is none.")
    windows = Windows(patch, options.step, axes, needed)
    folds = options.folds or model.default_folds
    return Job(volume, options, monitor, frame, scheme, windows, region, folds)


def plan_attempts(model: Model, job: Job, execution: Execution) -> list[Attempt]:
    """From the fastest to the most frugal way."""
    frame, patch = job.frame, job.windows.patch
    depth = max(patch[0], frame.plan_shape[0]) if job.maps or len(job.folds) > 1 else patch[0]
    plane = [max(n, p) for n, p in zip(frame.plan_shape[1:], patch[1:], strict=True)]
    # With many labels it is features that are kept (`head.py`).
    outputs = model.labels.num_heads
    outputs = outputs if job.needs_logits else min(outputs, finest_width(model.plan))
    stored = 4 * outputs * depth * plane[0] * plane[1]
    channels, plan = len(model.channel_names), model.plan
    half = "float16" if stored > HALF_ABOVE else "float32"
    kept = stored // 2 if half == "float16" else stored
    job.peak = estimate_peak(job.volume.shape, frame, channels, plan, execution, kept)
    limit = job.options.largest_memory or free_memory("cpu")
    if job.peak > limit and half == "float32":
        half = "float16"
        job.monitor.note("Memory is short, so results are averaged in half precision.")
    if job.peak > limit:
        job.monitor.note(
            f"This run may need {job.peak / 2**30:.1f} GiB of memory, "
            f"and {limit / 2**30:.1f} GiB are free."
        )
    if not execution.on_gpu:
        return [Attempt(execution, "cpu", half), Attempt(execution, "cpu", "float16")]
    on_cpu = replace(
        choose_execution(replace(job.options, device="cpu", precision="auto")),
        reason=f"The memory of {execution.device} did not suffice.",
    )
    attempts = [Attempt(execution, execution.device, half)]
    if stored > free_memory(execution.device) // 2:
        attempts = []
    return [
        *attempts,
        Attempt(execution, "cpu", half),
        Attempt(on_cpu, "cpu", half),
    ]

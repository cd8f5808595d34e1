"""From a volume to its labels: the stages of a segmentation, in reading order.

preprocess -> sliding window -> labels at the image's grid. NumPy on the CPU, tensors on other
devices; PyTorch is imported only where it runs the network.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ModelError, ResourceError
from ..models.folder import Model
from ..monitor import Monitor
from .arrays import Array, full
from .decide import decide_labels
from .devices import Execution, choose_execution
from .labelling import Labeller
from .loading import Networks, Wanted
from .options import Options
from .planning import Attempt, Job, plan_attempts, plan_job
from .precision import compare, learned_precision, remember
from .preprocess import Preprocessed, preprocess
from .probabilities import class_probabilities, uncertainty
from .runner import Runner
from .sliding import pad_to_patch, predict_planes

if TYPE_CHECKING:
    from .images import Volume


@dataclass
class Result:
    """What a segmentation gives.

    Attributes:
        labels: uint8 or uint16, (z, y, x), in the grid of the input.
        uncertainty: float32 (z, y, x), 0 (certain) to 1, if asked for.
        probabilities: one (z, y, x) float32 a head, 0 to 1, if asked for; made as it is read.
        device, backend, precision: what the network ran on.
        notes: sentences for the person: what was chosen and why, what was stepped down.
        timings: seconds a stage.
        peak_estimate: bytes of memory the run was expected to need at most.
        device_reason: why it was this device, a sentence.
    """

    labels: np.ndarray
    uncertainty: np.ndarray | None
    probabilities: Iterator[np.ndarray] | None
    device: str
    backend: str
    precision: str
    notes: list[str] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=dict)
    peak_estimate: int = 0
    device_reason: str = ""


class Segmenter:
    """A model ready to segment one volume after the other; networks stay in memory.

    Args:
        model: from `mednext_engine.models.open_model`.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._networks = Networks(model)

    @property
    def memory_bytes(self) -> int:
        """What the networks that are kept take, about."""
        return self._networks.memory_bytes

    def close(self) -> None:
        """Lets go of all networks."""
        self._networks.clear()

    def expect(self, options: Options) -> None:
        """Begins to load the network while the caller does something else, where that pays."""
        self._networks.expect(options)

    def segment(
        self, volume: Volume, options: Options | None = None, monitor: Monitor | None = None
    ) -> Result:
        """Segments `volume`, (c, z, y, x) with its geometry.

        Raises:
            InputError: the volume does not fit the model, or the region lies outside.
            ModelError: the model cannot be loaded.
            ResourceError: the device is not there, or its memory does not suffice at all.
            Cancelled: the monitor was cancelled.
        """
        options, monitor = options or Options(), monitor or Monitor()
        first_note = len(monitor.notes)
        job = plan_job(self.model, volume, options, monitor)
        learned = learned_precision(self.model, job.folds[0], options, choose_execution(options))
        job.verdict_key = learned.verdict_key
        if learned.note:
            monitor.note(learned.note)
        result = None
        for attempt in plan_attempts(self.model, job, learned.execution):
            try:
                result = self._run(job, attempt)
                break
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                self.close()
                if attempt.execution.device.startswith("cuda"):
                    sys.modules["torch"].cuda.empty_cache()
                monitor.note(
                    f"The memory of {attempt.execution.device} did not suffice; trying with less."
                )
        if result is None:
            raise ResourceError(
                "The memory of this computer does not suffice for this volume and model.",
                "Choose a region of interest, or close other programs.",
            )
        result.notes = monitor.notes[first_note:]
        result.timings = dict(monitor.timings)
        result.peak_estimate = job.peak
        return result

    def _try_bfloat16(self, job: Job, execution: Execution, exact: Runner, data: Array) -> None:
        """Computes the middle window in both precisions, for the runs to come."""
        z, y, x = job.windows.positions(data.shape[1:])[-1]
        middle = [n // 2 for n in (z, y, x)]
        index = [slice(m, m + p) for m, p in zip(middle, job.windows.patch, strict=True)]
        tile = data[None, :, index[0], index[1], index[2]]
        wanted = Wanted(job.folds[0], job.needs_logits, replace(execution, precision="bfloat16"))
        fast = self._networks.get(wanted, job.monitor)
        self._networks.forget(wanted)
        verdict = compare(exact, fast, tile, self.model.labels.has_regions, job.monitor)
        if job.verdict_key:
            remember(job.verdict_key, verdict)

    def _run(self, job: Job, attempt: Attempt) -> Result:
        monitor, execution = job.monitor, attempt.execution
        labels = np.zeros(job.frame.shape_after_crop, np.uint8)
        planes, backend = None, execution.backend
        if not job.empty:
            with monitor.stage("Preparing the image", 0.02, 0.06):
                image = preprocess(
                    job.volume, self.model.plan, monitor, execution.device, job.frame
                )
            with monitor.stage("Loading the network", 0.06, 0.1):
                wanted = [Wanted(fold, job.needs_logits, execution) for fold in job.folds]
                runners = [self._networks.get(one, monitor) for one in wanted]
            backend = runners[0].backend
            labels, planes = self._predict(job, attempt, runners, image)
        with monitor.stage("Finishing", 0.97, 0.98):
            maps = self._maps(job, planes)
            full = job.frame.restore(labels)
        return Result(
            full,
            *maps,
            execution.device,
            backend,
            execution.precision,
            device_reason=execution.reason,
        )

    def _predict(
        self, job: Job, attempt: Attempt, runners: list[Runner], image: Preprocessed
    ) -> tuple[np.ndarray, Array | None]:
        """Labels of the target grid, and the logits of the network's grid where they are kept."""
        data, inside = pad_to_patch(image.data, job.windows.patch)
        del image
        labels, monitor = self.model.labels, job.monitor
        labeller = None
        if not job.needs_logits:
            labeller = Labeller(job.scheme, labels, runners[0].head, job.region)
        total: Array | None = None
        with monitor.stage("Segmenting", 0.1, 0.94):
            for number, runner in enumerate(runners):
                planes_of_fold = predict_planes(
                    runner,
                    data,
                    job.windows,
                    monitor,
                    store_on=attempt.store_on,
                    store_as=attempt.store_as,
                    share=(number / len(runners), 1 / len(runners)),
                )
                for start, planes in _inside(planes_of_fold, inside):
                    if labeller is not None:
                        labeller.feed(start, planes)
                        continue
                    if total is None:
                        shape = (runner.outputs, *job.frame.plan_shape)
                        total = full(shape, 0, attempt.store_as, planes)
                    total[:, start : start + planes.shape[1]] += planes / len(runners)
                if len(runners) > 1:  # or every fold would keep its working memory
                    runner.rest()
        if job.verdict_key and attempt.execution.precision == "float32":
            with monitor.stage("Trying bfloat16", 0.94, 0.95):
                self._try_bfloat16(job, attempt.execution, runners[0], data)
        if labeller is not None:
            return labeller.result, None
        if total is None:
            raise ModelError("The model has no fold to run.")
        with monitor.stage("Deciding labels", 0.94, 0.97):
            return decide_labels(total, job.scheme, labels, monitor, job.region), total

    def _maps(
        self, job: Job, logits: Array | None
    ) -> tuple[np.ndarray | None, Iterator[np.ndarray] | None]:
        """Uncertainty and probabilities at the input's grid, as far as asked for."""
        if logits is None:
            return None, None
        regions = self.model.labels.has_regions
        entropy = None
        if job.options.uncertainty:
            entropy = job.frame.restore(uncertainty(logits, job.scheme, regions, job.monitor))
        probabilities = _probabilities(job, logits, regions) if job.options.probabilities else None
        return entropy, probabilities


def _out_of_memory(error: BaseException) -> bool:
    """CUDA and Python have classes for it; PyTorch's CPU allocator and OpenVINO have words."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return True
    words = str(error).lower()
    return "can't allocate memory" in words or "bad_alloc" in words or "out of memory" in words


def _probabilities(job: Job, logits: Array, regions: bool) -> Iterator[np.ndarray]:
    for head, values in enumerate(class_probabilities(logits, job.scheme, regions, job.monitor)):
        yield job.frame.restore(values, 1.0 if head == 0 and not regions else 0.0)


def _inside(
    planes: Iterator[tuple[int, Array]], inside: tuple[slice, slice, slice]
) -> Iterator[tuple[int, Array]]:
    """Takes the padding of `pad_to_patch` off planes as they come."""
    z, y, x = inside
    for start, part in planes:
        first, last = max(start, z.start), min(start + part.shape[1], z.stop)
        if first < last:
            yield first - z.start, part[:, first - start : last - start, y, x]


def segment_file(
    inputs: Path | str | list[Path | str],
    output: Path | str,
    model: Model | Path | str,
    options: Options | None = None,
    monitor: Monitor | None = None,
    *,
    segmenter: Segmenter | None = None,
    uncertainty_path: Path | None = None,
    probabilities_path: Path | None = None,
) -> Result:
    """Segments an image file (several: its channels; a folder: a DICOM series) into a label file.

    Everything is written at the end, each file whole or not at all. Probabilities are nnU-Net's
    .npz, the uncertainty is an image file.

    Raises:
        InputError, ModelError, ResourceError, OutputError, Cancelled.
    """
    from ..models.store import find_model
    from .writing import write_labels, write_probabilities, write_scalar

    monitor = monitor or Monitor()
    model = model if isinstance(model, Model) else find_model(model)
    options = replace(
        options or Options(),
        uncertainty=uncertainty_path is not None,
        probabilities=probabilities_path is not None,
    )
    segmenter = segmenter or Segmenter(model)
    segmenter.expect(options)
    with monitor.stage("Reading the image", 0.0, 0.02):
        # Imported here, because SimpleITK takes its time, in which the network is loaded.
        from .images import read_volume

        volume = read_volume(inputs, model.channel_names, monitor)
    result = segmenter.segment(volume, options, monitor)
    with monitor.stage("Writing", 0.98, 1.0):
        write_labels(Path(output), result.labels, volume)
        if uncertainty_path is not None and result.uncertainty is not None:
            write_scalar(uncertainty_path, result.uncertainty, volume)
        if probabilities_path is not None and result.probabilities is not None:
            heads = model.labels.num_heads
            write_probabilities(probabilities_path, result.probabilities, heads, volume)
    result.timings = dict(monitor.timings)
    return result

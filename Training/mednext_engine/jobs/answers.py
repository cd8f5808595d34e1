"""What each request is answered with. Everything heavy is imported by the answer that needs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DependencyError, InputError
from ..monitor import Monitor
from . import protocol as p
from . import training_answers
from .keeper import Keeper
from .lanes import Task

if TYPE_CHECKING:
    from ..models.folder import Model

Answer = Callable[[Any, Monitor], dict[str, Any]]


class Answers:
    """Answers requests, each with the value of its result; raises what goes wrong.

    `compute` are answers that must come one after the other and may use a device (`finetune` is
    one of them), `files` those that change models, `questions` those that only look.
    """

    def __init__(self, log: str = "", hide: Callable[[str], None] = lambda _: None) -> None:
        self._log = log
        self._hide = hide
        self._keeper = Keeper(_make_segmenter)
        self.compute: dict[type[p.Message], Answer] = {
            p.Segment: self._segment,
            p.CheckFinetune: lambda request, monitor: training_answers.check(
                request, monitor, self._hide
            ),
            p.Unload: lambda request, monitor: {"unloaded": self._keeper.clear()},
        }
        self.files: dict[type[p.Message], Answer] = {
            p.Download: _download,
            p.Import: _import,
            p.Export: _export,
            p.Remove: _remove,
            p.Verify: _verify,
            p.RemoveRun: training_answers.remove_run,
        }
        self.questions: dict[type[p.Message], Answer] = {
            p.Models: _models,
            p.Catalogue: _catalogue,
            p.ModelInfo: _model_info,
            p.Doctor: self._doctor,
            p.Runs: training_answers.runs,
        }

    def finetune(self, task: Task, tell: Callable[[p.Reply], None]) -> dict[str, Any]:
        """The one answer that says more than progress on its way; it lets go of all networks."""
        self._keeper.clear()
        request = task.request
        if not isinstance(request, p.Finetune):
            raise InputError(f"A {request.type} request is no training.")
        return training_answers.finetune(request, task, tell, self._hide)

    def _doctor(self, request: p.Doctor, monitor: Monitor) -> dict[str, Any]:
        from .doctor import examine

        return dict(examine(request.devices, self._log))

    def _segment(self, request: p.Segment, monitor: Monitor) -> dict[str, Any]:
        output, uncertainty, probabilities = _outputs(request)
        if not request.inputs or not request.model:
            raise InputError("A segmentation needs at least one image and a model.")
        with monitor.stage("Loading", 0.0, 0.01):
            from ..models.store import find_model

            model = find_model(request.model)
            segmenter = self._keeper.segmenter(model)
            from ..inference.engine import segment_file
            from ..inference.options import Options

            options = Options.from_dict(dict(request.options))
        before = int(segmenter.memory_bytes)
        try:
            result = segment_file(
                [Path(one) for one in request.inputs],
                output,
                model,
                options,
                monitor,
                segmenter=segmenter,
                uncertainty_path=uncertainty,
                probabilities_path=probabilities,
            )
            loaded = int(segmenter.memory_bytes) > before
        finally:
            self._keeper.trim()
        value: p.SegmentValue = {
            "output": request.output,
            "uncertainty_output": request.uncertainty_output,
            "probabilities_output": request.probabilities_output,
            "labels": model.card.to_json()["labels"],
            "present": _present(result.labels),
            "model": model.id,
            "loaded": loaded,
            "device": result.device,
            "device_reason": result.device_reason,
            "backend": result.backend,
            "precision": result.precision,
            "notes": list(result.notes),
            "timings": {name: round(float(s), 3) for name, s in result.timings.items()},
            "peak_estimate": int(result.peak_estimate),
        }
        return dict(value)


def _make_segmenter(model: Model) -> Any:
    try:
        from ..inference.devices import require_runtime

        require_runtime()
        from ..inference.engine import Segmenter
    except ImportError as error:
        raise DependencyError(
            f"A package that Segment needs cannot be imported: {error}.",
            "`mednext doctor`, or the panel, says what to install.",
        ) from error
    return Segmenter(model)


def _outputs(request: p.Segment) -> tuple[Path, Path | None, Path | None]:
    said = (request.output, request.uncertainty_output, request.probabilities_output)
    if not request.output:
        raise InputError("A segmentation needs a file to write to.")
    for path in said:
        if path and not Path(path).is_absolute():
            raise InputError(f"The path {path} is not absolute.")
    maps = [Path(path) if path else None for path in said[1:]]
    return Path(request.output), maps[0], maps[1]


def _present(labels: Any) -> list[int]:
    """Label values that are there, without background, of an integer array."""
    import numpy as np

    return [int(v) for v in np.flatnonzero(np.bincount(labels.reshape(-1))) if v]


def _models(request: p.Models, monitor: Monitor) -> dict[str, Any]:
    from .inventory import installed_models

    return installed_models()


def _model_info(request: p.ModelInfo, monitor: Monitor) -> dict[str, Any]:
    from ..models.store import describe, find_model

    model = find_model(request.model)
    return {**describe(model), "card": model.card.to_json()}


def _catalogue(request: p.Catalogue, monitor: Monitor) -> dict[str, Any]:
    from .inventory import catalogue_entries

    return {"entries": catalogue_entries()}


def _download(request: p.Download, monitor: Monitor) -> dict[str, Any]:
    from ..models.catalogue import download_model, find_entry
    from ..models.store import describe

    model = download_model(find_entry(request.id), monitor, replace_existing=request.replace)
    return {"model": describe(model), "notes": list(monitor.notes)}


def _import(request: p.Import, monitor: Monitor) -> dict[str, Any]:
    from ..models.store import describe, import_model

    model = import_model(
        request.path, monitor, name=request.name or None, replace_existing=request.replace
    )
    return {"model": describe(model), "notes": list(monitor.notes)}


def _export(request: p.Export, monitor: Monitor) -> dict[str, Any]:
    from ..models.store import export_model, find_model

    if not Path(request.path).is_absolute():
        raise InputError(f"The path {request.path} is not absolute.")
    return {"path": str(export_model(find_model(request.model), request.path, monitor))}


def _remove(request: p.Remove, monitor: Monitor) -> dict[str, Any]:
    from ..models.store import find_model, remove_model

    model = find_model(request.model)
    remove_model(model)
    return {"removed": model.id}


def _verify(request: p.Verify, monitor: Monitor) -> dict[str, Any]:
    from ..models.store import find_model, verify_model

    verification = verify_model(find_model(request.model), monitor)
    return {"checked": verification.checked, "problems": list(verification.problems)}

"""One side of one comparison, alone in its process: `python one_side.py SIDE ARGUMENTS-AS-JSON`.

Prints one line of JSON: seconds a stage, and what else there is to say. Imports are timed too,
because a person who clicks waits for them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

STARTED = time.perf_counter()


def _timed(stages: dict[str, float], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            stages[name] = stages.get(name, 0.0) + time.perf_counter() - start

    return wrapper


def _official_layers() -> None:
    """MedNeXt's layers as the official code has them, without our shortcuts on CPUs.

    nnU-Net runs a MedNeXt through this package's class, so it would be faster by them too.
    """
    from mednext_engine.networks import depthwise, layers, streamed, streamed_training

    for module in (depthwise, layers, streamed, streamed_training):
        module.eager_on_cpu = lambda x: False  # type: ignore[attr-defined]


def peer(
    inputs: list[str],
    output: str,
    model: str,
    folds: list[str],
    our_layers: bool = False,
    mirror: bool = False,
) -> dict[str, Any]:
    """nnU-Net's predictor in one process (no workers, which would only add to its memory)."""
    if not our_layers:
        _official_layers()
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ.setdefault(name, os.path.dirname(output))
    import torch
    from nnunetv2.inference import predict_from_raw_data as module
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

    stages = {"imports": time.perf_counter() - STARTED}
    predictor = module.nnUNetPredictor(
        use_mirroring=mirror,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    load = _timed(stages, "loading", predictor.initialize_from_trained_model_folder)
    load(model, tuple(folds))
    DefaultPreprocessor.run_case = _timed(stages, "preparing", DefaultPreprocessor.run_case)
    predictor.predict_logits_from_preprocessed_data = _timed(
        stages, "windows", predictor.predict_logits_from_preprocessed_data
    )
    module.export_prediction_from_logits = _timed(
        stages, "labels and writing", module.export_prediction_from_logits
    )
    predictor.predict_from_files_sequential([inputs], [output.removesuffix(".nii.gz")])
    return {"stages": stages}


def ours(inputs: list[str], output: str, model: str, options: dict[str, Any]) -> dict[str, Any]:
    from mednext_engine.inference import Options, segment_file

    imports = time.perf_counter() - STARTED
    result = segment_file(list(inputs), output, model, Options.from_dict(options))
    stages = {"imports": imports, **result.timings}
    return {
        "stages": stages,
        "notes": result.notes,
        "backend": result.backend,
        "precision": result.precision,
        "estimate": result.peak_estimate,
    }


RESAMPLING = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}


def peer_grid(logits: str, size: int, output: str) -> dict[str, Any]:
    """nnU-Net's way back to the image's grid: resampling of all classes, then the argmax."""
    import numpy as np
    import torch
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

    values = torch.from_numpy(np.load(logits))
    shape, stages = (size, size, size), {}
    spacing = [size / values.shape[1]] * 3
    resample = _timed(stages, "back to the grid", resample_data_or_seg_to_shape)
    full = resample(values, shape, spacing, [1.0] * 3, **RESAMPLING)
    argmax = _timed(stages, "back to the grid", lambda: torch.as_tensor(full).argmax(0))
    np.save(output, argmax().numpy().astype(np.uint8))
    return {"stages": stages}


def ours_grid(logits: str, size: int, output: str) -> dict[str, Any]:
    import numpy as np

    from mednext_engine.inference.decide import decide_labels
    from mednext_engine.inference.resampling import make_scheme
    from mednext_engine.models.labels import Labels
    from mednext_engine.models.plan import Resampling

    values = np.load(logits)
    stages: dict[str, float] = {}
    spacing = [size / values.shape[1]] * 3
    scheme = make_scheme(
        values.shape[1:], (size, size, size), Resampling(order=1), spacing, [1.0] * 3
    )
    names = tuple(str(i) for i in range(len(values)))
    labels = Labels(names, tuple(range(len(values))))
    decide = _timed(stages, "back to the grid", decide_labels)
    np.save(output, decide(values, scheme, labels).astype(np.uint8))
    return {"stages": stages}


def numbers(model: str, patch: int) -> dict[str, Any]:
    """Relative difference (root mean square) of the network's outputs from PyTorch's float32."""
    import torch

    from mednext_engine.inference.devices import Execution
    from mednext_engine.inference.runner import make_runner
    from mednext_engine.models.folder import open_model
    from mednext_engine.monitor import Monitor

    opened = open_model(model)
    tile = torch.randn((1, 1, patch, patch, patch), generator=torch.Generator().manual_seed(0))
    found: dict[str, Any] = {}
    expected = None
    for backend, precision in (
        ("torch", "float32"),
        ("openvino", "float32"),
        ("openvino", "bfloat16"),
    ):
        network = opened.network(opened.weights("0"))
        execution = Execution("cpu", backend, precision, None, "")
        runner = make_runner(network, (patch,) * 3, 1, opened.labels.num_heads, execution)
        result = runner.run(tile, Monitor()).clone()
        if expected is None:
            expected = result
            continue
        difference = (result - expected).square().mean().sqrt() / expected.std()
        found[precision] = float(difference)
    return found


SIDES: dict[str, Callable[..., dict[str, Any]]] = {
    "peer": peer,
    "ours": ours,
    "peer_grid": peer_grid,
    "ours_grid": ours_grid,
    "numbers": numbers,
}

if __name__ == "__main__":
    said = SIDES[sys.argv[1]](**json.loads(sys.argv[2]))
    print("RESULT " + json.dumps(said), flush=True)

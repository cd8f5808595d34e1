"""Where OpenVINO runs the network, PyTorch is neither imported nor needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from job_fixtures import blocking, private_places, write_tiny_model, write_volume

from mednext_engine.errors import ModelError, UnsupportedModelError
from mednext_engine.inference import Options, segment_file
from mednext_engine.inference.head import read_head
from mednext_engine.jobs import protocol
from mednext_engine.jobs.client import Worker
from mednext_engine.models.folder import Model, open_model
from mednext_engine.models.weights import parameters_from
from mednext_engine.networks import MedNeXt
from mednext_engine.networks.parameters import MedNeXtParameters, is_mednext, mednext_shapes
from mednext_engine.networks.registry import CONFIGURATIONS, MEDNEXT, mednext_layout

SEGMENT = """
import json, sys
from mednext_engine.inference import Options, segment_file

image, output, model, options = json.loads(sys.argv[1])
result = segment_file(image, output, model, Options(device="auto", **options))
modules = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps([result.backend, result.device, modules]))
"""


@pytest.fixture(scope="module")
def a_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return open_model(write_tiny_model(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="module")
def a_volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_volume(tmp_path_factory.mktemp("images") / "ball.nii.gz")


def segment_alone(
    image: Path, output: Path, model: Model, environment: dict[str, str], **options: Any
) -> tuple[str, str, list[str]]:
    """Segments in a process of its own: backend, device, and what was imported there."""
    pytest.importorskip("openvino")
    arguments = json.dumps([str(image), str(output), str(model.path), options])
    inherited = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    if "PYTHONPATH" in environment:
        environment["PYTHONPATH"] += os.pathsep + inherited["PYTHONPATH"]
    done = subprocess.run(
        [sys.executable, "-c", SEGMENT, arguments],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    backend, device, modules = json.loads(done.stdout.splitlines()[-1])
    return backend, device, modules


def voxels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


@pytest.mark.parametrize("hidden", [False, True])
def test_a_segmentation_without_torch(a_model, a_volume, tmp_path, hidden):
    """Hidden: as where it is not installed. The labels are those that PyTorch gives."""
    environment = private_places(tmp_path)
    if hidden:
        environment |= blocking(tmp_path / "site", "torch")
    output = tmp_path / "labels.nii.gz"
    backend, device, modules = segment_alone(a_volume, output, a_model, environment)
    if device != "cpu":
        pytest.skip("This computer has a GPU, which needs PyTorch.")
    assert backend == "openvino"
    assert "torch" not in modules
    plain = Options(device="cpu", backend="torch", precision="float32")
    segment_file(a_volume, tmp_path / "torch.nii.gz", a_model, plain)
    expected = voxels(tmp_path / "torch.nii.gz")
    assert len(np.unique(expected)) > 1
    assert (voxels(output) == expected).mean() > 0.999


def test_every_option_without_torch(a_model, a_volume, tmp_path):
    environment = private_places(tmp_path) | blocking(tmp_path / "site", "torch")
    _, _, modules = segment_alone(
        a_volume, tmp_path / "o.nii.gz", a_model, environment, mirror=True, step=0.7,
        precision="bfloat16", roi=None,
    )  # fmt: skip
    assert "torch" not in modules


def test_worker_and_command_line_without_torch(a_model, a_volume, tmp_path):
    pytest.importorskip("openvino")
    environment = private_places(tmp_path) | blocking(tmp_path / "site", "torch")
    with Worker(environment=environment) as worker:
        worker.wait_ready()
        request = protocol.Segment(
            job="1", inputs=[str(a_volume)], output=str(tmp_path / "w.nii.gz"),
            model=str(a_model.path),
        )  # fmt: skip
        answer = worker.ask(request, 300)
    assert isinstance(answer, protocol.Result), answer
    assert answer.value["backend"] == "openvino"
    command = ["segment", str(a_volume), str(tmp_path / "c.nii.gz"), "--model", str(a_model.path)]
    done = subprocess.run(
        [sys.executable, "-m", "mednext_engine.cli", *command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(voxels(tmp_path / "c.nii.gz"), voxels(tmp_path / "w.nii.gz"))


LAYOUTS = [
    *({"deep_supervision": d, **c.kwargs} for c in CONFIGURATIONS.values() for d in (False, True)),
    {"channels": 4, "resampling": "standard", "blocks": [1, 2, 3, 1, 2, 1, 1, 2, 1]},
]


@pytest.mark.parametrize("kwargs", LAYOUTS)
def test_shapes_are_those_of_the_module(kwargs):
    with torch.device("meta"):
        expected = MedNeXt(2, 5, **kwargs).state_dict()
    found = mednext_shapes(2, 5, **kwargs)
    assert found == {name: tuple(values.shape) for name, values in expected.items()}


def some_arrays(**kwargs: Any) -> dict[str, np.ndarray]:
    torch.manual_seed(0)
    state = MedNeXt(1, 3, channels=2, blocks=1, **kwargs).state_dict()
    return {name: values.numpy() for name, values in state.items()}


def test_parameters_by_the_names_of_modules():
    arrays = some_arrays(deep_supervision=True)
    parameters = parameters_from(mednext_shapes(1, 3, channels=2, blocks=1), arrays)
    assert is_mednext(parameters)
    assert is_mednext(MedNeXt(1, 3, channels=2, blocks=1))
    assert not is_mednext(torch.nn.Identity())
    kernel = parameters.decoder.stages[3][0].depthwise.weight
    np.testing.assert_array_equal(kernel, arrays["decoder.stages.3.0.depthwise.weight"])
    assert len(parameters.decoder.heads) == 1  # those for deep supervision are left away
    head = read_head(parameters)
    np.testing.assert_array_equal(head.weight, arrays["decoder.heads.0.weight"][..., 0, 0, 0].T)


def test_ten_blocks_come_in_their_order():
    one = {f"encoder.stages.{i}.weight": np.array([i]) for i in reversed(range(12))}
    tree = MedNeXtParameters({**one, "decoder.heads.0.bias": np.zeros(1)})
    assert [int(stage.weight[0]) for stage in tree.encoder.stages] == list(range(12))


def test_weights_of_another_network_are_refused():
    shapes = mednext_shapes(1, 3, channels=2, blocks=1)
    arrays = some_arrays()
    with pytest.raises(ModelError, match=r"'encoder\.stem\.bias' is missing"):
        parameters_from(shapes, {k: v for k, v in arrays.items() if k != "encoder.stem.bias"})
    with pytest.raises(ModelError, match="'more' is unknown"):
        parameters_from(shapes, {**arrays, "more": np.zeros(1)})
    with pytest.raises(ModelError, match=r"shape \[3, 2\] instead of \[2\]"):
        parameters_from(shapes, {**arrays, "encoder.stem.bias": np.zeros((3, 2))})
    with pytest.raises(ModelError, match="not finite"):
        parameters_from(shapes, {**arrays, "encoder.stem.bias": np.array([1, np.nan])})
    with pytest.raises(UnsupportedModelError, match="1x1x1"):
        read_head(MedNeXtParameters({**arrays, "decoder.heads.0.weight": np.zeros((2, 3))}))


def test_layouts_are_checked_before_they_are_made():
    assert mednext_layout("PlainConvUNet", {}, 1, 3) is None
    with pytest.raises(ModelError, match="impossible value"):
        mednext_layout(MEDNEXT, {"channels": 10**6}, 1, 3)
    with pytest.raises(ModelError, match="out of bounds"):
        mednext_layout(MEDNEXT, {"channels": 1024, "expansion": 16}, 1, 3)
    with pytest.raises(ModelError, match="unknown"):
        mednext_layout(MEDNEXT, {"path": "x"}, 1, 3)


def test_a_model_s_parameters_are_its_weights(a_model):
    parameters = a_model.parameters("0")
    weights = a_model.weights("0")
    assert parameters is not None
    stem = parameters.encoder.stem.weight
    assert stem.dtype == np.float32
    np.testing.assert_array_equal(stem, weights["encoder.stem.weight"].numpy())

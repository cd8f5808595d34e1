import sys

import pytest
import torch

from mednext_engine.errors import DependencyError, InputError, ResourceError
from mednext_engine.inference import devices
from mednext_engine.inference.devices import choose_execution, list_devices
from mednext_engine.inference.options import Box, Options


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"step": 0}, "step"),
        ({"step": 1.5}, "step"),
        ({"precision": "int8"}, "precision"),
        ({"backend": "tensorrt"}, "backend"),
        ({"threads": 0}, "thread"),
        ({"colour": "red"}, "Unknown option: colour"),
        ({"roi": {"low": [0, 0, 0], "high": [1, 0, 1]}}, "empty"),
        ({"roi": {"low": [0, 0], "high": [1, 1]}}, "three numbers"),
        ({"roi": {"low": [0, 0, 0], "high": [1, 1, 1], "space": "mni"}}, "voxel"),
    ],
)
def test_wrong_options_say_what_is_wrong(values, words):
    with pytest.raises(InputError, match=words):
        Options.from_dict(values)


def test_options_from_a_message():
    options = Options.from_dict(
        {"folds": [0, "1"], "roi": {"low": [0, 0, 0], "high": [1, 2, 3], "space": "ras"}}
    )
    assert options.folds == ("0", "1")
    assert options.roi == Box((0, 0, 0), (1, 2, 3), "ras")


def test_the_cpu_is_always_there_and_last():
    found = list_devices()
    assert found[-1]["name"] == "cpu"
    assert 0 < found[-1]["free"] <= found[-1]["total"]


def test_without_a_gpu_the_choice_says_why(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    execution = choose_execution(Options())
    assert (execution.device, execution.precision) == ("cpu", "float32")
    assert "GPU" in execution.reason
    with pytest.raises(ResourceError, match="no device cuda"):
        choose_execution(Options(device="cuda"))
    with pytest.raises(ResourceError, match="This computer has: cpu"):
        choose_execution(Options(device="toaster"))


def test_the_cuda_device_with_the_most_free_memory_is_chosen(monkeypatch):
    free = {0: 1_000_000_000, 1: 8_000_000_000}
    cuda = torch.cuda
    monkeypatch.setattr(cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda, "device_count", lambda: 2)
    monkeypatch.setattr(cuda, "mem_get_info", lambda device: (free[int(str(device)[-1])], 9e9))
    monkeypatch.setattr(cuda, "is_bf16_supported", lambda including_emulation=True: False)
    execution = choose_execution(Options())
    assert (execution.device, execution.backend) == ("cuda:1", "torch")
    assert execution.precision == "float16"
    assert choose_execution(Options(device="cuda:0")).device == "cuda:0"
    with pytest.raises(ResourceError, match="cuda:2"):
        choose_execution(Options(device="cuda:2"))


def test_pytorch_is_not_imported_to_learn_that_there_is_no_gpu(monkeypatch, tmp_path):
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('torch was imported')")
    version = package / "version.py"
    for name in [n for n in sys.modules if n.partition(".")[0] == "torch"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setitem(devices._DRIVERS, "linux", (str(tmp_path),))  # a driver is there
    version.write_text("__version__ = '2.9+cpu'\ncuda: Optional[str] = None\nhip = None\n")
    assert not devices.gpu_is_possible()
    assert "without GPU support" in choose_execution(Options()).reason
    version.write_text("cuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n")
    assert devices.gpu_is_possible()
    monkeypatch.setitem(devices._DRIVERS, "linux", (str(tmp_path / "nowhere"),))
    assert not devices.gpu_is_possible()
    assert choose_execution(Options()).device == "cpu"
    with pytest.raises(ResourceError, match="no device cuda"):
        choose_execution(Options(device="cuda"))
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(devices.platform, "machine", lambda: "x86_64")
    assert not devices.gpu_is_possible()
    monkeypatch.setattr(devices.platform, "machine", lambda: "arm64")
    assert devices.gpu_is_possible()


def test_openvino_is_used_where_it_is_installed(monkeypatch):
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)
    assert choose_execution(Options(device="cpu")).backend == "torch"
    with pytest.raises(DependencyError, match="OpenVINO is not installed"):
        choose_execution(Options(device="cpu", backend="openvino"))
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: object())
    assert choose_execution(Options(device="cpu")).backend == "openvino"
    assert choose_execution(Options(device="cpu", backend="torch")).backend == "torch"

import pytest

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
    monkeypatch.setattr(devices.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(devices.torch.backends.mps, "is_available", lambda: False)
    execution = choose_execution(Options())
    assert (execution.device, execution.precision) == ("cpu", "float32")
    assert "GPU" in execution.reason
    with pytest.raises(ResourceError, match="no device cuda"):
        choose_execution(Options(device="cuda"))
    with pytest.raises(ResourceError, match="This computer has: cpu"):
        choose_execution(Options(device="toaster"))


def test_the_cuda_device_with_the_most_free_memory_is_chosen(monkeypatch):
    free = {0: 1_000_000_000, 1: 8_000_000_000}
    cuda = devices.torch.cuda
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


def test_openvino_is_used_where_it_is_installed(monkeypatch):
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)
    assert choose_execution(Options(device="cpu")).backend == "torch"
    with pytest.raises(DependencyError, match="OpenVINO is not installed"):
        choose_execution(Options(device="cpu", backend="openvino"))
    monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: object())
    assert choose_execution(Options(device="cpu")).backend == "openvino"
    assert choose_execution(Options(device="cpu", backend="torch")).backend == "torch"

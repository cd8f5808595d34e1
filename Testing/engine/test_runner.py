"""Networks on one tile: OpenVINO gives what PyTorch gives, and both stop in the middle of it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from engine_fixtures import KINDS

from mednext_engine.errors import Cancelled
from mednext_engine.inference import runner as runner_module
from mednext_engine.inference.devices import Execution
from mednext_engine.inference.runner import Runner, TorchRunner, make_runner, mirrored
from mednext_engine.monitor import Monitor
from mednext_engine.networks.registry import build_network

BACKENDS = ["torch", "openvino"]
SIZE = (32, 16, 48)


def needs(backend: str) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")


def an_execution(backend: str, precision: str = "float32", threads: int | None = 2) -> Execution:
    return Execution("cpu", backend, precision, threads, "")


def a_network(kind: str, classes: int, channels: int = 2) -> torch.nn.Module:
    torch.manual_seed(0)
    network_class, kwargs, _ = KINDS[kind]
    return build_network(network_class, dict(kwargs), channels, classes).eval()


def a_tile(channels: int = 2, size: tuple[int, int, int] = SIZE) -> torch.Tensor:
    return torch.randn((1, channels, *size), generator=torch.Generator().manual_seed(1))


def logits(runner: Runner, tile: torch.Tensor) -> torch.Tensor:
    result = runner.run(tile, Monitor())
    assert result.dtype == torch.float32
    assert len(result) == runner.outputs
    return result.clone() if runner.head is None else runner.head.apply(result)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("classes", [3, 20])  # fewer and more than features
@pytest.mark.parametrize("backend", BACKENDS)
def test_gives_the_network_s_logits(kind, classes, backend):
    needs(backend)
    tile = a_tile()
    with torch.inference_mode():
        expected = a_network(kind, classes)(tile)[0]
    runner = make_runner(a_network(kind, classes), SIZE, 2, classes, an_execution(backend))
    assert runner.backend == backend
    assert (runner.head is None) == (classes == 3)
    assert runner.outputs == (3 if classes == 3 else 8)
    difference = (logits(runner, tile) - expected).abs().max()
    assert float(difference) < 1e-4 * float(expected.abs().max())


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_head_is_kept_when_logits_are_wanted(backend):
    needs(backend)
    network = a_network("mednext", 20)
    runner = make_runner(network, SIZE, 2, 20, an_execution(backend), keep_head=True)
    assert runner.head is None
    assert runner.run(a_tile(), Monitor()).shape == (20, *SIZE)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("backend", BACKENDS)
def test_bfloat16_is_close(kind, backend):
    needs(backend)
    tile = a_tile()
    exact = logits(make_runner(a_network(kind, 3), SIZE, 2, 3, an_execution("torch")), tile)
    execution = an_execution(backend, "bfloat16")
    rough = logits(make_runner(a_network(kind, 3), SIZE, 2, 3, execution), tile)
    error = (rough - exact).square().mean().sqrt() / exact.std()
    assert float(error) < 0.03  # bfloat16 has eight binary digits: 0.4 % a rounding


def test_a_second_tile_does_not_change_with_the_first():
    """OpenVINO's tensors are shared memory; a result that was cloned must stay what it was."""
    needs("openvino")
    runner = make_runner(a_network("mednext", 3), SIZE, 2, 3, an_execution("openvino"))
    first = runner.run(a_tile(), Monitor()).clone()
    other = runner.run(a_tile() * 2 + 1, Monitor()).clone()
    again = runner.run(a_tile(), Monitor()).clone()
    assert not torch.equal(first, other)
    torch.testing.assert_close(first, again)


def test_a_large_output_comes_in_half_precision(monkeypatch):
    needs("openvino")
    runner = make_runner(a_network("mednext", 3), SIZE, 2, 3, an_execution("openvino"))
    exact = runner.run(a_tile().numpy(), Monitor()).copy()
    assert exact.dtype == np.float32
    monkeypatch.setattr(runner_module, "HALF_ABOVE", 4 * 3 * 32 * 16 * 48 - 1)
    runner = make_runner(a_network("mednext", 3), SIZE, 2, 3, an_execution("openvino"))
    half = runner.run(a_tile().numpy(), Monitor())
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, exact, rtol=1e-3, atol=1e-3)
    both = mirrored(lambda t: runner.run(t, Monitor()), a_tile().numpy(), [(), (0,)])
    assert both.dtype == np.float32  # a sum in half precision would lose digits


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_runner_that_rested_gives_the_same(backend):
    needs(backend)
    runner = make_runner(a_network("mednext", 3), SIZE, 2, 3, an_execution(backend))
    before = runner.run(a_tile().numpy(), Monitor()).copy()
    runner.rest()
    np.testing.assert_array_equal(runner.run(a_tile().numpy(), Monitor()), before)


def test_a_layer_that_openvino_does_not_know_runs_in_pytorch():
    needs("openvino")
    network = a_network("residual", 3)
    network.encoder.stages[0] = torch.nn.Sequential(
        network.encoder.stages[0], torch.nn.Softplus(), network.encoder.stages[0]
    )
    runner = make_runner(network, SIZE, 2, 3, an_execution("openvino"))
    assert isinstance(runner, TorchRunner)


@pytest.mark.parametrize("backend", BACKENDS)
def test_cancel_stops_in_the_middle_of_a_tile(backend):
    """The tile takes several seconds on two cores; the cancel comes after a fraction of one."""
    needs(backend)
    torch.manual_seed(0)
    size = (96, 96, 96) if backend == "torch" else (128, 128, 128)
    kwargs = {"channels": 16, "blocks": 2, "expansion": 2, "kernel_size": 3}
    network = build_network(KINDS["mednext"][0], kwargs, 1, 3).eval()
    execution = an_execution(backend)
    runner = make_runner(network, size, 1, 3, execution)
    monitor, called = Monitor(), []

    def cancel() -> None:
        called.append(time.monotonic())
        monitor.cancel()

    timer = threading.Timer(0.5, cancel)
    timer.start()
    with pytest.raises(Cancelled):
        runner.run(torch.zeros(1, 1, *size), monitor)
    assert time.monotonic() - called[0] < 2.0
    timer.join()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_runner_works_again_after_a_cancel(backend):
    needs(backend)
    runner = make_runner(a_network("mednext", 3), SIZE, 2, 3, an_execution(backend))
    expected = runner.run(a_tile(), Monitor()).clone()
    cancelled = Monitor()
    cancelled.cancel()
    with contextlib.suppress(Cancelled):  # a tile as small as this may be done before
        runner.run(a_tile() + 1, cancelled)
    torch.testing.assert_close(runner.run(a_tile(), Monitor()), expected)


NO_SOCKETS = """
import socket, sys

def refuse(*args, **kwargs):
    raise AssertionError("a socket was opened")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
class Refused(socket.socket):
    def __init__(self, *args, **kwargs):
        refuse()
socket.socket = Refused

import torch
from mednext_engine.inference.devices import Execution
from mednext_engine.inference.runner import make_runner
from mednext_engine.monitor import Monitor
from mednext_engine.networks import MedNeXt

network = MedNeXt(1, 3, channels=4, blocks=1, expansion=2, kernel_size=3).eval()
runner = make_runner(network, (16,) * 3, 1, 3, Execution("cpu", "openvino", "float32", 1, ""))
print(runner.backend, tuple(runner.run(torch.zeros(1, 1, 16, 16, 16), Monitor()).shape))
print(sorted(n for n, m in sys.modules.items() if "telemetry" in n and m and "openvino_" in n))
"""


def test_openvino_reports_to_nobody(tmp_path):
    """Its telemetry is on by default and off where CI is set, so CI is taken away here."""
    needs("openvino")
    home = tmp_path / "home"
    home.mkdir()
    keep = {k: v for k, v in os.environ.items() if k not in ("CI", "HOME", "XDG_CACHE_HOME")}
    environment = {**keep, "HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", NO_SOCKETS],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["openvino (3, 16, 16, 16)", "[]"]
    assert list(home.iterdir()) == []

"""Two real processes with gloo on the CPU, as `torchrun` starts them."""

import os
import socket
import subprocess
import sys
import textwrap

import pytest
import torch
from training_fixtures import short_recipe, sphere_task, tiny_network

from mednext_engine.errors import InputError
from mednext_engine.training import Control, train
from mednext_engine.training.distributed import Group

pytest.importorskip("batchgeneratorsv2")

SCRIPT = """
import sys
from pathlib import Path

import torch

torch.set_num_threads(1)
from training_fixtures import short_recipe, sphere_task, tiny_network

from mednext_engine.errors import Cancelled
from mednext_engine.training import Control, Phase, train

folder, mode = Path(sys.argv[1]), sys.argv[2]
rank = int(__import__("os").environ["RANK"])
phases = (Phase("decoder", 2, 0, 1e-3, trains="decoder"), Phase("all", 2, 0, 1e-3))
control = Control()
if mode == "cancel" and rank == 1:
    control.on_step = None  # the first process alone reports
    control.monitor.cancel()
if mode == "stop" and rank == 1:
    control.stop.set()
epochs = []
control.on_epoch = epochs.append
try:
    outcome = train(
        tiny_network(), sphere_task(folder / f"data{rank}"), short_recipe(4, phases=phases),
        folder / "run", control,
    )
    result = {
        "weights": outcome.last_weights, "reason": outcome.reason, "steps": outcome.steps,
        "losses": [r.train_loss for r in outcome.curves], "reported": len(epochs),
        "dice": [r.dice["ball"] for r in outcome.curves],
    }
except Cancelled:
    result = {"reason": "cancelled"}
torch.save(result, folder / f"{mode}{rank}.pt")
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_two(tmp_path, mode):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    port = str(free_port())
    processes = []
    for rank in range(2):
        environment = {
            **os.environ,
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path]),
        }
        command = [sys.executable, str(script), str(tmp_path), mode]
        processes.append(
            subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        )
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    return [torch.load(tmp_path / f"{mode}{rank}.pt", weights_only=True) for rank in range(2)]


def test_two_processes_train_as_one_with_the_whole_batch(tmp_path):
    first, second = run_two(tmp_path, "train")
    assert all(torch.equal(first["weights"][k], second["weights"][k]) for k in first["weights"])
    assert (first["reported"], second["reported"]) == (2, 0)
    assert first["losses"] == second["losses"]
    from mednext_engine.training import Phase

    phases = (Phase("decoder", 2, 0, 1e-3, trains="decoder"), Phase("all", 2, 0, 1e-3))
    alone = train(
        tiny_network(), sphere_task(tmp_path / "data"), short_recipe(4, phases=phases),
        tmp_path / "alone", Control(),
    )  # fmt: skip
    assert [r.train_loss for r in alone.curves] == pytest.approx(first["losses"], abs=1e-4)
    assert [r.dice["ball"] for r in alone.curves] == pytest.approx(first["dice"], abs=1e-3)
    # AdamW's first steps are of the size of the rate whatever the gradient: where that is all but
    # zero, its sign is chance. So most weights, and none by more than these four steps.
    differences = torch.cat(
        [(alone.last_weights[k] - v).abs().flatten() for k, v in first["weights"].items()]
    )
    assert differences.max() < 8e-3
    assert (differences < 1e-4).float().mean() > 0.95


def test_what_one_process_is_told_all_do(tmp_path):
    assert [r["reason"] for r in run_two(tmp_path, "stop")] == ["stopped", "stopped"]
    assert [r["reason"] for r in run_two(tmp_path, "cancel")] == ["cancelled", "cancelled"]


def test_a_batch_is_shared_without_gap_or_overlap():
    device = torch.device("cpu")
    for batch, world in ((2, 2), (5, 2), (7, 3)):
        shares = [list(Group(device, rank, world).share(batch)) for rank in range(world)]
        assert [i for share in shares for i in share] == list(range(batch))
    with pytest.raises(InputError, match="3 processes"):
        Group(device, 0, 3).share(2)


def test_alone_nothing_is_exchanged():
    group = Group(torch.device("cpu"))
    assert group.total([1.0, 2.0]) == [1.0, 2.0]
    network = tiny_network()
    assert group.wrap(network) is network

import copy

import pytest
import torch
from training_fixtures import tiny_network

from mednext_engine.errors import ResourceError
from mednext_engine.training import choose_patch, seconds_per_step, training_bytes
from mednext_engine.training import memory as memory_module
from mednext_engine.training.memory import _LiveBytes, _Need
from mednext_engine.training.relief import set_checkpointing


@pytest.fixture(autouse=True)
def small_probes(monkeypatch):
    own = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(memory_module, "PROBE_SIDES", (16, 32))
    yield
    torch.set_num_threads(own)


def test_bytes_are_counted_while_their_tensors_live():
    weight = torch.ones(1000, requires_grad=True)
    with _LiveBytes() as live:
        a = weight * 2.0  # 4000 bytes
        b = a.view(10, 100)  # the same storage
        c = torch.cat([a, a])  # 8000 bytes
        assert live.now == 12000
        del a, b
        assert live.now == 8000
        del c
        assert live.now == 0
    assert live.peak == 12000


def test_activations_wait_for_the_backward_pass_unless_checkpointed():
    network = tiny_network(channels=4)
    peaks = {}
    for kind in (None, "finest", "expansion", "block"):
        set_checkpointing(network, kind)
        peaks[kind] = memory_module._peak(network, (1, 16, 16, 16), "cpu", "fp32")
    # On a CPU the expanded branches need not be kept anyway.
    assert peaks["block"] < peaks["expansion"] <= peaks["finest"] <= peaks[None]


def test_needs_grow_with_the_voxels_and_hold_weights_and_optimiser():
    network = tiny_network()
    small = training_bytes(network, (32, 32, 32), 1)
    large = training_bytes(network, (32, 32, 64), 2)
    fixed = memory_module.PROCESS_BYTES + 16 * sum(p.numel() for p in network.parameters())
    assert large - fixed == pytest.approx(4 * (small - fixed), rel=0.02)


def test_the_network_itself_is_left_alone():
    network = tiny_network()
    for parameter in network.encoder.parameters():
        parameter.requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    training_bytes(network, (32, 32, 32), 1, checkpointing="block")
    seconds_per_step(network, (32, 32, 32), 1)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert not any(p.requires_grad for p in network.encoder.parameters())
    assert all(p.grad is None for p in network.parameters())
    assert {m.checkpointing for m in network.modules() if hasattr(m, "checkpointing")} == {None}


def test_sizes_shrink_in_order_until_they_fit(monkeypatch):
    costs = {None: 100.0, "finest": 80.0, "expansion": 60.0, "block": 50.0}
    monkeypatch.setattr(memory_module, "RESERVE", 1.0)
    monkeypatch.setattr(memory_module, "_measure", lambda n, d, p, kind, o: _Need(costs[kind], 1e6))
    network, patch = tiny_network(), (64, 64, 64)
    voxels = 64**3

    def fit(free):
        found = choose_patch(network, patch, 2, int(free))
        assert found.bytes <= free
        return found.checkpointing, found.batch_size, found.patch_size, found.note

    assert fit(1e6 + 200 * voxels) == (None, 2, patch, "")
    assert fit(1e6 + 199 * voxels)[:3] == ("finest", 2, patch)
    assert fit(1e6 + 110 * voxels)[:3] == ("block", 2, patch)
    kind, batch, size, note = fit(1e6 + 40 * voxels)
    assert (kind, batch, size) == ("block", 1, (48, 64, 64))
    assert "checkpointing (block)" in note
    assert "batch is 1" in note
    assert "48 x 64 x 64" in note
    assert "(finest)" not in note
    with pytest.raises(ResourceError, match="smallest patch"):
        fit(1e6)


def test_seconds_grow_with_the_batch(monkeypatch):
    monkeypatch.setattr(memory_module, "_step", lambda *_: None)
    clock = iter(range(100))
    monkeypatch.setattr(memory_module.time, "perf_counter", lambda: next(clock))
    # A 16^3 patch takes one tick of the clock; two patches of 32^3 are 16 of these.
    assert seconds_per_step(tiny_network(), (32, 32, 32), 2) == 16.0

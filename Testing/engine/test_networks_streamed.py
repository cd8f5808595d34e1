"""The expanded branch without its hidden layer against the layers one by one."""

import pytest
import torch

from mednext_engine.networks import MedNeXt, streamed
from mednext_engine.networks.layers import ChannelNorm, GlobalResponseNorm


def a_network(**options):
    torch.manual_seed(0)
    network = MedNeXt(2, 3, channels=4, blocks=1, **options).eval()
    for module in network.modules():
        if isinstance(module, ChannelNorm):
            torch.nn.init.normal_(module.weight, 1, 0.3)
            torch.nn.init.normal_(module.bias, 0, 0.3)
        elif isinstance(module, GlobalResponseNorm):
            torch.nn.init.normal_(module.gamma, 0, 0.5)
            torch.nn.init.normal_(module.beta, 0, 0.5)
    return network


@pytest.mark.parametrize("grn", [False, True], ids=["v1", "v2"])
@pytest.mark.parametrize("slab", [64, 2**20], ids=["many slabs", "one slab"])
@pytest.mark.parametrize("batch", [1, 2])
def test_equal_to_the_layers(grn, slab, batch, monkeypatch):
    monkeypatch.setattr(streamed, "SLAB_VALUES", slab)
    network = a_network(grn=grn, expansion=3)
    image = torch.randn(batch, 2, 16, 24, 17) + 3
    expected = network(image).detach()  # gradients are recorded: layer by layer
    with torch.no_grad():
        result = network(image)
    assert (result - expected).abs().max() < 2e-6 * expected.abs().max()


def test_it_is_taken_only_where_nothing_is_recorded(monkeypatch):
    calls = []
    original = streamed.expansion
    monkeypatch.setattr(
        streamed, "expansion", lambda block, x: calls.append(1) or original(block, x)
    )
    network, image = a_network(), torch.randn(1, 2, 16, 16, 16)
    network(image)
    assert not calls
    with torch.inference_mode():
        network(image)
    assert len(calls) == 17  # 9 blocks, 4 down, 4 up
    with torch.no_grad():
        network.double()(image.double())
        torch.jit.trace(network.float(), image, check_trace=False)
    assert len(calls) == 17


def test_bfloat16_is_as_close_as_layer_by_layer():
    network, image = a_network(grn=True), torch.randn(1, 2, 32, 32, 32)
    exact = network(image).detach()
    with torch.autocast("cpu", torch.bfloat16):
        plain = network(image).detach().float()
        with torch.no_grad():
            short = network(image).float()
    scale = exact.abs().max()
    assert (short - exact).abs().max() < 0.03 * scale
    assert (short - exact).abs().mean() < 1.5 * (plain - exact).abs().mean()


def test_a_constant_channel_does_not_blow_up():
    network = a_network(grn=True)
    with torch.no_grad():
        result = network(torch.full((1, 2, 16, 16, 16), 1000.0))
    assert torch.isfinite(result).all()

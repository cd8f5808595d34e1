import pytest
import torch
from torch import nn

from mednext_engine.errors import UnsupportedModelError
from mednext_engine.inference.head import take_off_head
from mednext_engine.networks import MedNeXt


@pytest.mark.parametrize("deep_supervision", [False, True])
def test_a_network_is_its_trunk_followed_by_its_head(deep_supervision):
    torch.manual_seed(0)
    network = MedNeXt(1, 40, channels=4, blocks=1, deep_supervision=deep_supervision).eval()
    network.decoder.deep_supervision = False
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.inference_mode():
        expected = network(image)[0]
        head = take_off_head(network)
        features = network(image)[0]
    assert head.classes == 40
    assert features.shape[0] == 4
    assert torch.allclose(head.apply(features), expected, atol=1e-5)
    assert torch.allclose(head.apply(features.half()), expected, atol=2e-2)


def test_averaging_and_interpolating_commute_with_the_head():
    torch.manual_seed(0)
    network = MedNeXt(1, 6, channels=4, blocks=1)
    head = take_off_head(network)
    a, b = torch.randn(2, 4, 5, 5, 5)
    mean_first = head.apply(0.3 * a + 0.7 * b)
    assert torch.allclose(mean_first, 0.3 * head.apply(a) + 0.7 * head.apply(b), atol=1e-5)
    larger = nn.Upsample(scale_factor=2, mode="trilinear")
    assert torch.allclose(head.apply(larger(a[None])[0]), larger(head.apply(a)[None])[0], atol=1e-5)


def test_a_head_that_is_not_pointwise_is_refused():
    network = MedNeXt(1, 2, channels=4, blocks=1)
    network.decoder.heads[0] = nn.Conv3d(4, 2, 3)
    with pytest.raises(UnsupportedModelError, match="1x1x1"):
        take_off_head(network)

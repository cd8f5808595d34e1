"""OpenVINO graphs against the PyTorch networks they are written from."""

import numpy as np
import pytest
import torch
from torch import nn

from mednext_engine.networks import MedNeXt
from mednext_engine.networks.layers import ChannelNorm, GlobalResponseNorm

ov = pytest.importorskip("mednext_engine.inference.openvino_runtime").ov
graph_mednext = pytest.importorskip("mednext_engine.inference.graph_mednext")
graph_traced = pytest.importorskip("mednext_engine.inference.graph_traced")


def with_every_parameter_at_work(network):
    """Norms and GRN start as identities, which would hide a wrong sign or axis."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, (ChannelNorm, nn.InstanceNorm3d)):
            parameters, centre = (module.weight, module.bias), (1.0, 0.0)
        elif isinstance(module, GlobalResponseNorm):
            parameters, centre = (module.gamma, module.beta), (0.0, 0.0)
        else:
            continue
        for parameter, mean in zip(parameters, centre, strict=True):
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data.copy_(mean + 0.3 * noise)
    return network.eval()


def run(graph, image):
    compiled = ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled({0: image})[0]


def assert_equal(network, graph, channels, size, tolerance=2e-5):
    image = np.random.default_rng(0).normal(size=(1, channels, *size)).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(image)).numpy()
    result = run(graph, image)
    assert result.shape == expected.shape
    assert np.abs(result - expected).max() < tolerance * np.abs(expected).max()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kernel_size": 5},
        {"grn": True},
        {"expansion": [2, 3, 4, 4, 4, 4, 4, 3, 2], "blocks": [1, 1, 1, 1, 1, 1, 1, 1, 1]},
        {"resampling": "standard", "blocks": 1},
    ],
    ids=["v1", "kernel 5", "v2", "expansions", "standard resampling"],
)
@pytest.mark.parametrize("size", [(32, 32, 32), (16, 48, 19)], ids=["cube", "odd"])
def test_mednext(options, size):
    torch.manual_seed(0)
    network = with_every_parameter_at_work(MedNeXt(2, 4, **{"channels": 4, "blocks": 1, **options}))
    assert_equal(network, graph_mednext.mednext_graph(network, size), 2, size)


@pytest.mark.parametrize("grn", [False, True])
def test_the_widest_layer_in_slabs_is_the_same(monkeypatch, grn):
    torch.manual_seed(0)
    network = with_every_parameter_at_work(MedNeXt(1, 3, channels=4, blocks=1, grn=grn))
    monkeypatch.setattr(graph_mednext, "LARGEST_HIDDEN_BYTES", 100_000)
    monkeypatch.setattr(graph_mednext, "LARGEST_GRN_BYTES", 100_000)
    monkeypatch.setattr(graph_mednext, "SLAB_BYTES", 50_000)
    graph = graph_mednext.mednext_graph(network, (32, 32, 32))
    assert any(op.get_type_name() == "Slice" for op in graph.get_ops())
    assert_equal(network, graph, 1, (32, 32, 32))


def test_a_kernel_of_one_voxel():
    torch.manual_seed(0)
    network = with_every_parameter_at_work(MedNeXt(1, 3, channels=4, blocks=1, kernel_size=1))
    size = (16, 32, 19)
    # Where nothing is summed over neighbours, some norms divide by little, and both sides round.
    assert_equal(network, graph_mednext.mednext_graph(network, size), 1, size, 1e-4)


@pytest.mark.parametrize("options", [{}, {"kernel_size": 5}, {"grn": True}])
@pytest.mark.parametrize("size", [(32, 32, 32), (16, 48, 35)], ids=["cube", "odd"])
def test_a_large_up_block_in_parts_is_the_same(monkeypatch, options, size):
    torch.manual_seed(0)
    network = with_every_parameter_at_work(MedNeXt(1, 3, channels=4, blocks=1, **options))
    # The last of them alone: 8 channels of 2 * 16 * 48 * 36 voxels, in float32, at most.
    monkeypatch.setattr(graph_mednext, "LARGEST_UPSAMPLED_BYTES", 700_000)
    graph = graph_mednext.mednext_graph(network, size)
    assert [op.get_type_name() for op in graph.get_ops()].count("DepthToSpace") == 1
    assert_equal(network, graph, 1, size)


UNET = {
    "n_stages": 3,
    "features_per_stage": (4, 8, 16),
    "conv_op": nn.Conv3d,
    "kernel_sizes": ((1, 3, 3), 3, 3),
    "strides": (1, (1, 2, 2), 2),
    "num_classes": 3,
    "conv_bias": True,
    "norm_op": nn.InstanceNorm3d,
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "nonlin": nn.LeakyReLU,
    "nonlin_kwargs": {"inplace": True},
    "deep_supervision": False,
}


@pytest.mark.parametrize("kind", ["PlainConvUNet", "ResidualEncoderUNet"])
def test_unets(kind):
    from dynamic_network_architectures.architectures import unet

    depth = "n_conv_per_stage" if kind == "PlainConvUNet" else "n_blocks_per_stage"
    torch.manual_seed(0)
    network = getattr(unet, kind)(2, **UNET, **{depth: 2, "n_conv_per_stage_decoder": 1})
    network = with_every_parameter_at_work(network)
    size = (8, 32, 16)
    assert_equal(network, graph_traced.traced_graph(network, 2, size), 2, size)


def test_an_unknown_layer_is_refused():
    network = nn.Sequential(nn.Conv3d(1, 2, 1), nn.PixelShuffle(1))
    with pytest.raises(graph_traced.UnknownLayer, match="PixelShuffle"):
        graph_traced.traced_graph(network, 1, (8, 8, 8))

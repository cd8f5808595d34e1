"""What the registry builds, and what it refuses in one sentence before allocating anything."""

from __future__ import annotations

import sys

import pytest
import torch

from mednext_engine.errors import ModelError, UnsupportedModelError
from mednext_engine.networks import MedNeXt
from mednext_engine.networks.registry import CONFIGURATIONS, MEDNEXT, build_network

UNET = "dynamic_network_architectures.architectures.unet."

# As nnU-Net 2's planner writes them (`architecture.arch_kwargs`), with fewer features.
PLAIN = {
    "n_stages": 3,
    "features_per_stage": [4, 8, 16],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    "n_conv_per_stage": [2, 2, 2],
    "n_conv_per_stage_decoder": [2, 2],
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
RESIDUAL = {k: v for k, v in PLAIN.items() if k != "n_conv_per_stage"}
RESIDUAL |= {"n_blocks_per_stage": [1, 3, 4], "n_conv_per_stage_decoder": [1, 1]}
TINY = {"channels": 2, "blocks": 1, "expansion": 2, "kernel_size": 3, "grn": True}


def nested(depth: int) -> list:
    value: list = [1]
    for _ in range(depth):
        value = [value]
    return value


def test_a_mednext_is_built_from_the_arguments_of_a_plan():
    network = build_network(MEDNEXT, dict(TINY, blocks=[1] * 9), 2, 3, deep_supervision=True)
    assert isinstance(network, MedNeXt)
    assert [tuple(y.shape) for y in network(torch.zeros(1, 2, 16, 16, 16))] == [
        (1, 3, n, n, n) for n in (16, 8, 4, 2, 1)
    ]


@pytest.mark.parametrize(
    ("name", "kwargs"), [("PlainConvUNet", PLAIN), ("ResidualEncoderUNet", RESIDUAL)]
)
@pytest.mark.parametrize("prefix", ["", UNET])
def test_the_unets_of_nnunet_are_built_from_its_plans(name, kwargs, prefix):
    network = build_network(prefix + name, kwargs, 2, 5).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 2, 8, 16, 16)).shape == (1, 5, 8, 16, 16)


def test_every_configuration_passes_its_own_checks():
    with torch.device("meta"):
        for configuration in CONFIGURATIONS.values():
            assert isinstance(build_network(MEDNEXT, configuration.kwargs, 1, 3), MedNeXt)


def test_names_of_our_own_networks_are_not_the_papers():
    ours = [c for c in CONFIGURATIONS.values() if not c.paper]
    assert ours
    assert all(c.name.startswith("Laptop ") for c in ours)
    assert len({c.key for c in CONFIGURATIONS.values()}) == len(CONFIGURATIONS)


@pytest.mark.parametrize(
    "change",
    [
        {"channels": 10**6},
        {"channels": 0},
        {"channels": True},
        {"channels": "32"},
        {"channels": [32]},
        {"channels": 1024, "expansion": 16, "blocks": 64},
        {"blocks": [1] * 8},
        {"blocks": [1] * 8 + [10**9]},
        {"blocks": [[1]] * 9},
        {"blocks": 1.5},
        {"blocks": None},
        {"expansion": -1},
        {"expansion": [2] * 10**5},
        {"expansion": nested(900)},
        {"kernel_size": 4},
        {"kernel_size": 99},
        {"kernel_size": [3, 3, 3]},
        {"grn": "yes"},
        {"grn": 1},
        {"resampling": ["mednext"]},
        {"resampling": "os.system"},
        {"checkpointing": ["block"] * 8},
        {"checkpointing": {}},
        {"deep_supervision": True},
        {"input_channels": 4},
        {"__class__": "os.system"},
    ],
    ids=str,
)
def test_impossible_arguments_of_a_mednext_end_in_one_sentence(change):
    with pytest.raises(ModelError) as caught:
        build_network(MEDNEXT, TINY | change, 1, 2)
    assert caught.value.message.endswith(".")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "change",
    [
        {"n_stages": 10**6},
        {"features_per_stage": [10**6] * 3},
        {"features_per_stage": [4096] * 3, "kernel_sizes": [[15] * 3] * 3},
        {"features_per_stage": [4, 8]},
        {"kernel_sizes": nested(900)},
        {"strides": [[0, 1, 1]] * 3},
        {"conv_bias": "os.system"},
        {"norm_op_kwargs": {"eps": "__import__('os')"}},
        {"norm_op_kwargs": ["affine"]},
        {"norm_op_kwargs": {"unheard_of": 1}},
        {"nonlin_kwargs": {str(i): 1 for i in range(100)}},
        {"unheard_of": 1},
    ],
    ids=lambda change: str(change)[:60],
)
def test_impossible_arguments_of_a_unet_end_in_one_sentence(change):
    with pytest.raises(ModelError) as caught:
        build_network(UNET + "PlainConvUNet", PLAIN | change, 1, 2)
    assert caught.value.message.endswith(".")


@pytest.mark.parametrize("name", ["conv_op", "norm_op", "dropout_op", "nonlin"])
@pytest.mark.parametrize(
    "value", ["os.system", "torch.hub.load", "torch.nn.modules.conv.Conv2d", ["os"], {}, 3]
)
def test_a_layer_that_is_not_on_the_list_is_never_imported(name, value):
    with pytest.raises(UnsupportedModelError):
        build_network(UNET + "PlainConvUNet", {**PLAIN, name: value}, 1, 2)


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "antigravity.Anything",
        "mednext_engine.networks.mednext.Encoder",
        "MedNeXt",
        UNET + "ResidualUNet",
        "x" * 10**5,
        "",
    ],
    ids=lambda path: path[:40],
)
def test_an_unknown_class_is_not_imported(path):
    before = set(sys.modules)
    with pytest.raises(UnsupportedModelError) as caught:
        build_network(path, {}, 1, 2)
    assert len(caught.value.message) < 300
    assert set(sys.modules) == before


@pytest.mark.parametrize("arguments", [(None, {}, 1, 2), (MEDNEXT, None, 1, 2), (["a"], {}, 1, 2)])
def test_plans_without_a_network_end_in_one_sentence(arguments):
    with pytest.raises(ModelError):
        build_network(*arguments)


@pytest.mark.parametrize("channels", [0, -1, 10**6, [1], None, True, "1"])
def test_impossible_numbers_of_channels_and_labels(channels):
    with pytest.raises(ModelError):
        build_network(MEDNEXT, TINY, channels, 2)
    with pytest.raises(ModelError):
        build_network(MEDNEXT, TINY, 1, channels)


def test_a_network_too_large_is_refused_without_allocating_it():
    """1.1 * 10^11 parameters would be 440 GB."""
    resource = pytest.importorskip("resource")  # not on Windows
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match="parameters"):
        build_network(MEDNEXT, TINY | {"channels": 1024, "expansion": 8}, 1, 2)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000

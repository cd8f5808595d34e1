"""What of a base model's weights is kept, and what is new."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from job_fixtures import write_tiny_model

from mednext_engine.errors import ModelError, UnsupportedModelError
from mednext_engine.finetuning.label_matching import LabelPlan
from mednext_engine.finetuning.transfer import HeadRows, head_rows, initial_network
from mednext_engine.models.folder import Model, open_model
from mednext_engine.networks import MedNeXt

MEDNEXT = "mednext_engine.networks.MedNeXt"


@pytest.fixture(scope="module")
def a_base(tmp_path_factory) -> Model:
    """Classes background, bright, dark of one channel."""
    return open_model(write_tiny_model(tmp_path_factory.mktemp("m") / "base", patch=16))


@pytest.fixture
def an_image() -> torch.Tensor:
    return torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))


def start(base: Model, rows: HeadRows, channels=("channel0",), **kwargs) -> MedNeXt:
    arguments = {**base.plan.network_kwargs, **kwargs.pop("network", {})}
    network = initial_network(
        MEDNEXT, arguments, channels, len(rows.sources), base=base, rows=rows, **kwargs
    )
    assert isinstance(network, MedNeXt)
    assert network.training
    return network.eval()


@torch.no_grad()
def logits(network, image: torch.Tensor) -> torch.Tensor:
    result = network(image)
    return result[0] if isinstance(result, list) else result


@torch.no_grad()
def test_kept_classes_keep_their_logits_and_new_ones_are_undecided(a_base, an_image):
    network = start(a_base, HeadRows(((0,), (2,), ())))
    old = logits(a_base.network(a_base.weights("0")), an_image)
    new = logits(network, an_image)
    torch.testing.assert_close(new[:, 0], old[:, 0])
    torch.testing.assert_close(new[:, 1], old[:, 2])
    assert new[:, 2].abs().mean() < 0.1 * old.abs().mean()
    assert float(network.decoder.heads[0].bias[2]) == 0


def test_what_is_dropped_becomes_background():
    plan = LabelPlan(("bright", "tumour"), (0, 1, None), ("dark",), ())
    rows = head_rows(plan, ("background", "bright", "dark"))
    assert rows.sources == ((0, 2), (1,), ())


def test_background_starts_anew_where_no_structure_is_kept():
    plan = LabelPlan(("tumour", "oedema"), (0, None, None), ("bright", "dark"), ())
    assert head_rows(plan, ("background", "bright", "dark")).sources == ((), (), ())


@torch.no_grad()
def test_new_rows_start_as_likely_as_their_class_is(a_base):
    kwargs = dict(a_base.plan.network_kwargs)
    shares = (0.9, 0.1 - 1e-9, 1e-9)
    fresh = initial_network(MEDNEXT, kwargs, ("T1",), 3, shares=shares)
    for head in fresh.decoder.heads:
        torch.testing.assert_close(head.bias.exp(), torch.tensor([0.9, 0.1, 1e-4]))
    rows = HeadRows(((0,), (2,), ()))
    kept = (
        initial_network(MEDNEXT, kwargs, ("T1",), 3, base=a_base, rows=rows, shares=shares)
        .decoder.heads[0]
        .bias
    )
    old = a_base.weights("0")["decoder.heads.0.bias"]
    torch.testing.assert_close(kept[:2], old[[0, 2]])
    assert float(kept[2].exp()) == pytest.approx(1e-4)


@torch.no_grad()
def test_the_background_row_is_the_mean_of_what_means_background_now(a_base):
    network = start(a_base, HeadRows(((0, 2), (1,))))
    old = a_base.weights("0")["decoder.heads.0.weight"]
    expected = (old[:, 0] + old[:, 2]) / 2
    torch.testing.assert_close(network.decoder.heads[0].weight[:, 0], expected)


@torch.no_grad()
def test_more_channels_share_the_stem_and_its_response_keeps_its_scale(a_base, an_image):
    rows = HeadRows(((0,), (1,), (2,)))
    three = start(a_base, rows, channels=("T1", "T2", "FLAIR"))
    old = logits(a_base.network(a_base.weights("0")), an_image)
    new = logits(three, an_image.expand(-1, 3, -1, -1, -1))
    torch.testing.assert_close(new, old, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_channels_of_equal_names_are_found_by_name(tmp_path):
    base = open_model(write_tiny_model(tmp_path / "two", patch=16, inputs=2))
    rows = HeadRows(((0,), (1,), (2,)))
    network = start(base, rows, channels=("channel1", "channel0"))
    image = torch.randn(1, 2, 16, 16, 16)
    old = logits(base.network(base.weights("0")), image)
    torch.testing.assert_close(logits(network, image.flip(1)), old)


@torch.no_grad()
def test_encoder_only_leaves_the_decoder_new(a_base):
    rows = HeadRows(((0,), (1,), (2,)))
    network, old = start(a_base, rows, encoder_only=True, seed=3), a_base.weights("0")
    state = network.state_dict()
    own = [k for k in old if not torch.equal(state[k], old[k])]
    assert own
    assert all(key.startswith("decoder.") for key in own)
    assert any(key.startswith("decoder.heads.0") for key in own)
    again = start(a_base, rows, encoder_only=True, seed=3).state_dict()
    assert all(torch.equal(again[k], v) for k, v in state.items())


@torch.no_grad()
def test_upkern_enlarges_kernels_before_head_and_stem_are_adapted(a_base):
    rows = HeadRows(((0,), ()))
    network = start(a_base, rows, channels=("a", "b"), network={"kernel_size": 5})
    old = a_base.weights("0")
    key = "encoder.stages.0.0.depthwise.weight"
    expected = torch.nn.functional.interpolate(
        old[key], size=(5, 5, 5), mode="trilinear", align_corners=False
    )
    torch.testing.assert_close(network.state_dict()[key], expected)
    stem = old["encoder.stem.weight"]
    torch.testing.assert_close(network.encoder.stem.weight, stem.expand(-1, 2, -1, -1, -1) / 2)
    kept = old["decoder.heads.0.weight"][:, 0]
    torch.testing.assert_close(network.decoder.heads[0].weight[:, 0], kept)


def test_from_scratch_nothing_is_kept(a_base):
    network = initial_network(MEDNEXT, a_base.plan.network_kwargs, ("T1",), 3, seed=1)
    assert not torch.equal(
        network.state_dict()["encoder.stem.weight"], a_base.weights("0")["encoder.stem.weight"]
    )


def test_another_network_is_refused(a_base):
    rows = HeadRows(((0,), (1,)))
    with pytest.raises(ModelError, match="base model's"):
        start(a_base, rows, network={"channels": 4, "kernel_size": 3, "blocks": [2] * 9})


# ---- nnU-Net's own networks ------------------------------------------------------------------

UNET = "dynamic_network_architectures.architectures.unet."
UNET_KWARGS = {
    "n_stages": 3,
    "features_per_stage": [4, 8, 8],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[3, 3, 3]] * 3,
    "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
    "n_conv_per_stage_decoder": [1, 1],
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}


def a_unet_model(folder: Path, name: str) -> Model:
    from dataclasses import replace

    from mednext_engine.models.card import Card
    from mednext_engine.models.writer import write_model
    from mednext_engine.networks.registry import build_network

    depth = "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage"
    kwargs = {**UNET_KWARGS, depth: [1, 1, 1]}
    like = open_model(write_tiny_model(folder / "like", patch=16))
    plan = replace(like.plan, network_class=UNET + name, network_kwargs=kwargs)
    network = build_network(UNET + name, kwargs, 1, 3)
    return write_model(
        folder / name,
        plan=plan,
        weights={"0": network.state_dict()},
        labels={"background": 0, "bright": 1, "dark": 2},
        channel_names=["channel0"],
        card=Card(title=name),
    )


@pytest.mark.parametrize("name", ["PlainConvUNet", "ResidualEncoderUNet"])
@torch.no_grad()
def test_nnunets_networks_keep_rows_and_share_stems_too(tmp_path, name, an_image):
    base = a_unet_model(tmp_path, name)
    rows = HeadRows(((0,), (2,), ()))
    network = initial_network(
        base.plan.network_class, base.plan.network_kwargs, ("a", "b"), 3, base=base, rows=rows
    )
    old = logits(base.network(base.weights("0")), an_image)
    new = logits(network.eval(), an_image.expand(-1, 2, -1, -1, -1))
    torch.testing.assert_close(new[:, 0], old[:, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(new[:, 1], old[:, 2], rtol=1e-4, atol=1e-5)


def test_upkern_of_a_unet_is_refused_in_words(tmp_path):
    from mednext_engine.finetuning.plan import new_network_kwargs

    with pytest.raises(UnsupportedModelError, match="UpKern enlarges the kernels of MedNeXt"):
        new_network_kwargs(a_unet_model(tmp_path, "PlainConvUNet"), upkern=True)

"""UpKern: what it copies, what it enlarges, and which pairs it refuses."""

from __future__ import annotations

import pytest
import torch

from mednext_engine.errors import ModelError
from mednext_engine.networks import MedNeXt
from mednext_engine.networks.upkern import upkern

KWARGS = {"channels": 2, "blocks": 1, "expansion": 2}


def network(kernel_size: int = 3, **changes) -> MedNeXt:
    torch.manual_seed(kernel_size)
    return MedNeXt(1, 2, **{**KWARGS, "kernel_size": kernel_size, **changes})


def copied(model: MedNeXt) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def test_a_kernel_upsampled_by_hand():
    """From 3 to 5 without aligned corners, voxel i lies at 0.6 (i + 0.5) - 0.5 = -0.2, 0.4, 1, ...

    Clamped to the edge that is 0, 0.4, 1, 1.6, 2, so (0, 10, 40) becomes (0, 4, 10, 28, 40).
    """
    small, large = network(3), network(5)
    line = torch.tensor([0.0, 10.0, 40.0])
    kernel = small.encoder.stages[0][0].depthwise.weight
    kernel.data[:] = 0
    kernel.data[0, 0] = line.view(3, 1, 1)
    kernel.data[1, 0] = line.view(1, 1, 3)
    upkern(small, large)
    grown = large.encoder.stages[0][0].depthwise.weight
    expected = torch.tensor([0.0, 4.0, 10.0, 28.0, 40.0])
    torch.testing.assert_close(grown[0, 0], expected.view(5, 1, 1).expand(5, 5, 5))
    torch.testing.assert_close(grown[1, 0], expected.view(1, 1, 5).expand(5, 5, 5))


@pytest.mark.parametrize("options", [{}, {"grn": True}, {"resampling": "standard"}])
def test_all_but_the_depthwise_kernels_is_copied(options):
    small, large = network(3, **options), network(5, **options)
    for name, parameter in small.named_parameters():
        if "norm" in name or "grn" in name:
            torch.nn.init.normal_(parameter)
    upkern(small, large)
    trained = small.state_dict()
    for key, value in large.state_dict().items():
        if key.endswith("depthwise.weight"):
            assert value.shape[2:] == (5, 5, 5)
        else:
            assert torch.equal(value, trained[key]), key


def test_a_constant_kernel_stays_constant_and_half_precision_is_read():
    small, large = network(3), network(7)
    state = {k: torch.full_like(v, 0.5).half() for k, v in small.state_dict().items()}
    upkern(state, large)
    for value in large.state_dict().values():
        assert torch.equal(value, torch.full_like(value, 0.5))
    assert large(torch.zeros(1, 1, 16, 16, 16)).dtype == torch.float32


def test_equal_kernel_sizes_are_a_plain_copy():
    small, same = network(3), network(3)
    small.encoder.stem.weight.data.fill_(7)
    upkern(small, same)
    assert all(torch.equal(v, same.state_dict()[k]) for k, v in small.state_dict().items())


@pytest.mark.parametrize("where", ["small", "large"])
def test_auxiliary_heads_are_no_difference(where):
    small = network(3, deep_supervision=where == "small")
    large = network(5, deep_supervision=where == "large")
    before = copied(large)
    upkern(small, large)
    assert torch.equal(large.decoder.heads[0].weight, small.decoder.heads[0].weight)
    for i in range(1, len(large.decoder.heads)):
        assert torch.equal(large.decoder.heads[i].weight, before[f"decoder.heads.{i}.weight"])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"channels": 4}, "encoder.stem.weight"),
        ({"expansion": 3}, "encoder.stages.0.0.expand.weight"),
        ({"blocks": [1, 1, 2, 1, 1, 1, 1, 1, 1]}, "encoder.stages.2.1.depthwise.weight"),
        ({"grn": True}, "encoder.stages.0.0.grn.gamma"),
        ({"resampling": "standard"}, "encoder.down.0.weight"),
    ],
)
def test_any_other_difference_is_named_and_leaves_the_network_untouched(changes, named):
    plain, changed = network(3), network(5, **changes)
    before = copied(changed)
    with pytest.raises(ModelError, match=f"'{named}'"):
        upkern(plain, changed)
    assert all(torch.equal(v, before[k]) for k, v in changed.state_dict().items())


def test_what_only_the_small_network_has_is_named():
    with pytest.raises(
        ModelError, match=r"'encoder.stages.0.0.grn.gamma' exists only in the small"
    ):
        upkern(network(3, grn=True), network(5))


def test_another_number_of_classes_is_named():
    large = MedNeXt(1, 3, **KWARGS, kernel_size=5)
    with pytest.raises(ModelError, match=r"'decoder.heads.0.weight' is 2 x 2 x 1 x 1 x 1 in the"):
        upkern(network(3), large)


def test_kernels_are_not_made_smaller():
    with pytest.raises(ModelError, match="shrink"):
        upkern(network(5), network(3))

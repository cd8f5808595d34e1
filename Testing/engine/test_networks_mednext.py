"""MedNeXt: shapes worked by hand, any size, checkpointing, deep supervision, half precision."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from mednext_engine.networks import MedNeXt, streamed_training
from mednext_engine.networks.mednext import Encoder, MedNeXtBlock, fit

TINY = {"channels": 2, "blocks": 1, "expansion": 2}
SIZES = [(16, 16, 16), (17, 33, 20), (31, 16, 18), (48, 16, 32)]


def network(deep_supervision: bool = False, **options) -> MedNeXt:
    """A small network whose GRN and norms do something."""
    torch.manual_seed(3)
    model = MedNeXt(1, 3, **{**TINY, **options}, deep_supervision=deep_supervision)
    for name, parameter in model.named_parameters():
        if "grn" in name or "norm" in name:
            torch.nn.init.normal_(parameter, mean=float("norm.weight" in name), std=0.3)
    return model


def loss_and_gradients(model: torch.nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, dict]:
    model.zero_grad()
    outputs = model(x)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    loss = sum((y.float() * torch.sin(torch.arange(y.numel())).view_as(y)).sum() for y in outputs)
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters()}


@pytest.mark.parametrize(
    ("stride", "size", "expected"),
    [
        (None, (5, 4, 1), (2, 4, 5, 4, 1)),
        ("down", (8, 6, 4), (2, 8, 4, 3, 2)),
        ("down", (7, 5, 1), (2, 8, 4, 3, 1)),
        ("up", (4, 3, 2), (2, 2, 8, 6, 4)),
        ("up", (1, 1, 5), (2, 2, 2, 2, 10)),
    ],
)
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_sizes_of_a_block(stride, size, expected, kernel_size):
    out = {None: 4, "down": 8, "up": 2}[stride]
    block = MedNeXtBlock(4, out, 3, kernel_size, stride=stride, grn=True)
    assert block(torch.zeros(2, 4, *size)).shape == expected
    assert block.expand.weight.shape[:2] == (12, 4)  # R times the input channels
    assert block.compress.weight.shape[:2] == (out, 12)


@pytest.mark.parametrize("stride", [None, "down", "up"])
@pytest.mark.parametrize("grn", [False, True])
def test_a_block_equals_its_formula(stride, grn):
    torch.manual_seed(0)
    out = {None: 4, "down": 8, "up": 2}[stride]
    block = MedNeXtBlock(4, out, 2, 3, stride=stride, grn=grn).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    w = dict(block.named_parameters())
    x = torch.randn(2, 4, 5, 6, 7, dtype=torch.float64)
    convolve = F.conv_transpose3d if stride == "up" else F.conv3d
    step = 2 if stride else 1
    y = convolve(x, w["depthwise.weight"], w["depthwise.bias"], step, 1, groups=4)
    y = F.group_norm(y, 4, w["norm.weight"], w["norm.bias"])
    y = F.gelu(F.conv3d(y, w["expand.weight"], w["expand.bias"]))
    if grn:
        g = torch.einsum("ncdhw,ncdhw->nc", y, y).sqrt()
        n = (g / (g.mean(1, keepdim=True) + 1e-6))[:, :, None, None, None]
        y = w["grn.gamma"] * y * n + w["grn.beta"] + y
    y = F.conv3d(y, w["compress.weight"], w["compress.bias"])
    shortcut = x if not stride else convolve(x, w["residual.weight"], w["residual.bias"], 2)
    expected = y + shortcut
    if stride == "up":  # one plane of zeros in front of each axis
        expected = F.pad(expected, (1, 0, 1, 0, 1, 0))
    torch.testing.assert_close(block(x), expected, rtol=1e-9, atol=1e-9)


def test_the_up_block_leaves_its_front_planes_empty():
    block = MedNeXtBlock(2, 1, 2, 3, stride="up")
    y = block(torch.randn(1, 2, 3, 3, 3))[0, 0]
    assert not y[0].any()
    assert not y[:, 0].any()
    assert not y[:, :, 0].any()
    assert y[1:, 1:, 1:].all()


def test_a_block_passes_the_gradient_check():
    torch.manual_seed(0)
    block = MedNeXtBlock(2, 1, 2, 3, stride="up", grn=True).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(1, 2, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(block, (x,), fast_mode=True)


def test_features_halve_five_times_and_double_in_width():
    args = {"expansion": 2, "kernel_size": 3, "grn": False, "checkpointing": None}
    encoder = Encoder(1, 2, [1] * 9, [args] * 9, "mednext")
    shapes = [tuple(f.shape[1:]) for f in encoder(torch.zeros(1, 1, 33, 16, 20))]
    assert shapes == [(2, 33, 16, 20), (4, 17, 8, 10), (8, 9, 4, 5), (16, 5, 2, 3), (32, 3, 1, 2)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("resampling", ["mednext", "standard"])
@pytest.mark.parametrize("batch", [1, 2])
def test_any_size_of_at_least_sixteen_goes_in_and_comes_out(size, resampling, batch):
    model = network(True, resampling=resampling, grn=True)
    sizes = [size]
    for _ in range(4):
        sizes.append(tuple((n + 1) // 2 for n in sizes[-1]))
    outputs = model(torch.randn(batch, 1, *size))
    assert [tuple(y.shape) for y in outputs] == [(batch, 3, *s) for s in sizes]
    assert all(torch.isfinite(y).all() for y in outputs)


@pytest.mark.parametrize("size", [(15, 16, 16), (64, 64, 1)])
def test_too_small_an_input_is_refused(size):
    with pytest.raises(ValueError, match="at least 16"):
        network()(torch.zeros(1, 1, *size))


def test_fit_crops_and_pads_the_far_end():
    x = torch.arange(1.0, 5.0).view(1, 1, 1, 2, 2)
    y = fit(x, (2, 1, 3))
    assert y[0, 0].tolist() == [[[1.0, 2.0, 0.0]], [[0.0, 0.0, 0.0]]]
    assert fit(x, (1, 2, 2)) is x


def test_samples_of_a_batch_do_not_see_each_other():
    model = network(grn=True).eval()
    x = torch.randn(2, 1, 16, 20, 17)
    with torch.no_grad():
        together, alone = model(x), torch.cat([model(x[:1]), model(x[1:])])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_version_two_starts_as_version_one():
    """New GRN layers are the identity, and v2 differs from v1 by nothing else."""
    first, second = network(grn=False), MedNeXt(1, 3, **TINY, grn=True)
    missing = second.load_state_dict(first.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert {key.rsplit(".", 2)[1] for key in missing.missing_keys} == {"grn"}
    x = torch.randn(1, 1, 16, 16, 16)
    torch.testing.assert_close(first(x), second(x))


@pytest.mark.parametrize("resampling", ["mednext", "standard"])
@pytest.mark.parametrize("checkpointing", ["block", "expansion", ["block", "expansion", None] * 3])
def test_checkpointing_changes_neither_results_nor_gradients(
    checkpointing, resampling, monkeypatch
):
    monkeypatch.setattr(streamed_training, "applies", lambda x: False)
    options = {"resampling": resampling, "grn": True}
    plain = network(True, **options)
    saving = network(True, checkpointing=checkpointing, **options)
    x = torch.randn(1, 1, 17, 16, 18)
    loss, gradients = loss_and_gradients(plain, x)
    other_loss, other = loss_and_gradients(saving, x)
    torch.testing.assert_close(loss, other_loss)
    assert gradients.keys() == other.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, other[name], msg=name)


@pytest.mark.parametrize("checkpointing", ["block", "expansion"])
def test_checkpointing_keeps_less_for_the_backward_pass(checkpointing, monkeypatch):
    # A CPU keeps nothing of the expansion anyway: what is tested is how other devices do it.
    monkeypatch.setattr(streamed_training, "applies", lambda x: False)

    def kept(model: torch.nn.Module) -> int:
        total = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(x)
        return total

    x = torch.randn(1, 1, 16, 16, 16)
    assert kept(network(checkpointing=checkpointing)) < 0.7 * kept(network())


def test_deep_supervision_round_trip():
    """Train with heads, infer without, and back; every load is strict."""
    x = torch.randn(1, 1, 16, 16, 16)
    trained = network(True)
    inference = MedNeXt(1, 3, **TINY)
    inference.load_state_dict(trained.state_dict(), strict=True)
    assert len(inference.decoder.heads) == 1
    torch.testing.assert_close(inference(x), trained(x)[0])

    again = network(True)
    auxiliary = copy.deepcopy(again.decoder.heads[3].state_dict())
    inference.encoder.stem.weight.data.mul_(2)
    again.load_state_dict(inference.state_dict(), strict=True)
    torch.testing.assert_close(again(x)[0], inference(x))
    assert torch.equal(again.decoder.heads[3].weight, auxiliary["weight"])


def test_loading_does_not_change_the_state_dict_it_is_given():
    state = network(True).state_dict()
    keys = list(state)
    MedNeXt(1, 3, **TINY).load_state_dict(state)
    assert list(state) == keys


@pytest.mark.parametrize("key", ["decoder.heads.0.weight", "encoder.stem.bias"])
def test_only_auxiliary_heads_may_be_missing(key):
    state = network(True).state_dict()
    del state[key]
    with pytest.raises(RuntimeError, match=key):
        MedNeXt(1, 3, **TINY).load_state_dict(state)


def test_deep_supervision_is_switched_as_nnunet_does():
    model = network(True)
    x = torch.randn(1, 1, 16, 16, 16)
    finest = model(x)[0]
    model.decoder.deep_supervision = False
    assert torch.equal(model(x), finest)
    model.decoder.deep_supervision = True
    assert len(model(x)) == 5


@pytest.mark.parametrize("grn", [False, True])
def test_bfloat16_autocast_stays_close_to_float32(grn):
    model = network(True, channels=4, grn=grn)
    x = torch.randn(1, 1, 32, 32, 32)
    _, exact = loss_and_gradients(model, x)
    expected = [y.detach() for y in model(x)]
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(x)
        _, rounded = loss_and_gradients(model, x)
    assert outputs[0].dtype == torch.bfloat16
    for y, reference in zip(outputs, expected, strict=True):
        assert (y.float() - reference).norm() < 0.03 * reference.norm()
    flat, reference = (torch.cat([g.flatten() for g in d.values()]) for d in (rounded, exact))
    assert (flat - reference).norm() < 0.06 * reference.norm()


def test_weights_in_half_precision_run_in_half_precision():
    model = network(grn=True).bfloat16().eval()
    with torch.no_grad():
        y = model(torch.randn(1, 1, 16, 16, 16).bfloat16())
        reference = network(grn=True).eval()(torch.zeros(1, 1, 16, 16, 16))
    assert y.dtype == torch.bfloat16
    assert y.shape == reference.shape


def test_memory_format_of_the_input_does_not_matter():
    model = network(grn=True).eval()
    x = torch.randn(2, 1, 17, 16, 20)
    with torch.no_grad():
        torch.testing.assert_close(
            model(x), model(x.contiguous(memory_format=torch.channels_last_3d))
        )


def test_a_traced_network_holds_only_operations_of_pytorch():
    model = network(grn=True).eval()
    x = torch.randn(1, 1, 32, 16, 16)
    with torch.no_grad():
        traced = torch.jit.trace(model, x)
        torch.testing.assert_close(traced(x), model(x), rtol=1e-4, atol=1e-5)
    assert "PythonOp" not in str(traced.inlined_graph)


@pytest.mark.parametrize(
    "change",
    [
        {"blocks": [1] * 8},
        {"blocks": 0},
        {"expansion": [2.5] * 9},
        {"kernel_size": 4},
        {"kernel_size": -1},
        {"channels": 0},
        {"resampling": "nearest"},
        {"checkpointing": "all"},
        {"checkpointing": ["block"]},
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        MedNeXt(1, 2, **{**TINY, **change})

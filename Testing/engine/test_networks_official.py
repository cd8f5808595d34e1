"""Official weights: names and shapes as that code writes them, and its forward pass, rewritten.

`official_state` lists what the official MedNeXt's `state_dict()` holds; `official_forward` computes
the same network from those names by plain functions, sharing nothing with ours.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mednext_engine.errors import ModelError, UnsupportedModelError
from mednext_engine.networks.official import from_official, infer_settings, is_official, translate

RATIOS = [2, 3, 4, 4, 4, 4, 4, 3, 2]
BLOCKS = [1, 2, 1, 1, 2, 1, 1, 2, 1]
GRN_NEVER_IN = "down_0"  # the official code does not hand its flag to this block


def levels(blocks, ratios):
    """(prefix, level, ratio, kind) of every block, in the order of the official state dict."""
    for i in range(4):
        yield from ((f"enc_block_{i}.{j}", i, ratios[i], "same") for j in range(blocks[i]))
        yield f"down_{i}", i, ratios[i + 1], "down"
    yield from ((f"bottleneck.{j}", 4, ratios[4], "same") for j in range(blocks[4]))
    for i in (3, 2, 1, 0):
        yield f"up_{i}", i + 1, ratios[8 - i], "up"
        yield from ((f"dec_block_{i}.{j}", i, ratios[8 - i], "same") for j in range(blocks[8 - i]))


def official_state(
    channels=3, inputs=2, classes=4, k=3, blocks=BLOCKS, ratios=RATIOS, grn=False, heads=1
):
    """Shapes by name, as `MedNeXt(..., do_res=True, do_res_up_down=True).state_dict()`."""
    shapes = {"dummy_tensor": (1,), "stem.weight": (channels, inputs, 1, 1, 1)}
    shapes["stem.bias"] = (channels,)
    for name, level, ratio, kind in levels(blocks, ratios):
        c = channels * 2**level
        out = {"same": c, "down": 2 * c, "up": c // 2}[kind]
        if grn and name != GRN_NEVER_IN:
            shapes[f"{name}.grn_beta"] = (1, ratio * c, 1, 1, 1)
            shapes[f"{name}.grn_gamma"] = (1, ratio * c, 1, 1, 1)
        shapes[f"{name}.conv1.weight"] = (c, 1, k, k, k)
        shapes[f"{name}.conv1.bias"] = (c,)
        shapes[f"{name}.norm.weight"] = (c,)
        shapes[f"{name}.norm.bias"] = (c,)
        shapes[f"{name}.conv2.weight"] = (ratio * c, c, 1, 1, 1)
        shapes[f"{name}.conv2.bias"] = (ratio * c,)
        shapes[f"{name}.conv3.weight"] = (out, ratio * c, 1, 1, 1)
        shapes[f"{name}.conv3.bias"] = (out,)
        if kind != "same":
            wide = (c, out) if kind == "up" else (out, c)
            shapes[f"{name}.res_conv.weight"] = (*wide, 1, 1, 1)
            shapes[f"{name}.res_conv.bias"] = (out,)
    for i in range(heads):
        shapes[f"out_{i}.conv_out.weight"] = (channels * 2**i, classes, 1, 1, 1)
        shapes[f"out_{i}.conv_out.bias"] = (classes,)
    generator = torch.Generator().manual_seed(7)
    state = {}
    for key, shape in shapes.items():
        fan_in = max(1, torch.tensor(shape[1:]).prod().item()) if len(shape) > 1 else 4
        state[key] = torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5
        if key.endswith("norm.weight"):
            state[key] += 1
    return state


def block(w, name, x, kind):
    c, k = x.shape[1], w[f"{name}.conv1.weight"].shape[-1]
    convolve = F.conv_transpose3d if kind == "up" else F.conv3d
    stride = 1 if kind == "same" else 2
    y = convolve(x, w[f"{name}.conv1.weight"], w[f"{name}.conv1.bias"], stride, k // 2, groups=c)
    y = F.group_norm(y, c, w[f"{name}.norm.weight"], w[f"{name}.norm.bias"])
    y = F.gelu(F.conv3d(y, w[f"{name}.conv2.weight"], w[f"{name}.conv2.bias"]))
    if f"{name}.grn_gamma" in w:
        g = y.pow(2).sum((2, 3, 4), keepdim=True).sqrt()
        n = g / (g.mean(1, keepdim=True) + 1e-6)
        y = w[f"{name}.grn_gamma"] * (y * n) + w[f"{name}.grn_beta"] + y
    y = F.conv3d(y, w[f"{name}.conv3.weight"], w[f"{name}.conv3.bias"])
    if kind == "same":
        return x + y
    residual = convolve(x, w[f"{name}.res_conv.weight"], w[f"{name}.res_conv.bias"], 2)
    front = (1, 0, 1, 0, 1, 0) if kind == "up" else (0,) * 6
    return F.pad(y, front) + F.pad(residual, front)


def official_forward(w, x, blocks=BLOCKS):
    """All heads that exist, finest first."""
    skips, deep = [], []
    x = F.conv3d(x, w["stem.weight"], w["stem.bias"])
    for i in range(4):
        for j in range(blocks[i]):
            x = block(w, f"enc_block_{i}.{j}", x, "same")
        skips.append(x)
        x = block(w, f"down_{i}", x, "down")
    for j in range(blocks[4]):
        x = block(w, f"bottleneck.{j}", x, "same")
    deep.append(x)
    for i in (3, 2, 1, 0):
        x = skips[i] + block(w, f"up_{i}", x, "up")
        for j in range(blocks[8 - i]):
            x = block(w, f"dec_block_{i}.{j}", x, "same")
        deep.append(x)
    heads = [(f"out_{i}.conv_out", y) for i, y in enumerate(reversed(deep))]
    return [
        F.conv_transpose3d(y, w[f"{name}.weight"], w[f"{name}.bias"])
        for name, y in heads
        if f"{name}.weight" in w
    ]


@pytest.mark.parametrize("grn", [False, True])
@pytest.mark.parametrize("heads", [1, 5])
@pytest.mark.parametrize("k", [3, 5])
def test_the_forward_pass_is_the_official_one(grn, heads, k):
    state = official_state(k=k, grn=grn, heads=heads)
    x = torch.randn(2, 2, 32, 48, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = from_official(state).eval()(x)
        expected = official_forward(state, x)
    found = found if heads == 5 else [found]
    assert len(found) == len(expected) == heads
    for mine, reference in zip(found, expected, strict=True):
        assert (mine - reference).abs().max() <= 1e-5 * reference.abs().max()


def test_key_names_are_the_official_ones():
    """A sample of the real list, written down by hand (kernel 3, GRN, deep supervision)."""
    state = official_state(channels=32, inputs=1, classes=13, grn=True, heads=5)
    real = {
        "enc_block_0.0.conv1.weight": (32, 1, 3, 3, 3),
        "enc_block_1.1.grn_gamma": (1, 192, 1, 1, 1),
        "down_0.conv2.weight": (96, 32, 1, 1, 1),
        "down_3.res_conv.weight": (512, 256, 1, 1, 1),
        "bottleneck.1.conv3.bias": (512,),
        "up_3.conv1.weight": (512, 1, 3, 3, 3),
        "up_3.res_conv.weight": (512, 256, 1, 1, 1),
        "up_0.conv2.weight": (128, 64, 1, 1, 1),
        "dec_block_3.0.norm.weight": (256,),
        "out_0.conv_out.weight": (32, 13, 1, 1, 1),
        "out_4.conv_out.bias": (13,),
    }
    assert {key: tuple(state[key].shape) for key in real} == real
    assert "down_0.grn_gamma" not in state


def test_the_parameters_of_official_small_and_large():
    small = official_state(32, 1, 3, 3, [2] * 9, [2] * 9)
    large_kernel = official_state(32, 1, 3, 5, [2] * 9, [2] * 9)
    for state, expected in ((small, 5_550_947), (large_kernel, 5_980_579)):
        assert sum(v.numel() for k, v in state.items() if k != "dummy_tensor") == expected
        assert sum(p.numel() for p in from_official(state).parameters()) == expected


def test_settings_are_read_from_names_and_shapes():
    assert infer_settings(official_state(k=5, grn=True, heads=5)) == {
        "input_channels": 2,
        "num_classes": 4,
        "channels": 3,
        "blocks": BLOCKS,
        "expansion": RATIOS,
        "kernel_size": 5,
        "grn": True,
        "deep_supervision": True,
    }


def test_a_block_without_response_norm_gets_the_identity():
    network = from_official(official_state(grn=True))
    assert not network.encoder.down[0].grn.gamma.any()
    assert not network.encoder.down[0].grn.beta.any()
    assert network.encoder.down[1].grn.gamma.any()


def test_translation_keeps_every_value_but_the_dummy():
    state = official_state(grn=True, heads=5)
    ours = translate(state)
    assert len(ours) == len(state) - 1
    assert torch.equal(ours["decoder.up.0.residual.weight"], state["up_3.res_conv.weight"])
    assert torch.equal(ours["decoder.stages.2.1.compress.bias"], state["dec_block_1.1.conv3.bias"])
    assert torch.equal(ours["encoder.stages.4.0.grn.beta"], state["bottleneck.0.grn_beta"])


@pytest.mark.parametrize("container", [None, "state_dict", "network_weights"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_checkpoints_and_wrapped_names(container, prefix):
    state = {prefix + key: value for key, value in official_state().items()}
    checkpoint = state if container is None else {container: state, "epoch": 1000, "best": None}
    assert is_official(checkpoint)
    weight = from_official(checkpoint).encoder.stem.weight
    assert torch.equal(weight, official_state()["stem.weight"])


def test_our_own_weights_and_others_are_not_official():
    assert not is_official({"encoder.stem.weight": torch.zeros(1)})
    assert not is_official({})


def test_half_precision_weights_become_float32():
    network = from_official({k: v.half() for k, v in official_state(grn=True).items()})
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_weights_without_residual_convolutions_between_levels_are_refused():
    state = {k: v for k, v in official_state().items() if "res_conv" not in k}
    with pytest.raises(UnsupportedModelError, match="do_res_up_down=False"):
        from_official(state)


def test_two_kernel_sizes_are_refused():
    small, large = official_state(k=3), official_state(k=5)
    mixed = {k: (large if k.startswith(("dec", "up", "bottle")) else small)[k] for k in small}
    with pytest.raises(UnsupportedModelError, match="3x3x3 and 5x5x5"):
        from_official(mixed)


def test_weights_for_2d_images_are_refused():
    state = {k: v[..., 0] if v.ndim == 5 else v for k, v in official_state().items()}
    with pytest.raises(UnsupportedModelError, match="2D"):
        from_official(state)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.pop("stem.weight"), "stem.weight"),
        (lambda s: s.pop("enc_block_2.0.conv3.bias"), "compress.bias"),
        (lambda s: s.pop("out_0.conv_out.bias"), "heads.0.bias"),
        (lambda s: s.update({"enc_block_1.1.conv2.weight": torch.zeros(7, 6, 1, 1, 1)}), "shape"),
        (lambda s: s.update({"enc_block_0.9.norm.bias": torch.zeros(3)}), "enc_block_0|stages.0"),
        (lambda s: s.update({"gate.weight": torch.zeros(3)}), "gate.weight"),
        (lambda s: s.update({"up_7.norm.bias": torch.zeros(3)}), "decoder.up"),
        (lambda s: s.update({"out_3.conv_out.bias": torch.zeros(4)}), "heads.3"),
        (lambda s: s.clear(), "stem.weight"),
    ],
)
def test_missing_odd_and_surplus_weights_are_named(change, named):
    state = official_state()
    change(state)
    with pytest.raises(ModelError, match=named):
        from_official(state)

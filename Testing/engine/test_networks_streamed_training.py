"""The branch without its hidden layer: same result, same gradients, less memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mednext_engine.networks import streamed_training
from mednext_engine.networks.mednext import MedNeXt, MedNeXtBlock


@pytest.fixture(autouse=True)
def small_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several pieces of several slabs, the last of them shorter, in small examples too."""
    monkeypatch.setattr(streamed_training, "SLAB_VALUES", 700)
    monkeypatch.setattr(streamed_training, "_SMALLEST_PIECE", 64)


def make_block(grn: bool, dtype: torch.dtype = torch.float64) -> MedNeXtBlock:
    torch.manual_seed(0)
    block = MedNeXtBlock(6, 4, 3, 3, grn=grn, stride="down").to(dtype)
    for parameter in block.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return block


def layer_by_layer(block: MedNeXtBlock) -> Callable[[Tensor], Tensor]:
    return lambda x: block.compress(block.grn(F.gelu(block.expand(block.norm(x)))))


def gradients(block: MedNeXtBlock, run: Callable[[Tensor], Tensor], x: Tensor) -> list[Tensor]:
    parameters = [p for n, p in block.named_parameters() if n.split(".")[0] in BRANCH]
    result = run(x)
    generator = torch.Generator().manual_seed(1)
    due = torch.randn(result.shape, generator=generator).to(x.dtype)
    return [result.detach(), *torch.autograd.grad(result, [x, *parameters], due)]


BRANCH = ("norm", "expand", "grn", "compress")


@pytest.mark.parametrize("grn", [False, True])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 3e-6)])
def test_result_and_gradients_are_those_of_the_layers(
    grn: bool, dtype: torch.dtype, close: float
) -> None:
    block = make_block(grn, dtype)
    x = (torch.randn(2, 6, 9, 8, 7, dtype=dtype) * 2 + 3).requires_grad_()
    expected = gradients(block, layer_by_layer(block), x)
    found = gradients(block, lambda v: streamed_training.expansion(block, v), x)
    assert len(found) == (10 if grn else 8)
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() <= close * b.abs().max()


@pytest.mark.parametrize("grn", [False, True])
def test_gradients_are_those_of_the_function(grn: bool) -> None:
    block = make_block(grn)
    x = torch.randn(1, 6, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: streamed_training.expansion(block, v), (x,))


def test_large_mean_costs_no_digits() -> None:
    block = make_block(True, torch.float32)
    x = torch.randn(1, 6, 12, 12, 12) + 1000
    expected = gradients(block.double(), layer_by_layer(block), x.double().requires_grad_())
    found = gradients(
        block.float(),
        lambda v: streamed_training.expansion(block, v),
        x.requires_grad_(),
    )
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() <= 1e-4 * b.abs().max()


def test_bfloat16_is_near() -> None:
    block = make_block(True, torch.float32)
    x = torch.randn(1, 6, 10, 10, 10, requires_grad=True)
    expected = gradients(block, layer_by_layer(block), x)

    def under_autocast(v: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return streamed_training.expansion(block, v).float()

    found = gradients(block, under_autocast, x)
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() <= 0.03 * b.norm()


def saved_bytes(network: MedNeXt, x: Tensor) -> int:
    """Bytes that autograd keeps between the passes, each storage once."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        network(x).sum()
    return sum(kept.values())


def test_nothing_of_the_hidden_layer_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    network = MedNeXt(1, 2, channels=8, blocks=(1,) * 9, expansion=4, grn=True)
    x = torch.randn(1, 1, 32, 32, 32)
    streamed = saved_bytes(network, x)
    monkeypatch.setattr(streamed_training, "applies", lambda x: False)
    plain = saved_bytes(network, x)
    assert streamed < plain / 3

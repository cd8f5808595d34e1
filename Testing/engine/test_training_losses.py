import math

import pytest
import torch
import torch.nn.functional as F

from mednext_engine.training.losses import (
    coarser_labels,
    dice_and_binary_cross_entropy,
    dice_and_cross_entropy,
    supervision_weights,
)


def drawn(classes=3, patches=2, unknown=0.3, seed=0, size=(4, 5, 6)):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(patches, classes, *size, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (patches, *size), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < unknown] = -1
    return logits.float().requires_grad_(), labels.short()


def by_definition(logits, labels):
    """Voxel by voxel from the formulas, in double precision."""
    p = torch.softmax(logits.double(), 1)
    known = (labels >= 0).double()[:, None]
    y = F.one_hot(labels.long().clamp_min(0), p.shape[1]).movedim(-1, 1).double()
    entropy = -(y * known * p.log()).sum() / known.sum().clamp_min(1)
    hit, both = (p * y * known).sum((2, 3, 4)), ((p + y) * known).sum((2, 3, 4))
    dice = (2 * hit + 1e-5) / (both + 1e-5)
    return entropy - dice[:, 1:].mean()


def test_two_voxels_worked_by_hand():
    # p(class 1) = 3/4 in a voxel of class 1 and 1/4 in one of class 0.
    logits = torch.tensor([[0.0, math.log(3)], [math.log(3), 0.0]]).t().reshape(1, 2, 1, 1, 2)
    labels = torch.tensor([1, 0]).reshape(1, 1, 1, 2)
    entropy = -math.log(0.75)
    dice = (2 * 0.75 + 1e-5) / (1 + 1.0 + 1e-5)
    assert dice_and_cross_entropy(logits, labels).item() == pytest.approx(entropy - dice, abs=1e-6)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("unknown", [0.0, 0.4])
def test_loss_and_gradient_follow_the_formulas(classes, unknown):
    logits, labels = drawn(classes, unknown=unknown)
    expected = by_definition(logits, labels)
    (slope,) = torch.autograd.grad(expected, logits)
    loss = dice_and_cross_entropy(logits, labels)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    (own,) = torch.autograd.grad(3 * loss, logits)
    torch.testing.assert_close(own, 3 * slope.float(), rtol=1e-4, atol=1e-7)


def test_channels_last_logits_give_the_same():
    logits, labels = drawn()
    twin = logits.detach().contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    a, b = dice_and_cross_entropy(logits, labels), dice_and_cross_entropy(twin, labels)
    torch.testing.assert_close(a, b)
    (slope_a,), (slope_b,) = torch.autograd.grad(a, logits), torch.autograd.grad(b, twin)
    torch.testing.assert_close(slope_a, slope_b)


def test_unknown_voxels_have_exactly_no_gradient():
    logits, labels = drawn()
    dice_and_cross_entropy(logits, labels).backward()
    unknown = (labels < 0)[:, None].expand_as(logits)
    assert logits.grad[unknown].abs().max() == 0
    assert logits.grad[~unknown].abs().min() > 0


def test_what_lies_at_unknown_voxels_does_not_matter():
    logits, labels = drawn()
    other = torch.where((labels < 0)[:, None], 7.0, logits.detach())
    assert dice_and_cross_entropy(other, labels).item() == pytest.approx(
        dice_and_cross_entropy(logits, labels).item(), abs=1e-6
    )


def test_a_patch_without_annotation_teaches_nothing():
    logits, labels = drawn()
    labels[:] = -1
    loss = dice_and_cross_entropy(logits, labels)
    loss.backward()
    assert loss.item() == pytest.approx(-1)
    assert logits.grad.abs().max() == 0


def test_half_precision_logits_get_half_precision_gradients():
    logits, labels = drawn()
    half = logits.detach().bfloat16().requires_grad_()
    loss = dice_and_cross_entropy(half, labels)
    loss.backward()
    assert loss.dtype == torch.float32
    assert half.grad.dtype == torch.bfloat16


def test_regions_worked_by_hand():
    # One voxel of label 2, one unknown; region 0 is {1, 2}, region 1 is {2}; all logits are 0.
    logits = torch.zeros(1, 2, 1, 1, 2, requires_grad=True)
    labels = torch.tensor([2, -1]).reshape(1, 1, 1, 2)
    loss = dice_and_binary_cross_entropy(logits, labels, ((1, 2), (2,)))
    # Two heads, one known voxel: BCE is log 2 each, summed over heads as nnU-Net does.
    dice = (2 * 0.5 + 1e-5) / (1.5 + 1e-5)
    assert loss.item() == pytest.approx(2 * math.log(2) - dice, abs=1e-6)
    loss.backward()
    assert logits.grad[..., 1].abs().max() == 0


def test_weights_halve_and_the_coarsest_output_counts_nothing():
    assert supervision_weights(1) == [1.0]
    assert supervision_weights(5) == pytest.approx([8 / 15, 4 / 15, 2 / 15, 1 / 15, 0])


def test_coarser_labels_are_the_nearest_ones():
    _, labels = drawn(4, unknown=0, size=(8, 16, 8))
    for factor in (2, 4):
        size = [n // factor for n in labels.shape[1:]]
        nearest = F.interpolate(labels[:, None].float(), size, mode="nearest-exact")[:, 0]
        assert torch.equal(coarser_labels(labels, size), nearest.short())


@pytest.mark.parametrize("only", [0, 1, 2, 3])
def test_a_single_annotated_slice_reaches_all_coarse_outputs(only):
    labels = torch.full((1, 16, 16, 16), -1, dtype=torch.int16)
    labels[:, 4 + only] = 1
    for factor in (2, 4, 8):
        coarse = coarser_labels(labels, [16 // factor] * 3)
        expected = torch.full_like(coarse, -1)
        expected[:, (4 + only) // factor] = 1
        assert torch.equal(coarse, expected)


def test_equal_to_nnunet_with_an_ignore_label():
    pytest.importorskip("nnunetv2")
    from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
    from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

    dice = {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}
    theirs = DC_and_CE_loss(dice, {}, ignore_label=3, dice_class=MemoryEfficientSoftDiceLoss)
    logits, labels = drawn()
    target = torch.where(labels < 0, 3, labels.long())[:, None]
    expected = theirs(logits, target)
    (slope,) = torch.autograd.grad(expected, logits)
    loss = dice_and_cross_entropy(logits, labels)
    (own,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    torch.testing.assert_close(own, slope, rtol=1e-4, atol=1e-7)

    regions = ((1, 2), (2,))
    theirs = DC_and_BCE_loss(
        {}, {**dice, "do_bg": True}, use_ignore_label=True, dice_class=MemoryEfficientSoftDiceLoss
    )
    heads = [torch.isin(labels, torch.tensor(r).short()) for r in regions]
    target = torch.stack([*heads, labels < 0], 1).float()
    expected = theirs(logits[:, :2], target)
    loss = dice_and_binary_cross_entropy(logits[:, :2], labels, regions)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)

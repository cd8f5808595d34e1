"""Labels plane by plane must be those of the whole volume at once."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mednext_engine.inference import labelling
from mednext_engine.inference.head import Head
from mednext_engine.inference.labelling import Labeller
from mednext_engine.inference.resampling import make_scheme
from mednext_engine.models.labels import Labels
from mednext_engine.models.plan import Resampling

GRIDS = [
    ((12, 20, 18), (19, 31, 25), (1.5, 1.5, 1.5), (1.0, 1.0, 1.0)),
    ((12, 20, 18), (12, 20, 18), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
    ((8, 20, 18), (11, 31, 25), (5.0, 1.0, 1.0), (4.0, 0.7, 0.7)),  # thick slices: nearest along z
    ((24, 20, 18), (12, 10, 9), (1.0, 1.0, 1.0), (2.0, 2.0, 2.0)),
]


def smooth(channels, shape, seed=0):
    noise = torch.randn((1, channels, 5, 5, 5), generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, shape, mode="trilinear")[0]


def by_hand(logits, target, nearest_z):
    """Interpolates every class to the target grid and takes the largest."""
    if nearest_z:
        index = np.minimum(
            np.floor((np.arange(target[0]) + 0.5) * logits.shape[1] / target[0]),
            logits.shape[1] - 1,
        ).astype(int)
        planes = F.interpolate(logits, target[1:], mode="bilinear")
        return planes[:, index].argmax(0).numpy()
    return F.interpolate(logits[None], target, mode="trilinear")[0].argmax(0).numpy()


@pytest.mark.parametrize(("shape", "target", "spacing", "new_spacing"), GRIDS)
@pytest.mark.parametrize("step", [3, 100])
@pytest.mark.parametrize("many", [False, True], ids=["logits", "features and head"])
def test_streamed_labels(shape, target, spacing, new_spacing, step, many, monkeypatch):
    monkeypatch.setattr(labelling, "LARGEST_LOGITS_BYTES", 4 * 30 * shape[1] * shape[2] * 4)
    classes = 30 if many else 4
    fed = smooth(6 if many else 4, shape)
    generator = torch.Generator().manual_seed(3)
    head = None
    if many:
        head = Head(torch.randn((30, 6), generator=generator), torch.randn(30, generator=generator))
    scheme = make_scheme(shape, target, Resampling(order=1), spacing, new_spacing)
    labels = Labels(tuple(f"l{i}" for i in range(classes)), tuple(range(classes)))
    labeller = Labeller(scheme, labels, head)
    for start in range(0, shape[0], step):
        labeller.feed(start, fed[:, start : start + step])
    expected = by_hand(head.apply(fed) if head else fed, target, nearest_z=spacing[0] == 5.0)
    assert labeller.result.dtype == np.uint8
    # Rounding may decide between two classes that are equal to the last digit.
    assert (labeller.result != expected).mean() < 1e-4


def test_a_region_leaves_the_rest_background():
    shape, target = (12, 20, 18), (19, 31, 25)
    scheme = make_scheme(shape, target, Resampling(order=1), (1.5,) * 3, (1.0,) * 3)
    labels = Labels(("background", "a", "b"), (0, 1, 2))
    logits = smooth(3, shape)
    whole, part = (
        Labeller(scheme, labels),
        Labeller(scheme, labels, region=(slice(4, 9), slice(2, 20), slice(0, 7))),
    )
    for start in range(0, 12, 4):
        whole.feed(start, logits[:, start : start + 4])
        part.feed(start, logits[:, start : start + 4])
    inside = np.zeros(target, bool)
    inside[4:9, 2:20, 0:7] = True
    assert np.array_equal(part.result[inside], whole.result[inside])
    assert not part.result[~inside].any()


def test_what_is_fed_may_change_afterwards():
    shape, target = (8, 6, 6), (13, 9, 9)
    scheme = make_scheme(shape, target, Resampling(order=1), (1.5,) * 3, (1.0,) * 3)
    labels = Labels(("background", "a", "b"), (0, 1, 2))
    logits = smooth(3, shape)
    expected, labeller = Labeller(scheme, labels), Labeller(scheme, labels)
    buffer = torch.empty((3, 2, 6, 6))
    for start in range(0, 8, 2):
        expected.feed(start, logits[:, start : start + 2].clone())
        buffer.copy_(logits[:, start : start + 2])
        labeller.feed(start, buffer)
        buffer.fill_(torch.nan)
    assert np.array_equal(labeller.result, expected.result)

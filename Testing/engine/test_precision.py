import pytest
import torch

pytest.importorskip("openvino")

from mednext_engine.inference.precision import Verdict, compare, recall, remember
from mednext_engine.monitor import Monitor


class FixedRunner:
    """Gives the same logits whatever the tile."""

    head = None

    def __init__(self, logits):
        self.logits = logits

    def run(self, tile, monitor):
        return self.logits


def one_hot(labels, classes):
    return torch.nn.functional.one_hot(labels, classes).permute(3, 0, 1, 2).float()


@pytest.fixture
def a_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDNEXT_CACHE", str(tmp_path / "cäche"))
    return tmp_path / "cäche" / "precision.json"


def test_dice_is_the_lowest_of_all_labels_that_are_large_enough():
    a = torch.zeros((10, 10, 10), dtype=torch.long)
    a[:2] = 1  # 200 voxels
    a[9, 9, :5] = 2  # 5 voxels: too few to judge by
    b = a.clone()
    b[0, :5] = 0  # label 1 loses 50: 2 * 150 / (200 + 150)
    b[9, 9, :5] = 0
    verdict = compare(FixedRunner(one_hot(a, 3)), FixedRunner(one_hot(b, 3)), a, False, Monitor())
    assert verdict.dice == pytest.approx(300 / 350)


def test_a_tile_with_one_label_alone_proves_nothing():
    a = torch.zeros((10, 10, 10), dtype=torch.long)
    same = FixedRunner(one_hot(a, 2))
    assert compare(same, same, a, False, Monitor()).dice == 0


def test_regions_are_judged_by_the_labels_they_are_written_as():
    first = -torch.ones((2, 10, 10, 10))
    first[0, :5] = 1  # 500 voxels, of which 100 stay visible
    first[1, :4] = 1  # 400, written on top
    second = first.clone()
    second[1, 3] = -1  # Dice of the upper region 600 / 700, of the rim 2 * 100 / (100 + 200)
    verdict = compare(FixedRunner(first), FixedRunner(second), first, True, Monitor())
    assert verdict.dice == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("dice", "speedup", "good"),
    [(0.999, 2.0, True), (0.994, 2.0, False), (0.999, 1.0, False)],
)
def test_bfloat16_must_be_equal_and_faster(dice, speedup, good):
    assert Verdict(dice, speedup).good is good


def test_verdicts_are_kept_and_a_damaged_file_counts_as_none(a_cache):
    assert recall("a") is None
    remember("a", Verdict(0.999, 2.0))
    remember("b", Verdict(0.5, 2.0))
    assert recall("a") == Verdict(0.999, 2.0)
    assert recall("b") == Verdict(0.5, 2.0)
    a_cache.write_text('{"a": {"dice": "x"}}')
    assert recall("a") is None
    a_cache.write_text("{")
    assert recall("a") is None
    remember("a", Verdict(0.9, 1.0))
    assert recall("a") == Verdict(0.9, 1.0)

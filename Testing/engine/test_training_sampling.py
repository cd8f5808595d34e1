import numpy as np
import pytest
from training_fixtures import sphere_case, stored_case

from mednext_engine.errors import InputError
from mednext_engine.training.cases import MOST_LOCATIONS, class_shares, find_locations
from mednext_engine.training.sampling import cut, draw_corner, wants_foreground
from mednext_engine.training.validation import Counts, choose_windows


def labels_with_two_classes():
    labels = np.zeros((20, 30, 40), np.int16)
    labels[2:4, 2:4, 2:4] = 1
    labels[5:19, 5:29, 5:39] = 7
    return labels


def test_every_class_and_the_annotated_part_is_found():
    labels = labels_with_two_classes()
    labels[:, :, 39] = -1
    found = find_locations(labels)
    assert sorted(found.classes) == [1, 7]
    assert len(found.classes[1]) == 8
    assert len(found.classes[7]) == MOST_LOCATIONS
    assert all(labels[tuple(v)] == 7 for v in found.classes[7][:100])
    assert not found.complete
    assert (found.low, found.high) == ((0, 0, 0), (20, 30, 39))


def test_locations_are_kept_beside_the_labels_until_these_change(tmp_path):
    case = stored_case(tmp_path, "a", np.zeros((1, 20, 30, 40), "f4"), labels_with_two_classes())
    assert sorted(case.locations.classes) == [1, 7]
    kept = case.labels.with_suffix(".locations.npz")
    assert kept.is_file()
    again = stored_case(tmp_path, "a", np.zeros((1, 2, 2, 2), "f4"), np.ones((2, 2, 2), np.int16))
    assert sorted(again.locations.classes) == [1]


def test_missing_and_damaged_arrays_are_named(tmp_path):
    case = sphere_case(tmp_path, "a", 0)
    case.labels.write_bytes(b"no array")
    with pytest.raises(InputError, match="'a'"):
        case.open()
    case.labels.unlink()
    with pytest.raises(InputError, match="'a'"):
        case.open()


@pytest.mark.parametrize(
    ("batch", "expected"), [(2, [False, True]), (3, [False, False, True]), (4, [0, 0, 0, 1])]
)
def test_the_last_third_of_a_batch_is_around_foreground(batch, expected):
    generator = np.random.default_rng(0)
    wanted = [wants_foreground(i, batch, 0.33, generator) for i in range(batch)]
    assert wanted == [bool(e) for e in expected]


def test_a_batch_of_one_is_around_foreground_in_a_third_of_all_steps():
    generator = np.random.default_rng(0)
    drawn = [wants_foreground(0, 1, 0.33, generator) for _ in range(2000)]
    assert 0.29 < np.mean(drawn) < 0.37


def corners(labels, patch, foreground, count=300):
    generator, found = np.random.default_rng(1), find_locations(labels)
    return [draw_corner(labels.shape, patch, found, foreground, generator) for _ in range(count)]


def test_foreground_patches_hold_foreground_and_all_classes_equally():
    labels = labels_with_two_classes()
    patch = (8, 8, 8)
    small = 0
    for corner in corners(labels, patch, True):
        part = cut(labels, corner, patch, -1)
        assert (part > 0).any()
        assert min(corner) >= 0
        assert all(c + 8 <= n for c, n in zip(corner, labels.shape, strict=True))
        small += corner == (0, 0, 0)
    assert 110 < small < 190  # the small class half of the time


def test_other_patches_lie_anywhere():
    found = corners(np.zeros((20, 30, 40), np.int16), (8, 8, 8), False)
    for axis, last in enumerate((12, 22, 32)):
        values = {c[axis] for c in found}
        assert (min(values), max(values)) == (0, last)


def test_in_a_partly_annotated_case_all_patches_are_around_annotation():
    labels = np.full((40, 40, 40), -1, np.int16)
    labels[30] = 0
    for corner in corners(labels, (8, 8, 8), False):
        assert (cut(labels, corner, (8, 8, 8), -1) >= 0).any()
    for corner in corners(labels, (8, 8, 8), True):  # no class at all: annotated voxels as well
        assert (cut(labels, corner, (8, 8, 8), -1) >= 0).any()


def test_a_patch_larger_than_the_volume_is_centred_and_padded():
    volume = np.ones((3, 4, 5), np.int16)
    assert set(corners(volume, (5, 4, 9), False, 10)) == {(-1, 0, -2)}
    padded = cut(volume, (-1, 0, -2), (5, 4, 9), -1)
    assert padded.shape == (5, 4, 9)
    assert (padded == 1).sum() == volume.size
    assert (padded[1:4, :, 2:7] == 1).all()
    assert (cut(volume, (10, 0, 0), (2, 2, 2), -1) == -1).all()


def test_windows_cover_what_is_annotated_and_no_more(tmp_path):
    labels = np.full((40, 40, 40), -1, np.int16)
    labels[10:30, 5:20, 5:20] = 0
    labels[12, 12, 12] = 1
    case = stored_case(tmp_path, "a", np.zeros((1, 40, 40, 40), "f4"), labels)
    windows = choose_windows([case], (16, 16, 16), 32)
    seen = np.zeros(labels.shape, int)
    for window in windows:
        z, y, x = window.corner
        seen[z : z + 16, y : y + 16, x : x + 16] += 1
    assert (seen[labels >= 0] > 0).all()
    assert len(windows) == 2
    assert choose_windows([case], (16, 16, 16), 32) == windows


def test_few_windows_hold_every_class(tmp_path):
    labels = np.zeros((64, 64, 64), np.int16)
    labels[60:, 60:, 60:] = 1
    labels[:4, :4, :4] = 2
    case = stored_case(tmp_path, "a", np.zeros((1, 64, 64, 64), "f4"), labels)
    windows = choose_windows([case], (16, 16, 16), 3)
    assert len(windows) == 3
    corner_windows = {w.corner for w in windows}
    assert {(48, 48, 48), (0, 0, 0)} <= corner_windows


def test_dice_is_taken_over_all_windows_together():
    import torch

    counts = Counts(3)
    yes, no = torch.tensor([[True]]), torch.tensor([[False]])
    counts.add(torch.cat([yes, yes, no]), torch.cat([yes, no, no]))
    counts.add(torch.cat([no, yes, no]), torch.cat([yes, no, no]))
    # Class 0: one hit, one predicted, two true. Class 1 is not there, class 2 neither.
    assert counts.dice() == [pytest.approx(2 / 3), None, None]


def test_shares_are_of_annotated_voxels_only(tmp_path):
    labels = np.full((2, 2, 3), -1, np.int16)
    labels[0] = [[0, 0, 0], [1, 1, 2]]
    case = stored_case(tmp_path, "a", np.zeros((1, 2, 2, 3), np.float32), labels)
    assert class_shares([case, case], 4) == pytest.approx((3 / 6, 2 / 6, 1 / 6, 0))

"""Dice, surface Dice and HD95 against cases worked by hand and against a brute-force count."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mednext_engine.errors import DependencyError, InputError
from mednext_engine.evaluation import dice, hausdorff95, score_label, surface_dice


def a_cube(low, high, shape=(20, 20, 20)):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return mask


def test_dice_of_a_cube_shifted_by_one_voxel():
    a, b = a_cube((5, 5, 5), (15, 15, 15)), a_cube((6, 5, 5), (16, 15, 15))
    assert dice(a, b) == pytest.approx(2 * 900 / 2000)


def test_a_cube_scores_perfectly_against_itself():
    a = a_cube((5, 5, 5), (15, 15, 15))
    score = score_label(a, a, (3.0, 1.0, 0.5), tolerance=0.0)
    assert (score.dice, score.surface_dice, score.hd95) == (1.0, 1.0, 0.0)
    assert score.volume == score.reference_volume == pytest.approx(1000 * 1.5 / 1000)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_cube_shifted_along_one_axis_is_as_far_as_the_spacing_there(axis):
    """Edges of 30, 20 and 5 mm: two of six faces move by the spacing, the others slide in
    themselves. The two are more than 5 % of the area, so HD95 is the spacing; below it they are
    not near, but for their rim, which lies on the other cube's side walls."""
    spacing, faces = (3.0, 2.0, 0.5), (20 * 5, 30 * 5, 30 * 20)
    a = a_cube((5, 5, 5), (15, 15, 15))
    b = np.roll(a, 1, axis)
    assert hausdorff95(a, b, spacing) == pytest.approx(spacing[axis])
    assert surface_dice(a, b, spacing, spacing[axis]) == 1.0
    near = 1 - faces[axis] / sum(faces)
    assert surface_dice(a, b, spacing, spacing[axis] * 0.99) == pytest.approx(near, abs=0.12)
    assert surface_dice(a, b, spacing, spacing[axis] * 0.99) > near


def test_two_thin_plates_are_as_far_apart_as_they_lie():
    """One voxel thick, 30 x 30 wide, four voxels of 2 mm apart: each face of one has its fellow of
    the other at 8 mm, the nearer pair of faces is 6 mm apart."""
    a = a_cube((3, 2, 2), (4, 32, 32), (16, 40, 40))
    b = np.roll(a, 4, 0)
    assert hausdorff95(a, b, (2.0, 1.0, 1.0)) == pytest.approx(8.0)
    assert surface_dice(a, b, (2.0, 1.0, 1.0), 5.9) == 0.0
    assert surface_dice(a, b, (2.0, 1.0, 1.0), 8.0) == 1.0
    # within 6 mm lie half of each plate's two faces (the rim is thin: 30 of 900 voxels a side)
    assert surface_dice(a, b, (2.0, 1.0, 1.0), 6.0) == pytest.approx(0.5, abs=0.05)


def test_a_few_stray_voxels_do_not_move_hd95_but_are_not_near():
    a = a_cube((4, 4, 4), (16, 16, 16), (40, 24, 24))
    b = a.copy()
    b[38, 2, 2] = True
    assert hausdorff95(b, a, (1, 1, 1)) == 0.0
    assert 0.97 < surface_dice(b, a, (1, 1, 1), 1.0) < 1.0


def corners_where_a_surface_is(mask):
    """Corners of voxels whose eight neighbours are not all alike, by plain counting."""
    padded = np.pad(mask, 1).astype(int)
    count = sum(
        padded[i : i + mask.shape[0] + 1, j : j + mask.shape[1] + 1, k : k + mask.shape[2] + 1]
        for i in (0, 1)
        for j in (0, 1)
        for k in (0, 1)
    )
    return np.argwhere((count > 0) & (count < 8))


def test_the_farthest_distance_agrees_with_brute_force():
    """All pairs of surface corners; the percentile by area lies below their largest distance and,
    for blobs this small with smooth surfaces, above their median."""
    spacing = np.array((2.5, 1.0, 0.7))
    z, y, x = np.mgrid[:12, :20, :24]
    a = ((z - 5) * 2.5) ** 2 + (y - 9) ** 2 + ((x - 11) * 0.7) ** 2 < 36
    b = ((z - 6) * 2.5) ** 2 + (y - 11) ** 2 + ((x - 12) * 0.7) ** 2 < 30
    one, two = corners_where_a_surface_is(a) * spacing, corners_where_a_surface_is(b) * spacing
    between = np.linalg.norm(one[:, None] - two[None], axis=2)
    nearest = [between.min(0), between.min(1)]
    hd95 = hausdorff95(a, b, spacing)
    assert max(np.median(n) for n in nearest) < hd95 <= max(n.max() for n in nearest)
    assert any(np.isclose(n, hd95).any() for n in nearest)
    assert surface_dice(a, b, spacing, max(n.max() for n in nearest)) == 1.0


def test_empty_masks_follow_the_convention():
    empty, full = np.zeros((8, 8, 8), bool), a_cube((2, 2, 2), (5, 5, 5), (8, 8, 8))
    neither = score_label(empty, empty, (1, 1, 1))
    assert all(math.isnan(v) for v in (neither.dice, neither.surface_dice, neither.hd95))
    for score in (score_label(empty, full, (1, 1, 1)), score_label(full, empty, (1, 1, 1))):
        assert (score.dice, score.surface_dice, score.hd95) == (0.0, 0.0, math.inf)


def test_a_mask_at_the_rim_of_the_volume_has_a_surface_there():
    """A volume full of the label against one without its last slice: distance one slice."""
    full = np.ones((6, 6, 6), bool)
    less = full.copy()
    less[-1] = False
    assert hausdorff95(less, full, (4.0, 1.0, 1.0)) == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("prediction", "reference", "spacing", "tolerance"),
    [
        (np.zeros((4, 4, 4), bool), np.zeros((4, 4, 5), bool), (1, 1, 1), 1.0),
        (np.zeros((4, 4), bool), np.zeros((4, 4), bool), (1, 1), 1.0),
        (np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 4), bool), (1, 1, 1), 1.0),
        (np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4), bool), (1, 0, 1), 1.0),
        (np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4), bool), (1, 1, 1), -1.0),
    ],
)
def test_what_cannot_be_scored_is_refused(prediction, reference, spacing, tolerance):
    with pytest.raises(InputError):
        score_label(prediction, reference, spacing, tolerance)


def test_without_the_library_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "surface_distance", None)
    a = a_cube((5, 5, 5), (15, 15, 15))
    with pytest.raises(DependencyError, match="surface-distance"):
        score_label(a, a, (1, 1, 1))

import math
import threading

import numpy as np
import pytest
import torch
from training_fixtures import short_recipe, sphere_case, stored_case

from mednext_engine.training.randomness import SampleRandomness
from mednext_engine.training.segmentation import PatchSampler

pytest.importorskip("batchgeneratorsv2")

from mednext_engine.training.augmentation import (
    Augmentation,
    SpatialDraw,
    blur,
    cut_size,
    in_slice_only,
)

PATCH = (16, 16, 16)


def turned(labels, angle, augmentation):
    """Labels (1, z, y, x) turned by `angle` around the first axis, by the augmentation's means."""
    spatial = augmentation._spatial
    spatial.p_rotation, spatial.p_scaling = 1.0, 0.0
    spatial.rotation = lambda image, dim: angle if dim == 0 else 0.0
    draw = augmentation.draw(1, SampleRandomness(0))
    image = torch.ones(1, *labels.shape[1:])
    return augmentation._turn(image, labels, draw.parameters)


def test_the_cut_is_nnunets():
    pytest.importorskip("nnunetv2")
    from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size

    for patch in ((64, 64, 64), (80, 96, 112), (112, 48, 64), (32, 128, 96), (16, 128, 96)):
        angle = math.pi if in_slice_only(patch) else math.pi / 6
        angles = [(-angle, angle)] * 3
        theirs = get_patch_size(np.array(patch), *angles, (0.85, 1.25)).tolist()
        if in_slice_only(patch):
            theirs[0] = patch[0]
        assert list(cut_size(patch)) == theirs


def test_flat_patches_are_turned_in_their_slices_only():
    assert in_slice_only((16, 64, 64))
    assert not in_slice_only((32, 64, 64))
    augmentation = Augmentation((4, 16, 16), ())
    size = cut_size((4, 16, 16))
    labels = torch.arange(4, dtype=torch.int16).view(1, 4, 1, 1).repeat(1, 1, *size[1:])
    draw = next(
        d
        for d in (augmentation.draw(1, SampleRandomness(i)) for i in range(50))
        if d.parameters is not None
    )
    image, marks = augmentation._turn(labels.float(), labels, draw.parameters)
    assert image.shape == marks.shape == (1, 4, 16, 16)
    for z in range(4):  # what is not border is of the same slice
        assert set(marks[0, z].unique().tolist()) <= {z, -1}


def test_blur_is_that_of_batchgeneratorsv2():
    pytest.importorskip("skimage")
    from batchgeneratorsv2.transforms.noise.gaussian_blur import blur_dimension

    volume = torch.randn(9, 11, 13, generator=torch.Generator().manual_seed(0))
    for sigmas in ((0.5, 0.8, 1.0), (0.6, 0.75, 0.99)):
        theirs = volume[None]
        for axis, sigma in enumerate(sigmas):
            theirs = blur_dimension(theirs, sigma, axis)
        torch.testing.assert_close(blur(volume, sigmas), theirs[0], rtol=1e-5, atol=1e-6)


def test_turning_a_quarter_moves_the_labels_and_no_voxel_is_invented():
    augmentation = Augmentation(PATCH, ())
    size = cut_size(PATCH)
    labels = torch.zeros(1, *size, dtype=torch.int16)
    middle = size[1] // 2
    labels[0, :, :middle] = -1
    labels[0, :, middle:] = 2
    _, marks = turned(labels, math.pi / 2, augmentation)
    assert set(marks.unique().tolist()) == {-1, 2}
    halves = {int(marks[0, 8, 8, 2]), int(marks[0, 8, 8, 13])}
    assert halves == {-1, 2}  # what was along y is along x now
    assert marks[0, :, :, 2].unique().numel() == 1


def test_a_turned_slice_stays_about_one_voxel_thick_and_unknown_elsewhere():
    augmentation = Augmentation(PATCH, ())
    size = cut_size(PATCH)
    labels = torch.full((1, *size), -1, dtype=torch.int16)
    labels[0, :, size[1] // 2] = 1
    _, marks = turned(labels, math.pi / 9, augmentation)
    thickness = (marks[0] == 1).sum().item() / (16 * 16 / math.cos(math.pi / 9))
    assert set(marks.unique().tolist()) == {-1, 1}
    assert 0.8 < thickness < 1.25


def test_what_comes_from_outside_is_unknown():
    augmentation = Augmentation(PATCH, ())
    spatial = augmentation._spatial
    spatial.p_scaling, spatial.p_rotation = 1.0, 0.0
    spatial.scaling = (1.4, 1.4)
    draw = augmentation.draw(1, SampleRandomness(0))
    # Cut as small as the patch itself: scaled by 1.4, the patch reaches 0.2 x 16 voxels beyond.
    image, labels = torch.ones(1, *PATCH), torch.ones(1, *PATCH, dtype=torch.int16)
    image, marks = augmentation._turn(image, labels, draw.parameters)
    assert marks[0, 8, 8, 8] == 1
    assert image[0, 8, 8, 8] == 1
    assert draw.size == cut_size(PATCH)


def test_zeros_of_masked_channels_stay_zero():
    augmentation = Augmentation(PATCH, (0, 1, 2), masked_channels=(1,))
    for seed in range(30):
        image = torch.randn(2, *PATCH, generator=torch.Generator().manual_seed(seed))
        image[:, :5] = 0
        labels = torch.zeros(1, *PATCH, dtype=torch.int16)
        done, _ = augmentation.apply(
            image, labels, SpatialDraw(PATCH, None), SampleRandomness(seed)
        )
        assert (done[1] == 0).sum() == 5 * 16 * 16


def test_mirroring_keeps_to_the_allowed_axes():
    image = torch.arange(16.0).view(1, 16, 1, 1).expand(1, *PATCH)
    first_axis = Augmentation(PATCH, (0,))
    others = Augmentation(PATCH, (1, 2))
    first_axis._intensity = others._intensity = []
    labels = image.short()
    flipped = 0
    for seed in range(20):
        draw = SpatialDraw(PATCH, None)
        kept, _ = others.apply(image.clone(), labels.clone(), draw, SampleRandomness(seed))
        assert torch.equal(kept, image)
        done, marks = first_axis.apply(image.clone(), labels.clone(), draw, SampleRandomness(seed))
        assert torch.equal(done.short(), marks)
        flipped += not torch.equal(done, image)
    assert 4 < flipped < 16


def test_samples_follow_from_their_numbers_alone(tmp_path):
    sampler = PatchSampler((sphere_case(tmp_path, "a", 0),), short_recipe(seed=3))
    wanted = {(step, i): sampler(step, i) for step in range(6) for i in range(2)}
    found = {}

    def make(keys):
        for key in keys:
            found[key] = sampler(*key)

    keys = list(wanted)
    threads = [threading.Thread(target=make, args=(keys[i::3][::-1],)) for i in range(3)]
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for key, (image, labels) in wanted.items():
        assert torch.equal(found[key][0], image)
        assert torch.equal(found[key][1], labels)
    # The global generators are as they were.
    assert np.array_equal(before[0], np.random.get_state()[1])
    assert torch.equal(before[1], torch.get_rng_state())
    assert not torch.equal(wanted[0, 0][0], wanted[1, 0][0])
    other = PatchSampler(sampler.cases, short_recipe(seed=4))
    assert not torch.equal(other(0, 0)[0], wanted[0, 0][0])


def test_padding_is_background_where_all_is_annotated_and_unknown_elsewhere(tmp_path):
    data, labels = np.ones((1, 8, 8, 8), "f4"), np.ones((8, 8, 8), np.int16)
    complete = PatchSampler((stored_case(tmp_path, "a", data, labels),), short_recipe())
    labels = labels.copy()
    labels[0] = -1
    partly = PatchSampler((stored_case(tmp_path, "b", data, labels),), short_recipe())
    for step in range(12):
        assert set(complete(step, 0)[1].unique().tolist()) == {0, 1}
        assert set(partly(step, 0)[1].unique().tolist()) == {-1, 1}

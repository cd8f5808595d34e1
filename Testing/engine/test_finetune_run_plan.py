"""Which grid, intensities, network and patch a new model has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from job_fixtures import write_tiny_model

from mednext_engine.errors import InputError
from mednext_engine.finetuning.facts import CaseFacts, Inspection
from mednext_engine.finetuning.job import Job, JobLabel, JobOptions
from mednext_engine.finetuning.plan import choose_grid, patch_multiple
from mednext_engine.models.folder import Model, open_model

LPS = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
SAGITTAL = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)  # columns x, y, z: P, I, L


def facts(
    shape=(100, 120, 90), spacing=(2.0, 1.0, 1.0), direction=LPS, crop=None, samples=None
) -> CaseFacts:
    box = crop or tuple(slice(0, n) for n in shape)
    counts = np.array([10, 10])
    profiles = tuple(np.ones((2, n), int) for n in shape)
    some = np.zeros((1, 0), np.float32) if samples is None else samples
    ranges = ((0.0,) * 5,)
    return CaseFacts(
        "a", "auto", shape, spacing, direction, box, "d", counts, profiles,  # type: ignore[arg-type]
        samples=some, intensity=ranges,
    )  # fmt: skip


def job(channels=("channel0",), **options) -> Job:
    labels = (JobLabel("bright"),)
    chosen = JobOptions(**options)
    return Job(Path("job"), "New", None, "quick", channels, labels, (), chosen)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Model:
    """2 mm, patches of 32 voxels, one channel, z-score."""
    return open_model(write_tiny_model(tmp_path_factory.mktemp("m") / "base", patch=32))


def test_with_a_base_the_plan_is_the_bases(base):
    grid = choose_grid(job(), base, Inspection((facts(),)), on_gpu=False)
    assert grid.plan == replace(base.plan, network_kwargs=dict(base.plan.network_kwargs))
    assert grid.reader == "SimpleITKIO"
    assert grid.orientation == ""
    assert grid.median_shape == (100, 60, 45)  # 200 x 120 x 90 mm at 2 mm


def test_own_spacing_is_the_median_of_the_cases(base):
    cases = (facts(spacing=(3.0, 1.0, 1.0)), facts(spacing=(2.0, 0.5, 0.5)), facts())
    grid = choose_grid(job(spacing="own"), base, Inspection(cases), on_gpu=False)
    assert grid.plan.spacing == (2.0, 1.0, 1.0)


def test_own_spacing_is_turned_with_the_images():
    cases = (facts(spacing=(3.0, 0.8, 0.7), direction=SAGITTAL),)
    grid = choose_grid(job(spacing="own"), None, Inspection(cases), on_gpu=False)
    # slices are 3 mm apart from left to right: the last array axis of RAS
    assert grid.plan.spacing == (0.8, 0.7, 3.0)


def test_context_enlarges_the_patch_as_far_as_there_is_image(base):
    inspection = Inspection((facts(),))
    grid = choose_grid(job(context=2.0), base, inspection, on_gpu=False)
    assert grid.plan.patch_size == (64, 64, 48)  # 45 voxels: 48 hold them all
    grid = choose_grid(job(patch=(40, 16, 90)), base, inspection, on_gpu=False)
    assert grid.plan.patch_size == (48, 16, 96)  # multiples of 16


def test_a_further_channel_is_normalised_by_its_name(base):
    samples = np.stack([np.arange(100.0), np.linspace(-50, 50, 101)[:100]]).astype(np.float32)
    inspection = Inspection((facts(samples=samples),))
    grid = choose_grid(job(channels=("channel0", "CT")), base, inspection, on_gpu=False)
    assert grid.plan.normalization == ("ZScoreNormalization", "CTNormalization")
    assert grid.plan.intensity[1]["mean"] == pytest.approx(float(samples[1].mean()), abs=1e-4)
    assert grid.plan.use_mask_for_norm == (False, False)


def test_from_scratch_it_is_the_papers_plan():
    large = facts(shape=(300, 400, 400), spacing=(1.0, 1.0, 1.0))
    grid = choose_grid(job(), None, Inspection((large,)), on_gpu=True)
    plan = grid.plan
    assert plan.spacing == (1.0, 1.0, 1.0)
    assert plan.patch_size == (128, 128, 128)
    assert plan.normalization == ("ZScoreNormalization",)
    assert grid.orientation == "RAS"
    assert grid.reader == "NibabelIOWithReorient"
    assert plan.network_kwargs["grn"] is True
    small = choose_grid(job(), None, Inspection((facts(shape=(20, 50, 60)),)), on_gpu=True)
    assert small.plan.patch_size == (48, 64, 64)  # 40 x 50 x 60 mm


def test_the_network_from_scratch_can_be_chosen(base):
    found = Inspection((facts(),))
    grid = choose_grid(job(network="v1-m-k5"), None, found, on_gpu=False)
    kwargs = grid.plan.network_kwargs
    assert (kwargs["channels"], kwargs["kernel_size"], kwargs["grn"]) == (32, 5, False)
    assert kwargs["blocks"] == [3, 4, 4, 4, 4, 4, 4, 4, 3]  # paper 001, table 1: M
    with pytest.raises(InputError, match="no network 'v9'") as raised:
        choose_grid(job(network="v9"), None, found, on_gpu=False)
    assert "v2-base-k3" in raised.value.hint
    with pytest.raises(InputError, match="only where none is taken over"):
        choose_grid(job(network="v1-m-k5"), base, found, on_gpu=False)


def test_mostly_empty_images_are_normalised_inside_the_mask():
    box = (slice(0, 50), slice(0, 120), slice(0, 90))
    grid = choose_grid(job(), None, Inspection((facts(crop=box),)), on_gpu=False)
    assert grid.plan.use_mask_for_norm == (True,)


def test_upkern_asks_for_larger_kernels_once(base):
    grid = choose_grid(job(upkern=True), base, Inspection((facts(),)), on_gpu=False)
    assert grid.plan.network_kwargs["kernel_size"] == 5
    enlarged = replace(base, plan=replace(base.plan, network_kwargs={"kernel_size": 5}))
    with pytest.raises(InputError, match="kernels of 5 already"):
        choose_grid(job(upkern=True), enlarged, Inspection((facts(),)), on_gpu=False)


def test_the_patch_of_a_unet_fits_its_strides(base):
    strides = [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]]
    plan = replace(base.plan, network_class="PlainConvUNet", network_kwargs={"strides": strides})
    assert patch_multiple(plan) == (4, 8, 8)


def test_without_a_readable_case_nothing_is_planned(base):
    with pytest.raises(InputError, match="No case can be read"):
        choose_grid(job(), base, Inspection(()), on_gpu=False)

"""Schedules of fine-tuning have the paper's phases, rates and proportions."""

from __future__ import annotations

import pytest

from mednext_engine.finetuning.presets import (
    PRESETS,
    chosen_preset,
    fresh_factor,
    patience,
    phases,
    warmup_steps,
)


def test_a_long_run_has_the_warm_ups_of_the_papers_full_schedule():
    # paper 002, table 10: 275k steps, two warm-ups of 12.5k
    decoder, whole = phases(275_000, "encoder", "adamw")
    assert (decoder.steps, decoder.warmup, decoder.trains, decoder.poly) == (
        12_500,
        12_500,
        "decoder",
        False,
    )
    assert (whole.steps, whole.warmup, whole.trains, whole.poly) == (262_500, 12_500, "all", True)


def test_a_short_run_has_a_third_each():
    decoder, whole = phases(3_000, "encoder", "adamw")  # as 12.5k of 37.5k
    assert [decoder.steps, whole.steps] == [1000, 2000]
    assert [decoder.warmup, whole.warmup] == [1000, 1000]


def test_the_whole_network_has_one_warm_up():
    (only,) = phases(7_500, "whole", "adamw")
    assert (only.steps, only.warmup, only.trains) == (7_500, 341, "all")  # 1/22


@pytest.mark.parametrize(
    ("transfer", "optimizer", "peak"),
    [
        ("whole", "adamw", 1e-4),  # MedNeXt: a tenth of 1e-3
        ("encoder", "adamw", 1e-4),
        ("scratch", "adamw", 1e-3),
        ("whole", "sgd", 1e-3),  # nnU-Net: a tenth of 1e-2
        ("scratch", "sgd", 1e-2),
    ],
)
def test_peak_rates(transfer, optimizer, peak):
    for phase in phases(37_500, transfer, optimizer):
        assert phase.peak == pytest.approx(peak)


@pytest.mark.parametrize(
    ("steps", "peak"), [(100, 1e-3), (3_750, 1e-3), (7_500, 5e-4), (37_500, 1e-4), (10**6, 1e-4)]
)
def test_in_fewer_steps_than_the_papers_the_rate_is_higher(steps, peak):
    (only,) = phases(steps, "whole", "adamw")
    assert only.peak == pytest.approx(peak)
    assert fresh_factor(steps) * only.peak == pytest.approx(1e-3)  # heads: as from scratch


def test_from_scratch_there_is_no_warm_up():
    (only,) = phases(1000, "scratch", "adamw")
    assert (only.warmup, only.steps, only.poly) == (0, 1000, True)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 17, 1000, 9_999, 10_000, 37_500])
@pytest.mark.parametrize("transfer", ["whole", "encoder", "scratch"])
def test_phases_of_any_length_add_up(steps, transfer):
    assert sum(phase.steps for phase in phases(steps, transfer, "adamw")) == steps


def test_presets_give_enough_points_for_a_curve():
    assert [PRESETS[n].steps for n in ("quick", "standard", "thorough")] == [1_000, 7_500, 37_500]
    assert [p.steps // p.per_epoch for p in PRESETS.values()] == [20, 50, 150]
    assert chosen_preset("standard", 40).per_epoch == 4
    assert chosen_preset("quick", 3).per_epoch == 1
    assert warmup_steps(37_500, "encoder") == 1705  # 1/22
    assert patience(37_500, 250) == 37

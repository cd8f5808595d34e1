"""Who validates: chosen, automatic, or a part of the only case."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mednext_engine.errors import InputError
from mednext_engine.finetuning.counting import slice_counts
from mednext_engine.finetuning.facts import CaseFacts
from mednext_engine.finetuning.splitting import HeldOut, Split, held_counts, hold_out, split_cases


def facts(number: int, labels: np.ndarray | None = None, **settings: Any) -> CaseFacts:
    labels = np.ones((4, 4, 4), np.int16) if labels is None else labels
    profiles = slice_counts(labels, 8)
    values: dict[str, Any] = {
        "id": f"case_{number:03d}",
        "use": "auto",
        "shape": labels.shape,
        "spacing": (1.0, 1.0, 1.0),
        "direction": (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0),
        "crop": tuple(slice(0, n) for n in labels.shape),
        "digest": str(number),
        "counts": profiles[0].sum(1),
        "profiles": profiles,
        **settings,
    }
    return CaseFacts(**values)


def holding(number: int, *present: int, **settings: Any) -> CaseFacts:
    labels = np.zeros((4, 4, 4), np.int16)
    for value in present:
        labels[value] = value
    return facts(number, labels, **settings)


def test_what_the_person_sets_counts() -> None:
    split = split_cases([facts(1, use="validate"), facts(2), facts(3, use="train")])
    assert (split.train, split.validate) == (("case_002", "case_003"), ("case_001",))
    assert "case_001" in split.sentence
    assert split.trained_on == ()


def test_all_to_validate_is_refused() -> None:
    with pytest.raises(InputError, match="none is left to train"):
        split_cases([facts(1, use="validate")])
    with pytest.raises(InputError, match="no case"):
        split_cases([])


@pytest.mark.parametrize(("cases", "held"), [(2, 1), (4, 1), (5, 1), (8, 2), (20, 4)])
def test_a_fifth_validates(cases: int, held: int) -> None:
    split = split_cases([facts(n) for n in range(1, cases + 1)])
    assert len(split.validate) == held
    assert len(split.train) == cases - held
    assert not set(split.train) & set(split.validate)


def test_no_label_is_lost_to_training() -> None:
    # Case 3 holds most labels, but is the only one with label 2.
    cases = [holding(1, 1), holding(2, 1), holding(3, 1, 2)]
    assert split_cases(cases).validate == ("case_002",)
    cases = [holding(1, 1, 2), holding(2, 1), holding(3, 1, 2), holding(4)]
    assert split_cases(cases).validate == ("case_003",)


def test_fully_annotated_cases_validate_before_others() -> None:
    assert split_cases([facts(1), facts(2, kind="painted")]).validate == ("case_001",)


def test_cases_of_one_image_stay_together() -> None:
    cases = [facts(1), facts(2, digest="same"), facts(3, digest="same"), facts(4)]
    for use in ("auto", "train"):
        cases[1] = facts(2, digest="same", use=use)
        assert split_cases(cases).validate == ("case_004",)
    pair = [facts(n, digest="same") for n in (1, 2)]
    assert split_cases(pair).trained_on == ("case_001", "case_002")


def test_what_validated_before_validates_again() -> None:
    cases = [facts(n) for n in (1, 2, 3)]
    assert split_cases(cases).validate == ("case_003",)
    assert split_cases(cases, previous_validation={"2"}).validate == ("case_002",)


def test_new_images_validate_before_those_that_were_trained_on() -> None:
    cases = [facts(n) for n in (1, 2)]
    assert split_cases(cases).validate == ("case_002",)
    assert split_cases(cases, previous_training={"2"}).validate == ("case_001",)


def test_cases_that_all_train_validate_too_and_it_is_said() -> None:
    split = split_cases([facts(1, use="train"), facts(2, use="train")])
    assert split.trained_on == ("case_001", "case_002")
    assert "Nothing is held out" in split.sentence


# --- one case --------------------------------------------------------------------------------


def sliced(slices: tuple[int, ...], n: int = 100) -> CaseFacts:
    labels = np.full((n, 4, 4), -1, np.int16)
    labels[list(slices)] = 1
    return facts(1, labels, kind="slices", slice_axis=0, slices=slices)


def test_every_fifth_slice_is_held_out() -> None:
    slices = tuple(range(5, 95, 6))  # 15 slices
    split = split_cases([sliced(slices)])
    assert split.train == split.validate == ("case_001",)
    assert split.inside["case_001"] == HeldOut(0, slices[2::5])
    assert split.trained_on == ()
    assert "3 of its 15 annotated axial slices" in split.sentence


def test_of_few_slices_one_is_held_out() -> None:
    assert split_cases([sliced((10, 20, 30, 40, 50))]).inside["case_001"].slices == (30,)
    assert split_cases([sliced((10, 20, 30))]).inside["case_001"].slices == (20,)
    assert split_cases([sliced((10, 20))]).trained_on == ("case_001",)


def test_the_phase_shows_most_labels() -> None:
    labels = np.full((60, 4, 4), -1, np.int16)
    slices = (5, 15, 25, 35, 45, 55)
    labels[list(slices)] = 1
    # Of the phases (5, 45), (15, 55), (25) and (35) the second holds out two thirds of label 2,
    # the last a third of it and a ninth of label 1, the others nothing of it.
    labels[[15, 35, 55], :2] = 2
    case = facts(1, labels, kind="slices", slice_axis=0, slices=slices)
    held = split_cases([case]).inside["case_001"]
    assert held.slices == (35,)
    assert held_counts(case, held)[:3].tolist() == [0, 8, 8]


def test_a_label_on_one_slice_stays_in_training() -> None:
    labels = np.full((60, 4, 4), -1, np.int16)
    slices = (5, 15, 25, 35, 45, 55)
    labels[list(slices)] = 1
    for value, index in ((2, 25), (3, 35), (4, 45), (5, 5)):
        labels[index, 0, 0] = value
    case = facts(1, labels, kind="slices", slice_axis=0, slices=slices)
    assert split_cases([case]).inside["case_001"].slices == (15, 55)
    labels[15, 0, 0], labels[55, 0, 0] = 6, 7  # a label of its own on every slice
    alone = facts(1, labels, kind="slices", slice_axis=0, slices=slices)
    assert split_cases([alone]).trained_on == ("case_001",)


def test_a_label_on_two_slices_keeps_both_where_others_can_be_held_out() -> None:
    labels = np.full((120, 4, 4), -1, np.int16)
    slices = tuple(range(5, 115, 10))  # 11 slices, a fifth of them in turn
    labels[list(slices)] = 1
    labels[[25, 35], 0, 0] = 2
    case = facts(1, labels, kind="slices", slice_axis=0, slices=slices)
    assert split_cases([case]).inside["case_001"].slices == (15, 65)
    # Where every slice shows a label that is on one other slice only, one of the two is held out.
    labels[:] = -1
    labels[list(slices[:10])] = 1
    for value, index in enumerate(range(0, 10, 2), start=2):
        labels[[slices[index], slices[index + 1]], 0, 0] = value
    pairs = facts(1, labels, kind="slices", slice_axis=0, slices=slices[:10])
    assert split_cases([pairs]).inside["case_001"].slices == (25, 75)


def test_a_fully_annotated_case_gives_a_slab() -> None:
    labels = np.zeros((60, 40, 40), np.int16)
    labels[10:50, 10:30, 5:15] = 1
    labels[10:50, 10:30, 25:35] = 2  # a slab across x would hold out one label alone
    case = facts(1, labels)
    split = split_cases([case])
    held = split.inside["case_001"]
    assert held.axis in (0, 1)
    share = held_counts(case, held)[1:3] / case.counts[1:3]
    assert share[:2] == pytest.approx([0.2, 0.2])
    assert held.gap == (2 if held.axis == 0 else 1)
    train, validation = hold_out(labels, held)
    assert not ((train >= 0) & (validation >= 0)).any()
    assert ((validation >= 0).sum(), (train < 0).sum()) == (
        len(held.slices) * labels.size // labels.shape[held.axis],
        (len(held.slices) + 2 * held.gap) * labels.size // labels.shape[held.axis],
    )


def test_too_little_to_divide() -> None:
    labels = np.zeros((30, 30, 30), np.int16)
    labels[3:6, 3:6, 3:6] = 1
    assert split_cases([facts(1, labels)]).trained_on == ("case_001",)


def test_held_out_slices_along_another_axis() -> None:
    labels = np.zeros((2, 3, 5), np.int16)
    train, validation = hold_out(labels, HeldOut(2, (0, 3), gap=1))
    assert (train >= 0).all(axis=(0, 1)).tolist() == [False] * 5
    assert (validation >= 0).all(axis=(0, 1)).tolist() == [True, False, False, True, False]


def test_a_split_names_what_was_trained_on() -> None:
    held = {"a": HeldOut(0, (1,))}
    assert Split(("a", "b", "c"), ("a", "b"), held).trained_on == ("b",)

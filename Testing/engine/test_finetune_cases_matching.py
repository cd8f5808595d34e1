"""Labels against the base model's classes, and sides in names. Expectations are by hand."""

from __future__ import annotations

import pytest

from mednext_engine.errors import InputError
from mednext_engine.finetuning.job import JobLabel
from mednext_engine.finetuning.label_matching import LabelState, match_labels
from mednext_engine.finetuning.sides import left_right_axis, paired_labels, sided_labels, words_of
from mednext_engine.models.labels import Labels

BASE = Labels(("background", "Grey matter", "White_Matter", "kidney_left"), (0, 1, 2, 3))


def labels(*names: str) -> list[JobLabel]:
    return [JobLabel(name) for name in names]


def test_same_names_keep_their_rows() -> None:
    plan = match_labels(labels("white matter", "Tumour", "Left kidney"), BASE)
    assert plan.names == ("white matter", "Tumour", "Left kidney")
    assert plan.base_rows == (0, 2, None, 3)
    assert plan.dropped == ("Grey matter",)
    assert plan.num_classes == 4
    assert plan.states == (
        LabelState("white matter", "matched", "White_Matter"),
        LabelState("Tumour", "new"),
        LabelState("Left kidney", "matched", "kidney_left"),
        LabelState("Grey matter", "dropped", "Grey matter"),
    )


def test_a_class_is_found_by_name_once() -> None:
    assert match_labels(labels("Grey matter", "grey_matter"), BASE).base_rows == (0, 1, None)


def test_named_classes_may_be_shared_and_come_first() -> None:
    halves = [
        JobLabel("Grey matter"),
        JobLabel("GM left", base="Grey matter"),
        JobLabel("GM right", base="Grey matter"),
        JobLabel("White matter", base=None),
    ]
    assert match_labels(halves, BASE).base_rows == (0, None, 1, 1, None)


def test_a_class_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="'Bone', which the base model does not have"):
        match_labels([JobLabel("A", base="Bone")], BASE)


def test_drawn_background_is_no_class() -> None:
    plan = match_labels([JobLabel("Air", background=True), *labels("Grey matter")], BASE)
    assert plan.names == ("Grey matter",)
    assert plan.base_rows == (0, 1)


def test_from_scratch_everything_is_new() -> None:
    plan = match_labels(labels("A", "B"), None)
    assert plan.base_rows == (None, None, None)
    assert [state.state for state in plan.states] == ["new", "new"]


def test_heads_of_regions_are_not_kept() -> None:
    regions = Labels(("whole", "core"), (1, 2), ((1, 2), (2,)), (1, 2))
    plan = match_labels(labels("whole"), regions)
    assert plan.base_rows == (None, None)
    assert plan.dropped == ("whole", "core")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Hippocampus_L", ("hippocampus", "left")),
        ("lh-hippocampus", ("left", "hippocampus")),
        ("RightKidney", ("right", "kidney")),
        ("Ren dexter", ("ren", "right")),
        ("vertebra L5", ("vertebra", "l5")),
        ("Liver", ("liver",)),
    ],
)
def test_words(name: str, words: tuple[str, ...]) -> None:
    assert words_of(name) == words


def test_pairs_and_sides() -> None:
    names = ["Hippocampus_L", "Right hippocampus", "Liver", "kidney left"]
    assert paired_labels(names) == (("Hippocampus_L", "Right hippocampus"),)
    assert sided_labels(names) == ("Hippocampus_L", "Right hippocampus", "kidney left")


def test_the_left_right_axis_follows_the_image() -> None:
    upright = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)  # x to the left
    sagittal = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)  # z (k) runs left to right
    assert left_right_axis(upright, "", (0, 1, 2)) == 2
    assert left_right_axis(upright, "", (2, 0, 1)) == 0
    assert left_right_axis(sagittal, "", (0, 1, 2)) == 0
    assert left_right_axis(sagittal, "RAS", (0, 1, 2)) == 2

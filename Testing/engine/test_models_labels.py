"""Labels, regions and the ignore label as dataset.json states them; cards and colours."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from mednext_engine.errors import ModelError
from mednext_engine.models.card import (
    Card,
    LabelCard,
    complete_card,
    default_color,
    read_card,
)
from mednext_engine.models.labels import Labels, read_channel_names, read_labels
from mednext_engine.models.writer import labels_table

BRATS = {
    "labels": {
        "background": 0,
        "whole tumor": [1, 2, 3],
        "tumor core": [2, 3],
        "enhancing tumor": 3,
        "ignore": 4,
    },
    "regions_class_order": [1, 2, 3],
}


def test_exclusive_labels_come_in_the_order_of_their_values() -> None:
    labels = read_labels({"labels": {"tumour": 2, "background": 0, "liver": 1}})
    assert labels.names == ("background", "liver", "tumour")
    assert labels.values == (0, 1, 2)
    assert labels.num_heads == 3
    assert not labels.has_regions
    assert labels.segments == {1: "liver", 2: "tumour"}


def test_a_list_of_one_value_is_no_region() -> None:
    labels = read_labels({"labels": {"background": 0, "liver": [1]}})
    assert (labels.names, labels.has_regions) == (("background", "liver"), False)


def test_regions_have_a_head_each_and_no_background() -> None:
    labels = read_labels(BRATS)
    assert labels.regions == ((1, 2, 3), (2, 3), (3,))
    assert labels.regions_class_order == (1, 2, 3)
    assert labels.num_heads == 3
    assert labels.segments == {1: "whole tumor", 2: "tumor core", 3: "enhancing tumor"}
    assert labels.ignore == 4


def test_ignore_has_no_head() -> None:
    labels = read_labels({"labels": {"background": 0, "liver": 1, "ignore": 2}})
    assert (labels.num_heads, labels.ignore) == (2, 2)
    assert 2 not in labels.segments


@pytest.mark.parametrize("raw", [BRATS, {"labels": {"background": 0, "a": 1, "ignore": 2}}])
def test_heads_as_nnunet_counts_them(raw: dict[str, Any]) -> None:
    theirs = pytest.importorskip("nnunetv2.utilities.label_handling.label_handling")
    manager = theirs.LabelManager(dict(raw["labels"]), raw.get("regions_class_order"))
    assert read_labels(raw).num_heads == manager.num_segmentation_heads


@pytest.mark.parametrize("raw", [BRATS, {"labels": {"background": 0, "a": 1, "ignore": 2}}])
def test_the_table_can_be_written_back(raw: dict[str, Any]) -> None:
    labels = read_labels(raw)
    again = {"labels": labels_table(labels), "regions_class_order": labels.regions_class_order}
    assert read_labels(again) == labels


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({}, "not a JSON object"),
        ({"labels": {"liver": 1}}, "'background'"),
        ({"labels": {"background": 1}}, "'background'"),
        ({"labels": {"background": 0, "a": 1, "b": 3}}, "consecutive"),
        ({"labels": {"background": 0, "a": 1, "ignore": 5}}, "ignore label"),
        ({"labels": {"background": 0, "a": 2, "ignore": 1}}, "consecutive|ignore"),
        ({"labels": {"background": 0, "a": 1, "ignore": [2]}}, "region instead"),
        ({"labels": {"background": 0, "a": [1, 2]}}, "regions_class_order"),
        ({"labels": {"background": 0, "a": [1, 2]}, "regions_class_order": [1, 2]}, "2 entries"),
        ({"labels": {"background": 0, "a": "1"}}, "not a number"),
        ({"labels": {"background": 0, "a": 10**9}}, "65535"),
        ({"labels": {"background": 0, "a": []}}, "no value"),
        ({"labels": {"background": 0, "": 1}}, "empty"),
        ({"labels": {str(i): i for i in range(2000)}}, "more than 1024"),
    ],
)
def test_impossible_labels(raw: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        read_labels(raw)


def test_channel_names() -> None:
    assert read_channel_names({"channel_names": {"1": "T2", "0": "T1"}}) == ("T1", "T2")
    assert read_channel_names({"modality": {"0": "CT"}}) == ("CT",)
    with pytest.raises(ModelError, match="no name for channel 1"):
        read_channel_names({"channel_names": {"0": "T1", "2": "T2"}})
    with pytest.raises(ModelError, match="0 entries"):
        read_channel_names({"channel_names": {}})


LIVER = Labels(("background", "liver", "tumour"), (0, 1, 2))


def test_a_missing_card_is_derived() -> None:
    card = complete_card(
        None,
        name="Dataset007_Test",
        labels=LIVER,
        channels=("CT",),
        dataset_json={"licence": "CC-BY 4.0", "reference": "Doe 2024"},
    )
    assert (card.title, card.license, card.citation) == ("Dataset007_Test", "CC-BY 4.0", "Doe 2024")
    assert (card.modality, card.channels, card.derived) == ("CT", ("CT",), True)
    assert [entry.name for entry in card.labels] == ["liver", "tumour"]
    assert len({entry.color for entry in card.labels}) == 2


def test_a_card_survives_its_file() -> None:
    label = LabelCard(1, "Leber", (200, 10, 0), "SCT^10200004^Liver")
    card = Card(title="Leber", channels=("CT",), labels=(label,), provenance={"dice": 0.9})
    assert read_card(card.to_json()) == card


def test_a_cards_labels_are_completed() -> None:
    card = Card(title="x", labels=(LabelCard(1, "", (1, 2, 3)), LabelCard(9, "?", (0, 0, 0))))
    card = complete_card(card, name="n", labels=LIVER, channels=("MR T1",), dataset_json={})
    assert [(e.value, e.name, e.color) for e in card.labels] == [
        (1, "liver", (1, 2, 3)),
        (2, "tumour", default_color(2)),
    ]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"format": 2}, "newer"),
        ({"title": 5}, "'title'"),
        ({"title": "x" * 30_000}, "longer"),
        ({"labels": [{"value": 1, "color": [0, 0, 256]}]}, "color"),
        ({"labels": [{"value": 1, "color": "red"}]}, "color"),
        ({"labels": [{"name": "x"}]}, "value"),
        ({"files": {"a": "123"}}, "SHA-256"),
        ({"provenance": []}, "provenance"),
    ],
)
def test_impossible_cards(raw: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        read_card(raw)


def test_default_colours_are_far_apart_for_neighbours() -> None:
    colours = [default_color(value) for value in range(1, 118)]
    assert len(set(colours)) == 117
    for one, other in itertools.pairwise(colours):
        assert sum(abs(a - b) for a, b in zip(one, other, strict=True)) > 60

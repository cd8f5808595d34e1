"""The catalogue that ships: it follows its schema, reads whole and claims nothing unchecked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mednext_engine.models.catalogue import Entry, read_catalogue, search

FOLDER = Path(__file__).resolve().parents[2] / "Resources" / "Catalog"


@pytest.fixture(scope="module")
def raw() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / "catalogue.json").read_text("utf-8"))
    return content


@pytest.fixture(scope="module")
def entries() -> tuple[Entry, ...]:
    return read_catalogue(FOLDER / "catalogue.json")


def validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((FOLDER / "catalogue.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_catalogue_follows_its_schema(raw: dict[str, Any]) -> None:
    assert [e.message for e in validator().iter_errors(raw)] == []


@pytest.mark.parametrize(
    "change",
    [
        {"license": "all rights reserved"},
        {"homepage": "http://example.org"},
        {"files": []},
        {"files": [{"url": "http://example.org/a.zip", "size": 1, "sha256": None}]},
        {"files": [{"url": "https://example.org/a.zip", "size": 1, "sha256": "abc"}]},
        {"verified": True, "files": [{"url": "https://a/b", "size": 1, "sha256": None}]},
        {"orientation": "RRS?"},
        {"surprise": 1},
    ],
)
def test_the_schema_refuses(raw: dict[str, Any], change: dict[str, Any]) -> None:
    broken = {**raw, "models": [{**raw["models"][0], **change}]}
    assert list(validator().iter_errors(broken))


def test_every_entry_is_read(raw: dict[str, Any], entries: tuple[Entry, ...]) -> None:
    assert [e.id for e in entries] == [m["id"] for m in raw["models"]]
    assert len(entries) >= 50
    for entry, model in zip(entries, raw["models"], strict=True):
        assert entry.labels == tuple(model["labels"])
        assert entry.files[0].remote.url == model["files"][0]["url"]
        assert entry.card().title == model["title"]


def test_what_cannot_be_checked_is_not_called_verified(entries: tuple[Entry, ...]) -> None:
    for entry in entries:
        assert not entry.verified or all(f.remote.sha256 and f.remote.size for f in entry.files)


def test_nobody_finds_a_liver_in_vain(entries: tuple[Entry, ...]) -> None:
    assert {"totalseg-3mm", "totalseg-organs"} <= {e.id for e in search(entries, "CT liver")}
    assert {"totalseg-mr-3mm", "mrsegmentator"} <= {e.id for e in search(entries, "mr liver")}
    assert search(entries, "no such thing") == ()


def test_a_known_size(entries: tuple[Entry, ...]) -> None:
    """Published by two independent projects for the same release asset."""
    by_id = {e.id: e for e in entries}
    assert by_id["totalseg-3mm"].size == 135_386_075
    assert by_id["hd-bet"].size is None

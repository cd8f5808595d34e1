"""Models as plain values, ready for JSON: for the worker's answers and for the command line."""

from __future__ import annotations

from typing import Any

from ..models.catalogue import Entry, read_catalogue
from ..models.store import describe, list_models, models_directory


def installed_models() -> dict[str, Any]:
    """Result of a `Models` request; see `messages`."""
    problems: list[str] = []
    models = [describe(model) for model in list_models(problems)]
    return {"models": models, "problems": problems, "directory": str(models_directory())}


def catalogue_entries() -> list[dict[str, Any]]:
    """The catalogue; `size` in bytes or None, `installed` says that a model of that id is here."""
    installed = {model.id for model in list_models()}
    return [_entry(entry, entry.id in installed) for entry in read_catalogue()]


def _entry(entry: Entry, installed: bool) -> dict[str, Any]:
    return {
        "id": entry.id,
        "title": entry.title,
        "description": entry.description,
        "modality": entry.modality,
        "channels": list(entry.channels),
        "labels": list(entry.labels),
        "license": entry.license,
        "citation": entry.citation,
        "homepage": entry.homepage,
        "network": entry.network,
        "size": entry.size,
        "checksums": all(f.remote.sha256 or f.remote.md5 for f in entry.files),
        "verified": entry.verified,
        "notes": entry.notes,
        "installed": installed,
    }

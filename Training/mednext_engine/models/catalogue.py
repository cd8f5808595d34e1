"""The catalogue: public models of nnU-Net v2 that can be downloaded, with licence and origin.

`Resources/Catalog/catalogue.json` follows `catalogue.schema.json` beside it. An entry with
`"verified": true` was downloaded and run by this project's maintainers; the others are listed by
what their authors publish about them.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DownloadError, ModelError
from ..monitor import Monitor
from .card import Card, read_orientation
from .download import RemoteFile, download
from .folder import Model
from .jsonfile import read_bool, read_dict, read_int, read_json, read_list, read_text
from .layout import is_model_file
from .resources import resource_path
from .store import import_model, models_directory

FILE_NAME = "catalogue.json"
FORMAT = 1
MAX_FILE_BYTES = 64 * 2**30
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_HEX = {"sha256": re.compile(r"[0-9a-f]{64}"), "md5": re.compile(r"[0-9a-f]{32}")}


@dataclass(frozen=True)
class CatalogueFile:
    """One file to download; `path` is its place in the model folder, empty for a zip file."""

    remote: RemoteFile
    path: str = ""


@dataclass(frozen=True)
class Entry:
    """One model of the catalogue; `labels` are names in the order of their values, from 1.

    `configuration` may be "<plans>__<configuration>" where an archive holds several trainings, or
    empty; `orientation` is as in a model's card.
    """

    id: str
    title: str
    description: str
    modality: str
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    license: str
    citation: str
    homepage: str
    network: str
    configuration: str
    files: tuple[CatalogueFile, ...]
    verified: bool
    orientation: str = ""
    notes: str = ""

    @property
    def size(self) -> int | None:
        """Bytes to download, if known of all files."""
        sizes = [f.remote.size for f in self.files]
        return None if None in sizes else sum(s for s in sizes if s is not None)

    def card(self) -> Card:
        """What a model without a card of its own is shown with."""
        return Card(
            title=self.title,
            id=self.id,
            description=self.description,
            license=self.license,
            citation=self.citation,
            modality=self.modality,
            configuration=self.configuration.rpartition("__")[2],
            orientation=self.orientation,
            provenance={"homepage": self.homepage, "source": [f.remote.url for f in self.files]},
        )


def read_catalogue(path: Path | None = None) -> tuple[Entry, ...]:
    """Reads and checks a catalogue; by default the one that ships.

    Raises:
        ModelError: it breaks its schema, or two entries share an id.
    """
    path = path or resource_path("Catalog") / FILE_NAME
    raw = read_json(path)
    read_int(raw.get("format"), f"'format' of {path.name}", FORMAT, FORMAT)
    entries = tuple(
        _read_entry(read_dict(e, "An entry of the catalogue"))
        for e in read_list(raw.get("models"), f"'models' of {path.name}", limit=10_000)
    )
    if len({e.id for e in entries}) != len(entries):
        raise ModelError(f"Two entries of {path.name} share an id.")
    return entries


def find_entry(identifier: str, path: Path | None = None) -> Entry:
    """The entry of that id. Raises ModelError when there is none."""
    for entry in read_catalogue(path):
        if entry.id == identifier:
            return entry
    raise ModelError(
        f"The catalogue has no model '{identifier[:200]}'.",
        "List the catalogue with: mednext models list --catalogue",
    )


def search(entries: tuple[Entry, ...], words: str) -> tuple[Entry, ...]:
    """Entries in which every word occurs: in title, description, modality, labels or licence."""
    wanted = words.casefold().split()
    found = []
    for entry in entries:
        fields = (entry.id, entry.title, entry.description, entry.modality, entry.license)
        text = " ".join((*fields, *entry.labels)).casefold()
        if all(word in text for word in wanted):
            found.append(entry)
    return tuple(found)


def download_model(
    entry: Entry, monitor: Monitor | None = None, *, replace_existing: bool = False
) -> Model:
    """Downloads a model of the catalogue and installs it under its id.

    What was received of an interrupted download is kept and taken up by the next call.

    Raises:
        DownloadError: see `download`; ModelError and others: see `import_model`.
    """
    monitor = monitor or Monitor()
    if (models_directory() / entry.id).exists() and not replace_existing:
        raise ModelError(f"A model '{entry.id}' is installed already.", "Remove or replace it.")
    folder = models_directory() / ".downloads" / entry.id
    total = entry.size or 0
    done = 0.0
    for index, file in enumerate(entry.files):
        share = (file.remote.size or 0) / total if total else 1 / len(entry.files)
        name = file.path or f"{entry.id}-{index}.zip"
        if not _received(folder / name, file.remote):
            with monitor.stage("Downloading", 0.9 * done, 0.9 * min(done + share, 1.0)):
                download(file.remote, folder / name, monitor)
        done += share
    source = folder if entry.files[0].path else folder / f"{entry.id}-0.zip"
    try:
        model = import_model(
            source,
            _Tail(monitor),
            configuration=entry.configuration or None,
            name=entry.id,
            replace_existing=replace_existing,
            card=entry.card(),
        )
    except ModelError:
        shutil.rmtree(folder, ignore_errors=True)  # the next attempt downloads it again
        raise
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()
    return model


def _received(path: Path, remote: RemoteFile) -> bool:
    """Whether an earlier call got this file whole; its name is given only then."""
    return path.is_file() and (remote.size is None or path.stat().st_size == remote.size)


class _Tail(Monitor):
    """The last tenth of a monitor's job, for an import that follows a download."""

    def __init__(self, whole: Monitor) -> None:
        super().__init__()
        self.report = lambda p: whole.report(
            type(p)(p.stage, 0.9 + 0.1 * p.fraction, p.seconds_left, p.note)
        )
        self.timings, self.notes, self._cancelled = whole.timings, whole.notes, whole._cancelled


def _read_entry(raw: Mapping[str, Any]) -> Entry:
    identifier = raw.get("id")
    if not isinstance(identifier, str) or not _ID.fullmatch(identifier):
        raise ModelError("An entry of the catalogue has no valid 'id'.")
    what = f"of '{identifier}' in the catalogue"
    texts: dict[str, Any] = {
        key: read_text(raw.get(key), f"'{key}' {what}")
        for key in (
            "title",
            "description",
            "modality",
            "license",
            "citation",
            "homepage",
            "network",
            "configuration",
        )
    }
    files = tuple(
        _read_file(read_dict(f, f"A file {what}"), what)
        for f in read_list(raw.get("files"), f"'files' {what}", limit=100)
    )
    zipped = [not f.path for f in files]
    if not files or (any(zipped) and len(files) > 1):
        raise ModelError(f"'files' {what} is neither one zip file nor the files of a folder.")
    return Entry(
        id=identifier,
        **texts,
        channels=_names(raw.get("channels"), f"'channels' {what}"),
        labels=_names(raw.get("labels"), f"'labels' {what}"),
        files=files,
        orientation=read_orientation(read_text(raw.get("orientation", ""), what), "the catalogue"),
        verified=read_bool(raw.get("verified"), f"'verified' {what}"),
        notes=read_text(raw.get("notes", ""), f"'notes' {what}"),
    )


def _read_file(raw: Mapping[str, Any], what: str) -> CatalogueFile:
    url = read_text(raw.get("url"), f"'url' {what}", limit=2000)
    if not url.startswith(("https://", "http://127.0.0.1")):
        raise DownloadError(f"A file {what} has no https address.")
    size = raw.get("size")
    if size is not None:
        size = read_int(size, f"'size' {what}", 1, MAX_FILE_BYTES)
    sums: dict[str, str | None] = {}
    for name, pattern in _HEX.items():
        value = raw.get(name)
        if value is not None and not (isinstance(value, str) and pattern.fullmatch(value)):
            raise ModelError(f"'{name}' {what} is not a checksum.")
        sums[name] = value
    path = read_text(raw.get("path", ""), f"'path' {what}", limit=200)
    if path and not is_model_file(path):
        raise ModelError(f"'path' {what} is not a file of a model folder.")
    return CatalogueFile(RemoteFile(url, size, sums["sha256"], sums["md5"]), path)


def _names(raw: Any, what: str) -> tuple[str, ...]:
    return tuple(read_text(n, what, limit=200) for n in read_list(raw, what))

"""Times, sizes and counts as people say them, and a model's card as text."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _


def time_text(seconds: float) -> str:
    """A duration: "40 s", "3 min", "2 h 5 min"."""
    if seconds < 90:
        return _("{count} s").format(count=max(1, round(seconds)))
    minutes = round(seconds / 60)
    if minutes < 90:
        return _("{count} min").format(count=minutes)
    return _("{hours} h {minutes} min").format(hours=minutes // 60, minutes=minutes % 60)


def size_text(size: float) -> str:
    """Bytes: "3.4 MB", "1.2 GB"."""
    if size < 1e9:
        return _("{size} MB").format(size=f"{size / 1e6:.{1 if size < 1e7 else 0}f}")
    return _("{size} GB").format(size=f"{size / 1e9:.1f}")


def labels_text(count: int) -> str:
    return _("1 label") if count == 1 else _("{count} labels").format(count=count)


def folder_size(path: str) -> int:
    """Bytes of the files in a model folder; 0 where it cannot be read."""
    if not path:
        return 0
    try:
        return sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())
    except OSError:
        return 0


def model_line(model: Mapping[str, Any]) -> str:
    """What the list shows of a model."""
    parts = [str(model.get("modality") or ""), labels_text(len(model.get("labels", [])))]
    title = model.get("title") or model.get("id") or ""
    return f"{title} – {', '.join(part for part in parts if part)}"


def model_tooltip(model: Mapping[str, Any], measured: str) -> str:
    """Modality, labels, inputs, size, licence and, where there is one, the measured time."""
    names = [str(label["name"]) for label in model.get("labels", [])]
    shown = ", ".join(names[:12]) + (" …" if len(names) > 12 else "")
    lines = [
        str(model.get("title") or model.get("id")),
        _("Modality: {modality}").format(modality=model.get("modality") or _("not stated")),
        _("{labels}: {names}").format(labels=labels_text(len(names)), names=shown),
        _("Needs: {channels}").format(channels=", ".join(model.get("channels", []))),
        _("Size: {size}").format(size=size_text(folder_size(str(model.get("path", ""))))),
        _("Licence: {license}").format(license=model.get("license") or _("not stated")),
    ]
    return "\n".join([*lines, measured] if measured else lines)


def catalogue_text(entry: Mapping[str, Any]) -> str:
    """A model that can be downloaded, in words."""
    size = entry.get("size")
    lines = [
        str(entry.get("title") or entry.get("id")),
        str(entry.get("description") or ""),
        _("Needs: {channels}. Finds: {labels}.").format(
            channels=", ".join(entry.get("channels", [])), labels=", ".join(entry.get("labels", []))
        ),
        _("Download: {size}.").format(size=size_text(size) if size else _("size not known")),
        _("Licence: {license}.").format(license=entry.get("license") or _("not stated")),
        str(entry.get("notes") or ""),
        "" if entry.get("checksums") else _("Its authors publish no checksum."),
        "" if entry.get("verified") else _("Not tried by the maintainers of this extension."),
        _("It is installed already.") if entry.get("installed") else "",
    ]
    return "\n".join(line for line in lines if line)


def card_html(model: Mapping[str, Any]) -> str:
    """The model's card. Everything in it comes from a file somebody else wrote: it is escaped."""

    def said(key: str) -> str:
        return html.escape(str(model.get(key) or _("not stated")))

    rows = "".join(_label_row(label) for label in model.get("labels", []))
    spacing = "×".join(f"{s:.3g}" for s in model.get("spacing", []))
    facts = (
        (_("Use"), said("intended_use")),
        (_("Modality"), said("modality")),
        (_("Needs"), html.escape(", ".join(model.get("channels", [])))),
        (_("Licence"), said("license")),
        (_("Cite"), said("citation")),
        (_("Network"), f"{said('network')}, {html.escape(spacing)} mm"),
    )
    table = "".join(
        f"<tr><td><b>{html.escape(name)}</b>&nbsp;</td><td>{text}</td></tr>" for name, text in facts
    )
    description = html.escape(str(model.get("description") or ""))
    return (
        f"<h4>{said('title')}</h4><p>{description}</p><table>{table}</table>"
        f"<h4>{html.escape(labels_text(len(model.get('labels', []))))}</h4><table>{rows}</table>"
    )


def _label_row(label: Mapping[str, Any]) -> str:
    red, green, blue = (int(c) for c in (label.get("color") or (128, 128, 128))[:3])
    name = html.escape(str(label.get("name", "")))
    return (
        f'<tr><td bgcolor="#{red:02x}{green:02x}{blue:02x}">&nbsp;&nbsp;&nbsp;&nbsp;</td>'
        f"<td>&nbsp;{int(label.get('value', 0))}</td><td>&nbsp;{name}</td></tr>"
    )

"""What whoever helps needs to know, without anything that may name a patient."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import slicer

from .wording import size_text


def scene_words() -> list[str]:
    """Names of the scene's own nodes: volumes, segmentations, folders. They may name a patient."""
    names = []
    scene = slicer.mrmlScene
    for kind in ("vtkMRMLVolumeNode", "vtkMRMLSegmentationNode", "vtkMRMLSequenceBaseNode"):
        for index in range(scene.GetNumberOfNodesByClass(kind)):
            node = scene.GetNthNodeByClass(index, kind)
            names.append(node.GetName() or "")
            storage = node.GetStorageNode() if hasattr(node, "GetStorageNode") else None
            if storage is not None and storage.GetFileName():
                names.append(storage.GetFileName())
                names.append(Path(storage.GetFileName()).name)
    return names


def diagnostics(
    doctor: Mapping[str, Any], options: Mapping[str, Any], status: str, log: Iterable[str]
) -> str:
    """Versions, devices, options and the log as plain text; see `hide`."""
    lines = [
        f"Slicer {slicer.app.applicationVersion} ({slicer.app.platform})",
        f"Engine {doctor.get('engine', '?')}, Python {doctor.get('python', '?')}",
        f"{doctor.get('cpu', '?')}, {doctor.get('cores', '?')} cores",
    ]
    if doctor.get("memory_total"):
        free, total = doctor.get("memory_free", 0), doctor["memory_total"]
        lines.append(f"Memory: {size_text(free)} free of {size_text(total)}")
    for package in doctor.get("packages", []):
        version = package.get("version") or "missing"
        lines.append(f"{package['name']} {version} {package.get('problem', '')}".rstrip())
    lines += [
        f"{device['name']}: {device['title']}, {size_text(device['free'])} free"
        for device in doctor.get("devices", [])
    ]
    lines += [f"Problem: {problem}" for problem in doctor.get("problems", [])]
    lines += [f"{name}: {value}" for name, value in options.items()]
    lines += [f"Status: {status}", "", "Log:", *log]
    return hide("\n".join(lines), scene_words())


def hide(text: str, words: Iterable[str]) -> str:
    """Replaces names of nodes and files, the user's folder and every path by placeholders."""
    for word in sorted({w for w in words if len(w) > 2}, key=len, reverse=True):
        text = text.replace(word, "[hidden]")
    home = str(Path.home())
    if len(home) > 3:
        text = text.replace(home, "[home]")
    return re.sub(r"(?:[A-Za-z]:\\|/(?=\w+/))[^\s'\",;:)]*[/\\]([^\s'\",;:)/\\]*)", _path, text)


def _path(match: re.Match[str]) -> str:
    name = match[1]
    ours = name.endswith(".py")  # lines of our own program say where a fault lies
    return name if ours else "[path]"

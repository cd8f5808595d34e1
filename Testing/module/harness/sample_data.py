"""Slicer's SampleData module: registering sources and, from files on this disk, loading them."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import slicer


class SampleDataLogic:
    """Keeps what modules register, in the dictionary where Slicer keeps it."""

    @staticmethod
    def registerCustomSampleDataSource(
        category: str = "Custom",
        sampleName: str | None = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        customDownloader: Any = None,
        thumbnailFileName: str | None = None,
        loadFileType: Any = None,
        loadFiles: Any = None,
        loadFileProperties: Any = None,
        checksums: Any = None,
        loadFileTypes: Any = None,
        sampleDescription: str | None = None,
    ) -> None:
        source = SimpleNamespace(**locals())
        sources = slicer.modules.sampleDataSources.setdefault(category, [])
        if not any(one.sampleName == sampleName for one in sources):
            sources.append(source)

    @staticmethod
    def registerCustomSampleDataCategory(category: str, title: str | None = None) -> None:
        slicer.modules.sampleDataSources.setdefault(category, [])


def make_module() -> ModuleType:
    """`import SampleData`."""
    module = ModuleType("SampleData")
    module.SampleDataLogic = SampleDataLogic
    slicer.modules.sampleDataSources = {}
    return module

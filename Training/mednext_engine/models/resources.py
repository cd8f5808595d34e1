"""Where the things that ship with the product lie: models, catalogue, sample data.

They live in three places: `Resources/` of a clone, `mednext_engine/Resources/` of a wheel, and
`Resources/` beside the module of an installed extension, where the package lies next to it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import EngineError

NAMES = ("Models", "Catalog", "SampleData")
ENVIRONMENT = "MEDNEXT_RESOURCES"
_MARKS = {"Models": "*/plans.json", "Catalog": "catalogue.json", "SampleData": "*.n*"}

_told: Path | None = None


def set_resources(path: str | os.PathLike[str] | None) -> None:
    """Says once for this process which folder holds `Models`, `Catalog` and `SampleData`."""
    global _told
    _told = None if path is None else Path(path)


def resource_path(name: str, root: str | os.PathLike[str] | None = None) -> Path:
    """Folder of what ships under `name`: "Models", "Catalog" or "SampleData".

    `root` wins over `set_resources`, which wins over the environment variable
    MEDNEXT_RESOURCES; without any of them the folder is looked for around this package.

    Raises:
        EngineError: the folder is not where it was said to be, or nowhere around the package.
    """
    if name not in NAMES:
        raise EngineError(f"There is no resource '{name}'; there are {', '.join(NAMES)}.")
    said = root or _told or os.environ.get(ENVIRONMENT)
    if said:
        folder = Path(said) / name
        if not folder.is_dir():
            raise EngineError(f"There is no folder '{name}' in {said}.")
        return folder
    for folder in _candidates(name):
        # Slicer merges the Resources of all modules of an extension, so a folder called
        # "Models" counts only when it holds what ours holds.
        if folder.is_dir() and any(folder.glob(_MARKS[name])):
            return folder
    raise EngineError(
        f"The folder '{name}' that ships with MedNeXtSeg was not found.",
        f"Set the environment variable {ENVIRONMENT} to the folder that holds it.",
    )


def _candidates(name: str) -> Iterator[Path]:
    package = Path(__file__).resolve().parents[1]
    yield package / "Resources" / name  # a wheel
    for above in (package.parent, package.parent.parent):  # an extension, a clone
        yield above / "Resources" / name
        yield above / "Resources" / "MedNeXtSeg" / name

"""What holds for every test of the engine."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def a_private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which precision a model takes must not depend on runs before; nor is the user's own changed.
    The processes that a test starts have it too."""
    monkeypatch.setenv("MEDNEXT_CACHE", str(tmp_path / "private-cache"))

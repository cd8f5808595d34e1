"""What holds for every test of the engine: which precision a model takes must not depend on runs
before, and the user's own cache is not touched. Processes that a test starts have it so too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def a_cache_for_shared_fixtures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For what a fixture of a module or of the session runs."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MEDNEXT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def a_private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each test one of its own."""
    monkeypatch.setenv("MEDNEXT_CACHE", str(tmp_path / "private-cache"))

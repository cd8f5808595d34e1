"""A run's private folder for images on their way to the worker and labels on their way back."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path

from slicer.i18n import tr as _

from .errors import UserError
from .process import alive
from .wording import size_text

_NAME = re.compile(r"MedNeXtSeg-(\d+)-.*")


class JobFolder:
    """A folder that nobody else may read; `remove` it when the run is over, however it ended."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        try:
            Path(root).mkdir(parents=True, exist_ok=True)
            made = tempfile.mkdtemp(prefix=f"MedNeXtSeg-{os.getpid()}-", dir=root)
        except OSError as error:
            raise UserError(
                _("No folder for the run could be made in {folder} ({reason}).").format(
                    folder=root, reason=error.strerror
                ),
                _(
                    "Choose another temporary folder in Slicer's application settings, "
                    "or free space."
                ),
            ) from error
        self.path = Path(made)  # mkdtemp gives it mode 0700

    def require_space(self, needed: int) -> None:
        """Raises UserError when the disk has less than `needed` bytes left."""
        free = shutil.disk_usage(self.path).free
        if free < needed:
            raise UserError(
                _("The disk is full: the run needs {needed} in {folder}, {free} are free.").format(
                    needed=size_text(needed), folder=self.path.parent, free=size_text(free)
                ),
                self.advice(),
            )

    def advice(self) -> str:
        """What to do where the disk is full."""
        return _("Free space, or choose another temporary folder in Slicer's application settings.")

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def sweep(root: str | os.PathLike[str]) -> None:
    """Removes what a crashed Slicer left behind: folders of processes that are no more."""
    with contextlib.suppress(OSError):
        for folder in Path(root).iterdir():
            match = _NAME.fullmatch(folder.name)
            if match and not alive(int(match[1])):
                shutil.rmtree(folder, ignore_errors=True)

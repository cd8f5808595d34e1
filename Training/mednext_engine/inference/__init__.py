"""Inference: read, prepare, segment window by window, decide labels, write.

Names are loaded when they are first used, so that options and devices can be spoken of cheaply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .options import Box, Options

if TYPE_CHECKING:
    from .engine import Result, Segmenter, segment_file

__all__ = ["Box", "Options", "Result", "Segmenter", "segment_file"]


def __getattr__(name: str) -> Any:
    if name in ("Result", "Segmenter", "segment_file"):
        from . import engine

        return getattr(engine, name)
    raise AttributeError(name)

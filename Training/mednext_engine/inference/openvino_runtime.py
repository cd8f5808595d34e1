"""The one place where OpenVINO is imported, without the part of it that reports to its maker.

`import openvino` alone sends an event unless its user has said no, through the separate package
`openvino_telemetry`; where that is not installed, OpenVINO falls back to a stub that does nothing.
Marking it as absent before the import is therefore enough, lasts for the process, needs no file
in the user's home, and does not depend on CI being set.
"""

from __future__ import annotations

import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino as ov  # noqa: E402
import openvino.opset13 as ops  # noqa: E402

__all__ = ["ops", "ov"]

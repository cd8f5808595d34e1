"""What may go wrong in a training, beside what may go wrong everywhere."""

from __future__ import annotations

from ..errors import EngineError


class TrainingError(EngineError):
    """The training cannot go on; its last checkpoint stays."""

    code = "training"

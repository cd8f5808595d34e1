"""What a check found, in words."""

from __future__ import annotations

from dataclasses import dataclass

ERROR, WARNING, INFO = "error", "warning", "info"


@dataclass(frozen=True)
class Problem:
    """One finding. `level` is "error" (training cannot start), "warning" or "info"; `case` the id
    it is about, "" for all; `message` one sentence, `hint` what to do."""

    level: str
    case: str
    message: str
    hint: str = ""

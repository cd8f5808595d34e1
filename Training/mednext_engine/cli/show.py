"""What the command line shows: a bar on a terminal, lines elsewhere, JSON lines for machines.

Results go to stdout, progress and notes to stderr. With `--json` every line on stdout is one ASCII
JSON object with a "type": progress, note, result, error, summary.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from typing import Any

from ..errors import EngineError
from ..monitor import Progress

PLAIN_INTERVAL = 10.0  # seconds between lines about one stage where there is no terminal
JSON_INTERVAL = 0.2


class Display:
    """Shows the progress and the outcome of cases."""

    def __init__(self, machine: bool = False, quiet: bool = False) -> None:
        self.machine = machine
        self._quiet = quiet or machine
        self._terminal = sys.stderr.isatty() and not self._quiet
        self._bar: Any = None
        self._case = ""
        self._last: tuple[str, float] = ("", 0.0)

    def begin(self, case: str) -> None:
        """The progress that follows is that of `case`."""
        self._case, self._last = case, ("", 0.0)
        if self._terminal:
            from tqdm import tqdm

            self._bar = tqdm(
                total=100,
                leave=False,
                file=sys.stderr,
                bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}{postfix}",
            )

    def end(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def progress(self, progress: Progress) -> None:
        """Takes a report of the engine; see `Monitor.report`."""
        if progress.note:
            self.note(progress.note)
        now = time.monotonic()
        interval = JSON_INTERVAL if self.machine else PLAIN_INTERVAL
        fresh = progress.stage != self._last[0]
        if self._bar is not None:
            self._bar.n = round(100 * progress.fraction)
            self._bar.set_description_str(f"{self._case}: {progress.stage}", refresh=False)
            self._bar.set_postfix_str(_time_left(progress.seconds_left), refresh=False)
            self._bar.refresh()
        elif fresh or now - self._last[1] >= interval:
            self._last = (progress.stage, now)
            if self.machine:
                self.emit(
                    "progress",
                    case=self._case,
                    stage=progress.stage,
                    fraction=round(progress.fraction, 4),
                    seconds_left=progress.seconds_left,
                )
            elif not self._quiet:
                left = _time_left(progress.seconds_left)
                _print(f"{self._case}: {progress.stage} {progress.fraction:4.0%}{left}", sys.stderr)

    def note(self, sentence: str) -> None:
        """A sentence the person should read."""
        if self.machine:
            self.emit("note", case=self._case, note=sentence)
        elif not self._quiet:
            self._aside(sentence, sys.stderr)

    def error(self, error: EngineError, case: str = "") -> None:
        """Shows what went wrong and what to do next."""
        if self.machine:
            self.emit("error", case=case, code=error.code, message=error.message, hint=error.hint)
            return
        before = f"{case}: " if case else "mednext: "
        after = f"\n  {error.hint}" if error.hint else ""
        self._aside(f"{before}{error.message}{after}", sys.stderr)

    def result(self, text: str, **facts: Any) -> None:
        """Shows a result, as `text` or, for machines, its `facts`."""
        if self.machine:
            self.emit("result", **facts)
        else:
            self._aside(text, sys.stdout)

    def emit(self, kind: str, **facts: Any) -> None:
        """One JSON line."""
        _print(dump({"type": kind, **facts}), sys.stdout)

    def _aside(self, text: str, stream: Any) -> None:
        """Prints without breaking a bar."""
        if self._bar is not None:
            self._bar.clear()
        _print(text, stream)
        if self._bar is not None:
            self._bar.refresh()


def dump(value: Any, indent: int | None = None) -> str:
    """ASCII JSON in which numbers that are none are null."""
    return json.dumps(_finite(value), ensure_ascii=True, allow_nan=False, indent=indent)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as they need to be; numbers to the right."""
    cells = [list(header), *([_cell(value) for value in row] for row in rows)]
    numeric = [
        bool(rows) and all(isinstance(row[i], (int, float, type(None))) for row in rows)
        for i in range(len(header))
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = []
    for row in cells:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def gigabytes(count: int | float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 / 10 else f"{count / 2**20:.0f} MiB"


def seconds(count: float) -> str:
    return f"{count:.1f} s" if count < 100 else f"{count / 60:.1f} min"


def _time_left(left: float | None) -> str:
    return "" if left is None or not math.isfinite(left) else f", {seconds(left)} left"


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value


def _print(text: str, stream: Any) -> None:
    print(text, file=stream, flush=True)

"""A run's curves as a table (CSV) and a picture (SVG).

The picture is drawn by hand: two panels of lines do not earn a plotting library its place, and an
SVG opens in every browser.
"""

from __future__ import annotations

import csv
import html
import math
from collections.abc import Sequence
from pathlib import Path

from ..atomic import replacing
from ..errors import OutputError
from .control import EpochReport

TABLE = "curves.csv"
PICTURE = "curves.svg"
_COLUMNS = ("epoch", "step", "learning_rate", "train_loss", "validation_loss", "best")
_COLORS = ("#3366cc", "#dc3912", "#ff9900", "#109618", "#990099", "#0099c6", "#dd4477", "#66aa00")
_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 420, 260, 60, 30, 90


def write_curves(folder: Path, curves: Sequence[EpochReport]) -> None:
    """Writes both, whole or not at all. Raises OutputError."""
    try:
        with (
            replacing(folder / TABLE) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as stream,
        ):
            _write_table(csv.writer(stream), curves)
        with replacing(folder / PICTURE) as temporary:
            temporary.write_text(picture(curves), encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"The curves could not be written ({error.strerror}).", "Free some disk space."
        ) from error


def _write_table(writer: csv.Writer, curves: Sequence[EpochReport]) -> None:  # type: ignore[name-defined]
    names = list(dict.fromkeys(name for row in curves for name in row.dice))
    writer.writerow([*_COLUMNS, *(f"Dice {name}" for name in names)])
    for row in curves:
        loss = "" if row.validation_loss is None else f"{row.validation_loss:.6g}"
        fixed = [row.epoch, row.step, f"{row.learning_rate:.6g}", f"{row.train_loss:.6g}", loss]
        dice = (f"{row.dice[name]:.6g}" if name in row.dice else "" for name in names)
        writer.writerow([*fixed, int(row.best), *dice])


def picture(curves: Sequence[EpochReport]) -> str:
    """An SVG: losses on the left, Dice of each class on the right, over epochs."""
    epochs = [float(row.epoch) for row in curves]
    losses = {
        "training": [row.train_loss for row in curves],
        "validation": [
            math.nan if row.validation_loss is None else row.validation_loss for row in curves
        ],
    }
    names = list(dict.fromkeys(name for row in curves for name in row.dice))
    dice = {name: [row.dice.get(name, math.nan) for row in curves] for name in names}
    height = _TOP + max(_HEIGHT + 50, 20 * (len(names) + 2))
    width = 2 * (_LEFT + _WIDTH) + _GAP + 180
    finite = [v for values in losses.values() for v in values if math.isfinite(v)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            'font-family="sans-serif" font-size="12">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            *_panel("Loss", epochs, losses, low, high, _LEFT),
            *_panel("Dice on held-out voxels", epochs, dice, 0.0, 1.0, _LEFT + _WIDTH + _GAP),
            "</svg>",
            "",
        ]
    )


def _panel(
    title: str,
    epochs: Sequence[float],
    lines: dict[str, list[float]],
    low: float,
    high: float,
    left: int,
) -> list[str]:
    if high <= low:
        low, high = low - 0.5, high + 0.5
    last = max(epochs, default=1.0)
    first = min(epochs, default=0.0)

    def place(x: float, y: float) -> str:
        across = left + _WIDTH * (x - first) / max(last - first, 1e-9)
        return f"{across:.1f},{_TOP + _HEIGHT * (high - y) / (high - low):.1f}"

    parts = [
        f'<text x="{left}" y="{_TOP - 10}" font-weight="bold">{title}</text>',
        f'<rect x="{left}" y="{_TOP}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" '
        'stroke="#999"/>',
        f'<text x="{left - 6}" y="{_TOP + 10}" text-anchor="end">{high:.3g}</text>',
        f'<text x="{left - 6}" y="{_TOP + _HEIGHT}" text-anchor="end">{low:.3g}</text>',
        f'<text x="{left}" y="{_TOP + _HEIGHT + 18}">epoch {first:.0f}</text>',
        f'<text x="{left + _WIDTH}" y="{_TOP + _HEIGHT + 18}" text-anchor="end">{last:.0f}</text>',
    ]
    for number, (name, values) in enumerate(lines.items()):
        color = _COLORS[number % len(_COLORS)]
        points = [place(x, y) for x, y in zip(epochs, values, strict=True) if math.isfinite(y)]
        if points:
            joined = " ".join(points)
            parts.append(
                f'<polyline points="{joined}" fill="none" stroke="{color}" stroke-width="2"/>'
            )
        at = left + _WIDTH + 8 if title != "Loss" else left + _WIDTH - 80
        parts.append(
            f'<text x="{at}" y="{_TOP + 16 + 18 * number}" fill="{color}">'
            f"{html.escape(name)}</text>"
        )
    return parts

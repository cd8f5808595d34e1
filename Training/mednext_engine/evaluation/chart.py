"""Curves as a picture, drawn without any plotting library: lines, ticks, small letters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Color = tuple[int, int, int]
Image = NDArray[np.uint8]

WIDTH, HEIGHT = 640, 440  # pixels of one panel
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 40, 44
INK: Color = (60, 60, 60)
FAINT: Color = (225, 225, 225)
SCALE = 2  # pixels of a dot of a letter
COLORS: tuple[Color, ...] = (
    (31, 119, 180),
    (214, 84, 20),
    (44, 140, 60),
    (190, 40, 60),
    (128, 90, 180),
    (120, 80, 60),
    (210, 90, 170),
    (90, 90, 90),
    (150, 150, 20),
    (20, 160, 180),
)
_GLYPHS = {
    # seven rows of five dots, a row a pair of hexadecimal digits
    "0": "0e11131519110e", "1": "040c040404040e", "2": "0e11010204081f", "3": "1f02040201110e",
    "4": "02060a121f0202", "5": "1f101e0101110e", "6": "0608101e11110e", "7": "1f010204080808",
    "8": "0e11110e11110e", "9": "0e11110f01020c", "A": "0e1111111f1111", "B": "1e11111e11111e",
    "C": "0e11101010110e", "D": "1c12111111121c", "E": "1f10101e10101f", "F": "1f10101e101010",
    "G": "0e11101713110f", "H": "1111111f111111", "I": "0e04040404040e", "J": "0702020202120c",
    "K": "11121418141211", "L": "1010101010101f", "M": "111b1515111111", "N": "11191513111111",
    "O": "0e11111111110e", "P": "1e11111e101010", "Q": "0e11111115120d", "R": "1e11111e141211",
    "S": "0f10100e01011e", "T": "1f040404040404", "U": "1111111111110e", "V": "11111111110a04",
    "W": "1111111515150a", "X": "11110a040a1111", "Y": "1111110a040404", "Z": "1f01020408101f",
    ".": "00000000000c0c", ",": "000000000c0408", "-": "0000001f000000", "+": "0004041f040400",
    ":": "000c0c000c0c00", "/": "00010204081000", "%": "18190204081303", "(": "02040808080402",
    ")": "08040202020408", "_": "0000000000001f", "=": "00001f001f0000", "?": "0e110102040004",
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One curve. NaN breaks it."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def panel(
    title: str,
    lines: Sequence[Line],
    x_label: str,
    top: float | None = None,
    *,
    legend_below: bool = False,
) -> Image:
    """One chart, (HEIGHT, WIDTH, 3): y from 0 (or the lowest negative value) to `top`.

    Letters are capitals; what has no letter here is shown as "?". The names of the lines stand at
    the upper right, or at the lower, for curves that rise.
    """
    image = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    points = [
        (x, y) for one in lines for x, y in zip(one.x, one.y, strict=True) if math.isfinite(y)
    ]
    highest = top if top is not None else max([y for _, y in points], default=1.0)
    low = min([0.0, *(y for _, y in points)])
    ticks = _ticks(low, max(highest, low + 1e-9))
    low, high = min(low, ticks[0]), max(highest, ticks[-1])
    last = max([x for x, _ in points], default=1.0)
    _write(image, LEFT, 12, title)
    for value in ticks:
        row = round(_row(value, low, high))
        image[row, LEFT : WIDTH - RIGHT] = FAINT
        text = f"{value:g}"
        _write(image, LEFT - 8 - _width(text), row - 7, text)
    for value in _ticks(0.0, last):
        if value <= last:
            text = f"{value:g}"
            _write(image, round(_column(value, last)) - _width(text) // 2, HEIGHT - 36, text)
    _write(image, (LEFT + WIDTH - RIGHT - _width(x_label)) // 2, HEIGHT - 17, x_label)
    image[TOP : HEIGHT - BOTTOM, LEFT] = INK
    image[HEIGHT - BOTTOM, LEFT : WIDTH - RIGHT] = INK
    for number, one in enumerate(lines):
        color = COLORS[number % len(COLORS)]
        places = [
            (_column(x, last), _row(min(y, high), low, high)) if math.isfinite(y) else None
            for x, y in zip(one.x, one.y, strict=True)
        ]
        _draw(image, places, color)
    _legend(image, [one.name for one in lines], legend_below)
    return image


def beside(panels: Sequence[Image]) -> Image:
    """Panels in a row."""
    return np.concatenate(list(panels), axis=1)


def _row(value: float, low: float, high: float) -> float:
    return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - TOP)


def _column(value: float, last: float) -> float:
    return LEFT + value / max(last, 1e-9) * (WIDTH - RIGHT - LEFT)


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers that cover [low, high]."""
    span = max(high - low, 1e-9)
    step: float = 10.0 ** math.floor(math.log10(span))
    while span / step < 4:
        step /= 2 if round(step / 10 ** math.floor(math.log10(step) + 1e-9)) != 5 else 2.5
    first, end = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    return [round(index * step, 10) for index in range(first, end + 1)]


def _draw(image: Image, places: Sequence[tuple[float, float] | None], color: Color) -> None:
    """Points two pixels wide, joined where neighbours are both there."""
    before: tuple[float, float] | None = None
    for place in places:
        if place is not None:
            start = before or place
            count = int(max(abs(place[0] - start[0]), abs(place[1] - start[1]))) * 2 + 1
            columns = np.linspace(start[0], place[0], count).round().astype(int)
            rows = np.linspace(start[1], place[1], count).round().astype(int)
            for shift_row in (0, 1):
                for shift_column in (0, 1):
                    image[
                        np.clip(rows + shift_row, 0, HEIGHT - 1),
                        np.clip(columns + shift_column, 0, WIDTH - 1),
                    ] = color
        before = place


def _legend(image: Image, names: Sequence[str], below: bool) -> None:
    """Names in their colours; as many as there is room for."""
    names = names[: (HEIGHT - BOTTOM - TOP) // 18 - 1]
    top = HEIGHT - BOTTOM - 6 - 18 * len(names) if below else TOP + 4
    for number, name in enumerate(names):
        text = name if len(name) <= 20 else name[:18] + ".."
        color = COLORS[number % len(COLORS)]
        _write(image, WIDTH - RIGHT - 6 - _width(text), top + 18 * number, text, color)


def _width(text: str) -> int:
    return len(text) * 6 * SCALE


def _write(image: Image, left: int, top: int, text: str, color: Color = INK) -> None:
    """Letters of 5 x 7 dots from (`left`, `top`) on; what lies outside the picture is cut."""
    for letter in text.upper():
        if letter != " ":
            rows = bytes.fromhex(_GLYPHS.get(letter, _GLYPHS["?"]))
            dots = np.array([[row >> (4 - bit) & 1 for bit in range(5)] for row in rows], bool)
            block = np.kron(dots, np.ones((SCALE, SCALE), bool))
            y, x = np.nonzero(block)
            inside = (y + top >= 0) & (y + top < HEIGHT) & (x + left >= 0) & (x + left < WIDTH)
            image[y[inside] + top, x[inside] + left] = color
        left += 6 * SCALE

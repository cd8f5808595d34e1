"""What the tables and lists of the tab "Fine-tune" share: their headers, and as high as needed."""

from __future__ import annotations

from typing import Any

import qt

FRAME = 4  # pixels of a table's borders


def prepare_table(table: Any) -> None:
    """Columns share the width; no row numbers; a chosen row does not widen the headers."""
    header = table.horizontalHeader()
    header.setSectionResizeMode(qt.QHeaderView.Stretch)
    header.highlightSections = False
    table.verticalHeader().visible = False


def fit_table(table: Any, most_rows: int) -> None:
    """As high as its rows need, up to `most_rows`; then it scrolls."""
    row = table.rowHeight(0) if table.rowCount else table.verticalHeader().defaultSectionSize
    rows = min(max(1, table.rowCount), most_rows)
    height = table.horizontalHeader().sizeHint.height() + rows * row + FRAME
    table.minimumHeight = table.maximumHeight = height


def fit_list(items: Any, most: int) -> None:
    """As high as its lines need, up to `most` pixels; then it scrolls."""
    items.doItemsLayout()  # wrapped lines know their height after that
    rows = range(items.count)
    needed = sum(items.visualItemRect(items.item(row)).height() for row in rows) + FRAME
    items.minimumHeight = items.maximumHeight = max(24, min(most, needed))

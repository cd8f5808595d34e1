"""All classes of CTK, qMRML and Slicer that the harness has a stand-in for, by name."""

from __future__ import annotations

from . import (
    application,
    ctk_buttons,
    ctk_fields,
    ctk_numbers,
    ctk_texts,
    mrml_base,
    mrml_items,
    mrml_nodes,
    scripted,
    ui_loader,
)

_PARTS = (
    ctk_buttons, ctk_fields, ctk_numbers, ctk_texts, mrml_base, mrml_nodes, mrml_items, application,
    scripted, ui_loader,
)  # fmt: skip

CLASSES: dict[str, type] = {name: kind for part in _PARTS for name, kind in part.CLASSES.items()}

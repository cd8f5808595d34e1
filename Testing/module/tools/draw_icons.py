#!/usr/bin/env python3
"""Draws the PNG icons from their SVG: Slicer's index refuses SVG, its modules show PNG everywhere.

python Testing/module/tools/draw_icons.py
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SOURCE = ROOT / "Resources" / "MedNeXtSeg.svg"
TARGETS = {
    ROOT / "Resources" / "MedNeXtSeg.png": 256,
    ROOT / "MedNeXtSeg" / "Resources" / "Icons" / "MedNeXtSeg.png": 128,
}


def main() -> None:
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from PySide6.QtGui import QGuiApplication, QImage, QPainter
    from PySide6.QtSvg import QSvgRenderer

    application = QGuiApplication(["draw_icons"])
    renderer = QSvgRenderer(str(SOURCE))
    for path, size in TARGETS.items():
        image = QImage(size, size, QImage.Format.Format_ARGB32)
        image.fill(0)
        painter = QPainter(image)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        renderer.render(painter)
        painter.end()
        if not image.save(str(path)):
            raise SystemExit(f"{path} could not be written.")
        print(f"{path.relative_to(ROOT)}: {size} x {size}")
    del application


if __name__ == "__main__":
    main()

"""Pictures of widgets, drawn offscreen in Qt's own style: what they look like, not decoration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import QCoreApplication, QEvent, Qt
from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import QApplication, QStyleFactory, QWidget

from . import convert

DARK = {
    QPalette.ColorRole.Window: (0x32, 0x32, 0x32),
    QPalette.ColorRole.WindowText: (0xF0, 0xF0, 0xF0),
    QPalette.ColorRole.Base: (0x24, 0x24, 0x24),
    QPalette.ColorRole.AlternateBase: (0x2B, 0x2B, 0x2B),
    QPalette.ColorRole.ToolTipBase: (0x24, 0x24, 0x24),
    QPalette.ColorRole.ToolTipText: (0xF0, 0xF0, 0xF0),
    QPalette.ColorRole.Text: (0xF0, 0xF0, 0xF0),
    QPalette.ColorRole.Button: (0x40, 0x40, 0x40),
    QPalette.ColorRole.ButtonText: (0xF0, 0xF0, 0xF0),
    QPalette.ColorRole.Link: (0x5A, 0xA9, 0xF0),
    QPalette.ColorRole.Highlight: (0x2A, 0x82, 0xDA),
    QPalette.ColorRole.HighlightedText: (0xFF, 0xFF, 0xFF),
    QPalette.ColorRole.PlaceholderText: (0x90, 0x90, 0x90),
}


def render(widget: Any, path: Path | str, width: int = 420, *, dark: bool = False) -> Path:
    """Draws `widget` as wide as `width` pixels and as high as it needs, and saves a PNG.

    Raises:
        OSError: the picture could not be written.
    """
    inner = convert.unwrapped(widget)
    application = QApplication.instance()
    style, palette = application.style().name(), application.palette()
    try:
        application.setStyle(QStyleFactory.create("Fusion"))
        application.setPalette(
            dark_palette() if dark else QStyleFactory.create("Fusion").standardPalette()
        )
        fit(inner, width)
        if not inner.grab().save(str(path), "PNG"):
            raise OSError(f"The picture {path} could not be written.")
    finally:
        application.setPalette(palette)
        application.setStyle(style)
    return Path(path)


def fit(inner: QWidget, width: int) -> None:
    """Gives the widget its width and the height its layout asks for at that width."""
    inner.setAttribute(Qt.WidgetAttribute.WA_DontShowOnScreen, True)
    inner.show()
    for _ in range(3):  # wrapped labels ask for their height once they know their width
        inner.resize(width, height_for(inner, width))
        QCoreApplication.sendPostedEvents(None, QEvent.Type.LayoutRequest)
        QCoreApplication.processEvents()


def height_for(inner: QWidget, width: int) -> int:
    layout = inner.layout()
    if layout is None:
        return max(inner.sizeHint().height(), 1)
    layout.activate()
    height = layout.totalHeightForWidth(width) if layout.hasHeightForWidth() else -1
    return max(height, layout.totalSizeHint().height() if height < 0 else height, 1)


def overflow(widget: Any, width: int) -> list[str]:
    """Names of the visible widgets that need more than `width` pixels: the panel must not."""
    inner = convert.unwrapped(widget)
    fit(inner, width)
    found = []
    for child in inner.findChildren(QWidget):
        if not child.isVisible():
            continue
        right = child.mapTo(inner, child.rect().topRight()).x()
        if right >= max(inner.width(), width) + 1 or inner.width() > width:
            found.append(child.objectName() or type(child).__name__)
    return found


def dark_palette() -> QPalette:
    """Slicer's dark style in colours: light text on dark grey."""
    palette = QPalette()
    for role, color in DARK.items():
        palette.setColor(role, QColor(*color))
    for role in (
        QPalette.ColorRole.Text,
        QPalette.ColorRole.ButtonText,
        QPalette.ColorRole.WindowText,
    ):
        palette.setColor(QPalette.ColorGroup.Disabled, role, QColor(0x80, 0x80, 0x80))
    return palette

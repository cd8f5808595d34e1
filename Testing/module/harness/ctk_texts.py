"""CTK's text browser, message box and settings."""

from __future__ import annotations

from PySide6.QtCore import Property, QSettings, QSize, Qt
from PySide6.QtWidgets import (
    QCheckBox,
    QMessageBox,
    QTextBrowser,
    QWidget,
)

from .properties import classes_of, stored


class ctkFittedTextBrowser(QTextBrowser):
    """A text browser as high as its text."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.textChanged.connect(self.updateGeometry)

    def resizeEvent(self, event) -> None:
        super().resizeEvent(event)
        self.updateGeometry()

    def sizeHint(self) -> QSize:
        document = self.document().clone()
        document.setTextWidth(max(self.viewport().width(), 100))
        height = int(document.size().height()) + 2 * self.frameWidth()
        return QSize(super().sizeHint().width(), height)

    def minimumSizeHint(self) -> QSize:
        return QSize(100, self.sizeHint().height())

    collapsed = stored(bool, "_collapsed", False)


class ctkMessageBox(QMessageBox):
    """A message box that can be asked not to come back."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._box = QCheckBox("Don't show this message again.")

    dontShowAgain = Property(
        bool, lambda self: self._box.isChecked(), lambda self, v: self._box.setChecked(v)
    )
    dontShowAgainVisible = Property(
        bool,
        lambda self: self.checkBox() is not None,
        lambda self, v: self.setCheckBox(self._box if v else None),
    )
    dontShowAgainSettingsKey = stored(str, "_key", "")


class ctkSettings(QSettings):
    """Settings of the application."""


CLASSES = classes_of(globals(), "ctk")

"""CTK's buttons and frames, as small real Qt widgets."""

from __future__ import annotations

from PySide6.QtCore import Property, QSize, Qt, Signal
from PySide6.QtGui import QPainter
from PySide6.QtWidgets import (
    QAbstractButton,
    QCheckBox,
    QFrame,
    QGroupBox,
    QPushButton,
    QStyle,
    QStyleOptionButton,
    QWidget,
)

from .properties import classes_of, stored


class ctkCollapsibleButton(QAbstractButton):
    """A header that hides and shows what is laid out below it."""

    contentsCollapsed = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._collapsed_height = 10
        self._hidden: set[QWidget] = set()
        self.setCheckable(True)
        self.setChecked(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setContentsMargins(0, self._header(), 0, 0)
        self.toggled.connect(self._show_contents)

    def _header(self) -> int:
        return max(self.fontMetrics().height() + 8, 20)

    def _show_contents(self, shown: bool) -> None:
        for child in self.children():
            if not isinstance(child, QWidget):
                continue
            if not shown:
                if child.isHidden():
                    self._hidden.add(child)
                child.hide()
            elif child not in self._hidden:
                child.show()
        if shown:
            self._hidden.clear()
        self.setMaximumHeight(16777215 if shown else self._header() + self._collapsed_height)
        self.updateGeometry()
        self.contentsCollapsed.emit(not shown)

    def sizeHint(self) -> QSize:
        if self.layout() is None or not self.isChecked():
            width = 0 if self.layout() is None else self.layout().sizeHint().width()
            return QSize(max(width, 100), self._header() + self._collapsed_height)
        hint = self.layout().sizeHint()
        return QSize(hint.width(), hint.height())

    def minimumSizeHint(self) -> QSize:
        if self.layout() is None or not self.isChecked():
            return QSize(60, self._header() + self._collapsed_height)
        return self.layout().minimumSize()

    def hitButton(self, position) -> bool:
        return position.y() <= self._header()

    def paintEvent(self, event) -> None:
        painter = QPainter(self)
        option = QStyleOptionButton()
        option.initFrom(self)
        option.rect.setHeight(self._header())
        option.state |= QStyle.StateFlag.State_Raised
        self.style().drawControl(QStyle.ControlElement.CE_PushButtonBevel, option, painter, self)
        if self.hasFocus():
            painter.setPen(self.palette().highlight().color())
            painter.drawRect(option.rect.adjusted(1, 1, -2, -2))
        arrow = QStyleOptionButton()
        arrow.initFrom(self)
        arrow.rect = option.rect.adjusted(6, 6, 0, -6)
        arrow.rect.setWidth(arrow.rect.height())
        shape = (
            QStyle.PrimitiveElement.PE_IndicatorArrowDown
            if self.isChecked()
            else QStyle.PrimitiveElement.PE_IndicatorArrowRight
        )
        self.style().drawPrimitive(shape, arrow, painter, self)
        painter.setPen(self.palette().buttonText().color())
        text = option.rect.adjusted(self._header() + 4, 0, 0, 0)
        flags = Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextShowMnemonic
        painter.drawText(text, flags, self.text())

    def _collapsed(self) -> bool:
        return not self.isChecked()

    def _set_collapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = Property(bool, _collapsed, _set_collapsed)
    collapsedHeight = stored(int, "_collapsed_height", 10)
    flat = stored(bool, "_flat", False)
    contentsFrameShape = stored(int, "_shape", 0)
    contentsFrameShadow = stored(int, "_shadow", 16)


class ctkCollapsibleGroupBox(QGroupBox):
    """A group box whose check mark hides its contents."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(self._show_contents)

    def _show_contents(self, shown: bool) -> None:
        for child in self.findChildren(QWidget, options=Qt.FindChildOption.FindDirectChildrenOnly):
            child.setVisible(shown)

    collapsed = Property(
        bool, lambda self: not self.isChecked(), lambda self, value: self.setChecked(not value)
    )


class ctkCheckBox(QCheckBox):
    """A check box that could show an icon."""


class ctkPushButton(QPushButton):
    """A push button with more alignments."""


class ctkMenuButton(ctkPushButton):
    """A push button with a small menu at its right."""


class ctkExpandableWidget(QFrame):
    """A frame that could be resized with a grip."""


CLASSES = classes_of(globals(), "ctk")

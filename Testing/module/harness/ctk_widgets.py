"""CTK's widgets, as small real Qt widgets with the properties and signals CTK gives them."""

from __future__ import annotations

from PySide6.QtCore import Property, QSettings, QSize, Qt, Signal
from PySide6.QtGui import QIcon, QPainter
from PySide6.QtWidgets import (
    QAbstractButton,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFrame,
    QGroupBox,
    QHBoxLayout,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QSlider,
    QStyle,
    QStyleOptionButton,
    QTextBrowser,
    QToolButton,
    QWidget,
)  # fmt: skip


class ctkCollapsibleButton(QAbstractButton):
    """A header that hides and shows what is laid out below it."""

    contentsCollapsed = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._collapsed_height = 10
        self._flat = False
        self._shape, self._shadow = 0, 16
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
    collapsedHeight = Property(
        int,
        lambda self: self._collapsed_height,
        lambda self, v: setattr(self, "_collapsed_height", v),
    )
    flat = Property(bool, lambda self: self._flat, lambda self, v: setattr(self, "_flat", v))
    contentsFrameShape = Property(
        int, lambda self: self._shape, lambda self, v: setattr(self, "_shape", v)
    )
    contentsFrameShadow = Property(
        int, lambda self: self._shadow, lambda self, v: setattr(self, "_shadow", v)
    )


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


class ctkComboBox(QComboBox):
    """A combo box with a text for "nothing chosen"."""

    def _default_text(self) -> str:
        return self.placeholderText()

    def _set_default_text(self, text: str) -> None:
        self.setPlaceholderText(text)

    defaultText = Property(str, _default_text, _set_default_text)

    def _user_data(self) -> str:
        return str(self.currentData() or "")

    def setCurrentUserDataAsString(self, text: str) -> None:
        self.setCurrentIndex(self.findData(text))

    currentUserDataAsString = Property(str, _user_data, setCurrentUserDataAsString)


class ctkCheckBox(QCheckBox):
    """A check box that could show an icon."""


class ctkPushButton(QPushButton):
    """A push button with more alignments."""


class ctkMenuButton(ctkPushButton):
    """A push button with a small menu at its right."""


class ctkSearchBox(QLineEdit):
    """A line edit with a glass and a cross."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._show_icon = False
        self.setClearButtonEnabled(True)
        self.setPlaceholderText("Search...")

    showSearchIcon = Property(
        bool, lambda self: self._show_icon, lambda self, v: setattr(self, "_show_icon", v)
    )


class ctkPathLineEdit(QWidget):
    """A path to type, remember or browse for."""

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._combo = QComboBox(self)
        self._combo.setEditable(True)
        self._combo.setMinimumContentsLength(10)
        self._browse = QToolButton(self)
        self._browse.setText("...")
        layout.addWidget(self._combo, 1)
        layout.addWidget(self._browse)
        self.setFocusProxy(self._combo)
        self._path = ""
        self._filters, self._options = 7, 0
        self._name_filters: list[str] = []
        self._key = self._label = ""
        self._combo.editTextChanged.connect(self._typed)
        self._browse.clicked.connect(self.browse)

    def _typed(self, text: str) -> None:
        if text != self._path:
            self._path = text
            self.currentPathChanged.emit(text)

    def comboBox(self) -> QComboBox:
        return self._combo

    def browse(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, self._label, self._path)
        if chosen:
            self.setCurrentPath(chosen)

    def addCurrentPathToHistory(self) -> None:
        if self._key and self._path:
            settings = QSettings()
            history = [self._path, *[p for p in settings.value(self._key) or [] if p != self._path]]
            settings.setValue(self._key, history[:10])

    def retrieveHistory(self) -> None:
        self._combo.addItems(list(QSettings().value(self._key) or []) if self._key else [])

    def setCurrentPath(self, path: str) -> None:
        self._combo.setEditText(path)

    currentPath = Property(str, lambda self: self._path, setCurrentPath)
    label = Property(str, lambda self: self._label, lambda self, v: setattr(self, "_label", v))
    settingKey = Property(str, lambda self: self._key, lambda self, v: setattr(self, "_key", v))
    nameFilters = Property(
        "QStringList",
        lambda self: self._name_filters,
        lambda self, v: setattr(self, "_name_filters", v),
    )
    filters = Property(
        int, lambda self: self._filters, lambda self, v: setattr(self, "_filters", v)
    )
    options = Property(
        int, lambda self: self._options, lambda self, v: setattr(self, "_options", v)
    )
    showBrowseButton = Property(
        bool,
        lambda self: not self._browse.isHidden(),
        lambda self, v: self._browse.setVisible(v),
    )
    minimumContentsLength = Property(
        int,
        lambda self: self._combo.minimumContentsLength(),
        lambda self, v: self._combo.setMinimumContentsLength(v),
    )


class ctkDirectoryButton(QWidget):
    """A button that shows a folder and asks for another one."""

    directoryChanged = Signal(str)
    directorySelected = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._button = QPushButton(self)
        layout.addWidget(self._button)
        self._directory = self._caption = ""
        self._button.clicked.connect(self.browse)

    def browse(self) -> str:
        chosen = QFileDialog.getExistingDirectory(self, self._caption, self._directory)
        if chosen:
            self._set_directory(chosen)
            self.directorySelected.emit(chosen)
        return chosen

    def _set_directory(self, path: str) -> None:
        if path != self._directory:
            self._directory = path
            self._button.setText(path)
            self.directoryChanged.emit(path)

    directory = Property(str, lambda self: self._directory, _set_directory)
    caption = Property(
        str, lambda self: self._caption, lambda self, v: setattr(self, "_caption", v)
    )
    text = Property(str, lambda self: self._button.text(), lambda self, v: self._button.setText(v))
    icon = Property(
        QIcon, lambda self: self._button.icon(), lambda self, v: self._button.setIcon(v)
    )


class ctkDoubleSpinBox(QWidget):
    """A spin box of numbers; a widget around Qt's own."""

    valueChanged = Signal(float)
    valueTextChanged = Signal(str)
    decimalsChanged = Signal(int)
    editingFinished = Signal()
    SIGNALS = {"valueChanged(double)": "valueChanged", "valueChanged(QString)": "valueTextChanged"}  # noqa: RUF012

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._box = QDoubleSpinBox(self)
        layout.addWidget(self._box)
        self.setFocusProxy(self._box)
        self._box.valueChanged.connect(self.valueChanged)
        self._box.textChanged.connect(self.valueTextChanged)
        self._box.editingFinished.connect(self.editingFinished)

    def setValue(self, value: float) -> None:
        self._box.setValue(value)

    def setDecimals(self, decimals: int) -> None:
        self._box.setDecimals(decimals)

    def stepUp(self) -> None:
        self._box.stepUp()

    def stepDown(self) -> None:
        self._box.stepDown()

    value = Property(float, lambda self: self._box.value(), setValue)
    decimals = Property(int, lambda self: self._box.decimals(), setDecimals)
    minimum = Property(
        float, lambda self: self._box.minimum(), lambda self, v: self._box.setMinimum(v)
    )
    maximum = Property(
        float, lambda self: self._box.maximum(), lambda self, v: self._box.setMaximum(v)
    )
    singleStep = Property(
        float, lambda self: self._box.singleStep(), lambda self, v: self._box.setSingleStep(v)
    )
    suffix = Property(str, lambda self: self._box.suffix(), lambda self, v: self._box.setSuffix(v))
    prefix = Property(str, lambda self: self._box.prefix(), lambda self, v: self._box.setPrefix(v))


class ctkSliderWidget(QWidget):
    """A slider and a spin box for one number."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    decimalsChanged = Signal(int)
    _STEPS = 1000

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._slider = QSlider(Qt.Orientation.Horizontal, self)
        self._slider.setRange(0, self._STEPS)
        self._box = QDoubleSpinBox(self)
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._box)
        self.setFocusProxy(self._box)
        self._page = 10.0
        self._tracking = True
        self._slider.valueChanged.connect(self._dragged)
        self._box.valueChanged.connect(self._entered)

    def _dragged(self, step: int) -> None:
        low, high = self._box.minimum(), self._box.maximum()
        self._box.setValue(low + (high - low) * step / self._STEPS)

    def _entered(self, value: float) -> None:
        self._place()
        self.valueChanged.emit(value)

    def _place(self) -> None:
        low, high = self._box.minimum(), self._box.maximum()
        self._slider.blockSignals(True)
        self._slider.setValue(
            round((self._box.value() - low) / max(high - low, 1e-9) * self._STEPS)
        )
        self._slider.blockSignals(False)

    def setValue(self, value: float) -> None:
        self._box.setValue(value)

    def setDecimals(self, decimals: int) -> None:
        self._box.setDecimals(decimals)
        self.decimalsChanged.emit(decimals)

    def setSpinBoxVisible(self, visible: bool) -> None:
        self._box.setVisible(visible)

    def _set_minimum(self, value: float) -> None:
        self._box.setMinimum(value)
        self._place()

    def _set_maximum(self, value: float) -> None:
        self._box.setMaximum(value)
        self._place()

    def reset(self) -> None:
        self._box.setValue(0.0)

    value = Property(float, lambda self: self._box.value(), setValue)
    decimals = Property(int, lambda self: self._box.decimals(), setDecimals)
    minimum = Property(float, lambda self: self._box.minimum(), _set_minimum)
    maximum = Property(float, lambda self: self._box.maximum(), _set_maximum)
    singleStep = Property(
        float, lambda self: self._box.singleStep(), lambda self, v: self._box.setSingleStep(v)
    )
    pageStep = Property(float, lambda self: self._page, lambda self, v: setattr(self, "_page", v))
    tracking = Property(
        bool, lambda self: self._tracking, lambda self, v: setattr(self, "_tracking", v)
    )
    suffix = Property(str, lambda self: self._box.suffix(), lambda self, v: self._box.setSuffix(v))
    prefix = Property(str, lambda self: self._box.prefix(), lambda self, v: self._box.setPrefix(v))
    spinBoxVisible = Property(bool, lambda self: not self._box.isHidden(), setSpinBoxVisible)


class ctkExpandableWidget(QFrame):
    """A frame that could be resized with a grip."""


class ctkFittedTextBrowser(QTextBrowser):
    """A text browser as high as its text."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._collapsed = False
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

    collapsed = Property(
        bool, lambda self: self._collapsed, lambda self, v: setattr(self, "_collapsed", v)
    )


class ctkMessageBox(QMessageBox):
    """A message box that can be asked not to come back."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._box = QCheckBox("Don't show this message again.")
        self._key = ""

    dontShowAgain = Property(
        bool, lambda self: self._box.isChecked(), lambda self, v: self._box.setChecked(v)
    )
    dontShowAgainVisible = Property(
        bool,
        lambda self: self.checkBox() is not None,
        lambda self, v: self.setCheckBox(self._box if v else None),
    )
    dontShowAgainSettingsKey = Property(
        str, lambda self: self._key, lambda self, v: setattr(self, "_key", v)
    )


class ctkSettings(QSettings):
    """Settings of the application."""


CLASSES = {
    name: value for name, value in list(globals().items())
    if name.startswith("ctk") and isinstance(value, type)
}  # fmt: skip

"""CTK's fields for numbers, as small real Qt widgets."""

from __future__ import annotations

from PySide6.QtCore import Property, Qt, Signal
from PySide6.QtWidgets import (
    QDoubleSpinBox,
    QHBoxLayout,
    QSlider,
    QWidget,
)

from .properties import classes_of, of_child, shown, stored


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
    minimum = of_child(float, "_box", "minimum")
    maximum = of_child(float, "_box", "maximum")
    singleStep = of_child(float, "_box", "singleStep")
    suffix = of_child(str, "_box", "suffix")
    prefix = of_child(str, "_box", "prefix")


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
    singleStep = of_child(float, "_box", "singleStep")
    pageStep = stored(float, "_page", 10.0)
    tracking = stored(bool, "_tracking", True)
    suffix = of_child(str, "_box", "suffix")
    prefix = of_child(str, "_box", "prefix")
    spinBoxVisible = shown("_box")


CLASSES = classes_of(globals(), "ctk")

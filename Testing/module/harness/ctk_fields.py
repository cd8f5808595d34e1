"""CTK's fields for text, paths and choices, as small real Qt widgets."""

from __future__ import annotations

from PySide6.QtCore import Property, QSettings, Signal
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QToolButton,
    QWidget,
)

from .properties import classes_of, of_child, shown, stored


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


class ctkSearchBox(QLineEdit):
    """A line edit with a glass and a cross."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setClearButtonEnabled(True)
        self.setPlaceholderText("Search...")

    showSearchIcon = stored(bool, "_show_icon", False)


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
    label = stored(str, "_label", "")
    settingKey = stored(str, "_key", "")
    nameFilters = stored("QStringList", "_name_filters", [])
    filters = stored(int, "_filters", 7)
    options = stored(int, "_options", 0)
    showBrowseButton = shown("_browse")
    minimumContentsLength = of_child(int, "_combo", "minimumContentsLength")


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
    caption = stored(str, "_caption", "")
    text = of_child(str, "_button", "text")
    icon = of_child(QIcon, "_button", "icon")


CLASSES = classes_of(globals(), "ctk")

"""The few questions that need a window of their own. Tests put another object in its place."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _


class Dialogs:
    """Asks the person; in Slicer's testing mode nothing is shown and the answer is the harmless
    one."""

    def __init__(self, parent: Any) -> None:
        self._parent = parent

    def folder(self, title: str) -> str:
        if slicer.app.testingEnabled():
            return ""
        return str(qt.QFileDialog.getExistingDirectory(self._parent, title) or "")

    def file_to_open(self, title: str, kinds: str) -> str:
        if slicer.app.testingEnabled():
            return ""
        return str(qt.QFileDialog.getOpenFileName(self._parent, title, "", kinds) or "")

    def file_to_save(self, title: str, name: str, kinds: str) -> str:
        if slicer.app.testingEnabled():
            return ""
        return str(qt.QFileDialog.getSaveFileName(self._parent, title, name, kinds) or "")

    def confirm(self, question: str) -> bool:
        if slicer.app.testingEnabled():
            return False
        return bool(slicer.util.confirmOkCancelDisplay(question))

    def confirm_quit(self, question: str) -> bool:
        """In testing mode Slicer may always be closed."""
        if slicer.app.testingEnabled():
            return True
        return bool(slicer.util.confirmOkCancelDisplay(question))

    def confirm_installation(self, question: str, extra: str) -> tuple[bool, bool]:
        """Whether to install, and whether the extra offer (no question where empty) is taken."""
        if slicer.app.testingEnabled():
            return False, False
        box = qt.QMessageBox(self._parent)
        box.setWindowTitle(_("MedNeXt Segmentation"))
        box.setText(question)
        box.setStandardButtons(qt.QMessageBox.Ok | qt.QMessageBox.Cancel)
        box.button(qt.QMessageBox.Ok).setText(_("Install"))
        check = qt.QCheckBox(extra)
        check.checked = bool(extra)
        if extra:
            box.setCheckBox(check)
        return box.exec_() == qt.QMessageBox.Ok, bool(extra and check.checked)

    def show_folder(self, path: str) -> None:
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(path))

    def to_clipboard(self, text: str) -> None:
        slicer.app.clipboard().setText(text)

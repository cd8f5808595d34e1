"""The section "Log": what the worker said, and diagnostics for whoever helps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from mednext_engine.jobs import protocol as p

from .diagnostics import diagnostics, hide, scene_words
from .dialogs import Dialogs
from .guard import Guard
from .worker_client import Reply, WorkerClient

INTERVAL = 1000  # milliseconds between looks at the log, while it is shown


class LogPanel:
    """Shows the log while the section is open; copies diagnostics without patient data."""

    def __init__(self, ui: Any, client: WorkerClient, dialogs: Dialogs, guard: Guard) -> None:
        self._ui, self._client, self.dialogs = ui, client, dialogs
        self._shown = ""
        self.training: WorkerClient | None = None
        self.doctor: Mapping[str, Any] = {}
        self.options: Callable[[], Mapping[str, Any]] = dict
        self.say: Callable[[str, str], None] = lambda message, hint: None
        self._timer = qt.QTimer()
        self._timer.setInterval(INTERVAL)
        guard.connect(self._timer, "timeout()", self.update)
        guard.connect(ui.logSection, "contentsCollapsed(bool)", self._opened)
        guard.connect(ui.copyDiagnosticsButton, "clicked()", self._copy)
        guard.connect(ui.openTemporaryButton, "clicked()", self._open_folder)

    def update(self) -> None:
        """Shows what came since, without names of nodes."""
        text = hide("\n".join(self._lines()), scene_words())
        if text != self._shown:
            self._shown = text
            self._ui.logText.plainText = text
            bar = self._ui.logText.verticalScrollBar()
            bar.value = bar.maximum

    def _lines(self) -> list[str]:
        """What the worker said, then what the process that trains said."""
        lines = list(self._client.log)
        if self.training is not None and self.training.log:
            lines += ["", "Training:", *self.training.log]
        return lines

    def stop(self) -> None:
        self._timer.stop()

    def _opened(self, collapsed: bool) -> None:
        if collapsed:
            self._timer.stop()
        else:
            self.update()
            self._timer.start()

    def _copy(self) -> None:
        """Asks the worker once more, so that the report tells of now; copies also without it."""
        self._client.ask(p.Doctor(), self._doctored)

    def _doctored(self, reply: Reply) -> None:
        if isinstance(reply, p.Result):
            self.doctor = reply.value
        text = diagnostics(
            self.doctor, self.options(), str(self._ui.statusLabel.text), self._lines()
        )
        self.dialogs.to_clipboard(text)
        self.say(_("Diagnostics were copied to the clipboard."), "")

    def _open_folder(self) -> None:
        folder = Path(slicer.app.temporaryPath)
        folder.mkdir(parents=True, exist_ok=True)
        self.dialogs.show_folder(str(folder))

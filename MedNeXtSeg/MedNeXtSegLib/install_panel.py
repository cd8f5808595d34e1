"""Knows what is missing and installs it after asking once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import slicer
from slicer.i18n import tr as _

from mednext_engine.jobs import protocol as p

from . import installation
from .dialogs import Dialogs
from .errors import UserError
from .guard import Guard
from .worker_client import Reply, WorkerClient


class InstallPanel:
    """The button "Install what is missing" and the report it rests on."""

    def __init__(self, ui: Any, client: WorkerClient, dialogs: Dialogs, guard: Guard) -> None:
        self._ui, self._client, self.dialogs = ui, client, dialogs
        self.doctor: Mapping[str, Any] = {}
        self.missing = installation.Missing()
        self.on_changed: Callable[[], None] = lambda: None
        self.on_installed: Callable[[], None] = lambda: None
        self.say: Callable[[str, str], None] = lambda message, hint: None
        guard.connect(ui.installButton, "clicked()", self.offer)
        ui.installButton.visible = False

    def refresh(self) -> None:
        """Asks the worker what this computer lacks; loads nothing heavy."""
        self._client.ask(p.Doctor(), self._doctored)

    def offer(self) -> bool:
        """Asks once, in words, and installs; whether Segment can run now.

        Raises UserError with what to do where it was declined or failed.
        """
        what = self.missing
        if not what.anything:
            return True
        extra = installation.accelerator_offer(what)
        agreed, accelerator = self.dialogs.confirm_installation(installation.question(what), extra)
        if not agreed:
            raise UserError(
                _("Nothing was installed, so models cannot run yet."),
                _("Click 'Install what is missing' when you want to go on."),
            )
        self._client.stop()  # files that the worker uses could not be replaced on Windows
        try:
            installation.install(what, accelerator, self._announce)
        finally:
            self.refresh()
        self.missing = installation.Missing()
        self._ui.installButton.visible = False
        self.say(_("Everything that is needed is installed."), "")
        self.on_installed()
        return True

    def _announce(self, sentence: str) -> None:
        self.say(sentence, "")
        slicer.app.processEvents()

    def _doctored(self, reply: Reply) -> None:
        if not isinstance(reply, p.Result):
            return
        self.doctor = reply.value
        self.missing = installation.missing(reply.value)
        self._ui.installButton.visible = self.missing.anything
        names = ", ".join(self.missing.names())
        self._ui.installButton.toolTip = (
            _("Install {names}, after asking once").format(names=names)
            if names
            else _("Install the packages that are missing, after asking once")
        )
        self.on_changed()

"""Knows what training lacks and installs it after asking once, together with what Segment lacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from .dialogs import Dialogs
from .errors import UserError
from .finetune_installation import install_training, missing_training, training_question
from .guard import Guard
from .install_panel import InstallPanel
from .worker_client import WorkerClient


class FinetuneInstallPanel:
    """The button "Install what training needs". `segment` installs what Segment needs first."""

    def __init__(
        self,
        ui: Any,
        segment: InstallPanel,
        client: WorkerClient,
        dialogs: Dialogs,
        guard: Guard,
    ) -> None:
        self._ui, self._segment, self._client = ui, segment, client
        self.dialogs = dialogs
        self.say: Callable[[str, str], None] = lambda message, hint: None
        guard.connect(ui.installTrainingButton, "clicked()", self.offer)
        self.update()

    def update(self) -> None:
        """Looks anew; loads nothing heavy."""
        what = missing_training(self._segment.doctor)
        known = bool(self._segment.doctor)
        self._ui.installTrainingButton.visible = known and what.anything
        self._ui.installTrainingButton.toolTip = _("Install {names}, after asking once").format(
            names=", ".join(what.names())
        )

    def offer(self) -> bool:
        """Asks once, in words, and installs; whether training can run now.

        Raises UserError with what to do where it was declined or failed.
        """
        self._segment.offer()
        what = missing_training(self._segment.doctor)
        if not what.anything:
            return True
        agreed, _extra = self.dialogs.confirm_installation(training_question(what), "")
        if not agreed:
            raise UserError(
                _("Nothing was installed, so nothing can be trained yet."),
                _("Click 'Install what training needs' when you want to go on."),
            )
        self._client.stop()  # files that the process uses could not be replaced on Windows
        install_training(what, self._announce)
        self._segment.refresh()
        self._ui.installTrainingButton.visible = False
        self.say(_("Everything that training needs is installed."), "")
        return True

    def _announce(self, sentence: str) -> None:
        self.say(sentence, "")
        slicer.app.processEvents()

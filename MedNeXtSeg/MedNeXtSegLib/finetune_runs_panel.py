"""The list of earlier trainings: resume, take up their cases, remove."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from .dialogs import Dialogs
from .errors import UserError
from .finetune_logic import FinetuneLogic, Run
from .guard import Guard
from .tables import fit_table, prepare_table
from .wording import folder_size, size_text

RESUMABLE = ("interrupted", "failed", "new")


class RunsPanel:
    """The section "Earlier trainings"."""

    def __init__(self, ui: Any, logic: FinetuneLogic, dialogs: Dialogs, guard: Guard) -> None:
        self._ui, self._logic, self.dialogs = ui, logic, dialogs
        self.enabled = True
        self.on_resume: Callable[[str], None] = lambda folder: None
        self.on_continue: Callable[[Run], None] = lambda run: None
        self.on_filled: Callable[[], None] = lambda: None
        logic.on_runs = self._listed
        logic.on_failed = self._failed
        guard.connect(ui.runsTable, "itemSelectionChanged()", self.update)
        guard.connect(ui.resumeButton, "clicked()", self._resume)
        guard.connect(ui.continueButton, "clicked()", self._continue)
        guard.connect(ui.removeRunButton, "clicked()", self._remove)
        guard.connect(ui.openRunButton, "clicked()", self._open)
        prepare_table(ui.runsTable)
        ui.runsStatus.visible = False
        self.fill()

    @property
    def chosen(self) -> Run | None:
        row = int(self._ui.runsTable.currentRow())
        return self._logic.runs[row] if 0 <= row < len(self._logic.runs) else None

    def _listed(self) -> None:
        self.fill()
        self.on_filled()

    def fill(self) -> None:
        """Shows the list; the choice stays where it can."""
        table, chosen = self._ui.runsTable, self._folder()
        runs = self._logic.runs
        table.setRowCount(len(runs))
        for row, run in enumerate(runs):
            for column, text in enumerate((str(run["name"]), _state_words(run))):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(text)
                if column == 0:
                    item.setData(qt.Qt.UserRole, str(run["folder"]))
                table.setItem(row, column, item)
            if run["folder"] == chosen:
                table.selectRow(row)
        fit_table(table, most_rows=5)
        waiting = sum(run["state"] in RESUMABLE for run in runs)
        title = _("Earlier trainings ({count})").format(count=len(runs))
        if waiting:
            title = _("Earlier trainings ({count}, {waiting} to resume)").format(
                count=len(runs), waiting=waiting
            )
        self._ui.runsSection.text = title
        self.update()

    def _folder(self) -> str:
        item = self._ui.runsTable.item(self._ui.runsTable.currentRow(), 0)
        return str(item.data(qt.Qt.UserRole)) if item is not None else ""

    def set_enabled(self, enabled: bool) -> None:
        self.enabled = enabled
        self.update()

    def update(self) -> None:
        ui, run = self._ui, self.chosen
        state = str(run["state"]) if run else ""
        free = self.enabled and run is not None and state != "running"
        ui.resumeButton.enabled = free and state in RESUMABLE
        ui.continueButton.enabled = free
        ui.removeRunButton.enabled = free
        ui.openRunButton.enabled = run is not None

    def _say(self, sentence: str) -> None:
        self._ui.runsStatus.text = sentence
        self._ui.runsStatus.visible = bool(sentence)

    def _failed(self, message: str, hint: str) -> None:
        self._say(f"{message} {hint}".strip())
        self.on_filled()

    def _require(self) -> Run:
        run = self.chosen
        if run is None:
            raise UserError(_("Pick a training in the list."))
        self._say("")
        return run

    def _resume(self) -> None:
        self.on_resume(str(self._require()["folder"]))

    def _continue(self) -> None:
        self.on_continue(self._require())

    def _remove(self) -> None:
        run = self._require()
        size = size_text(folder_size(str(run["folder"])))
        question = _(
            "Delete the training of {name} with its copies of the cases ({size})? The model it "
            "made stays; it cannot be resumed any more."
        ).format(name=run["name"], size=size)
        if self.dialogs.confirm(question):
            self._logic.remove(str(run["folder"]))

    def _open(self) -> None:
        folder = str(self._require()["folder"])
        if Path(folder).is_dir():
            self.dialogs.show_folder(folder)


def _state_words(run: Run) -> str:
    words = {
        "new": _("Not started"),
        "running": _("Running"),
        "interrupted": _("Interrupted"),
        "finished": _("Finished"),
        "failed": _("Failed"),
    }
    word = words.get(str(run["state"]), str(run["state"]))
    fraction = float(run.get("fraction") or 0.0)
    return word if run["state"] in ("finished", "new") else f"{word} ({fraction:.0%})"

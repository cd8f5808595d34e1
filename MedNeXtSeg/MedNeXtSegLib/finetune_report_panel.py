"""What the check found, how the training goes, and what came out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from mednext_engine.jobs import protocol as p

from .guard import Guard
from .tables import fit_list, fit_table, prepare_table
from .wording import size_text, time_text


class FinetuneReportPanel:
    """The list of problems, the estimate, the facts in mid-run and the table of results."""

    def __init__(self, ui: Any, guard: Guard) -> None:
        self._ui, self._guard = ui, guard
        self._best = self._said = ""
        prepare_table(ui.resultsTable)
        self.clear()

    def clear(self) -> None:
        ui = self._ui
        ui.problemsList.clear()
        ui.resultsTable.setRowCount(0)
        for label in (ui.estimateLabel, ui.factsLabel, ui.heldOutLabel):
            label.text = ""
        for widget in (
            ui.problemsList, ui.estimateLabel, ui.progressSection, ui.factsLabel,
            ui.heldOutLabel, ui.resultsTable, ui.trainAgainButton,
        ):  # fmt: skip
            widget.visible = False
        self._best = ""

    # ---- the check -------------------------------------------------------------------------------

    def show_report(self, report: Mapping[str, Any], names: Mapping[str, str]) -> None:
        """A CheckValue; `names` are the cases' titles by their ids."""
        ui = self._ui
        ui.problemsList.clear()
        problems = report.get("problems", [])
        for level in ("error", "warning", "info"):
            for problem in problems:
                if problem["level"] == level:
                    ui.problemsList.addItem(self._item(problem, names))
        if not problems:
            ui.problemsList.addItem(_("Nothing is wrong with cases and labels."))
        ui.problemsList.visible = True
        qt.QTimer.singleShot(0, self._guard(self._fit))  # its width is known when it is shown
        ui.estimateLabel.text = self._estimate(report)
        ui.estimateLabel.visible = bool(ui.estimateLabel.text)

    def _fit(self) -> None:
        fit_list(self._ui.problemsList, most=200)

    def _item(self, problem: Mapping[str, Any], names: Mapping[str, str]) -> Any:
        word, icon = {
            "error": (_("Error"), qt.QStyle.SP_MessageBoxCritical),
            "warning": (_("Warning"), qt.QStyle.SP_MessageBoxWarning),
        }.get(problem["level"], (_("Info"), qt.QStyle.SP_MessageBoxInformation))
        case = problem["case"]
        where = f"{names.get(case, case)}: " if case else ""
        text = f"{word}: {where}{problem['message']} {problem['hint']}".strip()
        item = qt.QListWidgetItem(text)
        item.setIcon(self._ui.problemsList.style().standardIcon(icon))
        item.setToolTip(text)
        return item

    def _estimate(self, report: Mapping[str, Any]) -> str:
        self._said = " ".join(problem["message"] for problem in report.get("problems", []))
        lines = self._unsaid([str(report.get("validation") or "")])
        estimate = report.get("estimate")
        if estimate:
            seconds = estimate.get("seconds")
            patch = "×".join(str(n) for n in estimate.get("patch", []))
            if seconds is not None:
                lines.append(_("It takes about {time}.").format(time=time_text(seconds)))
            else:
                lines.append(_("How long it takes is known after the first steps."))
            lines.append(
                _("{device}: {memory} of memory, {disk} on the disk; {steps} steps of "
                  "{batch} patches of {patch} voxels.").format(
                    device=estimate.get("device", ""),
                    memory=size_text(estimate.get("memory_bytes", 0)),
                    disk=size_text(estimate.get("disk_bytes", 0)),
                    steps=estimate.get("steps", 0),
                    batch=estimate.get("batch", 0),
                    patch=patch,
                )
            )  # fmt: skip
        return " ".join(line for line in lines if line)

    def _unsaid(self, sentences: list[str]) -> list[str]:
        """Those that do not stand in the list of problems already."""
        return [sentence for sentence in sentences if sentence not in self._said]

    # ---- in mid-run ------------------------------------------------------------------------------

    def begin_training(self) -> None:
        ui = self._ui
        ui.resultsTable.setRowCount(0)
        for widget in (ui.heldOutLabel, ui.resultsTable, ui.trainAgainButton):
            widget.visible = False
        ui.progressSection.visible = ui.factsLabel.visible = True
        ui.progressSection.collapsed = False
        ui.factsLabel.text = _("No epoch is over yet.")
        self._best = ""

    def show_epoch(self, epoch: p.Epoch) -> None:
        ui = self._ui
        mean = _mean(epoch.dice)
        lines = [_("Epoch {epoch} of {epochs}.").format(epoch=epoch.epoch, epochs=epoch.epochs)]
        if epoch.train_loss is not None:
            lines.append(_("Loss {loss}.").format(loss=f"{epoch.train_loss:.3f}"))
        if mean is not None:
            lines.append(_("Mean Dice {dice}.").format(dice=f"{mean:.3f}"))
        if epoch.best:
            shown = _("mean Dice {dice}").format(dice=f"{mean:.3f}") if mean is not None else ""
            best = _("Best so far: epoch {epoch}").format(epoch=epoch.epoch)
            self._best = f"{best} ({shown})." if shown else f"{best}."
        if self._best:
            lines.append(self._best)
        if epoch.seconds_left is not None:
            lines.append(_("About {time} left.").format(time=time_text(epoch.seconds_left)))
        if epoch.memory_bytes:
            lines.append(_("Memory: {size}.").format(size=size_text(epoch.memory_bytes)))
        ui.factsLabel.text = " ".join(lines)
        lowest = sorted(epoch.dice.items(), key=lambda item: item[1])
        ui.factsLabel.toolTip = "\n".join(f"{name}: {dice:.3f}" for name, dice in lowest)

    # ---- the end ---------------------------------------------------------------------------------

    def show_result(self, value: Mapping[str, Any]) -> None:
        """A FinetuneValue: Dice before and after, label by label."""
        ui, table = self._ui, self._ui.resultsTable
        rows: Sequence[Mapping[str, Any]] = value.get("before_after", [])
        table.setRowCount(len(rows))
        for index, row in enumerate(rows):
            texts = (str(row["label"]), _dice(row["before"]), _dice(row["after"]))
            for column, text in enumerate(texts):
                item = qt.QTableWidgetItem(text)
                tip = text if text != "–" else _("Not known to the base model, or not held out")
                item.setToolTip(tip)
                table.setItem(index, column, item)
        fit_table(table, most_rows=10)
        table.visible = bool(rows)
        ui.factsLabel.text = self._best
        ui.factsLabel.visible = bool(self._best)
        notes = self._unsaid([str(note) for note in value.get("notes", [])])
        ui.heldOutLabel.text = " ".join([str(value.get("held_out") or ""), *notes]).strip()
        ui.heldOutLabel.visible = bool(ui.heldOutLabel.text)
        ui.progressSection.visible = True
        ui.progressSection.collapsed = False
        ui.trainAgainButton.visible = True

    def hide_progress(self) -> None:
        """It was cancelled or failed: of the training nothing is shown."""
        self._ui.progressSection.visible = False


def _mean(dice: Mapping[str, float]) -> float | None:
    return sum(dice.values()) / len(dice) if dice else None


def _dice(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"

"""Segment and Cancel, progress, the status line and what to install."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from mednext_engine.jobs import protocol as p

from .guard import Guard
from .measurements import Measurements
from .parameter import SegmentParameter
from .segment_job import CANCELLED, DONE, Outcome
from .segment_logic import SegmentLogic
from .wording import labels_text, time_text

IDLE, RUNNING, CANCELLING = "idle", "running", "cancelling"


class RunPanel:
    """One button that runs and cancels, and one line that always says what is going on."""

    def __init__(
        self, ui: Any, logic: SegmentLogic, measurements: Measurements, guard: Guard
    ) -> None:
        self._ui, self._logic, self._measurements = ui, logic, measurements
        self._state = IDLE
        self._said = ""  # the end of the last run, or a message; until something is changed
        self._standing = ""
        self._said_of: tuple[object, ...] = ()
        self.parameter: Callable[[], SegmentParameter] = SegmentParameter
        self.blocked: Callable[[], str] = lambda: ""  # why nothing can run, whatever is picked
        self.before_run: Callable[[], bool] = lambda: True
        self.on_state: Callable[[bool], None] = lambda running: None
        self.on_done: Callable[[Outcome], None] = lambda outcome: None
        guard.connect(ui.runButton, "clicked()", self._clicked)
        guard.connect(ui.undoButton, "clicked()", self._undo)
        ui.deviceNotice.visible = False
        ui.progressBar.visible = False

    @property
    def running(self) -> bool:
        return self._state != IDLE

    def say(self, message: str, hint: str = "") -> None:
        """Shows a message until something is changed."""
        self._said, self._said_of = f"{message} {hint}".strip(), self._key()
        self.update()

    def notice(self, sentence: str, standing: bool = False) -> None:
        """Shows a line about the device; a standing one stays over runs."""
        if standing:
            self._standing = sentence
        self._ui.deviceNotice.text = sentence
        self._ui.deviceNotice.visible = bool(sentence)

    def changed(self) -> None:
        """Something may have been picked: then what was said before is over."""
        if not self.running and self._key() != self._said_of:
            self._said = ""
        self.update()

    def _key(self) -> tuple[object, ...]:
        parameter = self.parameter()
        model = parameter.model["id"] if parameter.model else ""
        nodes = (*parameter.volumes, parameter.segmentation, parameter.roi)
        ids = [node.GetID() if node is not None else "" for node in nodes]
        return (model, *ids, parameter.quality, parameter.device, parameter.uncertainty)

    def update(self) -> None:
        """Sets the buttons and, where nothing else is to be said, why they are as they are."""
        ui = self._ui
        problem = "" if self.running else (self.blocked() or self.parameter().problem())
        ui.runButton.text = _("&Cancel") if self.running else _("&Segment")
        ui.runButton.accessibleName = _("Cancel the run") if self.running else _("Segment")
        ui.runButton.enabled = self._state == RUNNING or (self._state == IDLE and not problem)
        ui.undoButton.enabled = self._logic.can_undo and not self.running
        ui.progressBar.visible = self.running
        if not self.running:
            ready = _("Ready: click Segment.")
            ui.statusLabel.text = self._said or problem or ready
            if self._said and problem and problem not in self._said:
                ui.statusLabel.text = f"{self._said}\n{problem}"
            ui.runButton.toolTip = problem or _("Segment the volume; while it runs, cancel the run")

    def _clicked(self) -> None:
        if self._state == RUNNING:
            self.cancel()
        elif self._state == IDLE and self.before_run():
            self.start()

    def start(self) -> None:
        """Starts a run with what the panel says."""
        parameter = self.parameter()
        parameter.require_valid()
        self.notice(self._standing)
        self._ui.progressBar.value = 0
        self._set_state(RUNNING)
        self._ui.statusLabel.text = _("Exporting the volume…")
        try:
            self._logic.start(parameter, self._progressed, self._ended)
        except BaseException:
            self._set_state(IDLE)
            raise

    def cancel(self) -> None:
        if self._state == RUNNING and self._logic.job is not None:
            self._set_state(CANCELLING)
            self._ui.statusLabel.text = _("Cancelling…")
            self._logic.job.cancel()

    def _set_state(self, state: str) -> None:
        self._state = state
        self.update()
        self.on_state(state != IDLE)

    def _progressed(self, progress: p.Progress) -> None:
        if self._state != RUNNING:
            return
        self._ui.progressBar.value = int(1000 * progress.fraction)
        text = progress.stage or _("Working")
        if progress.seconds_left is not None and progress.seconds_left >= 1:
            left = time_text(progress.seconds_left)
            text = _("{stage}: about {time} left").format(stage=text, time=left)
        if progress.note:
            text = f"{text}. {progress.note}"
        self._ui.statusLabel.text = f"{text}…" if not text.endswith((".", "…")) else text

    def _ended(self, outcome: Outcome) -> None:
        self._said, self._said_of = self._words(outcome), self._key()
        self._set_state(IDLE)
        if outcome.state == DONE:
            self._record(outcome)
            self._notice_device(outcome)
            self.on_done(outcome)

    def _words(self, outcome: Outcome) -> str:
        if outcome.state == CANCELLED:
            return _("{message} The scene is as it was.").format(message=outcome.message)
        if outcome.state != DONE:
            return f"{outcome.message} {outcome.hint}".strip()
        text = _("Done in {time}: {labels} found in {name}.").format(
            time=time_text(outcome.seconds),
            labels=labels_text(outcome.found),
            name=outcome.segmentation.GetName(),
        )
        absent = self._absent(outcome)
        if absent:
            text += " " + _("Not found: {names}.").format(names=absent)
        return " ".join([text, *outcome.notes])

    def _absent(self, outcome: Outcome) -> str:
        present = {value for one in outcome.values for value in one.get("present", [])}
        labels = outcome.values[0].get("labels", []) if outcome.values else []
        names = [str(label["name"]) for label in labels if label["value"] not in present]
        return ", ".join(names[:8]) + (" …" if len(names) > 8 else "")

    def _record(self, outcome: Outcome) -> None:
        parameter = self._logic.job.parameter if self._logic.job else None
        if parameter is None or len(outcome.values) != 1 or parameter.roi is not None:
            return
        image = parameter.volumes[0].GetImageData()
        if image is not None:
            self._measurements.record(outcome.values[0], outcome.seconds, image.GetNumberOfPoints())

    def _notice_device(self, outcome: Outcome) -> None:
        """A persistent line when a run used the CPU although a GPU was wanted."""
        device = str(outcome.values[-1].get("device", "")) if outcome.values else ""
        wanted = self._logic.job.parameter.device if self._logic.job else "cpu"
        if device.startswith("cpu") and wanted != "cpu":
            reasons = [note for note in outcome.notes if "GPU" in note or "memory" in note]
            why = " ".join(reasons) or _("no usable GPU was found by PyTorch.")
            self.notice(_("It ran on the CPU: {why}").format(why=self._standing or why))

    def _undo(self) -> None:
        self._logic.undo()
        self.say(_("The last result was undone."))

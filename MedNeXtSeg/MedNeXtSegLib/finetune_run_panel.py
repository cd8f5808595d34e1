"""Check, Start, Stop and Cancel of a training, its progress and the line that says what goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from . import finetune_job as j
from .finetune_job import FinetuneOutcome
from .finetune_logic import FinetuneLogic
from .finetune_parameter import FinetuneParameter
from .guard import Guard
from .wording import time_text

IDLE = "idle"


class FinetuneRunPanel:
    """The buttons and what they do; `state` is `IDLE` or one of `finetune_job`'s."""

    def __init__(self, ui: Any, logic: FinetuneLogic, guard: Guard) -> None:
        self._ui, self._logic = ui, logic
        self.state = IDLE
        self._said = ""
        self._said_of: object = None
        self.parameter: Callable[[], FinetuneParameter] = FinetuneParameter
        self.blocked: Callable[[], str] = lambda: ""
        self.before_start: Callable[[], bool] = lambda: True
        self.callbacks: Callable[[], dict[str, Any]] = dict
        self.on_state: Callable[[str], None] = lambda state: None
        self.on_end: Callable[[FinetuneOutcome], None] = lambda outcome: None
        guard.connect(ui.checkButton, "clicked()", self._check)
        guard.connect(ui.startButton, "clicked()", self._start_or_stop)
        guard.connect(ui.cancelButton, "clicked()", self.cancel)
        ui.trainProgress.visible = False
        ui.cancelButton.visible = False

    @property
    def running(self) -> bool:
        return self.state != IDLE

    @property
    def training(self) -> bool:
        """Whether work would be lost if Slicer were closed now."""
        return self.state in (j.TRAINING, j.STOPPING)

    # ---- saying ----------------------------------------------------------------------------------

    def say(self, message: str, hint: str = "") -> None:
        """Shows a message until something is changed."""
        self._said, self._said_of = f"{message} {hint}".strip(), self._key()
        if self.running:
            self._ui.trainStatus.text = self._said
        self.update()

    def changed(self) -> None:
        if not self.running and self._key() != self._said_of:
            self._said = ""
        self.update()

    def _key(self) -> object:
        parameter = self.parameter()
        cases = [(c.title(), c.annotated, c.axis, c.beyond, c.use) for c in parameter.cases]
        settings = {**parameter.as_json(), "name": ""}  # a name that is suggested is no change
        return repr((settings, cases))

    def update(self) -> None:
        """Sets the buttons and, where nothing else is to be said, why they are as they are."""
        ui, state = self._ui, self.state
        problem = "" if self.running else (self.blocked() or self.parameter().problem())
        stopping = state in (j.TRAINING, j.STOPPING)
        ui.startButton.text = _("Stop and &keep the best") if stopping else _("S&tart")
        ui.startButton.accessibleName = (
            _("Stop the training and keep the best") if stopping else _("Start fine-tuning")
        )
        ui.startButton.enabled = state == j.TRAINING or (state == IDLE and not problem)
        ui.startButton.toolTip = (
            _("End the training now; the best network so far becomes the model")
            if stopping
            else problem or _("Check, then train a new model; while it trains, stop it")
        )
        ui.checkButton.visible = not stopping
        ui.checkButton.enabled = state == IDLE and not problem
        ui.cancelButton.visible = self.running
        ui.cancelButton.enabled = self.running and state != j.CANCELLING
        ui.trainProgress.visible = self.running
        if not self.running:
            ready = _("Ready: click Check to see what it will take, or Start.")
            ui.trainStatus.text = self._said or problem or ready
            if self._said and problem and problem not in self._said:
                ui.trainStatus.text = f"{self._said}\n{problem}"

    # ---- clicking --------------------------------------------------------------------------------

    def _check(self) -> None:
        if not self.running and self.before_start():
            self.start(check_only=True)

    def _start_or_stop(self) -> None:
        if self.state == j.TRAINING and self._logic.job is not None:
            self._logic.job.stop()
        elif not self.running and self.before_start():
            self.start()

    def start(self, check_only: bool = False) -> None:
        """Starts with what the panel says."""
        parameter = self.parameter()
        parameter.require_valid()
        self._begin()
        try:
            self._logic.start(parameter, check_only, **self._all_callbacks())
        except BaseException:
            self._state_is(j.OVER)
            raise

    def resume(self, folder: str) -> None:
        self._begin()
        try:
            self._logic.resume(folder, **self._all_callbacks())
        except BaseException:
            self._state_is(j.OVER)
            raise

    def cancel(self) -> None:
        if self.running and self._logic.job is not None:
            self._logic.job.cancel()

    def _begin(self) -> None:
        self._said = ""
        self._ui.trainProgress.value = 0
        self._state_is(j.EXPORTING)

    def _all_callbacks(self) -> dict[str, Any]:
        own = {"on_state": self._state_is, "on_progress": self._progressed, "on_end": self._ended}
        return {**self.callbacks(), **own}

    def _state_is(self, state: str) -> None:
        self.state = IDLE if state == j.OVER else state
        words = {
            j.EXPORTING: _("Exporting the cases…"),
            j.CHECKING: _("Checking the cases…"),
            j.TRAINING: _("The training starts…"),
            j.STOPPING: _("Stopping: the best network is kept and measured…"),
            j.CANCELLING: _("Cancelling…"),
        }
        if state in words:
            self._ui.trainStatus.text = words[state]
        self.update()
        self.on_state(self.state)

    def _progressed(self, text: str, fraction: float, seconds_left: float | None) -> None:
        if self.state in (IDLE, j.CANCELLING):
            return
        self._ui.trainProgress.value = int(1000 * fraction)
        if seconds_left is not None and seconds_left >= 1:
            left = time_text(seconds_left)
            text = _("{stage}: about {time} left").format(stage=text.rstrip(".…"), time=left)
        if self.state == j.STOPPING:
            text = _("Stopping. {text}").format(text=text)
        self._ui.trainStatus.text = text if text.endswith((".", "…")) else f"{text}…"

    def _ended(self, outcome: FinetuneOutcome) -> None:
        self._state_is(j.OVER)
        self.on_end(outcome)
        self.say(words_of(outcome))


def words_of(outcome: FinetuneOutcome) -> str:
    """How it ended, in words."""
    if outcome.state == j.CANCELLED:
        if outcome.folder is None:
            return _("{message} Nothing is left of it.").format(message=outcome.message)
        return _("{message} It can be resumed from the list of earlier trainings.").format(
            message=outcome.message
        )
    if outcome.state == j.CHECKED:
        return outcome.message or _("Checked: read the list, then click Start.")
    if outcome.state == j.FAILED:
        return f"{outcome.message} {outcome.hint}".strip()
    value = outcome.value
    model = value.get("model") or {}
    why = {
        "plateau": _("it did not get better any more"),
        "stopped": _("it was stopped and the best kept"),
    }.get(str(value.get("reason")), "")
    done = _("Done in {time}").format(time=time_text(value.get("seconds") or outcome.seconds))
    text = f"{done} ({why})." if why else f"{done}."
    chosen = _("{title} is chosen in the tab Segment.").format(
        title=model.get("title") or model.get("id") or _("The new model")
    )
    return f"{text} {chosen}"

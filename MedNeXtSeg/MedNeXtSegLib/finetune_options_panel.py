"""Where a training starts from, how the new model is called and how long it is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from slicer.i18n import tr as _

from .finetune_cases import TrainingCase
from .finetune_parameter import PRESETS, SCRATCH, STANDARD, TRANSFERS
from .guard import Guard
from .settings import SceneSettings
from .wording import size_text

_SPACINGS = ("base", "own")
_CONTEXTS = (1.0, 1.5, 2.0)
PREVIEW_EPOCHS, NEVER = 5, 1_000_000
_MIRRORS: tuple[str | bool, ...] = ("auto", True, False)


def preset_words() -> dict[str, str]:
    return {
        "quick": _(
            "Quick: 1,000 steps, to see whether the model learns what was drawn; minutes with a "
            "GPU, without one up to some hours. 'Check' says how long here."
        ),
        "standard": _(
            "Standard: 7,500 steps, good for most; about an hour with a GPU, a night or more "
            "without one. 'Check' says how long here."
        ),
        "thorough": _(
            "Thorough: 37,500 steps, for the last few per cent; some hours with a GPU, not "
            "advisable without one. 'Check' says how long here."
        ),
    }


class TrainOptionsPanel:
    """The section "Training" and what is advanced. `on_changed` is called at each change."""

    def __init__(self, ui: Any, guard: Guard) -> None:
        self._ui = ui
        self._models: list[Mapping[str, Any]] = []
        self._wanted = ""
        self._suggested = self._suggested_channels = ""
        self._filling = False
        self.on_changed: Callable[[], None] = lambda: None
        for combo in self._combos():
            guard.connect(combo, "currentIndexChanged(int)", self._changed)
        for edit in (ui.nameEdit, ui.channelsEdit):
            guard.connect(edit, "textChanged(QString)", self._changed)
        guard.connect(ui.stepsSpin, "valueChanged(int)", self._changed)
        for check in (ui.upkernCheck, ui.previewCheck):
            guard.connect(check, "toggled(bool)", self._changed)
        for label, widget in (
            (ui.baseLabel, ui.baseCombo),
            (ui.nameLabel, ui.nameEdit),
            (ui.presetLabel, ui.presetCombo),
            (ui.trainDeviceLabel, ui.trainDeviceCombo),
            (ui.transferLabel, ui.transferCombo),
            (ui.networkLabel, ui.networkCombo),
            (ui.channelsLabel, ui.channelsEdit),
            (ui.spacingLabel, ui.spacingCombo),
            (ui.contextLabel, ui.contextCombo),
            (ui.stepsLabel, ui.stepsSpin),
            (ui.mirrorLabel, ui.mirrorCombo),
            (ui.previewLabel, ui.previewCombo),
        ):
            label.setBuddy(widget)
        ui.presetCombo.currentIndex = PRESETS.index(STANDARD)
        ui.trainDeviceCombo.setItemData(0, "auto")
        ui.trainDeviceCombo.setItemData(1, "cpu")
        self.describe()

    def _combos(self) -> list[Any]:
        ui = self._ui
        return [
            ui.baseCombo, ui.presetCombo, ui.trainDeviceCombo, ui.transferCombo, ui.networkCombo,
            ui.spacingCombo, ui.contextCombo, ui.mirrorCombo, ui.previewCombo,
        ]  # fmt: skip

    # ---- what is chosen --------------------------------------------------------------------------

    @property
    def base(self) -> Mapping[str, Any] | None:
        """The base model; None from scratch."""
        if self.from_scratch:
            return None
        return next((m for m in self._models if m["id"] == self._wanted), None)

    @property
    def from_scratch(self) -> bool:
        return TRANSFERS[self._ui.transferCombo.currentIndex] == SCRATCH or not self._models

    @property
    def name(self) -> str:
        return str(self._ui.nameEdit.text).strip()

    @property
    def preset(self) -> str:
        return PRESETS[self._ui.presetCombo.currentIndex]

    @property
    def channels(self) -> list[str]:
        """What was typed, else those of the base model."""
        typed = [part.strip() for part in str(self._ui.channelsEdit.text).split(",")]
        return list(dict.fromkeys(part for part in typed if part)) or [_("Volume")]

    @property
    def preview_case(self) -> int | None:
        index = int(self._ui.previewCombo.currentIndex)
        return index - 1 if index > 0 else None

    def options(self) -> dict[str, Any]:
        """The "options" of job.json, what is left to the engine left out."""
        ui = self._ui
        options: dict[str, Any] = {
            "device": str(ui.trainDeviceCombo.currentData or "auto"),
            "transfer": TRANSFERS[ui.transferCombo.currentIndex],
            "upkern": bool(ui.upkernCheck.checked) and not self.from_scratch,
            "spacing": _SPACINGS[ui.spacingCombo.currentIndex],
            "mirror": _MIRRORS[ui.mirrorCombo.currentIndex],
            "context": _CONTEXTS[ui.contextCombo.currentIndex],
            "preview_every": PREVIEW_EPOCHS if ui.previewCheck.checked else NEVER,
        }
        if self.from_scratch and ui.networkCombo.currentData:
            options["network"] = str(ui.networkCombo.currentData)
        if ui.stepsSpin.value:
            options["steps"] = int(ui.stepsSpin.value)
        return options

    @contextmanager
    def _fill(self) -> Iterator[None]:
        """What is set meanwhile was not chosen by the person."""
        self._filling = True
        try:
            yield
        finally:
            self._filling = False

    # ---- showing ---------------------------------------------------------------------------------

    def set_models(self, models: Sequence[Mapping[str, Any]]) -> None:
        """Lists the installed models; the choice stays where it can."""
        self._models = list(models)
        with self._fill():
            self._ui.baseCombo.clear()
            for model in models:
                self._ui.baseCombo.addItem(str(model.get("title") or model["id"]), str(model["id"]))
            self._choose()
        self._changed()

    def choose_base(self, identifier: str) -> None:
        self._wanted = identifier
        self._choose()
        self._changed()

    def _choose(self) -> None:
        ids = [str(model["id"]) for model in self._models]
        if ids and self._wanted not in ids:
            self._wanted = ids[0]
        if ids:
            self._ui.baseCombo.currentIndex = ids.index(self._wanted)

    def set_devices(self, devices: Sequence[Mapping[str, Any]]) -> None:
        """Lists the accelerators that the worker found, with their free memory."""
        combo = self._ui.trainDeviceCombo
        chosen = combo.currentData
        with self._fill():
            _keep_first(combo)
            for device in devices:
                text = _("{title} ({name}), {free} free").format(
                    title=device["title"], name=device["name"], free=size_text(device["free"])
                )
                combo.addItem(text, str(device["name"]))
            if not any(device["name"] == "cpu" for device in devices):
                combo.addItem(_("CPU"), "cpu")
            combo.currentIndex = max(0, combo.findData(chosen))

    def set_networks(self, networks: Sequence[Mapping[str, Any]]) -> None:
        """Lists what can be trained from scratch."""
        combo, chosen = self._ui.networkCombo, self._ui.networkCombo.currentData
        with self._fill():
            _keep_first(combo)
            for network in networks:
                text = _("{title} ({millions} million weights)").format(
                    title=network["title"], millions=f"{network['parameters'] / 1e6:.1f}"
                )
                combo.addItem(text, str(network["id"]))
            combo.currentIndex = max(0, combo.findData(chosen)) if chosen else 0

    def set_cases(self, cases: Sequence[TrainingCase]) -> None:
        """Lists the cases that a preview may show."""
        combo, chosen = self._ui.previewCombo, self._ui.previewCombo.currentIndex
        with self._fill():
            _keep_first(combo)
            for number, case in enumerate(cases, start=1):
                text = _("Case {number}: {title}").format(number=number, title=case.title())
                combo.addItem(text)
            combo.currentIndex = chosen if chosen < combo.count else 0

    def set_enabled(self, enabled: bool) -> None:
        for widget in (*self._combos(), self._ui.nameEdit, self._ui.channelsEdit):
            widget.enabled = enabled
        for widget in (self._ui.stepsSpin, self._ui.upkernCheck, self._ui.previewCheck):
            widget.enabled = enabled

    def load(self, settings: SceneSettings) -> None:
        self._wanted = settings.text("FineTuneBase", self._wanted)
        self._choose()
        preset = settings.text("FineTunePreset", self.preset)
        self._ui.presetCombo.currentIndex = PRESETS.index(preset) if preset in PRESETS else 1
        name = settings.text("FineTuneName")
        if name:
            self._ui.nameEdit.text = name

    def save(self, settings: SceneSettings) -> None:
        settings.set_text("FineTuneBase", self._wanted)
        settings.set_text("FineTunePreset", self.preset)
        named = self.name if self.name != self._suggested else ""
        settings.set_text("FineTuneName", named)

    def _changed(self) -> None:
        if self._filling:
            return
        index = int(self._ui.baseCombo.currentIndex)
        if 0 <= index < len(self._models):
            self._wanted = str(self._models[index]["id"])
        with self._fill():
            self._suggest()
        self.describe()
        self.on_changed()

    def _suggest(self) -> None:
        """A name and channels that follow the base model, until the person types others."""
        ui, base = self._ui, self.base
        title = str(base.get("title") or base["id"]) if base else _("Model")
        taken = {str(model.get("title") or model["id"]) for model in self._models}
        name, number = _("{title} fine-tuned").format(title=title), 2
        if base is None:
            name = _("My model")
        wanted = name
        while wanted in taken:
            wanted, number = f"{name} {number}", number + 1
        if self.name in ("", self._suggested):
            ui.nameEdit.text = wanted
        self._suggested = wanted
        channels = ", ".join(base.get("channels", [])) if base else _("Volume")
        if str(ui.channelsEdit.text).strip() in ("", self._suggested_channels):
            ui.channelsEdit.text = channels
        self._suggested_channels = channels

    def describe(self) -> None:
        """Shows the fields that mean something with what is chosen, and says what is."""
        ui = self._ui
        ui.presetExplanation.text = preset_words()[self.preset]
        scratch = TRANSFERS[ui.transferCombo.currentIndex] == SCRATCH
        ui.baseCombo.visible = ui.baseLabel.visible = ui.upkernCheck.visible = not scratch
        ui.networkCombo.visible = ui.networkLabel.visible = scratch
        spacing = _("1 mm, as in the MedNeXt paper") if scratch else _("Of the base model")
        ui.spacingCombo.setItemText(0, spacing)
        shown = bool(ui.previewCheck.checked)
        ui.previewCombo.visible = ui.previewLabel.visible = shown


def _keep_first(combo: Any) -> None:
    """Removes all items but the first, which is the default."""
    while combo.count > 1:
        combo.removeItem(1)

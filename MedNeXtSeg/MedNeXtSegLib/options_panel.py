"""How the model runs: device, quality, and what is added to the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from slicer.i18n import tr as _

from mednext_engine.jobs import protocol as p

from .guard import Guard
from .parameter import BALANCED, BEST, FAST, QUALITIES
from .settings import SceneSettings
from .wording import size_text
from .worker_client import Reply, WorkerClient


class OptionsPanel:
    """The section "Options". Devices are asked for when it is opened: that loads PyTorch."""

    def __init__(self, ui: Any, client: WorkerClient, guard: Guard) -> None:
        self._ui, self._client = ui, client
        self._devices = ["auto", "cpu"]
        self._asked = False
        self.on_changed: Callable[[], None] = lambda: None
        guard.connect(ui.optionsSection, "contentsCollapsed(bool)", self._opened)
        for combo in (ui.deviceCombo, ui.qualityCombo):
            guard.connect(combo, "currentIndexChanged(int)", self._changed)
        for check in (ui.uncertaintyCheck, ui.keepLoadedCheck, ui.show3DCheck):
            guard.connect(check, "toggled(bool)", self._changed)
        ui.qualityCombo.currentIndex = QUALITIES.index(BALANCED)
        self._explain()

    @property
    def device(self) -> str:
        index = int(self._ui.deviceCombo.currentIndex)
        return self._devices[index] if 0 <= index < len(self._devices) else "auto"

    @property
    def quality(self) -> str:
        return QUALITIES[max(0, int(self._ui.qualityCombo.currentIndex))]

    @property
    def uncertainty(self) -> bool:
        return bool(self._ui.uncertaintyCheck.checked)

    @property
    def keep_loaded(self) -> bool:
        return bool(self._ui.keepLoadedCheck.checked)

    @property
    def show_3d(self) -> bool:
        return bool(self._ui.show3DCheck.checked)

    def load(self, settings: SceneSettings) -> None:
        quality = settings.text("Quality", BALANCED)
        if quality in QUALITIES:
            self._ui.qualityCombo.currentIndex = QUALITIES.index(quality)
        self._choose_device(settings.text("Device", "auto"))
        self._ui.uncertaintyCheck.checked = settings.flag("Uncertainty", False)
        self._ui.keepLoadedCheck.checked = settings.flag("KeepLoaded", True)
        self._ui.show3DCheck.checked = settings.flag("Show3D", False)

    def save(self, settings: SceneSettings) -> None:
        settings.set_text("Quality", self.quality)
        settings.set_text("Device", self.device)
        settings.set_flag("Uncertainty", self.uncertainty)
        settings.set_flag("KeepLoaded", self.keep_loaded)
        settings.set_flag("Show3D", self.show_3d)

    def set_enabled(self, enabled: bool) -> None:
        ui = self._ui
        for widget in (
            ui.deviceCombo,
            ui.qualityCombo,
            ui.uncertaintyCheck,
            ui.keepLoadedCheck,
            ui.show3DCheck,
        ):
            widget.enabled = enabled

    def show_devices(self, devices: Sequence[p.DeviceInfo]) -> None:
        """Lists what the worker found, with free memory; the choice stays."""
        chosen = self.device
        titles = [_("Automatic")]
        self._devices = ["auto"]
        for device in devices:
            self._devices.append(device["name"])
            titles.append(
                _("{title} ({name}), {free} free").format(
                    title=device["title"], name=device["name"], free=size_text(device["free"])
                )
            )
        blocked = self._ui.deviceCombo.blockSignals(True)
        self._ui.deviceCombo.clear()
        self._ui.deviceCombo.addItems(titles)
        self._ui.deviceCombo.blockSignals(blocked)
        self._choose_device(chosen)

    def forget_devices(self) -> None:
        """What was installed changed: ask anew at the next occasion."""
        self._asked = False
        if not self._ui.optionsSection.collapsed:
            self._opened(False)

    def _choose_device(self, name: str) -> None:
        """A device of a saved scene that is not listed (yet) is kept as it was said."""
        if name not in self._devices:
            self._devices.append(name)
            self._ui.deviceCombo.addItem(name)
        self._ui.deviceCombo.currentIndex = self._devices.index(name)

    def _opened(self, collapsed: bool) -> None:
        if not collapsed and not self._asked:
            self._asked = True
            self._client.ask(p.Doctor(devices=True), self._doctored)

    def _doctored(self, reply: Reply) -> None:
        if isinstance(reply, p.Result) and reply.value.get("devices"):
            self.show_devices(reply.value["devices"])

    def _changed(self) -> None:
        self._explain()
        self.on_changed()

    def _explain(self) -> None:
        self._ui.qualityExplanation.text = {
            FAST: _("Tiles overlap by a quarter, one fold: about a third of the time of Balanced."),
            BALANCED: _("Tiles overlap by half, all folds, no mirroring."),
            BEST: _("As Balanced, and averaged over mirrored copies: up to eight times the time."),
        }[self.quality]

"""Downloading, importing, exporting and removing models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from .dialogs import Dialogs
from .errors import UserError
from .guard import Guard
from .models_logic import Model, ModelsLogic, matching
from .models_panel import ModelsPanel
from .wording import catalogue_text


class ManagePanel:
    """The section "Manage models". The catalogue is asked for when the section is opened."""

    def __init__(
        self, ui: Any, logic: ModelsLogic, models: ModelsPanel, dialogs: Dialogs, guard: Guard
    ) -> None:
        self._ui, self._logic, self._models, self.dialogs = ui, logic, models, dialogs
        self._connect(guard)
        logic.on_state = self._state
        logic.on_failed = self._failed
        ui.manageProgress.visible = False
        ui.manageStatus.visible = False
        ui.catalogueDetails.visible = False
        self.update()

    def _connect(self, guard: Guard) -> None:
        ui = self._ui
        guard.connect(ui.manageSection, "contentsCollapsed(bool)", self._opened)
        guard.connect(ui.catalogueSearch, "textChanged(QString)", self.fill)
        guard.connect(ui.catalogueList, "itemSelectionChanged()", self.update)
        guard.connect(ui.downloadButton, "clicked()", self._download)
        guard.connect(ui.importFolderButton, "clicked()", self._import_folder)
        guard.connect(ui.importFileButton, "clicked()", self._import_file)
        guard.connect(ui.exportButton, "clicked()", self._export)
        guard.connect(ui.removeButton, "clicked()", self._remove)
        guard.connect(ui.openModelsButton, "clicked()", self._open_folder)

    def fill(self) -> None:
        """Shows the entries of the catalogue that match the search."""
        chosen = self._chosen_id()
        self._ui.catalogueList.clear()
        for entry in matching(self._logic.catalogue, self._ui.catalogueSearch.text):
            mark = _(" (installed)") if entry.get("installed") else ""
            item = qt.QListWidgetItem(f"{entry['title']}{mark}")
            item.setData(qt.Qt.UserRole, str(entry["id"]))
            item.setToolTip(catalogue_text(entry))
            self._ui.catalogueList.addItem(item)
            if entry["id"] == chosen:
                self._ui.catalogueList.setCurrentItem(item)
        self.update()

    def update(self) -> None:
        """Enables what can be done now and names what the download button does."""
        ui, changing = self._ui, self._logic.changing
        entry, model = self._entry(), self._models.model
        ui.catalogueDetails.text = catalogue_text(entry) if entry else ""
        ui.catalogueDetails.visible = entry is not None
        ui.downloadButton.text = _("&Cancel") if changing else _("&Download")
        ui.downloadButton.accessibleName = (
            _("Cancel the change of the models") if changing else _("Download the chosen model")
        )
        ui.downloadButton.enabled = changing or entry is not None
        for button in (ui.importFolderButton, ui.importFileButton):
            button.enabled = not changing
        ui.exportButton.enabled = not changing and model is not None
        ui.removeButton.enabled = not changing and bool(model and model.get("removable"))

    def _opened(self, collapsed: bool) -> None:
        if not collapsed and not self._logic.catalogue:
            self._logic.refresh(catalogue=True)

    def _chosen_id(self) -> str:
        item = self._ui.catalogueList.currentItem()
        return str(item.data(qt.Qt.UserRole)) if item is not None else ""

    def _entry(self) -> Model | None:
        chosen = self._chosen_id()
        return next((entry for entry in self._logic.catalogue if entry["id"] == chosen), None)

    def _download(self) -> None:
        if self._logic.changing:
            self._logic.cancel()
            return
        entry = self._entry()
        if entry is None:
            raise UserError(_("Pick a model to download."))
        replace = bool(entry.get("installed"))
        if replace and not self.dialogs.confirm(
            _("{title} is installed already. Download it again?").format(title=entry["title"])
        ):
            return
        self._logic.download(str(entry["id"]), replace)
        self.update()

    def _import_folder(self) -> None:
        self._import(self.dialogs.folder(_("Import a model folder (nnU-Net v2 format)")))

    def _import_file(self) -> None:
        title, kinds = _("Import a model from a zip file"), _("Models (*.zip)")
        self._import(self.dialogs.file_to_open(title, kinds))

    def _import(self, path: str) -> None:
        if path:
            self._logic.import_from(path)
            self.update()

    def _export(self) -> None:
        model = self._require_model()
        name = f"{model['id']}.zip"
        path = self.dialogs.file_to_save(_("Export the model"), name, _("Models (*.zip)"))
        if not path:
            return
        if Path(path).suffix.lower() != ".zip":
            path += ".zip"
        Path(path).unlink(missing_ok=True)  # the dialog asked whether to replace it
        self._logic.export_to(str(model["id"]), path)
        self.update()

    def _remove(self) -> None:
        model = self._require_model()
        question = _("Delete the model {title} from this computer?").format(title=model["title"])
        if self.dialogs.confirm(question):
            self._logic.remove(str(model["id"]))
            self.update()

    def _require_model(self) -> Model:
        model = self._models.model
        if model is None:
            raise UserError(_("Pick a model."))
        return model

    def _open_folder(self) -> None:
        if self._logic.directory:
            Path(self._logic.directory).mkdir(parents=True, exist_ok=True)
            self.dialogs.show_folder(self._logic.directory)

    def _state(self, sentence: str, fraction: float | None) -> None:
        ui = self._ui
        ui.manageProgress.visible = fraction is not None
        ui.manageProgress.value = int(1000 * (fraction or 0.0))
        ui.manageStatus.text = sentence
        ui.manageStatus.visible = bool(sentence)
        self.update()

    def _failed(self, message: str, hint: str) -> None:
        self._state(f"{message} {hint}".strip(), None)

"""The list of models, its search and the card of the chosen one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from .guard import Guard
from .measurements import Measurements
from .models_logic import Model, ModelsLogic, matching
from .wording import card_html, model_line, model_tooltip


class ModelsPanel:
    """Shows `ModelsLogic.models`; `on_chosen` is called when another model is chosen."""

    def __init__(
        self, ui: Any, logic: ModelsLogic, measurements: Measurements, guard: Guard
    ) -> None:
        self._ui, self._logic, self._measurements, self._guard = ui, logic, measurements, guard
        self._wanted = ""
        self._filling = False
        self.on_chosen: Callable[[], None] = lambda: None
        guard.connect(ui.modelSearch, "textChanged(QString)", self.fill)
        guard.connect(ui.modelList, "itemSelectionChanged()", self._selected)
        ui.modelProblem.visible = False

    @property
    def model(self) -> Model | None:
        return self._logic.find(self._wanted)

    @property
    def identifier(self) -> str:
        """The id of the chosen model, also while the list has not come yet."""
        return self._wanted

    def choose(self, identifier: str) -> None:
        """Chooses a model by its id, now or as soon as it is listed."""
        self._wanted = identifier
        self.fill()

    def fill(self) -> None:
        """Shows the models that match the search; the choice stays where it can."""
        models = self._logic.models
        if models and self.model is None:
            self._wanted = str(models[0]["id"])
        self._filling = True
        try:
            self._ui.modelList.clear()
            for model in matching(models, self._ui.modelSearch.text):
                self._add(model)
        finally:
            self._filling = False
        problems = self._logic.problems
        self._ui.modelProblem.text = "\n".join(problems)
        self._ui.modelProblem.visible = bool(problems)
        self._show_card()
        self.on_chosen()

    def _add(self, model: Model) -> None:
        item = qt.QListWidgetItem(model_line(model))
        item.setData(qt.Qt.UserRole, str(model["id"]))
        item.setToolTip(model_tooltip(model, self._measurements.text(str(model["id"]))))
        self._ui.modelList.addItem(item)
        if model["id"] == self._wanted:
            self._ui.modelList.setCurrentItem(item)

    def _selected(self) -> None:
        item = self._ui.modelList.currentItem()
        if self._filling or item is None:
            return
        self._wanted = str(item.data(qt.Qt.UserRole))
        self._show_card()
        self.on_chosen()

    def _show_card(self) -> None:
        model = self.model
        self._ui.modelCard.html = card_html(model) if model else ""
        title = str(model["title"] or model["id"]) if model else ""
        self._ui.cardSection.text = (
            _("About {title}").format(title=title) if title else _("About this model")
        )

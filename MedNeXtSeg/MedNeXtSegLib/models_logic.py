"""The models of this computer and those that can be downloaded, by way of the worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from slicer.i18n import tr as _

from mednext_engine.jobs import protocol as p

from .errors import UserError
from .worker_client import Job, Reply, WorkerClient

Model = Mapping[str, Any]


class ModelsLogic:
    """Lists, downloads, imports, exports and removes models; one change at a time.

    `on_changed` is called when the lists changed, `on_state(sentence, fraction)` while a change
    goes on (fraction 0 to 1, None when it is over), `on_failed(message, hint)` when one failed.
    """

    def __init__(self, client: WorkerClient) -> None:
        self._client = client
        self._change: Job | None = None
        self.models: list[Model] = []
        self.catalogue: list[Model] = []
        self.problems: list[str] = []
        self.directory = ""
        self.on_changed: Callable[[], None] = lambda: None
        self.on_state: Callable[[str, float | None], None] = lambda sentence, fraction: None
        self.on_failed: Callable[[str, str], None] = lambda message, hint: None

    @property
    def changing(self) -> bool:
        return self._change is not None and not self._change.over

    def find(self, identifier: str) -> Model | None:
        return next((model for model in self.models if model["id"] == identifier), None)

    def refresh(self, catalogue: bool = False) -> None:
        """Asks for the installed models, and for the catalogue where it is wanted."""
        self._client.ask(p.Models(), self._listed)
        if catalogue:
            self._client.ask(p.Catalogue(), self._catalogued)

    def download(self, identifier: str, replace: bool = False) -> None:
        self._begin(p.Download(id=identifier, replace=replace), _("Downloading"))

    def import_from(self, path: str) -> None:
        self._begin(p.Import(path=path), _("Importing"))

    def export_to(self, identifier: str, path: str) -> None:
        self._begin(p.Export(model=identifier, path=path), _("Exporting"))

    def remove(self, identifier: str) -> None:
        self._begin(p.Remove(model=identifier), _("Removing"))

    def cancel(self) -> None:
        if self._change is not None:
            self._client.cancel(self._change)

    def _begin(self, request: p.Request, doing: str) -> None:
        if self.changing:
            raise UserError(_("Another change of the models is under way."))

        def progressed(progress: p.Progress) -> None:
            stage = progress.note or progress.stage or doing
            self.on_state(f"{stage} ({progress.fraction:.0%})", progress.fraction)

        self._change = self._client.ask(request, self._changed, progressed)
        self.on_state(f"{doing}…", 0.0)

    def _changed(self, reply: Reply) -> None:
        if isinstance(reply, p.Result):
            notes = " ".join(reply.value.get("notes", []))
            done = {
                "download": _("The model was downloaded and installed."),
                "import": _("The model was imported."),
                "export": _("The model was exported to {path}.").format(
                    path=reply.value.get("path", "")
                ),
                "remove": _("The model was removed from this computer."),
            }
            self.on_state(f"{done.get(reply.of, '')} {notes}".strip(), None)
            self.refresh(catalogue=bool(self.catalogue))
        elif isinstance(reply, p.Error):
            self.on_state("", None)
            self.on_failed(reply.message, reply.hint)
        else:
            self.on_state(_("Cancelled. What was received is kept for the next try."), None)

    def _listed(self, reply: Reply) -> None:
        if isinstance(reply, p.Result):
            self.models = list(reply.value["models"])
            self.problems = list(reply.value["problems"])
            self.directory = str(reply.value["directory"])
            self.on_changed()
        elif isinstance(reply, p.Error):
            self.on_failed(reply.message, reply.hint)

    def _catalogued(self, reply: Reply) -> None:
        if isinstance(reply, p.Result):
            self.catalogue = list(reply.value["entries"])
            self.on_changed()
        elif isinstance(reply, p.Error):
            self.on_failed(reply.message, reply.hint)


def matching(entries: list[Model], words: str) -> list[Model]:
    """Entries in which every word occurs: in name, modality, description, licence or labels."""
    wanted = words.casefold().split()
    return [entry for entry in entries if all(word in _text(entry) for word in wanted)]


def _text(entry: Model) -> str:
    fields = [str(entry.get(key, "")) for key in ("id", "title", "description", "modality")]
    fields.append(str(entry.get("license", "")))
    fields += [
        str(label["name"]) if isinstance(label, Mapping) else str(label)
        for label in entry.get("labels", [])
    ]
    return " ".join(fields).casefold()

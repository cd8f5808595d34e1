"""What is seen of a training while it runs: facts, curves in a plot view, a preview of one case."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer

from mednext_engine.jobs import protocol as p

from .finetune_curves import Curves, show_chart_in_layout
from .finetune_export import read_json
from .finetune_labels import BACKGROUND
from .finetune_memory import cases_of_run
from .finetune_preview import PreviewSegmentation, preview_title
from .finetune_report_panel import FinetuneReportPanel
from .guard import Guard
from .worker_client import News


class FinetuneLivePanel:
    """`folder` answers the job folder of the training that runs."""

    def __init__(
        self,
        ui: Any,
        scene: Any,
        folder: Callable[[], Path | None],
        report: FinetuneReportPanel,
        guard: Guard,
    ) -> None:
        self._ui, self._folder, self._report = ui, folder, report
        self.curves = Curves(scene, show_chart_in_layout)
        self.preview = PreviewSegmentation(scene, slicer.modules.segmentations.logic())
        guard.connect(ui.curvesCheck, "toggled(bool)", self._show_curves)

    def begin(self, name: str) -> None:
        """A new training: what is seen of an earlier one goes."""
        self.clear()
        self.curves.begin(name)

    def show(self, news: News) -> None:
        """An epoch or a preview."""
        if isinstance(news, p.Preview):
            self._show_preview(news)
            return
        first = self.curves.empty
        self._report.show_epoch(news)
        self.curves.add(news.epoch, news.train_loss, news.validation_loss, news.dice)
        if first and self._ui.curvesCheck.checked:
            self.curves.show()

    def clear(self) -> None:
        """Takes curves and preview out of the scene."""
        self.curves.remove()
        self.preview.remove()

    def forget(self) -> None:
        """The scene was closed: the nodes are gone."""
        self.curves.forget()
        self.preview.forget()

    def _show_preview(self, news: p.Preview) -> None:
        folder = self._folder()
        if folder is None or not self._ui.previewCheck.checked:
            return
        ids = read_json(folder / "job.json").get("cases", [])
        cases, labels = cases_of_run(folder)
        volume = {i: case.volume for i, case in zip(ids, cases, strict=False)}.get(news.case)
        if volume is not None:
            rows = [row for row in labels if row.kind != BACKGROUND]
            title = preview_title(volume, news.epoch)
            self.preview.show(Path(news.path), volume, rows, title)

    def _show_curves(self, wanted: bool) -> None:
        if wanted:
            self.curves.show()
        else:
            self.curves.remove()

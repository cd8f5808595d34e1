"""Renders the panel's pictures into Resources/Screenshots, with the real worker and model.

    python Testing/module/tools/render_panel.py

They show the module's own panel drawn by Qt under the tests' stand-in for Slicer: the widgets,
texts and states are those of the product, Slicer's window around them is not there. One real run
on the sample volume is made, so it takes as long as a segmentation does.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from places import keep_private

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(HERE.parent), str(ROOT / "MedNeXtSeg")]
WIDTH, HEIGHT = 400, 760


def main() -> None:
    with tempfile.TemporaryDirectory() as private:
        keep_private(private)
        import harness

        harness.start()
        module = harness.load_module(ROOT / "MedNeXtSeg" / "MedNeXtSeg.py")
        try:
            render(ROOT / "Resources" / "Screenshots")
        finally:
            harness.unload_module("MedNeXtSeg")
            del module


def render(folder: Path) -> None:
    """Goes through the states one after the other."""
    import slicer
    from PySide6.QtWidgets import QApplication

    app = QApplication.instance()
    app.setStyle("Fusion")
    app.setPalette(palette(dark=False))
    folder.mkdir(exist_ok=True)
    widget = slicer.util.getModuleWidget("MedNeXtSeg")
    slicer.modules.mednextseg.widgetRepresentation().enter()
    ui = (widget if hasattr(widget, "ui") else widget.self()).ui
    shown = ui.tabs
    window = shown.window()
    window.resize(WIDTH, HEIGHT)
    window.show()
    until(lambda: ui.modelList.count > 0)
    ui.modelList.setCurrentRow(0)
    ui.sampleDataButton.click()
    until(lambda: ui.runButton.enabled)

    def picture(name: str) -> None:
        settle()
        if not window.grab().save(str(folder / f"panel-{name}.png")):
            raise SystemExit(f"panel-{name}.png could not be written.")

    picture("idle")
    started = time.monotonic()
    ui.runButton.click()
    until(lambda: ui.progressBar.value >= 300 or idle(ui), 600)
    picture("running")
    until(lambda: idle(ui), 600)
    print(f"First click to segmentation: {time.monotonic() - started:.1f} s")
    ui.cardSection.collapsed = False
    picture("finished")
    app.setPalette(palette(dark=True))
    ui.cardSection.collapsed = True
    ui.optionsSection.collapsed = False
    until(lambda: ui.deviceCombo.count > 1, 60)
    picture("dark")
    app.setPalette(palette(dark=False))
    ui.optionsSection.collapsed = True
    started = time.monotonic()
    ui.runButton.click()
    until(lambda: idle(ui), 600)
    print(f"Second click to segmentation: {time.monotonic() - started:.1f} s")
    ui.runButton.click()
    until(lambda: ui.progressBar.value >= 60 or idle(ui), 600)
    os.kill(slicer.modules.MedNeXtSegWidget.logic.runs.context.client.pid, signal.SIGKILL)
    until(lambda: idle(ui))
    picture("error")


def idle(ui: Any) -> bool:
    return bool(ui.runButton.text == "&Segment")


def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    import slicer

    deadline = time.monotonic() + seconds
    while not condition():
        slicer.app.processEvents()
        time.sleep(0.01)
        if time.monotonic() > deadline:
            raise SystemExit("It did not happen in time.")


def settle() -> None:
    import slicer

    for _count in range(30):
        slicer.app.processEvents()
        time.sleep(0.01)


def palette(dark: bool) -> Any:
    """The colours of Slicer's "Dark Slicer" and "Light Slicer" styles, by role."""
    from PySide6.QtGui import QColor, QPalette

    made = QPalette()
    if not dark:
        window, base, text, middle = "#efefef", "#ffffff", "#000000", "#e4e4e4"
    else:
        window, base, text, middle = "#353535", "#242424", "#f0f0f0", "#454545"
    for role, color in (
        (QPalette.ColorRole.Window, window),
        (QPalette.ColorRole.Base, base),
        (QPalette.ColorRole.AlternateBase, middle),
        (QPalette.ColorRole.Button, middle),
        (QPalette.ColorRole.Text, text),
        (QPalette.ColorRole.WindowText, text),
        (QPalette.ColorRole.ButtonText, text),
        (QPalette.ColorRole.ToolTipBase, base),
        (QPalette.ColorRole.ToolTipText, text),
        (QPalette.ColorRole.PlaceholderText, "#8a8a8a"),
        (QPalette.ColorRole.Highlight, "#2a82da"),
        (QPalette.ColorRole.HighlightedText, "#ffffff"),
    ):
        made.setColor(role, QColor(color))
    for role in (QPalette.ColorRole.ButtonText, QPalette.ColorRole.Text):
        made.setColor(QPalette.ColorGroup.Disabled, role, QColor("#8a8a8a"))
    return made


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)

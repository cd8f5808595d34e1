#!/usr/bin/env python3
"""Cuts the classes the harness knows out of the full list of Slicer's Python API.

    python Testing/module/tools/extract_slicer_api.py path/to/slicer_api.json

The full list is read off a running Slicer and is too big to be committed. To let the module use
a class that is not in the extract yet, add it to CLASSES and run this again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

TARGET = Path(__file__).resolve().parents[1] / "harness" / "slicer_api_extract.json"

CLASSES = [
    "Qt",
    "QObject",
    "QEvent",
    "QTimer",
    "QProcess",
    "QProcessEnvironment",
    "QSettings",
    "ctkSettings",
    "QIODevice",
    "QFile",
    "QFileInfo",
    "QDir",
    "QUrl",
    "QByteArray",
    "QLocale",
    "QDateTime",
    "QSysInfo",
    "QStandardPaths",
    "QDesktopServices",
    "QCoreApplication",
    "QGuiApplication",
    "QApplication",
    "QMetaObject",
    "QEventLoop",
    "QMimeData",
    "QTextStream",
    "QBuffer",
    "QSize",
    "QSizeF",
    "QPoint",
    "QPointF",
    "QRect",
    "QMargins",
    "QColor",
    "QPalette",
    "QBrush",
    "QPen",
    "QFont",
    "QFontMetrics",
    "QFontInfo",
    "QIcon",
    "QPixmap",
    "QImage",
    "QPainter",
    "QKeySequence",
    "QCursor",
    "QClipboard",
    "QModelIndex",
    "QKeyEvent",
    "QMouseEvent",
    "QWheelEvent",
    "QCloseEvent",
    "QResizeEvent",
    "QDragEnterEvent",
    "QDropEvent",
    "QWidget",
    "QFrame",
    "QLabel",
    "QAbstractButton",
    "QPushButton",
    "QToolButton",
    "QCheckBox",
    "QRadioButton",
    "QButtonGroup",
    "QLineEdit",
    "QTextEdit",
    "QPlainTextEdit",
    "QTextBrowser",
    "QTextDocument",
    "QTextCursor",
    "QComboBox",
    "QCompleter",
    "QAbstractSpinBox",
    "QSpinBox",
    "QDoubleSpinBox",
    "QAbstractSlider",
    "QSlider",
    "QScrollBar",
    "QProgressBar",
    "QGroupBox",
    "QScrollArea",
    "QAbstractScrollArea",
    "QSplitter",
    "QStackedWidget",
    "QTabWidget",
    "QSizePolicy",
    "QAction",
    "QMenu",
    "QStyle",
    "QAbstractItemView",
    "QListView",
    "QListWidget",
    "QListWidgetItem",
    "QTreeView",
    "QTreeWidget",
    "QTreeWidgetItem",
    "QTableView",
    "QTableWidget",
    "QTableWidgetItem",
    "QHeaderView",
    "QAbstractItemModel",
    "QStandardItemModel",
    "QStandardItem",
    "QSortFilterProxyModel",
    "QAbstractProxyModel",
    "QItemSelectionModel",
    "QAbstractListModel",
    "QLayout",
    "QLayoutItem",
    "QSpacerItem",
    "QBoxLayout",
    "QVBoxLayout",
    "QHBoxLayout",
    "QFormLayout",
    "QGridLayout",
    "QStackedLayout",
    "QDialog",
    "QMessageBox",
    "QFileDialog",
    "QInputDialog",
    "QProgressDialog",
    "QErrorMessage",
    "QDialogButtonBox",
    "QMainWindow",
    "QStatusBar",
    "QToolTip",
    "QUiLoader",
    "ctkCollapsibleButton",
    "ctkCollapsibleGroupBox",
    "ctkComboBox",
    "ctkCheckBox",
    "ctkCheckableComboBox",
    "ctkPathLineEdit",
    "ctkDirectoryButton",
    "ctkSearchBox",
    "ctkSliderWidget",
    "ctkDoubleSpinBox",
    "ctkDoubleSlider",
    "ctkRangeWidget",
    "ctkExpandableWidget",
    "ctkFittedTextBrowser",
    "ctkMessageBox",
    "ctkPushButton",
    "ctkMenuButton",
    "ctkToolTipTrapper",
    "ctkColorPickerButton",
    "qMRMLWidget",
    "qMRMLNodeComboBox",
    "qMRMLCheckableNodeComboBox",
    "qMRMLSubjectHierarchyComboBox",
    "qMRMLSegmentSelectorWidget",
    "qMRMLSegmentsTableView",
    "qMRMLSegmentationShow3DButton",
    "qMRMLCollapsibleButton",
    "qMRMLSliderWidget",
    "qMRMLSpinBox",
    "qSlicerWidget",
    "qSlicerAbstractModuleWidget",
    "qSlicerScriptedLoadableModuleWidget",
    "qSlicerAbstractCoreModule",
    "qSlicerAbstractModule",
    "qSlicerLoadableModule",
    "qSlicerScriptedLoadableModule",
    "qSlicerModuleManager",
    "qSlicerModuleFactoryManager",
    "qSlicerAbstractModuleFactoryManager",
    "qSlicerCoreApplication",
    "qSlicerApplication",
    "qSlicerSubjectHierarchyPluginHandler",
    "qSlicerCommandOptions",
    "qSlicerCoreCommandOptions",
    "ctkCommandLineParser",
]

TABLES = (
    "slicer.ScriptedLoadableModule",
    "slicer.app",
    "slicer.i18n",
    "slicer.packaging",
    "slicer.util",
    "slicer.modules",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("full_list", type=Path)
    arguments = parser.parse_args()
    full = json.loads(arguments.full_list.read_text(encoding="utf-8"))
    names = with_bases(CLASSES, full["classes"])
    result = {
        "_about": {
            "what": "cut by tools/extract_slicer_api.py; what real Slicer's Python offers",
            "format": full["_about"]["format"],
            "versions": full["_about"]["versions"],
        },
        "classes": {name: trimmed(full["classes"][name]) for name in sorted(names)},
    }
    for table in TABLES:
        result[table] = full[table]
    TARGET.write_text(as_text(result), encoding="utf-8", newline="\n")
    print(f"{len(names)} classes, {TARGET.stat().st_size // 1024} KiB -> {TARGET}")


def with_bases(names: list[str], classes: dict[str, dict]) -> set[str]:
    """`names` and everything they derive from."""
    missing = [name for name in names if name not in classes]
    if missing:
        raise SystemExit(f"Real Slicer offers no {', '.join(missing)}.")
    result: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name in classes and name not in result:
            result.add(name)
            todo.append(classes[name]["base"] or "")
    return result


def trimmed(entry: dict) -> dict:
    """Without the doors for C++ (`py_q_…`) and without what a property hides."""
    kept = [
        text
        for text in entry["methods"]
        if not text.removeprefix("static ").startswith("py_q_") and not text.startswith("[shadowed")
    ]
    fields = ("base", "module", "qobject", "constructors", "properties", "signals", "enums")
    return {**{key: entry[key] for key in fields}, "methods": kept}


def as_text(result: dict) -> str:
    """One class a line: the file stays small, a change shows as the lines of its classes."""
    lines = ["{"]
    for key, value in result.items():
        if key == "classes":
            inner = ",\n".join(f"{json.dumps(n)}: {compact(v)}" for n, v in value.items())
            lines.append(f'"classes": {{\n{inner}\n}},')
        else:
            lines.append(f"{json.dumps(key)}: {compact(value)},")
    lines[-1] = lines[-1].rstrip(",")
    return "\n".join([*lines, "}", ""])


def compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"), sort_keys=True)


if __name__ == "__main__":
    main()

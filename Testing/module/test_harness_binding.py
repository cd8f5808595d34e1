"""The harness follows PythonQt: expressions and answers as read off real Slicer (5.13, Qt 5.15)."""

from __future__ import annotations

import gc
import sys
from typing import Any

import numpy as np
import pytest
import slicer

harness = pytest.importorskip("harness")
if harness.inside_slicer():
    pytest.skip("the harness stands for Slicer, which is here itself", allow_module_level=True)

import ctk  # noqa: E402
import qt  # noqa: E402
from harness import api, signals  # noqa: E402


@pytest.fixture
def a_label() -> Any:
    return qt.QLabel("abc")


class TestProperties:
    def test_hide_the_method_of_their_name(self, a_label: Any) -> None:
        assert a_label.text == "abc"
        with pytest.raises(TypeError, match="'str' object is not callable"):
            a_label.text()
        assert a_label.isVisible() is False
        assert a_label.visible is False

    def test_take_values_loosely(self, a_label: Any) -> None:
        a_label.text = 5
        assert a_label.text == "5"
        a_label.text = None
        assert a_label.text == "None"
        box = qt.QSpinBox()
        box.value = 3.7
        assert box.value == 3
        real = qt.QDoubleSpinBox()
        real.value = np.float64(2.5)
        assert real.value == 2.5

    def test_refuse_what_cannot_be_converted(self) -> None:
        box = qt.QSpinBox()
        with pytest.raises(AttributeError, match="does not accept an object of type NoneType"):
            box.value = None

    def test_unknown_ones_are_refused(self, a_label: Any) -> None:
        with pytest.raises(AttributeError, match="QLabel has no attribute named 'nosuch'"):
            _ = a_label.nosuch
        assert not hasattr(a_label, "nosuch")
        with pytest.raises(AttributeError, match="'foo' does not exist on QLabel and creating"):
            a_label.foo = 1

    def test_read_only_ones_are_refused(self, a_label: Any) -> None:
        with pytest.raises(AttributeError, match="not writable"):
            a_label.width = 3

    def test_enumerations_are_numbers(self, a_label: Any) -> None:
        assert type(qt.Qt.AlignCenter).__name__ == "AlignmentFlag"
        assert qt.Qt.AlignCenter | qt.Qt.AlignTop == 164
        a_label.alignment = qt.Qt.AlignRight
        assert a_label.alignment == 2
        assert (qt.QMessageBox.Yes, int(qt.QMessageBox.Yes)) == (16384, 16384)

    def test_values_are_copies(self, a_label: Any) -> None:
        a_label.sizePolicy.setHorizontalStretch(3)
        assert a_label.sizePolicy.horizontalStretch() == 0

    def test_dynamic_ones_are_attributes(self, a_label: Any) -> None:
        assert a_label.setProperty("SlicerParameterName", "abc") is False
        assert a_label.property("SlicerParameterName") == "abc"
        assert a_label.SlicerParameterName == "abc"

    def test_name_is_the_object_name(self, a_label: Any) -> None:
        a_label.objectName = "nm"
        assert (a_label.objectName, a_label.name) == ("nm", "nm")


class TestCalls:
    def test_refuse_keywords(self, a_label: Any) -> None:
        with pytest.raises(ValueError, match=r"Called setText\(QString\) -> void with keyword"):
            a_label.setText(text="x")
        with pytest.raises(ValueError, match="keyword"):
            qt.QLabel(text="x")

    def test_refuse_a_wrong_number_of_arguments(self, a_label: Any) -> None:
        with pytest.raises(ValueError, match=r"wrong number of arguments: \('a', 'b'\)"):
            a_label.setText("a", "b")

    def test_convert_loosely(self, a_label: Any) -> None:
        assert a_label.setText(5) is None
        assert a_label.text == "5"
        box = qt.QSpinBox()
        box.setValue(3.7)
        assert box.value == 3
        box.setValue(np.int64(4))
        assert box.value == 4

    def test_choose_the_overload_that_fits(self, a_label: Any) -> None:
        assert a_label.setNum(1.5) is None
        assert a_label.text == "1.5"
        a_label.setNum(2)
        assert a_label.text == "2"

    def test_lists_come_back_as_tuples(self) -> None:
        box = qt.QComboBox()
        box.addItems(("a", "b"))
        box.addItem("c", {"k": [1, 2]})
        assert (box.count, box.itemData(2)) == (3, {"k": (1, 2)})
        assert slicer.qMRMLNodeComboBox().nodeTypes == ()

    def test_names_that_are_not_slicers_are_refused(self) -> None:
        for holder, name in ((qt, "QQuickView"), (ctk, "ctkNoSuch"), (slicer, "qMRMLNoSuch")):
            with pytest.raises(AttributeError):
                getattr(holder, name)
        with pytest.raises(AttributeError):
            _ = ctk.ctkCollapsibleButton().setCollapsed

    def test_names_that_only_this_qt_has_are_refused(self) -> None:
        with pytest.raises(AttributeError):
            _ = qt.QProcess().startCommand

    def test_names_that_qt_6_lost_are_refused(self) -> None:
        with pytest.raises(AttributeError, match="Qt 6"):
            qt.QApplication.desktop()
        with pytest.raises(AttributeError, match="Qt 6"):
            qt.QFileDialog().setConfirmOverwrite(True)


class TestSignals:
    def test_connect_in_both_ways(self) -> None:
        hits: list[Any] = []
        button = qt.QPushButton("b")
        assert button.connect("clicked(bool)", lambda on: hits.append(("bool", on)))
        assert button.connect("clicked()", lambda *a: hits.append(("noarg", a)))
        assert button.clicked.connect(lambda *a: hits.append(("attr", a)))
        assert button.click() is None
        assert hits == [("bool", False), ("noarg", ()), ("attr", (False,))]

    def test_an_unknown_one_only_answers_false(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert qt.QPushButton("b").connect("nosuch()", print) is False
        assert "No such signal" in capsys.readouterr().err

    def test_overloads_that_differ_between_qt_5_and_6_need_their_signature(self) -> None:
        box, rows = qt.QComboBox(), []
        box.addItems(["a", "b"])
        with pytest.raises(AttributeError, match="by its signature"):
            box.currentIndexChanged.connect(rows.append)
        assert box.connect("currentIndexChanged(QString)", rows.append) is False
        assert box.connect("currentIndexChanged(int)", rows.append)
        box.currentIndex = 1
        assert rows == [1]

    def test_by_attribute_all_overloads_are_connected(self, a_scene: Any) -> None:
        told: list[Any] = []
        box = slicer.qMRMLNodeComboBox()
        box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        box.currentNodeChanged.connect(lambda *a: told.append(a))
        box.setMRMLScene(slicer.mrmlScene)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
        assert sorted(told, key=str) == sorted([(node,), (True,)], key=str)

    def test_can_be_sent_by_python(self) -> None:
        told: list[Any] = []
        button, combo = qt.QPushButton("b"), ctk.ctkPathLineEdit()
        button.connect("clicked(bool)", told.append)
        combo.connect("currentPathChanged(QString)", told.append)
        button.clicked.emit(True)
        button.clicked()
        combo.currentPathChanged.emit("/there")
        assert told == [True, False, "/there"]

    def test_cost_no_reference(self) -> None:
        """PySide6 6.12.0 lost one to True each time, until Python ended."""
        edit = ctk.ctkPathLineEdit()
        before = sys.getrefcount(True)
        for _ in range(50):
            edit.currentPathChanged.emit("x")
        assert abs(sys.getrefcount(True) - before) < 10

    def test_a_slot_may_take_fewer_arguments(self) -> None:
        hits: list[str] = []
        box = qt.QSpinBox()
        box.connect("valueChanged(int)", lambda: hits.append("none"))
        box.value = 3
        assert hits == ["none"]

    def test_a_slot_may_not_take_more(self, expected_slot_errors: list[BaseException]) -> None:
        button = qt.QPushButton("b")
        button.connect("clicked()", lambda missing: None)
        button.click()
        assert isinstance(expected_slot_errors[0], TypeError)

    def test_a_default_is_overwritten_by_what_is_sent(self) -> None:
        hits: list[Any] = []
        button = qt.QPushButton("b")
        button.connect("clicked(bool)", lambda name="mine": hits.append(name))
        button.click()
        assert hits == [False]

    def test_an_exception_in_a_slot_is_not_raised(
        self, expected_slot_errors: list[BaseException]
    ) -> None:
        button = qt.QPushButton("b")
        button.connect("clicked()", lambda: 1 / 0)
        button.click()
        assert isinstance(expected_slot_errors[0], ZeroDivisionError)

    def test_connecting_twice_calls_twice(self) -> None:
        hits: list[int] = []

        def slot() -> None:
            hits.append(1)

        button = qt.QPushButton("b")
        button.connect("clicked()", slot)
        button.connect("clicked()", slot)
        button.click()
        assert len(hits) == 2
        assert button.disconnect("clicked()", slot) is True
        button.click()
        assert len(hits) == 2

    def test_a_bound_method_keeps_its_object_alive(self) -> None:
        class Listener:
            hits = 0

            def hear(self) -> None:
                Listener.hits += 1

        button = qt.QPushButton("b")
        listener = Listener()
        button.connect("clicked()", listener.hear)
        del listener
        gc.collect()
        button.click()
        assert Listener.hits == 1

    def test_block_signals_answers_what_was_before(self) -> None:
        button = qt.QPushButton("b")
        assert (button.blockSignals(True), button.blockSignals(False)) == (False, True)

    def test_a_destroyed_sender_lets_its_listeners_go(self) -> None:
        button = qt.QPushButton("b")
        button.connect("clicked()", print)
        inner = button.__dict__["_qt"]
        assert signals.connection_count(inner) == 1
        button.delete()
        assert not signals._connections.get(id(inner))

    def test_vtk_objects_arrive_as_themselves(self, a_scene: Any) -> None:
        hits: list[Any] = []
        box = slicer.qMRMLNodeComboBox()
        box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        box.connect("currentNodeChanged(vtkMRMLNode*)", hits.append)
        box.setMRMLScene(slicer.mrmlScene)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
        assert hits == [node]
        with pytest.raises(TypeError, match="requires a VTK object"):
            box.setCurrentNode(5)


class TestLife:
    def test_a_parentless_widget_dies_with_its_last_reference(self) -> None:
        hits: list[str] = []
        widget = qt.QWidget()
        widget.connect("destroyed()", lambda: hits.append("gone"))
        del widget
        gc.collect()
        assert hits == ["gone"]

    def test_a_child_dies_with_its_parent(self) -> None:
        parent = qt.QWidget()
        child = qt.QLabel("x", parent)
        assert child.parent() is parent
        del parent
        gc.collect()
        assert not child
        assert child == None  # noqa: E711 - PythonQt's own way to ask
        with pytest.raises(ValueError, match="read property 'text' from a destroyed QLabel"):
            _ = child.text
        with pytest.raises(ValueError, match="call 'setText' on a destroyed QLabel"):
            child.setText("y")

    def test_what_a_layout_owns_survives(self) -> None:
        widget = qt.QWidget()
        widget.setLayout(qt.QVBoxLayout())
        widget.layout().addWidget(qt.QLabel("x"))
        gc.collect()
        assert widget.layout().itemAt(0).widget().className() == "QLabel"
        assert widget.children()[0] is widget.children()[0]

    def test_delete_later_takes_effect_with_the_next_events(self) -> None:
        label = qt.QLabel("x")
        label.deleteLater()
        slicer.app.processEvents()
        assert not label

    def test_classes_share_no_base(self) -> None:
        button = qt.QPushButton("b")
        assert not isinstance(button, qt.QWidget)
        assert button.inherits("QWidget")
        assert [kind.__name__ for kind in type(button).mro()] == [
            "QPushButton",
            "PythonQtInstanceWrapper",
            "object",
        ]

    def test_a_derived_class_has_attributes_and_overrides(self) -> None:
        class Wide(qt.QWidget):
            def __init__(self) -> None:
                qt.QWidget.__init__(self)
                self.seen = 5

            def sizeHint(self) -> Any:
                return qt.QSize(640, 480)

        wide, outer = Wide(), qt.QWidget()
        outer.setLayout(qt.QVBoxLayout())
        outer.layout().setContentsMargins(0, 0, 0, 0)
        outer.layout().addWidget(wide)
        assert wide.seen == 5
        assert outer.sizeHint.width() == 640

    def test_an_event_filter_is_called(self) -> None:
        seen: list[int] = []

        class Filter(qt.QObject):
            def eventFilter(self, watched: Any, event: Any) -> bool:
                seen.append(event.type())
                return False

        widget, watcher = qt.QWidget(), Filter()
        widget.installEventFilter(watcher)
        widget.resize(10, 10)
        widget.show()
        assert qt.QEvent.Show in seen


class TestValues:
    def test_print_as_in_pythonqt(self) -> None:
        assert (repr(qt.QColor(1, 2, 3)), repr(qt.QSize(1, 2))) == (
            "QColor (#010203)",
            "QSize (1, 2)",
        )

    def test_bytes_of_a_process(self) -> None:
        process, done = qt.QProcess(), []
        process.connect(
            "finished(int,QProcess::ExitStatus)", lambda code, status: done.append((code, status))
        )
        process.start("echo", ["hi"])
        assert process.waitForFinished(10000)
        slicer.app.processEvents()
        assert done == [(0, 0)]
        assert process.readAllStandardOutput().data() == b"hi\n"

    def test_settings_keep_their_type(self, new_settings: None) -> None:
        qt.QSettings().setValue("MedNeXtSeg/keep", True)
        assert qt.QSettings().value("MedNeXtSeg/keep") is True
        assert slicer.util.settingsValue("MedNeXtSeg/keep", False, slicer.util.toBool) is True

    def test_a_single_shot_calls(self) -> None:
        hits: list[int] = []
        qt.QTimer.singleShot(0, lambda: hits.append(1))
        slicer.app.processEvents()
        assert hits == [1]

    def test_loops_end(self) -> None:
        dialog = qt.QDialog()
        qt.QTimer.singleShot(0, dialog.accept)
        assert dialog.exec_() == 1
        loop = qt.QEventLoop()
        qt.QTimer.singleShot(0, loop.quit)
        loop.exec_()


def test_the_extract_reads_as_a_whole() -> None:
    """Every line of it is understood: no class would fail at its first use."""
    for name in api.extract()["classes"]:
        members = api.members(name)
        assert members.name == name
    found = api.parse_method("static f(QList<QObject*> a, const QString& b) -> QString", "X")
    assert found == api.Method("f", ("QList<QObject*>", "QString"), "QString", True, "X")

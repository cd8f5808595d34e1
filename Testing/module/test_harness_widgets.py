"""CTK's and qMRML's stand-ins, the loader of .ui files and the pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import slicer

harness = pytest.importorskip("harness")
if harness.inside_slicer():
    pytest.skip("the harness stands for Slicer, which is here itself", allow_module_level=True)

import ctk  # noqa: E402
import qt  # noqa: E402
from harness import api, convert  # noqa: E402
from harness.render import overflow, render  # noqa: E402
from harness.ui_loader import UiError  # noqa: E402

UI = """<?xml version="1.0" encoding="UTF-8"?><ui version="4.0"><class>Panel</class>
<widget class="qMRMLWidget" name="Panel"><layout class="QVBoxLayout" name="rows">
<item><widget class="qMRMLNodeComboBox" name="input">
<property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist>
</property><property name="noneEnabled"><bool>true</bool></property></widget></item>
<item><widget class="ctkPathLineEdit" name="folder">
<property name="filters"><set>ctkPathLineEdit::Dirs|ctkPathLineEdit::Writable</set></property>
</widget></item>
<item><widget class="QLabel" name="status"><property name="text"><string>{text}</string></property>
<property name="wordWrap"><bool>true</bool></property></widget></item>
</layout></widget><connections><connection><sender>Panel</sender>
<signal>mrmlSceneChanged(vtkMRMLScene*)</signal><receiver>input</receiver>
<slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections></ui>"""


@pytest.fixture
def a_selector(a_scene: Any) -> Any:
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.setMRMLScene(slicer.mrmlScene)
    return selector


def a_ui_file(folder: Path, text: str) -> str:
    path = folder / "Panel.ui"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_every_property_of_a_stand_in_is_one_of_the_real_widget() -> None:
    """A stand-in with a property of its own would let wrong code pass."""
    for name, kind in convert.custom_classes.items():
        if not issubclass(kind, convert.QtWidgets.QWidget) or name.startswith("qSlicer"):
            continue
        widget = kind()  # its meta object lives as long as it does
        meta = widget.metaObject()
        own = [meta.property(i).name() for i in range(meta.propertyOffset(), meta.propertyCount())]
        assert set(own) <= set(api.members(name).properties), name


def test_every_signal_and_method_of_a_stand_in_is_one_of_the_real_widget() -> None:
    for name, kind in convert.custom_classes.items():
        for text, attribute in getattr(kind, "SIGNALS", {}).items():
            assert text in api.members(name).signals, f"{name}.{text}"
            assert hasattr(kind, attribute)


class TestNodeSelector:
    def test_chooses_the_first_node_unless_none_is_allowed(
        self, a_selector: Any, a_volume: Any
    ) -> None:
        first = a_volume("T1")
        a_volume("T2")
        assert a_selector.currentNode() is first
        assert (a_selector.currentNodeID, a_selector.nodeCount()) == (first.GetID(), 2)

    def test_stays_at_none_where_allowed(self, a_selector: Any, a_volume: Any) -> None:
        a_selector.noneEnabled = True
        a_volume("T1")
        assert a_selector.currentNode() is None

    def test_hears_of_removed_nodes(self, a_selector: Any, a_volume: Any) -> None:
        told: list[Any] = []
        node = a_volume("T1")
        a_selector.connect("currentNodeChanged(vtkMRMLNode*)", told.append)
        a_selector.connect("currentNodeChanged(bool)", told.append)
        slicer.mrmlScene.RemoveNode(node)
        assert told == [None, False]

    def test_offers_only_its_types(self, a_selector: Any, a_scene: Any) -> None:
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "segments")
        assert a_selector.currentNode().GetName() == "labels"
        a_selector.hideChildNodeTypes = ["vtkMRMLLabelMapVolumeNode"]
        assert a_selector.currentNode() is None
        a_selector.setCurrentNode(slicer.util.getNode("segments"))
        assert a_selector.currentNode() is None

    def test_is_disabled_without_a_scene(self) -> None:
        selector = slicer.qMRMLNodeComboBox()
        assert not selector.enabled
        selector.setMRMLScene(slicer.mrmlScene)
        assert selector.enabled

    def test_makes_nodes_with_its_base_name(self, a_selector: Any) -> None:
        a_selector.baseName = "Result"
        node = a_selector.addNode()
        assert (node.GetName(), a_selector.currentNode()) == ("Result", node)

    def test_follows_a_closed_scene(self, a_selector: Any, a_volume: Any) -> None:
        a_volume("T1")
        slicer.mrmlScene.Clear(0)
        assert a_selector.currentNode() is None


def test_the_hierarchy_box_gives_items(a_volume: Any) -> None:
    box = slicer.qMRMLSubjectHierarchyComboBox()
    box.nodeTypes = ("vtkMRMLScalarVolumeNode",)
    box.noneEnabled = True
    box.setMRMLScene(slicer.mrmlScene)
    assert (box.currentNode(), box.currentItem()) == (None, 0)
    node = a_volume("T1")
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    box.setCurrentItem(hierarchy.GetItemByDataNode(node))
    assert box.currentNode() is node


def test_the_segment_box_gives_segments(a_segmentation_node: Any) -> None:
    box = slicer.qMRMLSegmentSelectorWidget()
    box.setMRMLScene(slicer.mrmlScene)
    assert (box.currentNode(), box.currentSegmentID()) == (None, "")
    identifier = a_segmentation_node.GetSegmentation().AddEmptySegment("liver", "Liver")
    box.setCurrentNode(a_segmentation_node)
    box.setCurrentSegmentID(identifier)
    assert box.currentSegmentID() == "liver"


def test_a_collapsible_button_hides_what_it_holds() -> None:
    button = ctk.ctkCollapsibleButton()
    button.setLayout(qt.QVBoxLayout())
    inside, hidden = qt.QLabel("inside"), qt.QLabel("hidden")
    for label in (inside, hidden):
        button.layout().addWidget(label)
    hidden.visible = False
    told: list[bool] = []
    button.connect("contentsCollapsed(bool)", told.append)
    high = button.sizeHint.height()
    button.collapsed = True
    assert (inside.isHidden(), button.checked, told) == (True, False, [True])
    assert button.sizeHint.height() < high
    button.collapsed = False
    assert not inside.isHidden()
    assert hidden.isHidden()


def test_a_slider_takes_numbers() -> None:
    slider = ctk.ctkSliderWidget()
    slider.maximum = 1
    told: list[float] = []
    slider.connect("valueChanged(double)", told.append)
    slider.value = 0.25
    slider.value = 3
    assert (slider.value, told) == (1.0, [0.25, 1.0])


def test_a_path_is_told() -> None:
    edit, told = ctk.ctkPathLineEdit(), []
    edit.connect("currentPathChanged(QString)", told.append)
    edit.currentPath = "/somewhere"
    assert (edit.currentPath, told) == ("/somewhere", ["/somewhere"])


class TestUiFiles:
    def test_are_loaded_and_connected(self, tmp_path: Path, a_scene: Any) -> None:
        widget = slicer.util.loadUI(a_ui_file(tmp_path, UI.format(text="Ready")))
        ui = slicer.util.childWidgetVariables(widget)
        assert not ui.input.enabled
        widget.setMRMLScene(slicer.mrmlScene)
        assert ui.input.enabled
        assert ui.input.mrmlScene() is slicer.mrmlScene
        assert ui.folder.filters == 1 | 32
        assert ui.status.text == "Ready"

    @pytest.mark.parametrize(
        ("wrong", "right", "said"),
        [
            ('class="qMRMLNodeComboBox"', 'class="qMRMLVolumeBox"', "qMRMLVolumeBox"),
            ('name="noneEnabled"', 'name="noneAllowed"', "noneAllowed"),
            ("ctkPathLineEdit::Writable", "ctkPathLineEdit::Folders", "Folders"),
            ("setMRMLScene(vtkMRMLScene*)", "setScene(vtkMRMLScene*)", "setScene"),
            ("mrmlSceneChanged(vtkMRMLScene*)", "sceneChanged(vtkMRMLScene*)", "sceneChanged"),
        ],
    )
    def test_with_what_slicer_lacks_are_refused(
        self, tmp_path: Path, wrong: str, right: str, said: str
    ) -> None:
        with pytest.raises(UiError, match=said):
            slicer.util.loadUI(a_ui_file(tmp_path, UI.format(text="").replace(wrong, right)))

    def test_that_are_missing_raise(self) -> None:
        with pytest.raises(RuntimeError, match="file not found"):
            slicer.util.loadUI("/nowhere.ui")


class TestPictures:
    def test_are_as_wide_as_asked_and_dark_where_asked(self, tmp_path: Path) -> None:
        widget = slicer.util.loadUI(a_ui_file(tmp_path, UI.format(text="Ready " * 30)))
        light = qt.QPixmap(str(render(widget, tmp_path / "light.png", 350)))
        dark = qt.QPixmap(str(render(widget, tmp_path / "dark.png", 350, dark=True)))
        assert (light.width(), dark.width()) == (350, 350)
        corner = [one.toImage().pixelColor(1, 1) for one in (light, dark)]
        assert corner[0].lightness() > 200
        assert corner[1].lightness() < 80

    def test_too_wide_a_widget_is_found(self, tmp_path: Path) -> None:
        wide = UI.format(text="Donaudampfschifffahrtsgesellschaft" * 3)
        assert overflow(slicer.util.loadUI(a_ui_file(tmp_path, UI.format(text="a b"))), 350) == []
        assert "status" in overflow(slicer.util.loadUI(a_ui_file(tmp_path, wide)), 350)

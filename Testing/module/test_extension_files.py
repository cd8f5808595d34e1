"""What Slicer's ExtensionsIndex checks of an extension, as far as that needs no network.

Its script reads the description JSON and, by regular expressions, the root CMakeLists.txt.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import struct
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools import list_files

ROOT = Path(__file__).resolve().parents[2]
JSON = ROOT / "Resources" / "MedNeXtSeg.json"
SCHEMA = (
    "https://raw.githubusercontent.com/Slicer/Slicer/main/Schemas/"
    "slicer-extension-catalog-entry-schema-v1.0.2.json#"
)
REQUIRED = {"$schema": str, "category": str, "scm_url": str}
OPTIONAL = {
    "scm_revision": str,
    "scm_type": str,
    "build_dependencies": list,
    "build_subdirectory": str,
    "enabled": bool,
    "tier": int,
    "dicom_support_rule": str,
}
PLACEHOLDER = "OWNER"
MEBIBYTE = 1024**2
FORBIDDEN_IMPORTS = {"torch", "torchvision", "nibabel", "pandas", "monai", "nnunetv2", "openvino"}


@pytest.fixture
def description() -> dict[str, object]:
    return json.loads(JSON.read_text(encoding="utf-8"))


@pytest.fixture
def cmake() -> str:
    return (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")


def literal(text: str, variable: str) -> str:
    """The value of `set(NAME "value")`, found as the index finds it; comments are allowed after."""
    found = re.findall(rf'^\s*set\s*\(\s*{variable}\s+"([^"\n]*)"\s*\)', text, re.MULTILINE)
    assert len(found) == 1, f"{variable} must be set once, to one literal in quotes"
    return found[0]


class TestDescription:
    def test_has_only_the_keys_of_the_schema(self, description: dict[str, object]) -> None:
        assert description["$schema"] == SCHEMA
        kinds = {**REQUIRED, **OPTIONAL}
        assert set(REQUIRED) <= set(description) <= set(kinds)
        for key, value in description.items():
            assert isinstance(value, kinds[key]), key
        assert 1 <= int(description["tier"]) <= 5
        assert description["scm_type"] in ("git", "local")

    def test_is_written_as_the_index_wants_it(self) -> None:
        raw = JSON.read_bytes()
        assert b"\r" not in raw
        assert b"\t" not in raw
        assert raw.endswith(b"}\n")

    def test_names_fit(self, description: dict[str, object], cmake: str) -> None:
        name = re.search(r"project\s*\(\s*([^\s)]+)", cmake).group(1)
        assert name == JSON.stem
        assert not name.startswith("Slicer")
        address = str(description["scm_url"])
        assert re.match(r"(https|git)://", address)
        repository = address.removesuffix(".git").rsplit("/", 1)[1]
        assert repository.startswith("Slicer")
        assert repository == f"Slicer{name}"

    def test_category_is_one_of_slicers(self, description: dict[str, object]) -> None:
        assert description["category"] == "Segmentation"

    def test_dependencies_are_those_of_cmake(
        self, description: dict[str, object], cmake: str
    ) -> None:
        assert literal(cmake, "EXTENSION_DEPENDS").split() == description["build_dependencies"]


class TestCMakeText:
    def test_addresses_are_literals_of_pictures(self, cmake: str) -> None:
        addresses = [literal(cmake, "EXTENSION_ICONURL")]
        addresses += literal(cmake, "EXTENSION_SCREENSHOTURLS").split()
        assert len(addresses) >= 2
        for address in addresses:
            assert re.fullmatch(r"https://\S+\.(png|jpg|jpeg|gif)", address), address

    def test_pictures_of_the_addresses_are_in_the_repository(self, cmake: str) -> None:
        addresses = [literal(cmake, "EXTENSION_ICONURL")]
        addresses += literal(cmake, "EXTENSION_SCREENSHOTURLS").split()
        for address in addresses:
            path = ROOT / address.split("/main/", 1)[1]
            assert path.is_file(), f"{path.relative_to(ROOT)} is not there"
            assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n", path

    def test_the_rest_is_said_and_plain(self, cmake: str) -> None:
        for variable in ("HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION"):
            text = literal(cmake, f"EXTENSION_{variable}")
            assert text
            assert not set(text) & set(';"\\$<>'), variable
        assert literal(cmake, "EXTENSION_HOMEPAGE").startswith("https://")


def test_the_icon_is_a_square_png_of_a_useful_size() -> None:
    for path, size in (
        (ROOT / "Resources" / "MedNeXtSeg.png", 256),
        (ROOT / "MedNeXtSeg" / "Resources" / "Icons" / "MedNeXtSeg.png", 128),
    ):
        raw = path.read_bytes()
        assert raw[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">II", raw[16:24]) == (size, size)


def test_a_licence_lies_at_the_root() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "Version 2.0" in text


def test_addresses_that_do_not_exist_yet_are_in_known_places() -> None:
    """The README's release check-list names them; elsewhere nobody would look."""
    places = {"CMakeLists.txt", "Resources/MedNeXtSeg.json", "README.md"}
    found = {
        path
        for path in tracked()
        if path.endswith((".txt", ".json", ".md", ".py", ".toml", ".ui", ".yml", ".yaml"))
        and f"/{PLACEHOLDER}/" in (ROOT / path).read_text(encoding="utf-8", errors="replace")
    }
    assert found <= places | {"Testing/module/test_extension_files.py"}


def tracked() -> list[str]:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a clone")
    return list_files.tracked_files()


def test_text_files_have_unix_line_ends() -> None:
    text = (".py", ".ui", ".txt", ".json", ".md", ".cmake", ".toml", ".svg")
    for path in tracked():
        if path.endswith(text):
            assert b"\r\n" not in (ROOT / path).read_bytes(), path


def test_the_repository_stays_small() -> None:
    """The index refuses a checkout of more than 100 MB."""
    sizes = {path: (ROOT / path).stat().st_size for path in tracked()}
    assert sum(sizes.values()) < 60 * MEBIBYTE
    assert max(sizes.values()) < 40 * MEBIBYTE, max(sizes, key=sizes.get)


def imports_at_file_scope(path: Path) -> Iterator[str]:
    """Top names of what a file imports when it is itself imported."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        branches = [node]
        if isinstance(node, ast.If | ast.Try):
            checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            branches = [] if checking else list(ast.walk(node))
        for one in branches:
            if isinstance(one, ast.Import):
                yield from (alias.name.split(".")[0] for alias in one.names)
            elif isinstance(one, ast.ImportFrom) and one.level == 0:
                yield str(one.module).split(".")[0]


def shipped_python(folder: str) -> list[Path]:
    return [ROOT / path for path in tracked() if path.startswith(folder) and path.endswith(".py")]


def test_the_face_imports_only_what_every_slicer_has() -> None:
    allowed = {*sys.stdlib_module_names, "slicer", "qt", "ctk", "vtk", "vtkmodules", "SimpleITK"}
    allowed |= {"numpy", "scipy", "MedNeXtSegLib", "mednext_engine"}
    for path in shipped_python("MedNeXtSeg/"):
        names = set(imports_at_file_scope(path))
        assert names <= allowed, f"{path.name} imports {names - allowed} when it is loaded"


def test_the_face_never_imports_torch() -> None:
    """Not even inside a function: Slicer's process stays light."""
    for path in shipped_python("MedNeXtSeg/"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [str(node.module)]
            found = {name.split(".")[0] for name in names} & FORBIDDEN_IMPORTS
            assert not found, f"{path.name}:{node.lineno} imports {found}"


def test_the_face_takes_only_the_protocol_from_the_engine() -> None:
    for path in shipped_python("MedNeXtSeg/"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("mednext_engine"):
                taken = {f"{node.module}.{alias.name}" for alias in node.names}
                allowed = ("mednext_engine.jobs.protocol", "mednext_engine.jobs.messages")
                assert all(name.startswith(allowed) for name in taken), f"{path.name}: {taken}"


def test_nothing_happens_when_a_file_is_imported() -> None:
    """No print, no installation, no set-up: only a clone's engine is put on the path."""
    for path in shipped_python("MedNeXtSeg/"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                called = ast.unparse(node.value)
                assert called == "make_engine_importable()", f"{path.name} calls {called}"


def test_the_module_ships_no_style_sheet() -> None:
    for path in (ROOT / "MedNeXtSeg" / "Resources").rglob("*.ui"):
        root = ElementTree.parse(path).getroot()
        styled = [one for one in root.iter("property") if one.get("name") == "styleSheet"]
        assert not styled, path.name


EXTRACT = json.loads(
    (Path(__file__).parent / "harness" / "slicer_api_extract.json").read_text(encoding="utf-8")
)


def dotted(node: ast.AST) -> str:
    """ "slicer.app.testingEnabled" of an expression; "" of anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return ""


def test_every_name_taken_from_slicer_is_there() -> None:
    """Also on lines that no test reaches: qt.X, ctk.X, slicer.app.x and slicer.util.x."""
    offered = {
        "qt": set(EXTRACT["classes"]),
        "ctk": set(EXTRACT["classes"]),
        "slicer.app": set(EXTRACT["slicer.app"]["attributes"]),
        "slicer.util": set(EXTRACT["slicer.util"]),
    }
    for path in shipped_python("MedNeXtSeg/"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            before, _, name = dotted(node).rpartition(".")
            if before in offered:
                assert name in offered[before], f"{path.name}:{node.lineno} {before}.{name}"


def test_enumerators_and_static_methods_are_there() -> None:
    for path in shipped_python("MedNeXtSeg/"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = dotted(node).split(".")
            if len(parts) == 3 and parts[0] in ("qt", "ctk"):
                assert parts[2] in names_of(parts[1]), f"{path.name}:{node.lineno} {dotted(node)}"


def names_of(class_name: str) -> set[str]:
    entry = EXTRACT["classes"].get(class_name)
    if entry is None:
        return set()
    names = {key for values in entry["enums"].values() for key in values} | set(entry["enums"])
    names |= {text.removeprefix("static ").split("(")[0] for text in entry["methods"]}
    names |= {f"{name}_" for name in names & {"exec"}}
    return names | names_of(entry["base"] or "")


def test_texts_for_translation_are_literals() -> None:
    """`_("… {x}").format(x=…)`: what is put together first is found in no dictionary."""
    for path in shipped_python("MedNeXtSeg/"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and dotted(node.func) == "_":
                literals = [isinstance(one, ast.Constant) for one in node.args]
                assert literals == [True], f"{path.name}:{node.lineno}"


def test_every_selector_of_a_ui_file_hears_of_the_scene() -> None:
    for path in (ROOT / "MedNeXtSeg" / "Resources").rglob("*.ui"):
        root = ElementTree.parse(path).getroot()
        top = root.find("widget")
        assert top.get("class") == "qMRMLWidget"
        told = {
            one.findtext("receiver")
            for one in root.iter("connection")
            if one.findtext("sender") == top.get("name")
            and one.findtext("signal") == "mrmlSceneChanged(vtkMRMLScene*)"
            and one.findtext("slot") == "setMRMLScene(vtkMRMLScene*)"
        }
        selectors = {
            one.get("name")
            for one in root.iter("widget")
            if one.get("class", "").startswith("qMRML") and one is not top
        }
        assert selectors <= told, f"{path.name}: {selectors - told} would not see a node"

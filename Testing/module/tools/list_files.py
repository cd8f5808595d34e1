#!/usr/bin/env python3
"""Keeps the lists of shipped files in the CMakeLists equal to the files git tracks.

python Testing/module/tools/list_files.py            # says what differs, exit code 1 if so
python Testing/module/tools/list_files.py --write    # writes the lists
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class FileList:
    """One `set(NAME …)` of a CMakeLists.txt and the tracked files it stands for."""

    cmake: str
    variable: str
    folders: tuple[str, ...]
    python: bool | None  # True: *.py only, False: all but *.py, None: everything

    def wants(self, path: str) -> bool:
        folder = str(PurePosixPath(self.cmake).parent)
        if PurePosixPath(path).name == "CMakeLists.txt" or not path.startswith(f"{folder}/"):
            return False
        inside = path[len(folder) + 1 :]
        if not any(inside == one or inside.startswith(f"{one}/") for one in self.folders):
            return False
        return self.python is None or self.python == path.endswith(".py")

    def inside(self, path: str) -> str:
        return path[len(str(PurePosixPath(self.cmake).parent)) + 1 :]


LISTS = (
    FileList(
        "MedNeXtSeg/CMakeLists.txt",
        "MODULE_PYTHON_SCRIPTS",
        ("MedNeXtSeg.py", "MedNeXtSegLib"),
        True,
    ),
    FileList(
        "MedNeXtSeg/CMakeLists.txt",
        "MODULE_PYTHON_RESOURCES",
        ("Resources", "MedNeXtSegLib"),
        False,
    ),
    FileList("Training/CMakeLists.txt", "ENGINE_PYTHON_SCRIPTS", ("mednext_engine",), True),
    FileList("Training/CMakeLists.txt", "ENGINE_PYTHON_RESOURCES", ("mednext_engine",), False),
    FileList(
        "Resources/CMakeLists.txt",
        "EXTENSION_RESOURCES",
        ("Models", "Catalog", "SampleData"),
        None,
    ),
)


def tracked_files(root: Path = ROOT) -> list[str]:
    """Paths of all files git tracks or that are staged, relative to `root`.

    Raises:
        OSError: there is no git, or `root` is no clone.
    """
    result = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise OSError(f"git cannot list the files of {root}: {result.stderr.strip()}")
    return sorted(path for path in result.stdout.split("\0") if path and (root / path).is_file())


def listed_files(one: FileList, root: Path = ROOT) -> list[str]:
    """What the CMakeLists says now, relative to its own folder."""
    return _pattern(one.variable).search(_text(one, root)).group(2).split()


def wanted_files(one: FileList, root: Path = ROOT) -> list[str]:
    """What git tracks for this list, relative to the folder of the CMakeLists."""
    return [one.inside(path) for path in tracked_files(root) if one.wants(path)]


def write(one: FileList, root: Path = ROOT) -> None:
    lines = "".join(f"  {path}\n" for path in wanted_files(one, root))
    text = _pattern(one.variable).sub(
        lambda m: f"{m.group(1)}{lines}{m.group(3)}", _text(one, root)
    )
    (root / one.cmake).write_text(text, encoding="utf-8", newline="\n")


def _pattern(variable: str) -> re.Pattern[str]:
    return re.compile(rf"(^set\({variable}\n)(.*?)(  \)$)", re.MULTILINE | re.DOTALL)


def _text(one: FileList, root: Path) -> str:
    return (root / one.cmake).read_text(encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the lists")
    arguments = parser.parse_args()
    different = False
    for one in LISTS:
        if arguments.write:
            write(one)
        listed, wanted = set(listed_files(one)), set(wanted_files(one))
        for path in sorted(wanted - listed):
            print(f"{one.cmake}: {one.variable} lacks {path}")
        for path in sorted(listed - wanted):
            print(f"{one.cmake}: {one.variable} lists {path}, which git does not track")
        different |= listed != wanted
    return int(different)


if __name__ == "__main__":
    sys.exit(main())

"""The wheel holds the engine and what ships with it, and finds it when installed alone."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TRAINING = Path(__file__).resolve().parents[2] / "Training"


@pytest.fixture(scope="module")
def a_wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    copy = folder / "clone"
    for name in ("Training", "Resources"):
        source = TRAINING.parent / name
        tracked = subprocess.run(
            ["git", "ls-files", "-z", "--", name],
            cwd=TRAINING.parent, check=True, capture_output=True, text=True,
        ).stdout.split("\0")  # fmt: skip
        for file in filter(None, tracked):
            if not (TRAINING.parent / file).is_file():
                continue
            target = copy / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((source.parent / file).read_bytes())
    result = subprocess.run(
        [*command, "-w", str(folder), str(copy / "Training")], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_resources_are_in_the_wheel_and_found(a_wheel, tmp_path):
    with zipfile.ZipFile(a_wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path)
    assert "mednext_engine/Resources/Catalog/catalogue.json" in names
    assert "mednext_engine/Resources/SampleData/Colin27_T1.nii.gz" in names
    assert not [n for n in names if n.startswith(("Testing", "recipes", "build"))]
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import mednext_engine.models.resources as r; "
        "assert r.__file__.startswith(sys.argv[1]); print(r.resource_path('SampleData'))"
    )
    found = subprocess.run(
        [sys.executable, "-I", "-c", code, str(tmp_path)],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    assert Path(found) == tmp_path / "mednext_engine" / "Resources" / "SampleData"

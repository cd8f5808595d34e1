"""Results on disk: the image's geometry, the smallest type, and never half a file."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from mednext_engine.errors import OutputError
from mednext_engine.inference import writing
from mednext_engine.inference.images import Volume, read_volume
from mednext_engine.inference.writing import write_labels, write_probabilities, write_scalar

OBLIQUE = (0.96, -0.28, 0.0, 0.28 * 0.8, 0.96 * 0.8, -0.6, 0.28 * 0.6, 0.96 * 0.6, 0.8)


@pytest.fixture
def volume() -> Volume:
    array = np.random.default_rng(0).random((1, 6, 7, 8)).astype(np.float32)
    return Volume(array, (3.3, 0.7, 0.65), (-101.25, 33.4, 1210.7), OBLIQUE)


def some_labels(highest: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, highest + 1, (6, 7, 8)).astype(np.int64)


@pytest.mark.parametrize("suffix", writing.SUFFIXES)
def test_labels_lie_where_the_image_does(tmp_path: Path, volume: Volume, suffix: str) -> None:
    path = tmp_path / f"größe{suffix}"
    labels = some_labels()
    write_labels(path, labels, volume)
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), labels)
    for corner in ((0, 0, 0), (7, 0, 0), (0, 6, 5), (7, 6, 5)):
        point = image.TransformIndexToPhysicalPoint(corner)
        np.testing.assert_allclose(point, volume.to_lps(corner), atol=1e-3)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", writing.SUFFIXES)
@pytest.mark.parametrize("source", writing.SUFFIXES)
def test_from_file_to_file_the_geometry_is_the_same(tmp_path, volume, source, suffix) -> None:
    write_scalar(tmp_path / f"image{source}", volume.array[0], volume)
    image = read_volume(tmp_path / f"image{source}")
    write_labels(tmp_path / f"labels{suffix}", some_labels(), image)
    labels = read_volume(tmp_path / f"labels{suffix}")
    np.testing.assert_allclose(labels.spacing, image.spacing, atol=1e-6)
    np.testing.assert_allclose(labels.origin, image.origin, atol=1e-4)
    np.testing.assert_allclose(labels.direction, image.direction, atol=1e-6)


@pytest.mark.parametrize(
    ("highest", "kind"),
    [(1, sitk.sitkUInt8), (255, sitk.sitkUInt8), (256, sitk.sitkUInt16), (70000, sitk.sitkUInt32)],
)
def test_the_smallest_type_that_holds_the_labels(tmp_path, volume, highest, kind) -> None:
    labels = some_labels()
    labels[0, 0, 0] = highest
    write_labels(tmp_path / "labels.nrrd", labels, volume)
    image = sitk.ReadImage(str(tmp_path / "labels.nrrd"))
    assert image.GetPixelID() == kind
    assert image[0, 0, 0] == highest


def test_numbers_are_single_precision(tmp_path: Path, volume: Volume) -> None:
    values = np.random.default_rng(0).random((6, 7, 8))
    write_scalar(tmp_path / "entropy.nii.gz", values, volume)
    image = sitk.ReadImage(str(tmp_path / "entropy.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), values.astype(np.float32))


def test_probabilities_are_nnunets_npz(tmp_path: Path, volume: Volume) -> None:
    heads = np.random.default_rng(0).random((3, 6, 7, 8)).astype(np.float32)
    write_probabilities(tmp_path / "case.npz", iter(heads), 3, volume)
    with np.load(tmp_path / "case.npz") as archive:
        assert list(archive) == ["probabilities"]
        np.testing.assert_array_equal(archive["probabilities"], heads)
    assert os.listdir(tmp_path) == ["case.npz"]


def test_unwritable_places_are_named(tmp_path: Path, volume: Volume, monkeypatch) -> None:
    with pytest.raises(OutputError, match="does not end in a format"):
        write_labels(tmp_path / "labels.png", some_labels(), volume)
    with pytest.raises(OutputError, match="no folder"):
        write_labels(tmp_path / "missing" / "labels.nrrd", some_labels(), volume)
    (tmp_path / "folder.nrrd").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        write_labels(tmp_path / "folder.nrrd", some_labels(), volume)
    with pytest.raises(OutputError, match="voxels"):
        write_labels(tmp_path / "labels.nrrd", some_labels()[1:], volume)
    assert os.listdir(tmp_path) == ["folder.nrrd"]


def test_without_permission_the_old_result_stays(tmp_path, volume, monkeypatch) -> None:
    path = tmp_path / "labels.nrrd"
    path.write_text("old")

    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", denied)
    with pytest.raises(OutputError, match="no permission"):
        write_labels(path, some_labels(), volume)
    assert os.listdir(tmp_path) == ["labels.nrrd"]
    assert path.read_text() == "old"


def test_a_full_disk_is_named(tmp_path: Path, volume: Volume, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    usage = type("Usage", (), {"free": 0})
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match="only 0 MB are free"):
        write_labels(tmp_path / "labels.nii.gz", some_labels(), volume)
    assert os.listdir(tmp_path) == []


LIMITED = """
import resource, signal, sys
import numpy as np
from mednext_engine.errors import OutputError
from mednext_engine.inference.images import Volume
from mednext_engine.inference.writing import write_labels, write_probabilities

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
noise = np.random.default_rng(0).integers(0, 200, (50, 50, 50))
like = Volume(noise[None].astype(np.float32), (1.0, 1.0, 1.0))
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
try:
    if sys.argv[1].endswith(".npz"):
        write_probabilities(sys.argv[1], [np.random.rand(50, 50, 50)], 1, like)
    else:
        write_labels(sys.argv[1], noise, like)
except OutputError as error:
    print("refused:", error.message)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX's")
@pytest.mark.parametrize("suffix", [*writing.SUFFIXES, ".npz"])
def test_no_file_is_cut_short_in_silence(tmp_path: Path, suffix: str) -> None:
    """A limit on the file's size stops writing in the middle, as a full disk does."""
    path = tmp_path / f"labels{suffix}"
    command = [sys.executable, "-c", LIMITED, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert "refused: labels" in done.stdout, done.stderr
    assert os.listdir(tmp_path) == []

"""DICOM folders: one series of slices, or a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from mednext_engine.errors import InputError
from mednext_engine.inference.images import read_volume
from mednext_engine.inference.writing import write_labels

ROW, COLUMN = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)


def write_series(
    folder: Path,
    places: Sequence[Sequence[float]],
    series: str = "1.2.826.0.1.3680043.2.1125.1",
    number: str = "3",
    seed: int = 0,
) -> np.ndarray:
    """One slice at each of `places` (LPS mm of its first voxel), 0.5 x 0.75 mm voxels."""
    folder.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).integers(-900, 900, (len(places), 12, 10)).astype(np.int16)
    for index, (plane, place) in enumerate(zip(array, places, strict=True)):
        image = sitk.GetImageFromArray(plane[None])
        image.SetSpacing((0.5, 0.75, 1.0))
        for key, value in {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{series}.{index + 1}",
            "0008|0060": "CT",
            "0010|0010": "SECRET^PATIENT",
            "0010|0020": "SECRET-ID",
            "0018|0050": "2",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.9",
            "0020|000e": series,
            "0020|0011": number,
            "0020|0013": str(index + 1),
            "0020|0032": "\\".join(f"{v:g}" for v in place),
            "0020|0037": "\\".join(f"{v:g}" for v in ROW + COLUMN),
        }.items():
            image.SetMetaData(key, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        # Names run against the order of the slices: positions must decide.
        writer.SetFileName(str(folder / f"{series[-1]}-{900 - index}.dcm"))
        writer.Execute(image)
    return array


def even(count: int, step: float = 2.0) -> list[tuple[float, float, float]]:
    return [(-5.0, 7.0, 30.0 + step * i) for i in range(count)]


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_volume(path)
    assert "SECRET" not in str(caught.value)
    return str(caught.value)


def test_a_series_is_read_in_the_order_of_its_positions(tmp_path: Path) -> None:
    array = write_series(tmp_path / "ct", even(6))
    (tmp_path / "ct" / "README.txt").write_text("not an image")
    volume = read_volume(tmp_path / "ct")
    np.testing.assert_array_equal(volume.array[0], array)
    np.testing.assert_allclose(volume.spacing, (2.0, 0.75, 0.5))
    np.testing.assert_allclose(volume.origin, (-5.0, 7.0, 30.0))
    np.testing.assert_allclose(np.reshape(volume.direction, (3, 3)), np.eye(3), atol=1e-9)


def test_a_series_in_a_folder_below_is_found(tmp_path: Path) -> None:
    write_series(tmp_path / "export" / "study" / "s1", even(4))
    assert read_volume(tmp_path / "export").shape == (4, 12, 10)


def test_a_localizer_of_one_slice_is_not_a_series(tmp_path: Path) -> None:
    write_series(tmp_path, even(4))
    write_series(tmp_path, even(1), series="1.2.826.0.1.3680043.2.1125.2", number="1")
    assert read_volume(tmp_path).shape == (4, 12, 10)


def test_several_series_are_listed(tmp_path: Path) -> None:
    write_series(tmp_path, even(4))
    write_series(tmp_path, even(3), series="1.2.826.0.1.3680043.2.1125.2", number="7")
    message = refused(tmp_path)
    assert "2 image series" in message
    assert "series 3 (CT, 4 slices)" in message
    assert "series 7 (CT, 3 slices)" in message


def test_a_folder_without_a_series(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    assert "no DICOM series" in refused(tmp_path)


def test_missing_slices(tmp_path: Path) -> None:
    places = even(6)
    del places[3]
    write_series(tmp_path, places)
    assert "2 to 4 mm" in refused(tmp_path)


def test_slices_at_the_same_place(tmp_path: Path) -> None:
    write_series(tmp_path, [p for p in even(3) for _ in range(2)])
    assert "same place" in refused(tmp_path)


def test_a_tilted_gantry(tmp_path: Path) -> None:
    write_series(tmp_path, [(0.0, 0.5 * i, 2.0 * i) for i in range(5)])
    assert "tilted gantry" in refused(tmp_path)


def test_nothing_about_the_patient_gets_into_the_result(tmp_path: Path) -> None:
    array = write_series(tmp_path / "ct", even(4))
    volume = read_volume(tmp_path / "ct")
    for suffix in (".nrrd", ".nii", ".mha"):
        path = tmp_path / f"labels{suffix}"
        write_labels(path, (array > 0).astype(np.uint8), volume)
        assert b"SECRET" not in path.read_bytes()
        keys = sitk.ReadImage(str(path)).GetMetaDataKeys()
        assert not [key for key in keys if "|" in key]

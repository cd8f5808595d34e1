"""Reading volumes: geometry as it is, and a sentence for whatever cannot be segmented."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from mednext_engine.errors import Cancelled, InputError
from mednext_engine.inference.images import read_volume
from mednext_engine.monitor import Monitor

SUFFIXES = [".nii", ".nii.gz", ".nrrd", ".mha"]


def an_image(shape=(6, 7, 8), dtype=np.int16, spacing=(1.0, 2.0, 3.0), origin=(10.0, -20.0, 5.5)):
    image = sitk.GetImageFromArray(np.arange(np.prod(shape), dtype=dtype).reshape(shape))
    image.SetSpacing(spacing[: len(shape)])
    image.SetOrigin(origin[: len(shape)])
    return image


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def writer(image: sitk.Image, name: str = "image.nrrd", compressed: bool = False) -> Path:
        sitk.WriteImage(image, str(tmp_path / name), compressed)
        return tmp_path / name

    return writer


def refused(path, names=None) -> InputError:
    with pytest.raises(InputError) as caught:
        read_volume(path, names)
    assert caught.value.message.endswith(".")
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_voxels_and_geometry_are_the_files(write, suffix: str) -> None:
    image = an_image()
    turned = (0.0, -1.0, 0.0, 0.8, 0.0, 0.6, -0.6, 0.0, 0.8)
    image.SetDirection(turned)
    volume = read_volume(write(image, f"image{suffix}"))
    assert volume.array.dtype == np.float32
    assert volume.shape == (6, 7, 8)
    np.testing.assert_array_equal(volume.array[0], sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(volume.spacing, (3.0, 2.0, 1.0), atol=1e-6)
    np.testing.assert_allclose(volume.origin, (10.0, -20.0, 5.5), atol=1e-5)
    np.testing.assert_allclose(volume.direction, turned, atol=1e-6)
    point = image.TransformContinuousIndexToPhysicalPoint((1.0, 2.5, -3.0))
    np.testing.assert_allclose(volume.to_lps((1.0, 2.5, -3.0)), point, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32, np.float64])
def test_every_number_type_is_read(write, dtype) -> None:
    volume = read_volume(write(an_image(dtype=dtype)))
    np.testing.assert_array_equal(volume.array.ravel()[:250], np.arange(250))


def test_several_files_are_channels(write) -> None:
    first, second = write(an_image(), "a.nrrd"), write(an_image() + 5, "b.nii")
    volume = read_volume([first, second], ["T1", "T2"])
    np.testing.assert_array_equal(volume.array[1], volume.array[0] + 5)
    assert volume.sources == (first, second)


def test_names_beyond_ascii_work(tmp_path: Path) -> None:
    folder = tmp_path / "Schädel é 頭"
    folder.mkdir()
    path = folder / "größe ü.nii.gz"
    sitk.WriteImage(an_image(), str(path))
    assert read_volume(path).shape == (6, 7, 8)


def test_a_fourth_axis_with_one_entry_is_dropped(write) -> None:
    image = sitk.JoinSeries([an_image()])
    assert read_volume(write(image)).shape == (6, 7, 8)


def test_channels_on_different_grids_are_refused(write) -> None:
    first = write(an_image(), "a.nrrd")
    for other in (
        an_image((6, 7, 9)),
        an_image(spacing=(1.0, 2.0, 3.1)),
        an_image(origin=(10.0, -20.0, 5.0)),
    ):
        error = refused([first, write(other, "b.nrrd")])
        assert "different grids" in error.message
        assert "b.nrrd" in error.message
        assert error.hint
    nearly = an_image(origin=(10.0, -20.001, 5.5))
    assert read_volume([first, write(nearly, "b.nrrd")]).array.shape[0] == 2


def test_the_wrong_number_of_channels_names_the_expected(write) -> None:
    path = write(an_image())
    message = refused(path, ["T1", "FLAIR"]).message
    assert message == "The model expects 2 images (T1, FLAIR), but 1 was given."
    assert "1 image (CT), but 2 were" in refused([path, path], ["CT"]).message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers_are_counted(write, value: float) -> None:
    array = np.random.default_rng(0).random((6, 7, 8))
    array[2, 3, 4] = array[5, 0, 0] = value
    error = refused(write(sitk.GetImageFromArray(array)))
    assert "2 voxels that are not finite numbers" in error.message
    assert "Replace" in error.hint


def test_empty_and_constant_images(write) -> None:
    assert "empty" in refused(write(an_image() * 0)).message
    assert "constant: every voxel is 7" in refused(write(an_image() * 0 + 7)).message


@pytest.mark.parametrize("shape", [(7, 8), (1, 7, 8), (7, 8, 1)])
def test_2d_images(write, shape: tuple) -> None:
    assert "is a 2D image" in refused(write(an_image(shape), "slice.nii")).message


def test_4d_images(write) -> None:
    error = refused(write(sitk.JoinSeries([an_image(), an_image()]), "bold.nii"))
    assert "4 dimensions (8 x 7 x 6 x 2 voxels)" in error.message


def test_colour_vector_and_complex_images(write) -> None:
    grey = sitk.Cast(an_image(), sitk.sitkUInt8)
    assert "RGB" in refused(write(sitk.Compose(grey, grey, grey))).message
    assert "vector image with 2" in refused(write(sitk.Compose(grey, grey))).message
    real = sitk.Cast(an_image(), sitk.sitkFloat32)
    assert "complex" in refused(write(sitk.RealAndImaginaryToComplex(real, real), "c.nii")).message


def edit(path: Path, old: bytes, new: bytes) -> Path:
    raw = path.read_bytes()
    assert old in raw
    path.write_bytes(raw.replace(old, new))
    return path


def test_zero_spacing(write) -> None:
    nrrd = edit(write(an_image()), b"(0,2,0)", b"(0,0,0)")
    mha = edit(write(an_image(), "i.mha"), b"Spacing = 1 2 3", b"Spacing = 1 0 3")
    nifti = write(an_image(), "i.nii")
    with open(nifti, "r+b") as file:
        file.seek(76 + 8)
        file.write(struct.pack("<f", 0.0))
    for path in (nrrd, mha, nifti):
        assert "spacing of zero" in refused(path).message


def a_sheared_nifti(path: Path, shear: float) -> Path:
    """Only an sform, whose third axis leans by `shear` (tangent of the angle)."""
    with open(path, "r+b") as file:
        file.seek(252)
        file.write(struct.pack("<hh", 0, 1))
        file.seek(280)
        file.write(struct.pack("<12f", 1, 0, 3 * shear, 0, 0, 2, 0, 0, 0, 0, 3, 0))
    return path


def test_sheared_axes(write) -> None:
    nrrd = edit(write(an_image()), b"(0,2,0)", b"(1,2,0)")
    mha = edit(write(an_image(), "i.mha"), b"0 1 0 0 0 1", b"0 1 0 0.5 0 1")
    nifti = a_sheared_nifti(write(an_image(), "i.nii"), 0.1)
    for path in (nrrd, mha, nifti):
        assert "sheared" in refused(path).message


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_axes_sheared_by_rounding_only_work(write, suffix: str) -> None:
    path = a_sheared_nifti(write(an_image(), "i.nii"), 1e-3)
    if suffix == ".nii.gz":
        import gzip

        zipped = path.with_suffix(".nii.gz")
        zipped.write_bytes(gzip.compress(path.read_bytes()))
        path = zipped
    before = dict(os.environ)
    volume = read_volume(path)
    assert dict(os.environ) == before
    axes = np.reshape(volume.direction, (3, 3))
    np.testing.assert_allclose(axes, np.diag([-1, -1, 1]), atol=1e-3)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.6, 0.999])
def test_truncated_files(write, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 9999, (20, 21, 22)).astype(np.int16)
    path = write(sitk.GetImageFromArray(noise), f"image{suffix}", True)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    message = refused(path).message
    assert "truncated" in message or "not an image" in message


def test_a_nifti_of_several_gzip_members_is_whole(write, tmp_path: Path) -> None:
    import gzip

    raw = write(an_image(), "i.nii").read_bytes()
    path = tmp_path / "members.nii.gz"
    path.write_bytes(gzip.compress(raw[:400]) + gzip.compress(raw[400:]))
    assert read_volume(path).shape == (6, 7, 8)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".txt"])
def test_what_is_no_image(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image{suffix}"
    path.write_bytes(b"not an image at all" * 50)
    assert "not an image" in refused(path).message


def test_missing_and_forbidden_files(tmp_path: Path, monkeypatch) -> None:
    assert "There is no file" in refused(tmp_path / "nothing.nii").message
    path = tmp_path / "secret.nii"
    path.write_bytes(b"x")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "permission" in refused(path).message


def test_cancelling_stops_between_channels(write) -> None:
    monitor = Monitor()
    monitor.cancel()
    with pytest.raises(Cancelled):
        read_volume(write(an_image()), monitor=monitor)

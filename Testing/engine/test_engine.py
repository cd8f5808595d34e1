"""From a file to labels in a file: the whole way, with a small trained network."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from engine_fixtures import (
    PATCH,
    Trained,
    class_map,
    dice_of_labels,
    sample_head,
    train_network,
    turned,
    write_image,
)

from mednext_engine.errors import Cancelled, EngineError, InputError, OutputError, ResourceError
from mednext_engine.inference import Box, Options, Segmenter, loading, segment_file
from mednext_engine.inference import engine as engine_module
from mednext_engine.inference.images import read_volume
from mednext_engine.models.folder import Model
from mednext_engine.monitor import Monitor

TORCH = Options(device="cpu", backend="torch", precision="float32")


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train_network("mednext", 60)


@pytest.fixture(scope="module")
def a_model(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return trained.write(tmp_path_factory.mktemp("models") / "plain")


@pytest.fixture(scope="module")
def a_head() -> sitk.Image:
    """A part of the head with oblique axes, two windows an axis."""
    return turned(sample_head()[8:52, 12:60, 8:48])


@pytest.fixture(scope="module")
def a_file(a_head: sitk.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image(tmp_path_factory.mktemp("images") / "head.nii.gz", a_head)


@pytest.fixture(scope="module")
def plain_labels(a_model: Model, a_file: Path) -> np.ndarray:
    """What the other tests compare with."""
    volume = read_volume(a_file, a_model.channel_names)
    return Segmenter(a_model).segment(volume, TORCH).labels


def segmented(model: Model, path: Path, **options: Any) -> Any:
    volume = read_volume(path, model.channel_names)
    return Segmenter(model).segment(volume, Options(**{**vars(TORCH), **options}))


def test_finds_what_it_was_trained_to_find(plain_labels, a_head):
    scores = dice_of_labels(plain_labels, class_map(sitk.GetArrayFromImage(a_head)))
    assert scores[1] > 0.5
    assert scores[2] > 0.8


def test_output_lies_exactly_where_the_image_lies(a_model, a_file, a_head, plain_labels, tmp_path):
    result = segment_file(a_file, tmp_path / "labels.nrrd", a_model, TORCH)
    written = sitk.ReadImage(str(tmp_path / "labels.nrrd"))
    assert np.array_equal(sitk.GetArrayFromImage(written), plain_labels)
    for get in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(written, get)(), getattr(a_head, get)(), atol=1e-6)
    assert result.backend == "torch"
    assert result.precision == "float32"
    assert {"Reading the image", "Preparing the image", "Segmenting", "Writing"} <= set(
        result.timings
    )
    assert result.peak_estimate > 0
    assert result.device_reason
    assert [p.name for p in tmp_path.iterdir()] == ["labels.nrrd"]


def test_both_backends_agree(a_model, a_file, plain_labels):
    pytest.importorskip("openvino")
    result = segmented(a_model, a_file, backend="openvino")
    assert result.backend == "openvino"
    assert min(dice_of_labels(result.labels, plain_labels).values()) > 0.9999


def test_a_region_is_as_in_the_whole_volume(a_model, a_file, plain_labels):
    box = Box((5, 10, 20), (20, 30, 36))  # i, j, k
    labels = segmented(a_model, a_file, roi=box).labels
    inside = (slice(20, 36), slice(10, 30), slice(5, 20))  # z, y, x
    assert np.array_equal(labels[inside], plain_labels[inside])
    assert plain_labels[inside].any()
    labels[inside] = 0
    assert not labels.any()


def test_a_region_computes_fewer_windows(a_model, a_file, monkeypatch):
    calls = []
    get = loading.Networks.get

    def counted(self: loading.Networks, *args: Any) -> Any:
        runner = get(self, *args)
        inner = runner.run
        runner.run = lambda *a: (calls.append(1), inner(*a))[1]
        return runner

    monkeypatch.setattr(loading.Networks, "get", counted)
    segmented(a_model, a_file)
    assert len(calls) == 8  # two an axis: 44, 48 and 40 voxels, patches of 32
    calls.clear()
    segmented(a_model, a_file, roi=Box((0, 0, 0), (5, 5, 5)))
    assert len(calls) == 1


def test_a_region_that_is_all_zero_is_background(a_model, tmp_path):
    values = np.zeros((40, 40, 40), np.float32)
    values[:, :, 20:] = np.random.default_rng(0).uniform(1, 2, (40, 40, 20))
    path = write_image(tmp_path / "half.nii.gz", sitk.GetImageFromArray(values))
    assert not segmented(a_model, path, roi=Box((0, 0, 0), (10, 10, 10))).labels.any()


def test_a_region_outside_is_refused(a_model, a_file):
    with pytest.raises(InputError, match="outside"):
        segmented(a_model, a_file, roi=Box((100, 0, 0), (110, 5, 5)))


def test_more_labels_than_features_give_the_same(trained, a_file, plain_labels, tmp_path):
    """The head is applied after averaging; the further labels never win."""
    model = trained.write(tmp_path / "many", labels=40)
    result = segmented(model, a_file)
    assert min(dice_of_labels(result.labels, plain_labels).values()) > 0.9999


def test_features_and_logits_give_the_same(trained, a_file, tmp_path):
    """With `probabilities` the logits themselves are averaged, the head inside."""
    model = trained.write(tmp_path / "many", labels=40)
    inside = segmented(model, a_file, probabilities=True).labels
    outside = segmented(model, a_file).labels
    assert min(dice_of_labels(inside, outside).values()) > 0.9999


def test_folds_are_averaged(trained, a_file, tmp_path):
    """The mean of logits: with equal folds the same labels, and each fold can be asked for."""
    model = trained.write(tmp_path / "folds", folds=("0", "1"))
    both = segmented(model, a_file, probabilities=True)
    one, other = (segmented(model, a_file, folds=(f,), probabilities=True) for f in "01")
    maps = [[np.asarray(p) for p in result.probabilities] for result in (both, one, other)]
    for mean, a, b in zip(*maps, strict=True):
        assert not np.allclose(a, b, atol=1e-3)
        low, high = np.minimum(a, b), np.maximum(a, b)
        between = (mean >= low - 0.05) & (mean <= high + 0.05)
        assert between.mean() > 0.99
    assert both.labels.shape == one.labels.shape


def test_an_unknown_fold_is_refused(a_model, a_file):
    with pytest.raises(EngineError, match="no fold '7'"):
        segmented(a_model, a_file, folds=("7",))


def test_probabilities_sum_to_one_and_agree_with_labels(a_model, a_file, plain_labels):
    result = segmented(a_model, a_file, probabilities=True, uncertainty=True)
    maps = np.stack(list(result.probabilities))
    assert maps.shape == (3, *plain_labels.shape)
    np.testing.assert_allclose(maps.sum(0), 1, atol=1e-4)
    assert (maps.argmax(0) == plain_labels).mean() > 0.9999
    entropy = -(maps * np.log(np.maximum(maps, 1e-12))).sum(0) / np.log(3)
    np.testing.assert_allclose(result.uncertainty, entropy, atol=2e-3)


def test_probabilities_and_uncertainty_are_written(a_model, a_file, tmp_path):
    segment_file(
        a_file,
        tmp_path / "labels.nii.gz",
        a_model,
        TORCH,
        uncertainty_path=tmp_path / "entropy.nii.gz",
        probabilities_path=tmp_path / "maps.npz",
    )
    entropy = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "entropy.nii.gz")))
    assert 0 <= entropy.min() < entropy.max() <= 1
    maps = np.load(tmp_path / "maps.npz")["probabilities"]
    assert maps.shape == (3, *entropy.shape)


def test_regions_are_written_one_over_the_other(trained, a_file, tmp_path):
    """A voxel belongs to a region above one half; the later region is on top."""
    model = trained.write(tmp_path / "regions", labels="regions")
    result = segmented(model, a_file, probabilities=True)
    head, core = (values > 0.5 for values in result.probabilities)
    expected = np.where(core, 2, np.where(head, 1, 0))
    assert (result.labels == expected).mean() > 0.9999
    assert set(np.unique(expected)) == {0, 1, 2}
    assert (segmented(model, a_file).labels == expected).mean() > 0.9999


def test_mirroring_changes_little_but_something(a_model, a_file):
    plain = segmented(a_model, a_file, probabilities=True)
    mirrored = segmented(a_model, a_file, probabilities=True, mirror=True)
    difference = np.abs(next(plain.probabilities) - next(mirrored.probabilities))
    assert 0 < difference.mean() < 0.1


def test_smaller_than_a_window(a_model, a_head, tmp_path):
    path = write_image(tmp_path / "small.nii.gz", a_head[10:22, 12:40, 14:27])
    labels = segmented(a_model, path).labels
    assert labels.shape == (13, 28, 12)
    assert max(labels.shape) < PATCH


def test_margins_of_zeros_stay_background(a_model, a_head, a_file, plain_labels, tmp_path):
    """nnU-Net crops to the non-zero box: a margin changes nothing inside and is background."""
    image = sitk.ConstantPad(a_head + 1, [3, 5, 7], [4, 6, 8], 0.0)
    path = write_image(tmp_path / "padded.nii.gz", image)
    labels = segmented(a_model, path).labels
    inside = (slice(7, -8), slice(5, -6), slice(3, -4))
    inner = labels[inside].copy()
    labels[inside] = 0
    assert not labels.any()
    assert min(dice_of_labels(inner, plain_labels).values()) > 0.99


def broken(kind: str) -> sitk.Image:
    values = np.random.default_rng(0).normal(100, 10, (20, 20, 20)).astype(np.float32)
    if kind == "nan":
        values[3, 4, 5] = np.nan
    if kind == "infinite":
        values[3, 4, 5] = np.inf
    if kind == "empty":
        values[:] = 0
    if kind == "constant":
        values[:] = 7
    if kind == "two-dimensional":
        return sitk.GetImageFromArray(values[0])
    if kind == "four-dimensional":
        return sitk.GetImageFromArray(np.stack([values, values]), isVector=False)
    if kind == "colour":
        colours = np.zeros((20, 20, 20, 3), np.uint8)
        return sitk.GetImageFromArray(colours, isVector=True)
    return sitk.GetImageFromArray(values)


@pytest.mark.parametrize(
    "kind",
    ["nan", "infinite", "empty", "constant", "two-dimensional", "four-dimensional", "colour"],
)
def test_what_is_no_image_to_segment_gets_its_sentence(a_model, tmp_path, kind):
    path = write_image(tmp_path / "image.nrrd", broken(kind))
    with pytest.raises(InputError) as caught:
        segment_file(path, tmp_path / "labels.nii.gz", a_model, TORCH)
    assert str(caught.value).endswith(".")
    assert [p.name for p in tmp_path.iterdir()] == ["image.nrrd"]  # nothing half-written


def test_a_truncated_file_gets_its_sentence(a_model, a_file, tmp_path):
    path = tmp_path / "cut.nii.gz"
    path.write_bytes(a_file.read_bytes()[:5000])
    with pytest.raises(InputError):
        segment_file(path, tmp_path / "labels.nii.gz", a_model, TORCH)


def test_channels_must_be_as_many_and_on_one_grid(trained, a_file, a_head, tmp_path):
    model = trained.write(tmp_path / "two", channels=2)
    with pytest.raises(InputError):
        segment_file(a_file, tmp_path / "labels.nii.gz", model, TORCH)
    moved = sitk.Image(a_head)
    moved.SetOrigin((0.0, 0.0, 0.0))
    other = write_image(tmp_path / "moved.nii.gz", moved)
    with pytest.raises(InputError):
        segment_file([a_file, other], tmp_path / "labels.nii.gz", model, TORCH)


def test_a_destination_that_cannot_be_written_leaves_nothing(a_model, a_file, tmp_path):
    target = tmp_path / "file"
    target.write_text("not a folder")
    with pytest.raises(OutputError):
        segment_file(a_file, target / "labels.nii.gz", a_model, TORCH)
    assert target.read_text() == "not a folder"


def test_the_second_volume_loads_nothing(a_model, a_file):
    volume = read_volume(a_file, a_model.channel_names)
    segmenter = Segmenter(a_model)
    first, second = (segmenter.segment(volume, TORCH, Monitor()) for _ in range(2))
    assert np.array_equal(first.labels, second.labels)
    assert second.timings["Loading the network"] < 0.5 * first.timings["Loading the network"]
    assert segmenter.memory_bytes > 100_000
    segmenter.close()
    assert segmenter.memory_bytes == 0


class Failing:
    """Lets the engine run out of memory the first `times` times it predicts."""

    def __init__(self, times: int, error: Exception) -> None:
        self.left, self.error = times, error
        self.stores: list[str] = []
        self._predict = engine_module.predict_planes

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.stores.append(kwargs["store_as"])
        if self.left:
            self.left -= 1
            raise self.error
        return self._predict(*args, **kwargs)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("no memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate ..."),
    ],
)
def test_too_little_memory_steps_down_and_says_so(
    a_model, a_file, plain_labels, monkeypatch, error
):
    failing = Failing(1, error)
    monkeypatch.setattr(engine_module, "predict_planes", failing)
    result = segmented(a_model, a_file)
    assert failing.stores == ["float32", "float16"]
    assert any("did not suffice" in note for note in result.notes)
    assert min(dice_of_labels(result.labels, plain_labels).values()) > 0.99


def test_no_memory_at_all_is_an_error_with_a_hint(a_model, a_file, monkeypatch):
    monkeypatch.setattr(engine_module, "predict_planes", Failing(99, MemoryError()))
    with pytest.raises(ResourceError) as caught:
        segmented(a_model, a_file)
    assert caught.value.hint


def test_another_error_is_not_taken_for_lack_of_memory(a_model, a_file, monkeypatch):
    failing = Failing(1, RuntimeError("something else"))
    monkeypatch.setattr(engine_module, "predict_planes", failing)
    with pytest.raises(RuntimeError, match="something else"):
        segmented(a_model, a_file)


def test_short_memory_is_foreseen(a_model, a_file, plain_labels):
    result = segmented(a_model, a_file, largest_memory=2**20)
    assert any("half precision" in note for note in result.notes)
    assert any("GiB" in note for note in result.notes)
    assert min(dice_of_labels(result.labels, plain_labels).values()) > 0.99


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_cancel_is_obeyed_within_two_seconds(trained, tmp_path, backend):
    """One tile takes seconds; the cancel comes while it runs."""
    if backend == "openvino":
        pytest.importorskip("openvino")
    size = 96 if backend == "torch" else 144
    model = trained.write(tmp_path / "large", patch_size=(size,) * 3)
    values = np.random.default_rng(0).normal(100, 30, (size,) * 3).astype(np.float32)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((3.0, 3.0, 3.0))
    path = write_image(tmp_path / "large.nrrd", image)
    started, monitor = threading.Event(), Monitor()
    monitor.report = lambda p: started.set() if p.stage == "Segmenting" else None
    called: list[float] = []

    def cancel() -> None:
        started.wait(60)
        time.sleep(0.1)
        called.append(time.monotonic())
        monitor.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    options = Options(device="cpu", backend=backend, precision="float32")
    with pytest.raises(Cancelled):
        segment_file(path, tmp_path / "labels.nii.gz", model, options, monitor)
    assert time.monotonic() - called[0] < 2.0
    thread.join()
    assert not (tmp_path / "labels.nii.gz").exists()

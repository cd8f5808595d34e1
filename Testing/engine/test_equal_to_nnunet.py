"""The same trained model folder and the same volume: our labels against nnU-Net's own predictor.

nnU-Net adds up windows in half precision, so voxels whose two best labels lie within its rounding
may differ. Where it is made to add up in single precision, nothing but float32 rounding is left.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from engine_fixtures import KINDS, Trained, dice_of_labels, sample_head, train_network, turned
from engine_fixtures import write_image as write

from mednext_engine.inference import Options, segment_file
from mednext_engine.models.folder import Model

nnunet = pytest.importorskip("nnunetv2.inference.predict_from_raw_data")


@pytest.fixture(scope="module", params=sorted(KINDS))
def trained(request: pytest.FixtureRequest) -> Trained:
    return train_network(request.param)


@pytest.fixture(scope="module")
def head() -> sitk.Image:
    """The whole head at 2.5 mm: it must be resampled to the models' 3 mm."""
    return sample_head((2.5, 2.5, 2.5))


@pytest.fixture(scope="module")
def slices() -> sitk.Image:
    """Thick slices: 6 mm apart, 2 mm in plane."""
    return sample_head((2.0, 2.0, 6.0))


def part_of_head() -> sitk.Image:
    return sample_head()[8:48, 12:52, 10:46]


def peer_labels(model: Model, inputs: list[Path], output: Path, mirror: bool) -> np.ndarray:
    predictor = nnunet.nnUNetPredictor(
        use_mirroring=mirror,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(str(model.path), None)
    predictor.predict_from_files_sequential([[str(path) for path in inputs]], [str(output)])
    return sitk.GetArrayFromImage(sitk.ReadImage(f"{output}.nii.gz"))


def compare(
    model: Model, images: list[sitk.Image], folder: Path, *, mirror: bool = False, backend: str
) -> dict[int, float]:
    """Dice of each label between nnU-Net's result and ours."""
    inputs = [write(folder / f"image_{n:04d}.nii.gz", image) for n, image in enumerate(images)]
    theirs = peer_labels(model, inputs, folder / "theirs", mirror)
    options = Options(device="cpu", backend=backend, precision="float32", mirror=mirror)
    ours = segment_file(inputs, folder / "ours.nii.gz", model, options).labels
    assert len(np.unique(theirs)) >= 3  # else the comparison would say nothing
    return dice_of_labels(ours, theirs)


@pytest.fixture
def exact_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    """nnU-Net with single-precision sums: its module sees a torch whose `half` is float32."""

    class Torch:
        half = torch.float32

        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

    gaussian = nnunet.compute_gaussian

    @functools.lru_cache
    def exact_gaussian(*args: Any, **kwargs: Any) -> torch.Tensor:
        return gaussian(*args, **{**kwargs, "dtype": torch.float32})

    monkeypatch.setattr(nnunet, "torch", Torch())
    monkeypatch.setattr(nnunet, "compute_gaussian", exact_gaussian)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_isotropic(trained, head, tmp_path, backend):
    if backend == "openvino":
        pytest.importorskip("openvino")
    model = trained.write(tmp_path / "model")
    assert min(compare(model, [head], tmp_path, backend=backend).values()) >= 0.995


def test_thick_slices(trained, slices, tmp_path):
    """The slice axis is coarser than three times the others: nnU-Net treats it apart."""
    model = trained.write(tmp_path / "model")
    assert min(compare(model, [slices], tmp_path, backend="auto").values()) >= 0.995


def test_a_plan_of_thick_slices_with_turned_axes(trained, slices, tmp_path):
    model = trained.write(
        tmp_path / "model",
        spacing=(3.0, 6.0, 3.0),
        patch_size=(32, 16, 32),
        transpose_forward=(2, 0, 1),
        transpose_backward=(1, 2, 0),
    )
    assert min(compare(model, [slices], tmp_path, backend="auto").values()) >= 0.995


def test_oblique_axes(trained, head, tmp_path):
    model = trained.write(tmp_path / "model")
    assert min(compare(model, [turned(head)], tmp_path, backend="auto").values()) >= 0.995


def test_several_channels(trained, head, tmp_path):
    model = trained.write(tmp_path / "model", channels=2)
    images = [head, sitk.SmoothingRecursiveGaussian(head, 2.0)]
    assert min(compare(model, images, tmp_path, backend="auto").values()) >= 0.995


@pytest.mark.parametrize("labels", ["regions", "ignore"])
def test_regions_and_ignore_label(trained, head, tmp_path, labels):
    model = trained.write(tmp_path / "model", labels=labels)
    assert min(compare(model, [head], tmp_path, backend="auto").values()) >= 0.995


@pytest.mark.parametrize("labels", ["classes", "regions"])
def test_mirrored(trained, tmp_path, labels):
    model = trained.write(tmp_path / "model", labels=labels)
    scores = compare(model, [part_of_head()], tmp_path, mirror=True, backend="auto")
    assert min(scores.values()) >= 0.995


def test_two_folds(trained, tmp_path):
    model = trained.write(tmp_path / "model", folds=("0", "1"))
    assert min(compare(model, [part_of_head()], tmp_path, backend="auto").values()) >= 0.995


def test_head_outside(trained, tmp_path):
    """More labels than features: the features are averaged and the head is applied last."""
    model = trained.write(tmp_path / "model", labels=20)
    assert min(compare(model, [part_of_head()], tmp_path, backend="auto").values()) >= 0.995


@pytest.mark.usefixtures("exact_peer")
@pytest.mark.parametrize("mirror", [False, True])
def test_what_differs_is_half_precision_of_the_peer(trained, tmp_path, mirror):
    image = turned(part_of_head())
    image.SetSpacing((3.3, 2.7, 3.1))
    model = trained.write(tmp_path / "model")
    scores = compare(model, [image], tmp_path, mirror=mirror, backend="torch")
    assert min(scores.values()) >= 0.9999

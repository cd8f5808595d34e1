"""Stock nnU-Net v2 builds our networks from plans and predicts with the folders that we write."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from mednext_engine.models.card import Card
from mednext_engine.models.plan import Plan
from mednext_engine.models.writer import Training, write_model
from mednext_engine.networks import MedNeXt

PATCH = (24, 20, 16)
SHAPE = (24, 20, 16)
KWARGS = {
    "channels": 4,
    "blocks": [1] * 9,
    "expansion": [2] * 9,
    "kernel_size": 3,
    "grn": True,
}


@pytest.fixture(scope="module")
def nnunet_environment(tmp_path_factory) -> dict[str, str]:
    """nnU-Net wants three folders named before it is imported."""
    root = tmp_path_factory.mktemp("nnunet")
    names = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    folders = {name: str(root / name) for name in names}
    os.environ.update(folders)
    return {**os.environ, "OMP_NUM_THREADS": "1", "nnUNet_compile": "false"}


@pytest.fixture(scope="module")
def a_volume() -> np.ndarray:
    """(c, z, y, x), one patch large, no zero border to crop."""
    return np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32) * 2 + 5


def logits_of(network: MedNeXt, volume: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network(torch.from_numpy(volume)[None])[0][0].numpy()


@pytest.fixture(scope="module")
def a_network(a_volume) -> MedNeXt:
    """Trained with deep supervision; random weights that tell three classes apart."""
    torch.manual_seed(5)
    network = MedNeXt(2, 3, **KWARGS, deep_supervision=True).eval()
    for name, parameter in network.named_parameters():
        if "grn" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    common = torch.from_numpy(logits_of(network, a_volume)).median(dim=-1).values
    network.decoder.heads[0].bias.data -= common.mean(dim=(1, 2))
    return network


@pytest.fixture(scope="module")
def a_written_folder(tmp_path_factory, a_network) -> Path:
    plan = Plan(
        configuration="3d_fullres",
        spacing=(1.0, 1.0, 1.0),
        patch_size=PATCH,
        transpose_forward=(0, 1, 2),
        transpose_backward=(0, 1, 2),
        normalization=("NoNormalization",) * 2,
        use_mask_for_norm=(False, False),
        intensity=({}, {}),
        network_class="mednext_engine.networks.MedNeXt",
        network_kwargs=KWARGS,
    )
    folder = tmp_path_factory.mktemp("models") / "Written"
    write_model(
        folder,
        plan=plan,
        weights={"0": a_network.state_dict()},
        labels={"background": 0, "near": 1, "far": 2},
        channel_names=["T1", "T2"],
        card=Card(title="Written"),
        training=Training(mirror_axes=(0, 1, 2)),
    )
    return folder


@pytest.mark.parametrize("deep_supervision", [True, False, None])
def test_nnunet_builds_a_mednext_from_plans(nnunet_environment, deep_supervision):
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    path = "mednext_engine.networks.MedNeXt"
    network = get_network_from_plans(path, KWARGS, [], 2, 3, True, deep_supervision)
    assert isinstance(network, MedNeXt)
    assert network.decoder.deep_supervision is bool(deep_supervision)
    outputs = network(torch.zeros(1, 2, 16, 16, 16))
    assert isinstance(outputs, list) is bool(deep_supervision)


def test_nnunets_predictor_reads_the_folder_and_gives_the_networks_logits(
    nnunet_environment, a_written_folder, a_network, a_volume
):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        use_gaussian=False,  # its weights in float16 cost the corners their digits
        use_mirroring=False,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(str(a_written_folder), use_folds=(0,))
    assert isinstance(predictor.network, MedNeXt)
    assert predictor.allowed_mirroring_axes == (0, 1, 2)
    logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(a_volume))
    expected = logits_of(a_network, a_volume)
    np.testing.assert_allclose(logits.float().numpy(), expected, rtol=0.01, atol=0.01)
    labels = predictor.predict_single_npy_array(a_volume, {"spacing": [1.0, 1.0, 1.0]})
    assert labels.shape == SHAPE
    assert len(np.unique(labels)) == 3
    assert (labels == expected.argmax(0)).mean() > 0.99


def test_the_command_of_nnunet_predicts_from_the_folder(
    nnunet_environment, a_written_folder, a_network, a_volume, tmp_path
):
    cases, results = tmp_path / "cases", tmp_path / "results"
    cases.mkdir()
    for channel, array in enumerate(a_volume):
        sitk.WriteImage(sitk.GetImageFromArray(array), cases / f"head_{channel:04d}.nii.gz")
    program = (
        "import torch; torch.set_num_threads(1);"
        "from nnunetv2.inference.predict_from_raw_data import predict_entry_point_modelfolder;"
        "predict_entry_point_modelfolder()"
    )
    arguments = ["-i", cases, "-o", results, "-m", a_written_folder, "-f", "0", "-device", "cpu"]
    arguments += ["--disable_tta", "-npp", "1", "-nps", "1"]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=nnunet_environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    labels = sitk.GetArrayFromImage(sitk.ReadImage(results / "head.nii.gz"))
    assert (labels == logits_of(a_network, a_volume).argmax(0)).mean() > 0.99

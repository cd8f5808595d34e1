"""Small model folders as nnU-Net v2 writes them, for the tests of `mednext_engine.models`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

UNET = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
UNET_KWARGS: dict[str, Any] = {
    "n_stages": 2,
    "features_per_stage": [4, 8],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [2, 2, 2]],
    "n_conv_per_stage": [1, 1],
    "n_conv_per_stage_decoder": [1],
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
INTENSITY = {"mean": 100.0, "std": 20.0, "percentile_00_5": -10.0, "percentile_99_5": 300.0}


def a_configuration(**changes: Any) -> dict[str, Any]:
    resampling = {"order_z": 0, "force_separate_z": None}
    return {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [16, 24, 32],
        "median_image_size_in_voxels": [20.0, 30.0, 40.0],
        "spacing": [3.0, 1.0, 0.5],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, **resampling},
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, **resampling},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, **resampling},
        "architecture": {
            "network_class_name": UNET,
            "arch_kwargs": dict(UNET_KWARGS),
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
        **changes,
    }


def plans(configurations: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "dataset_name": "Dataset007_Test",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [3.0, 1.0, 0.5],
        "original_median_shape_after_transp": [20, 30, 40],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [1, 2, 0],
        "transpose_backward": [2, 0, 1],
        "configurations": configurations or {"3d_fullres": a_configuration()},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": dict(INTENSITY)},
        **changes,
    }


def dataset(**changes: Any) -> dict[str, Any]:
    return {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1, "tumour": 2},
        "numTraining": 12,
        "file_ending": ".nii.gz",
        **changes,
    }


def a_unet(heads: int = 3, channels: int = 1) -> torch.nn.Module:
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    layers = {
        "conv_op": torch.nn.Conv3d,
        "norm_op": torch.nn.InstanceNorm3d,
        "nonlin": torch.nn.LeakyReLU,
    }
    torch.manual_seed(0)
    return PlainConvUNet(channels, num_classes=heads, **{**UNET_KWARGS, **layers})


def save_as_nnunet(path: Path, network: torch.nn.Module, **changes: Any) -> None:
    """A checkpoint with all that nnU-Net's trainer saves, NumPy's numbers in its log included."""
    optimizer = torch.optim.SGD(network.parameters(), lr=np.float64(0.01), momentum=0.99)
    sum(p.sum() for p in network.parameters()).backward()
    optimizer.step()
    content = {
        "network_weights": network.state_dict(),
        "optimizer_state": optimizer.state_dict(),
        "grad_scaler_state": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 3},
        "logging": {
            "mean_fg_dice": [np.float64(0.5), np.float32(0.75)],
            "dice_per_class_or_region": [[np.float64(0.25), np.float64(0.125)]],
            "epoch_start_timestamps": [1.7e9],
            "flags": [np.bool_(True), np.int64(3)],
        },
        "_best_ema": np.float64(0.7),
        "current_epoch": 1000,
        "init_args": {
            "plans": plans(),
            "configuration": "3d_fullres",
            "fold": 0,
            "dataset_json": dataset(),
            "device": torch.device("cpu"),
        },
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
        **changes,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        torch.save(content, stream)


def write_folder(
    folder: Path,
    *,
    plans_json: dict[str, Any] | None = None,
    dataset_json: dict[str, Any] | None = None,
    folds: tuple[str, ...] = ("0",),
    checkpoint: str = "checkpoint_final.pth",
    **changes: Any,
) -> Path:
    """A whole model folder; `changes` replace keys of the checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans_json or plans()), encoding="utf-8")
    (folder / "dataset.json").write_text(json.dumps(dataset_json or dataset()), encoding="utf-8")
    for fold in folds:
        save_as_nnunet(folder / f"fold_{fold}" / checkpoint, a_unet(), **changes)
    return folder

"""Preprocessing and the way back, against nnU-Net's own preprocessor and export."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from skimage.transform import resize

from mednext_engine.errors import InputError
from mednext_engine.inference.decide import decide_labels, scheme_back
from mednext_engine.inference.images import Volume
from mednext_engine.inference.orientation import reorientation
from mednext_engine.inference.preprocess import (
    make_frame,
    nonzero_box,
    preprocess,
)
from mednext_engine.models.labels import read_labels
from mednext_engine.models.plan import Plan, read_plan

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
CT = {"mean": 5.0, "std": 40.0, "percentile_00_5": -60.0, "percentile_99_5": 60.0}


def some_plans(
    spacing=(1.5, 1.0, 1.25),
    transpose=(0, 1, 2),
    schemes=("CTNormalization",),
    masked=(False,),
    function="resample_data_or_seg_to_shape",
) -> dict[str, Any]:
    def resampling(order: int) -> dict[str, Any]:
        kwargs = {"is_seg": False, "force_separate_z": None}
        return kwargs | (
            {"order": order, "order_z": 0} if function.startswith("resample_d") else {}
        )

    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [16, 16, 16],
        "spacing": list(spacing),
        "normalization_schemes": list(schemes),
        "use_mask_for_norm": list(masked),
        "resampling_fn_data": function,
        "resampling_fn_seg": function,
        "resampling_fn_probabilities": function,
        "resampling_fn_data_kwargs": resampling(3),
        "resampling_fn_seg_kwargs": resampling(1) | {"is_seg": True},
        "resampling_fn_probabilities_kwargs": resampling(1),
        "architecture": {
            "network_class_name": "mednext_engine.networks.MedNeXt",
            "arch_kwargs": {},
            "_kw_requires_import": [],
        },
    }
    return {
        "dataset_name": "Dataset001_Test",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "label_manager": "LabelManager",
        "transpose_forward": list(transpose),
        "transpose_backward": [int(i) for i in np.argsort(transpose)],
        "foreground_intensity_properties_per_channel": {str(i): CT for i in range(len(schemes))},
        "configurations": {"3d_fullres": configuration},
    }


def a_plan(**kwargs: Any) -> Plan:
    return read_plan(some_plans(**kwargs), "3d_fullres")


def a_volume(channels=1, shape=(14, 22, 18), spacing=(2.0, 0.9, 1.1), direction=IDENTITY) -> Volume:
    """A smooth blob with a hole and a margin of zeros, other values in each channel."""
    rng = np.random.default_rng(0)
    array = rng.normal(50, 30, (channels, *shape)).astype(np.float32)
    array[:, :2] = 0
    array[:, :, -3:] = 0
    array[:, :, :, :1] = 0
    array[:, 6:8, 8:11, 7:10] = 0
    return Volume(array, spacing, direction=direction)


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize(
    ("schemes", "masked"),
    [
        (("CTNormalization",), (False,)),
        (("ZScoreNormalization", "CTNormalization"), (True, False)),
        (("ZScoreNormalization", "NoNormalization", "ZScoreNormalization"), (True, False, False)),
    ],
)
@pytest.mark.parametrize("spacing", [(2.0, 0.9, 1.1), (6.0, 0.9, 1.1), (0.5, 0.5, 0.5)])
@pytest.mark.parametrize("function", ["resample_data_or_seg_to_shape", "resample_torch_fornnunet"])
def test_equals_nnunets_preprocessor(transpose, schemes, masked, spacing, function) -> None:
    theirs = pytest.importorskip("nnunetv2.preprocessing.preprocessors.default_preprocessor")
    handler = pytest.importorskip("nnunetv2.utilities.plans_handling.plans_handler")
    plans = some_plans(transpose=transpose, schemes=schemes, masked=masked, function=function)
    volume = a_volume(len(schemes), spacing=spacing)
    manager = handler.PlansManager(plans)
    data, _, properties = theirs.DefaultPreprocessor(verbose=False).run_case_npy(
        volume.array,
        None,
        {"spacing": list(volume.spacing)},
        manager,
        manager.get_configuration("3d_fullres"),
        {},
    )
    before = volume.array.copy()
    found = preprocess(volume, read_plan(plans, "3d_fullres"))
    np.testing.assert_array_equal(volume.array, before)
    box = [[part.start, part.stop] for part in found.frame.crop]
    assert box == [list(map(int, b)) for b in properties["bbox_used_for_cropping"]]
    assert found.frame.shape_before_crop == properties["shape_before_cropping"]
    np.testing.assert_allclose(found.data, data, atol=1e-4 * np.ptp(data))


def test_equals_skimage_after_crop_and_ct_normalisation() -> None:
    volume = a_volume()
    found = preprocess(volume, a_plan())
    crop = volume.array[0, 2:, :-3, 1:]
    normal = (np.clip(crop, -60, 60) - 5) / 40
    shape = (round(12 * 2 / 1.5), round(19 * 0.9), round(17 * 1.1 / 1.25))
    expected = resize(normal.astype(float), shape, 3, mode="edge", anti_aliasing=False)
    assert found.frame.plan_shape == shape
    np.testing.assert_allclose(found.data[0], expected, atol=1e-4 * np.ptp(normal))


def test_equals_nnunets_export(tmp_path) -> None:
    export = pytest.importorskip("nnunetv2.inference.export_prediction")
    handler = pytest.importorskip("nnunetv2.utilities.plans_handling.plans_handler")
    dataset = {"labels": {"background": 0, "a": 1, "b": 2}, "channel_names": {"0": "CT"}}
    plans = some_plans(transpose=(1, 2, 0))
    volume, plan = a_volume(), read_plan(plans, "3d_fullres")
    frame = make_frame(volume, plan)
    logits = torch.randn(3, *frame.plan_shape, generator=torch.Generator().manual_seed(0))
    manager = handler.PlansManager(plans)
    expected = export.convert_predicted_logits_to_segmentation_with_correct_shape(
        logits.clone(),
        manager,
        manager.get_configuration("3d_fullres"),
        manager.get_label_manager(dataset),
        {
            "spacing": list(volume.spacing),
            "shape_before_cropping": frame.shape_before_crop,
            "shape_after_cropping_and_before_resampling": frame.shape_after_crop,
            "bbox_used_for_cropping": [[p.start, p.stop] for p in frame.crop],
        },
        num_threads_torch=1,
    )
    found = frame.restore(decide_labels(logits, scheme_back(frame, plan), read_labels(dataset)))
    np.testing.assert_array_equal(found, expected)


def test_restore_puts_every_voxel_back() -> None:
    volume = a_volume(direction=(0, 0, 1, -1, 0, 0, 0, 1, 0))
    for transpose in ((0, 1, 2), (2, 0, 1)):
        frame = make_frame(volume, a_plan(transpose=transpose), "RAS")
        values = np.arange(1, volume.array[0].size + 1).reshape(volume.shape)
        back = frame.restore(np.ascontiguousarray(frame.view(values)))
        inside = back > 0
        np.testing.assert_array_equal(back[inside], values[inside])
        assert inside.sum() == np.prod(frame.shape_after_crop)
        assert inside[volume.array[0] != 0].all()


@pytest.mark.parametrize("towards", ["RAS", "LPS", "PIR", "SLA"])
def test_a_model_sees_the_axes_it_was_trained_in(towards) -> None:
    direction = (0, 0, 1, 1, 0, 0, 0, -1, 0)
    image = sitk.GetImageFromArray(np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    image.SetDirection(direction)
    expected = sitk.GetArrayFromImage(sitk.DICOMOrient(image, towards))
    turn = reorientation(direction, towards, (0, 1, 2))
    np.testing.assert_array_equal(turn.view(sitk.GetArrayFromImage(image)), expected)


def test_ras_axes_by_hand() -> None:
    # Image axes x, y, z run towards posterior, inferior and left (LPS columns).
    direction = (0, 0, 1, 1, 0, 0, 0, -1, 0)
    turn = reorientation(direction, "RAS", (0, 1, 2))
    # By hand: sagittal x left, so z of the file is x of the model, turned round.
    assert turn.axes == (1, 2, 0)
    assert turn.flipped == (True, True, True)
    assert turn.permute((2.0, 3.0, 4.0)) == (3.0, 4.0, 2.0)
    kept = reorientation(direction, "", (0, 1, 2))
    assert kept.axes == (0, 1, 2)


def test_the_crop_is_the_union_of_all_channels() -> None:
    image = np.zeros((2, 6, 7, 8), dtype=np.float32)
    image[0, 2, 3, 4] = 1
    image[1, 4, 1, 4] = -1
    assert nonzero_box(image) == (slice(2, 5), slice(1, 4), slice(4, 5))


def test_empty_images_and_wrong_channels_are_refused() -> None:
    with pytest.raises(InputError, match="every voxel is zero"):
        preprocess(Volume(np.zeros((1, 4, 4, 4), np.float32), (1.0, 1.0, 1.0)), a_plan())
    with pytest.raises(InputError, match=r"expects 1 channels.*has 2"):
        preprocess(a_volume(2), a_plan())

"""Plans: every value that the engine uses, both formats, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import model_fixtures as given
import pytest

from mednext_engine.errors import ModelError, UnsupportedModelError
from mednext_engine.models.plan import Resampling, configurations, read_plan


def test_the_present_format() -> None:
    plan = read_plan(given.plans(), "3d_fullres")
    assert plan.spacing == (3.0, 1.0, 0.5)
    assert plan.patch_size == (16, 24, 32)
    assert plan.transpose_forward == (1, 2, 0)
    assert plan.transpose_backward == (2, 0, 1)
    assert plan.normalization == ("CTNormalization",)
    assert plan.use_mask_for_norm == (False,)
    assert plan.intensity == (given.INTENSITY,)
    assert plan.resample_data == Resampling(order=3, order_z=0, force_separate_z=None)
    assert plan.resample_probabilities == Resampling(order=1, order_z=0, force_separate_z=None)
    assert plan.network_class == given.UNET
    assert plan.network_kwargs == given.UNET_KWARGS
    assert plan.batch_size == 2


def old_configuration() -> dict[str, Any]:
    configuration = given.a_configuration(
        UNet_class_name="ResidualEncoderUNet",
        UNet_base_num_features=32,
        unet_max_num_features=100,
        n_conv_per_stage_encoder=[1, 3, 4],
        n_conv_per_stage_decoder=[1, 1],
        num_pool_per_axis=[1, 2, 2],
        pool_op_kernel_sizes=[[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        conv_kernel_sizes=[[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    )
    del configuration["architecture"]
    return configuration


def test_the_old_format_by_hand() -> None:
    plan = read_plan(given.plans({"3d_fullres": old_configuration()}), "3d_fullres")
    assert plan.network_class.endswith("unet.ResidualEncoderUNet")
    assert plan.network_kwargs["features_per_stage"] == [32, 64, 100]
    assert plan.network_kwargs["n_blocks_per_stage"] == [1, 3, 4]
    assert plan.network_kwargs["strides"] == [[1, 1, 1], [1, 2, 2], [2, 2, 2]]
    assert plan.network_kwargs["n_stages"] == 3


@pytest.mark.parametrize("name", ["PlainConvUNet", "ResidualEncoderUNet"])
def test_the_old_format_as_nnunet_reads_it(name: str) -> None:
    handler = pytest.importorskip("nnunetv2.utilities.plans_handling.plans_handler")
    old = old_configuration() | {"UNet_class_name": name}
    plan = read_plan(given.plans({"3d_fullres": copy.deepcopy(old)}), "3d_fullres")
    theirs = handler.ConfigurationManager(copy.deepcopy(old))
    assert plan.network_kwargs == theirs.network_arch_init_kwargs
    assert plan.network_class.rsplit(".", 1)[1] == theirs.network_arch_class_name.rsplit(".", 1)[1]


def test_a_residual_unet_of_an_older_module_is_the_same_network() -> None:
    configuration = given.a_configuration()
    configuration["architecture"]["network_class_name"] = (
        "dynamic_network_architectures.architectures.residual_unet.ResidualEncoderUNet"
    )
    plan = read_plan(given.plans({"3d_fullres": configuration}), "3d_fullres")
    assert plan.network_class == (
        "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    )


def test_a_configuration_inherits() -> None:
    table = {
        "3d_fullres": given.a_configuration(),
        "mine": {"inherits_from": "3d_fullres", "batch_size": 4},
        "mine_too": {"inherits_from": "mine", "patch_size": [32, 32, 32]},
    }
    plan = read_plan(given.plans(table), "mine_too")
    assert (plan.batch_size, plan.patch_size) == (4, (32, 32, 32))
    assert plan.spacing == (3.0, 1.0, 0.5)


@pytest.mark.parametrize("parent", ["mine", "nobody", 7])
def test_impossible_inheritance(parent: Any) -> None:
    table = {"mine": {"inherits_from": parent}}
    with pytest.raises(ModelError, match="inherits"):
        read_plan(given.plans(table), "mine")


def test_2d_and_cascades_are_refused_with_the_reason() -> None:
    table = {
        "2d": given.a_configuration(patch_size=[64, 64], spacing=[1.0, 0.5]),
        "3d_lowres": given.a_configuration(next_stage="3d_cascade_fullres"),
        "3d_fullres": given.a_configuration(),
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    }
    assert configurations(given.plans(table)) == ("3d_lowres", "3d_fullres")
    with pytest.raises(UnsupportedModelError, match=r"'2d' is not supported, because .*slice"):
        read_plan(given.plans(table), "2d")
    with pytest.raises(UnsupportedModelError, match=r"is not supported, because .*cascade"):
        read_plan(given.plans(table), "3d_cascade_fullres")


def test_all_of_nnunets_normalisations_per_channel() -> None:
    schemes = ["ZScoreNormalization", "CTNormalization", "NoNormalization"]
    schemes += ["RescaleTo01Normalization", "RGBTo01Normalization"]
    configuration = given.a_configuration(
        normalization_schemes=schemes, use_mask_for_norm=[True, False, False, False, False]
    )
    nan = float("nan")
    intensity = {"0": {"mean": nan}, "1": given.INTENSITY}
    plan = read_plan(
        given.plans(
            {"3d_fullres": configuration}, foreground_intensity_properties_per_channel=intensity
        ),
        "3d_fullres",
    )
    assert plan.normalization == tuple(schemes)
    assert plan.use_mask_for_norm == (True, False, False, False, False)
    assert plan.intensity == ({}, given.INTENSITY, {}, {}, {})


def test_the_oldest_key_of_intensities() -> None:
    raw = given.plans()
    raw["foreground_intensity_properties_by_modality"] = raw.pop(
        "foreground_intensity_properties_per_channel"
    )
    assert read_plan(raw, "3d_fullres").intensity == (given.INTENSITY,)


def test_resampling_functions() -> None:
    configuration = given.a_configuration(
        resampling_fn_data="resample_torch_fornnunet",
        resampling_fn_data_kwargs={"is_seg": False, "force_separate_z": False},
        resampling_fn_probabilities="resample_data_or_seg_to_shape",
        resampling_fn_probabilities_kwargs={"order": 1},
    )
    plan = read_plan(given.plans({"3d_fullres": configuration}), "3d_fullres")
    assert plan.resample_data.function == "resample_torch_fornnunet"
    assert plan.resample_data.force_separate_z is False
    # nnU-Net's function itself defaults to False, unlike what its planner writes (null).
    assert plan.resample_probabilities.force_separate_z is False
    del configuration["resampling_fn_probabilities"]
    plan = read_plan(given.plans({"3d_fullres": configuration}), "3d_fullres")
    assert plan.resample_probabilities == Resampling(order=1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"patch_size": [10**6] * 3}, "patch_size is 1000000"),
        ({"patch_size": [1024, 1024, 1024]}, "512 x 512 x 512"),
        ({"patch_size": [16.5, 16, 16]}, "not a whole number"),
        ({"patch_size": [10**400, 16, 16]}, "patch_size is 1000"),
        ({"patch_size": [True, 16, 16]}, "not a number"),
        ({"patch_size": None}, "not a list"),
        ({"spacing": [1.0, 0.0, 1.0]}, "spacing is 0"),
        ({"spacing": [1.0, float("nan"), 1.0]}, "spacing is nan"),
        ({"spacing": [1.0, float("inf"), 1.0]}, "spacing is inf"),
        ({"spacing": [1.0, 1.0]}, "2 entries instead of 3"),
        ({"use_mask_for_norm": [0]}, "neither true nor false"),
        ({"normalization_schemes": []}, "empty"),
        ({"batch_size": -1}, "batch_size"),
        ({"architecture": {"network_class_name": 5, "arch_kwargs": {}}}, "not text"),
        ({"architecture": {"network_class_name": "x", "arch_kwargs": {"a": [[[[[1]]]]]}}}, "'a'"),
        (
            {"architecture": {"network_class_name": "x", "arch_kwargs": {"conv_op": ["os"]}}},
            "not text",
        ),
        ({"architecture": {"network_class_name": "x", "arch_kwargs": {"a": [0] * 9999}}}, "'a'"),
    ],
)
def test_impossible_values(changes: dict[str, Any], words: str) -> None:
    raw = given.plans({"3d_fullres": given.a_configuration(**changes)})
    with pytest.raises(ModelError, match=words):
        read_plan(raw, "3d_fullres")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"normalization_schemes": ["MyNormalization"]}, "normalisation 'MyNormalization'"),
        ({"preprocessor_name": "MyPreprocessor"}, "preprocessor 'MyPreprocessor'"),
        ({"resampling_fn_data": "os.system"}, "resampling 'os.system'"),
    ],
)
def test_what_is_not_nnunets_own(changes: dict[str, Any], words: str) -> None:
    raw = given.plans({"3d_fullres": given.a_configuration(**changes)})
    with pytest.raises(UnsupportedModelError, match=f"{words} is not supported, because"):
        read_plan(raw, "3d_fullres")


def test_transposes_must_undo_each_other() -> None:
    with pytest.raises(ModelError, match="does not undo"):
        read_plan(given.plans(transpose_backward=[1, 2, 0]), "3d_fullres")


def test_ct_needs_its_intensities() -> None:
    with pytest.raises(ModelError, match="'mean' of channel 0"):
        read_plan(given.plans(foreground_intensity_properties_per_channel={}), "3d_fullres")


def test_an_unknown_configuration_names_the_known_ones() -> None:
    with pytest.raises(ModelError, match="it has: 3d_fullres"):
        read_plan(given.plans(), "3d_highres")


def test_an_unknown_old_network() -> None:
    table = {"3d_fullres": old_configuration() | {"UNet_class_name": "os.system"}}
    with pytest.raises(UnsupportedModelError, match=r"'os\.system' is not supported, because"):
        read_plan(given.plans(table), "3d_fullres")

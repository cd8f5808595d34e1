"""Writes a trained network as a model folder that stock nnU-Net v2 predicts with.

The checkpoint names nnU-Net's own trainer, so that `nnUNetv2_predict_from_modelfolder` works
wherever this package, which holds the network's class, is installed beside nnunetv2.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import EngineError, OutputError
from .architecture import NAMED_OPERATORS
from .card import FILE_NAME, Card, complete_card
from .folder import Model, open_model
from .jsonfile import write_bytes, write_json
from .labels import Labels, read_labels
from .layout import CHECKPOINTS, file_sha256, model_files
from .plan import Plan, Resampling

if TYPE_CHECKING:
    from torch import Tensor

TRAINER = "nnUNetTrainer"
PLANS_NAME = "nnUNetPlans"
READER = "SimpleITKIO"
TURNING_READER = "NibabelIOWithReorient"


@dataclass(frozen=True)
class Training:
    """What nnU-Net wants to know beyond the plan.

    Attributes:
        dataset_name: "DatasetXXX_Name"; only a name.
        num_cases: number of training cases.
        mirror_axes: plan axes that were mirrored in training, so may be at inference.
        median_shape: median image size at the plan's spacing, in voxels, plan axes.
        extra: further keys of the checkpoint (plain values and tensors only).
    """

    dataset_name: str = "Dataset001_Model"
    num_cases: int = 1
    mirror_axes: tuple[int, ...] = (0, 1, 2)
    median_shape: tuple[int, int, int] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def write_model(
    folder: str | os.PathLike[str],
    *,
    plan: Plan,
    weights: Mapping[str, Mapping[str, Tensor]],
    labels: Mapping[str, int | Sequence[int]],
    channel_names: Sequence[str],
    card: Card,
    regions_class_order: Sequence[int] | None = None,
    training: Training | None = None,
    half: bool = False,
    reader: str = READER,
    licence_text: str = "",
    readme: str = "",
    extra_files: Mapping[str, bytes] | None = None,
    overwrite: bool = False,
) -> Model:
    """Writes `plans.json`, `dataset.json`, one checkpoint a fold and `mednext.json`.

    The folder appears when it is complete and was opened once, or not at all.

    Args:
        folder: where; its parent is made if needed.
        plan: the whole plan, network included (`network_class`, `network_kwargs`).
        weights: fold ("0", "1", ..., "all") -> state dict.
        labels: as in `dataset.json`: name -> value, or values of a region; "background" is 0,
            "ignore" the highest.
        channel_names: one an input channel.
        card: title, licence, ...; channels, labels that lack an entry, `configuration` and
            `files` are filled in here.
        regions_class_order: needed with regions.
        half: stores floating weights as fp16, where none of a tensor overflows.
        reader: the class with which nnU-Net reads images; `TURNING_READER` turns them to RAS, as
            a model needs whose card says that orientation.
        licence_text, readme: written as LICENSE and README.md.
        extra_files: relative path (with "/") -> content of further files, written as they are.
            Only those of `layout.is_model_file` are part of the model.
        overwrite: replaces a folder that is already there.

    Raises:
        ModelError: plan, labels or weights contradict each other.
        OutputError: the folder exists, or cannot be written; nothing half-written is left.
    """
    target = Path(folder)
    training = training or Training()
    dataset_json = _dataset_json(labels, channel_names, regions_class_order, training, card)
    read_labels(dataset_json)
    plans_json = plans_from(plan, training, reader)
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists already.", "Choose another name, or replace it.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".partial-", dir=target.parent))
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}.") from None
    try:
        temporary.chmod(0o755)
        write_json(temporary / "dataset.json", dataset_json)
        write_json(temporary / "plans.json", plans_json)
        for fold, state in weights.items():
            save_checkpoint(
                temporary / f"fold_{fold}" / CHECKPOINTS[0],
                state,
                plans_json=plans_json,
                dataset_json=dataset_json,
                configuration=plan.configuration,
                fold=fold,
                mirror_axes=training.mirror_axes,
                half=half,
                extra=training.extra,
            )
        texts = {"LICENSE": licence_text, "README.md": readme}
        further = {name: text.encode("utf-8") for name, text in texts.items() if text}
        for name, content in {**further, **(extra_files or {})}.items():
            (temporary / name).parent.mkdir(exist_ok=True)
            write_bytes(temporary / name, content)
        card = replace(card, title=card.title or target.name, configuration=plan.configuration)
        write_card(temporary, card)
        _check_written(temporary)
        replace_folder(temporary, target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return open_model(target)


def write_card(folder: Path, card: Card) -> Card:
    """Writes `mednext.json`, completed, with the SHA-256 of every other file of the model."""
    model = open_model(folder, configuration=card.configuration or None)
    card = complete_card(
        card,
        name=model.id,
        labels=model.labels,
        channels=model.channel_names,
        dataset_json=model.dataset_json,
    )
    card = replace(card, configuration=model.plan.configuration)
    files = {n: file_sha256(folder / n) for n in model_files(folder) if n != FILE_NAME}
    card = replace(card, files=files, derived=False)
    write_json(folder / FILE_NAME, card.to_json())
    return card


def replace_folder(source: Path, target: Path) -> None:
    """Moves a finished folder to `target`; what was there is removed after it has made way."""
    if not target.exists():
        os.replace(source, target)
        return
    aside = Path(tempfile.mkdtemp(prefix=".replaced-", dir=target.parent))
    os.replace(target, aside / "old")
    try:
        os.replace(source, target)
    except OSError:
        os.replace(aside / "old", target)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def plans_from(
    plan: Plan, training: Training | None = None, reader: str = READER
) -> dict[str, Any]:
    """The content of a `plans.json` (nnU-Net v2's present format) with this one configuration."""
    training = training or Training()
    shape = training.median_shape or plan.patch_size
    kwargs = dict(plan.network_kwargs)
    configuration = {
        "data_identifier": f"{PLANS_NAME}_{plan.configuration}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": plan.batch_size,
        "patch_size": list(plan.patch_size),
        "median_image_size_in_voxels": [float(v) for v in shape],
        "spacing": list(plan.spacing),
        "normalization_schemes": list(plan.normalization),
        "use_mask_for_norm": list(plan.use_mask_for_norm),
        **_resampling_json("data", plan.resample_data, is_seg=False),
        **_resampling_json("seg", replace(plan.resample_data, order=1, order_z=0), is_seg=True),
        **_resampling_json("probabilities", plan.resample_probabilities, is_seg=False),
        "architecture": {
            "network_class_name": plan.network_class,
            "arch_kwargs": kwargs,
            "_kw_requires_import": [name for name in NAMED_OPERATORS if name in kwargs],
        },
        "batch_dice": False,
    }
    return {
        "dataset_name": training.dataset_name,
        "plans_name": PLANS_NAME,
        "original_median_spacing_after_transp": list(plan.spacing),
        "original_median_shape_after_transp": [int(v) for v in shape],
        "image_reader_writer": reader,
        "transpose_forward": list(plan.transpose_forward),
        "transpose_backward": list(plan.transpose_backward),
        "configurations": {plan.configuration: configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(i): dict(properties) for i, properties in enumerate(plan.intensity)
        },
    }


def _resampling_json(what: str, spec: Resampling, *, is_seg: bool) -> dict[str, Any]:
    kwargs: dict[str, Any] = {}
    if spec.function == "resample_data_or_seg_to_shape":
        kwargs = {"is_seg": is_seg, "order": spec.order, "order_z": spec.order_z}
        kwargs["force_separate_z"] = spec.force_separate_z
    elif spec.function == "resample_torch_fornnunet":
        kwargs = {"is_seg": is_seg, "force_separate_z": spec.force_separate_z}
        kwargs |= {"mode": spec.mode, "aniso_axis_mode": spec.aniso_axis_mode}
    if kwargs and spec.anisotropy_threshold != Resampling.anisotropy_threshold:
        kwargs["separate_z_anisotropy_threshold"] = spec.anisotropy_threshold
    return {f"resampling_fn_{what}": spec.function, f"resampling_fn_{what}_kwargs": kwargs}


def _dataset_json(
    labels: Mapping[str, int | Sequence[int]],
    channel_names: Sequence[str],
    regions_class_order: Sequence[int] | None,
    training: Training,
    card: Card,
) -> dict[str, Any]:
    table = {n: v if isinstance(v, int) else [int(w) for w in v] for n, v in labels.items()}
    content: dict[str, Any] = {
        "name": card.title,
        "description": card.description,
        "licence": card.license,
        "reference": card.citation,
        "channel_names": {str(i): name for i, name in enumerate(channel_names)},
        "labels": table,
        "numTraining": training.num_cases,
        "file_ending": ".nii.gz",
    }
    if regions_class_order is not None:
        content["regions_class_order"] = [int(v) for v in regions_class_order]
    return content


def labels_table(labels: Labels) -> dict[str, int | list[int]]:
    """The `labels` argument of `write_model` for labels that were read from a model."""
    table: dict[str, int | list[int]] = {"background": 0}
    if labels.regions is None:
        table |= dict(zip(labels.names, labels.values, strict=True))
    else:
        table |= {n: list(r) for n, r in zip(labels.names, labels.regions, strict=True)}
    if labels.ignore is not None:
        table["ignore"] = labels.ignore
    return table


def save_checkpoint(
    path: Path,
    weights: Mapping[str, Tensor],
    *,
    plans_json: Mapping[str, Any],
    dataset_json: Mapping[str, Any],
    configuration: str,
    fold: str,
    mirror_axes: Sequence[int],
    trainer: str = TRAINER,
    half: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Writes what nnU-Net's predictor reads of a checkpoint; its folder is made.

    Raises:
        EngineError: `fold` is neither a number nor "all".
        OSError: it cannot be written.
    """
    import torch

    if fold != "all" and not fold.isdigit():
        raise EngineError(f"A fold is a number or 'all', not '{fold}'.")
    content = {
        **(extra or {}),
        "network_weights": _packed(weights, half=half),
        "init_args": {
            "plans": dict(plans_json),
            "configuration": configuration,
            "fold": fold if fold == "all" else int(fold),
            "dataset_json": dict(dataset_json),
        },
        "trainer_name": trainer,
        "inference_allowed_mirroring_axes": tuple(mirror_axes) or None,
    }
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as stream:
        torch.save(content, stream)


def _packed(state: Mapping[str, Tensor], *, half: bool) -> dict[str, Tensor]:
    """Compact copies: no views into larger storages; a tensor with two names stays one."""
    import torch

    packed: dict[str, Tensor] = {}
    known: dict[tuple[Any, ...], Tensor] = {}
    for key, tensor in state.items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if place not in known or tensor.numel() == 0:
            copy = tensor.detach().to("cpu", copy=True).contiguous()
            if half and copy.is_floating_point():
                small = copy.half()
                copy = small if bool(torch.isfinite(small).all()) else copy
            known[place] = copy
        packed[key] = known[place]
    return packed


def _check_written(folder: Path) -> None:
    """Loads each fold into its network once, so that no model is written that does not open."""
    model = open_model(folder)
    for fold in model.folds:
        model.network(model.weights(fold))

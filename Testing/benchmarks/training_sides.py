"""One side of the comparison of trainers, alone in its process.

    python training_sides.py SIDE ARGUMENTS-AS-JSON

Prints one line of JSON: seconds a step (first steps apart), and where the last weights are.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import training_material as material
from one_side import _official_layers

EPOCH = 50  # steps between validations, on both sides
SMALL = material.SIZES["small"]  # preprocessing is the same for all sizes


def peer(
    work: str, seed: int, steps: int, size: str, optimizer: str, our_layers: bool
) -> dict[str, Any]:
    """nnU-Net's own trainer: only the network, the number of steps and the CPU are told to it.

    With `optimizer` "sgd" the rest is stock; "adamw" is the optimiser of MedNeXt's paper.
    """
    folder = Path(work)
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ[name] = str(folder / name)
    if not our_layers:
        _official_layers()
    import numpy as np
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from mednext_engine.networks import MedNeXt

    np.random.seed(seed)
    torch.manual_seed(seed)
    seconds: list[float] = []

    class Peer(nnUNetTrainer):
        # nnU-Net keeps the arguments by the names of its own signature.
        def __init__(
            self,
            plans: dict[str, Any],
            configuration: str,
            fold: int,
            dataset_json: dict[str, Any],
            device: torch.device,
        ) -> None:
            super().__init__(plans, configuration, fold, dataset_json, device)
            self.num_iterations_per_epoch = min(EPOCH, steps)
            self.num_val_iterations_per_epoch = 2
            self.num_epochs = max(1, steps // EPOCH)

        @staticmethod
        def build_network_architecture(
            plans_manager: Any,
            configuration_manager: Any,
            num_input_channels: int,
            num_output_channels: int,
            enable_deep_supervision: bool = True,
        ) -> torch.nn.Module:
            kwargs = configuration_manager.network_arch_init_kwargs
            return MedNeXt(num_input_channels, num_output_channels, deep_supervision=True, **kwargs)

        def _get_deep_supervision_scales(self) -> list[list[float]]:
            return [[1 / 2**level] * 3 for level in range(5)]

        def set_deep_supervision_enabled(self, enabled: bool) -> None:
            self.network.deep_supervision = enabled

        def configure_optimizers(self) -> Any:
            if optimizer == "sgd":
                return super().configure_optimizers()
            from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

            adamw = torch.optim.AdamW(self.network.parameters(), 1e-3, weight_decay=3e-5)
            return adamw, PolyLRScheduler(adamw, 1e-3, self.num_epochs)

        def plot_network_architecture(self) -> None:
            return None

        def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
            start = time.perf_counter()
            try:
                return super().train_step(batch)
            finally:
                seconds.append(time.perf_counter() - start)

    plans = {**material.plans_json(material.SIZES[size]), "continue_training": False}
    dataset = json.loads((folder / "nnUNet_raw" / material.DATASET / "dataset.json").read_text())
    trainer = Peer(plans, "3d_fullres", 0, dataset, torch.device("cpu"))
    start = time.perf_counter()
    trainer.run_training()
    weights = folder / "peer.pt"
    torch.save(trainer.network.state_dict(), weights)
    shutil.rmtree(folder / "nnUNet_results", ignore_errors=True)
    return {"seconds": seconds, "whole": time.perf_counter() - start, "weights": str(weights)}


def prepare(work: str) -> dict[str, Any]:
    """nnU-Net's preprocessing, once for all of its runs."""
    folder = Path(work)
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ[name] = str(folder / name)
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

    material.write_raw(folder / "nnUNet_raw")
    raw = folder / "nnUNet_raw" / material.DATASET
    target = folder / "nnUNet_preprocessed" / material.DATASET
    (target / "gt_segmentations").mkdir(parents=True, exist_ok=True)
    shutil.copy(raw / "dataset.json", target)
    for file in (raw / "labelsTr").iterdir():
        shutil.copy(file, target / "gt_segmentations")
    (target / "nnUNetPlans.json").write_text(json.dumps(material.plans_json(SMALL)))
    (target / "dataset_fingerprint.json").write_text("{}")
    (target / "splits_final.json").write_text(json.dumps([{"train": ["left"], "val": ["right"]}]))
    DefaultPreprocessor(verbose=False).run(material.DATASET, "3d_fullres", "nnUNetPlans", 1)
    return {}


def ours(
    work: str,
    seed: int,
    steps: int,
    size: str,
    optimizer: str = "adamw",
    checkpointing: str | None = None,
) -> dict[str, Any]:
    """Our loop from scratch: same network, data, patch, batch, steps and augmentation."""
    import numpy as np
    import torch

    from mednext_engine.finetuning.presets import phases
    from mednext_engine.inference.images import read_volume
    from mednext_engine.inference.preprocess import preprocess
    from mednext_engine.networks import MedNeXt
    from mednext_engine.training import Control, Recipe, SegmentationTask, TrainingCase, train

    folder = Path(work)
    raw = folder / "nnUNet_raw" / material.DATASET
    cases = {}
    for name in ("left", "right"):
        data = folder / f"{name}.npy"
        labels = folder / f"{name}-labels.npy"
        prepared = preprocess(
            read_volume([raw / "imagesTr" / f"{name}_0000.nii.gz"]), material.plan(SMALL)
        )
        np.save(data, np.asarray(prepared.data))
        found = read_volume([raw / "labelsTr" / f"{name}.nii.gz"]).array[0]
        np.save(labels, prepared.frame.view(found).astype(np.int16))
        cases[name] = TrainingCase(name, data, labels)
    names = tuple(material.NAMES)
    task = SegmentationTask((cases["left"],), (cases["right"],), len(names) + 1, names)
    recipe = Recipe(
        patch_size=material.SIZES[size].patch,
        phases=phases(steps, "scratch", optimizer),
        optimizer=optimizer,  # type: ignore[arg-type]
        batch_size=material.BATCH,
        steps_per_epoch=min(EPOCH, steps),
        checkpointing=checkpointing,  # type: ignore[arg-type]
        seed=seed,
        device="cpu",
        validation_windows=2 * material.BATCH,
    )
    torch.manual_seed(seed)
    network = MedNeXt(1, len(names) + 1, deep_supervision=True, **material.SIZES[size].network)
    seconds: list[float] = []
    control = Control(on_step=lambda report: seconds.append(report.seconds))
    start = time.perf_counter()
    outcome = train(network, task, recipe, folder / "ours", control)
    weights = folder / "ours.pt"
    torch.save(outcome.last_weights, weights)
    shutil.rmtree(folder / "ours", ignore_errors=True)
    return {"seconds": seconds, "whole": time.perf_counter() - start, "weights": str(weights)}


def dice(work: str, weights: str, size: str) -> dict[str, Any]:
    """Of the last weights on the hemisphere that did not train, by one predictor for both sides."""
    import numpy as np
    import SimpleITK as sitk
    import torch

    from mednext_engine.inference import Options, segment_file
    from mednext_engine.models.card import Card
    from mednext_engine.models.writer import write_model

    folder = Path(work)
    raw = folder / "nnUNet_raw" / material.DATASET
    model = write_model(
        folder / "judged",
        plan=material.plan(material.SIZES[size]),
        weights={"0": torch.load(weights, weights_only=True)},
        labels=material.LABELS,
        channel_names=["T1"],
        card=Card(title="Judged"),
        overwrite=True,
    )
    target = folder / "judged.nii.gz"
    segment_file([raw / "imagesTr" / "right_0000.nii.gz"], target, model, Options(device="cpu"))
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(target)))
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(raw / "labelsTr" / "right.nii.gz")))
    scores = {}
    for name, value in material.LABELS.items():
        if value:
            a, b = found == value, truth == value
            scores[name] = float(2 * np.sum(a & b) / (a.sum() + b.sum()))
    return {"dice": scores}


SIDES: dict[str, Callable[..., dict[str, Any]]] = {
    "prepare": prepare,
    "peer": peer,
    "ours": ours,
    "dice": dice,
}

if __name__ == "__main__":
    said = SIDES[sys.argv[1]](**json.loads(sys.argv[2]))
    print("RESULT " + json.dumps(said), flush=True)

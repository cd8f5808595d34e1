"""A trained model as nnU-Net v2 keeps it: a folder with plans, labels and one checkpoint a fold.

Layout: `plans.json`, `dataset.json`, `fold_0/checkpoint_final.pth` (or `checkpoint_best.pth`, or
`fold_all/...`), and, where somebody wrote one, our card `mednext.json`. A folder that holds such
folders (nnU-Net's `DatasetXXX/<trainer>__<plans>__<configuration>`) is looked into.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ModelError, UnsupportedModelError
from .card import FILE_NAME, Card, complete_card, read_card
from .checkpoint import Checkpoint, load_checkpoint
from .jsonfile import read_json
from .labels import Labels, read_channel_names, read_labels
from .layout import CHECKPOINTS, FOLD_FOLDER, file_sha256
from .plan import Plan, configurations, read_plan

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..networks.parameters import MedNeXtParameters

PREFERRED = ("3d_fullres", "3d_lowres")
KEEPING_READERS = ("SimpleITKIO", "NibabelIO", "Tiff3DIO", "NaturalImage2DIO")
TURNING_READERS = ("NibabelIOWithReorient", "SimpleITKIOWithReorient")  # both to RAS


@dataclass(frozen=True, eq=False)
class Model:
    """A model folder that was opened and found sound, its weights not yet read.

    Attributes:
        path: the folder that holds `plans.json`.
        id: short name; the card's, else the folder's.
        folds: what is there, numbers first: ("0", "1", "all").
        default_folds: what nnU-Net would ensemble: all numbers, or "all" if there are none.
        checkpoint_name: "checkpoint_final.pth" or "checkpoint_best.pth".
    """

    path: Path
    id: str
    card: Card
    plan: Plan
    labels: Labels
    channel_names: tuple[str, ...]
    folds: tuple[str, ...]
    checkpoint_name: str
    dataset_json: dict[str, Any]
    plans_json: dict[str, Any]
    _axes: dict[str, tuple[int, ...]] = field(default_factory=dict, repr=False, compare=False)
    _digests: dict[str, tuple[Any, str]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def orientation(self) -> str:
        """Sides of the patient towards which x, y, z grow in the images it was trained on.

        Such as "RAS": what the card says, else what the plans' image reader turns images to; empty
        where images are taken as they are.
        """
        turns = self.plans_json.get("image_reader_writer") in TURNING_READERS
        return self.card.orientation or ("RAS" if turns else "")

    @property
    def default_folds(self) -> tuple[str, ...]:
        return tuple(f for f in self.folds if f != "all") or self.folds

    @property
    def mirror_axes(self) -> tuple[int, ...]:
        """Plan axes that may be mirrored at inference; reads the first fold's checkpoint once."""
        first = self.folds[0]
        if first not in self._axes:
            self.checkpoint(first)
        return self._axes[first]

    def checkpoint_path(self, fold: str | int) -> Path:
        """Raises ModelError when the model has no such fold."""
        if str(fold) not in self.folds:
            raise ModelError(
                f"The model has no fold '{fold}'; it has: {', '.join(self.folds)}.",
            )
        return self.path / f"fold_{fold}" / self.checkpoint_name

    def checkpoint(self, fold: str | int) -> Checkpoint:
        """The fold's checkpoint, loaded safely.

        Raises:
            ModelError: damaged, hostile, or trained with another configuration.
        """
        checkpoint = load_checkpoint(self.checkpoint_path(fold))
        trained = checkpoint.configuration
        if (
            trained
            and trained != self.plan.configuration
            and trained in configurations(self.plans_json)
        ):
            raise ModelError(
                f"This model was trained with the configuration '{trained}', "
                f"but it was opened as '{self.plan.configuration}'.",
                f"Open it with the configuration '{trained}'.",
            )
        self._axes[str(fold)] = checkpoint.mirror_axes
        return checkpoint

    def weights(self, fold: str | int) -> dict[str, Tensor]:
        """State dict of the network; see `checkpoint`. Copy the tensors before writing to them."""
        return self.checkpoint(fold).weights

    def network(
        self, weights: Mapping[str, Tensor] | None = None, *, deep_supervision: bool = False
    ) -> nn.Module:
        """The network on the CPU, in fp32 and evaluation mode, with `weights` if given.

        Its layout is compared with the weights before any memory is taken.

        Raises:
            UnsupportedModelError, DependencyError: see `networks.registry.build_network`.
            ModelError: the weights belong to another network or are not finite.
        """
        from ..networks.registry import build_network
        from .weights import build_with_weights

        def build() -> nn.Module:
            return build_network(
                self.plan.network_class,
                dict(self.plan.network_kwargs),
                len(self.channel_names),
                self.labels.num_heads,
                deep_supervision,
            )

        network = build() if weights is None else build_with_weights(build, weights)
        return network.eval()

    def parameters(self, fold: str | int) -> MedNeXtParameters | None:
        """What OpenVINO needs of the fold's network, without PyTorch; None if it is no MedNeXt.

        Raises:
            ModelError: as `network` and `checkpoint`.
        """
        from ..networks.registry import mednext_layout
        from .weights import parameters_from

        plan, channels = self.plan, len(self.channel_names)
        layout = mednext_layout(
            plan.network_class, dict(plan.network_kwargs), channels, self.labels.num_heads
        )
        return parameters_from(layout, self.checkpoint(fold).arrays) if layout else None

    def fingerprint(self, fold: str | int) -> str:
        """SHA-256 (hex) of the fold's checkpoint and of what its network is built from."""
        path = self.checkpoint_path(fold)
        status = path.stat()
        stamp = (status.st_size, status.st_mtime_ns)
        if self._digests.get(str(fold), (None, ""))[0] != stamp:
            self._digests[str(fold)] = (stamp, file_sha256(path))
        facts = [
            self._digests[str(fold)][1],
            self.plan.network_class,
            self.plan.network_kwargs,
            len(self.channel_names),
            self.labels.num_heads,
        ]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def open_model(path: str | os.PathLike[str], *, configuration: str | None = None) -> Model:
    """Opens a model folder without importing torch.

    Args:
        path: the folder with `plans.json`, or one that holds such folders; among several
            configurations 3d_fullres is preferred, then 3d_lowres.
        configuration: opens this one instead; "<plans>__<configuration>" tells trainings with
            different plans apart.

    Raises:
        UnsupportedModelError: sound, but 2D, a cascade, or prepared in an unknown way.
        ModelError: no model folder, or one with impossible or contradictory content.
    """
    folder = find_model_folder(Path(path), configuration)
    plans_json = read_json(folder / "plans.json")
    dataset_json = read_json(folder / "dataset.json")
    card = read_card(read_json(folder / FILE_NAME)) if (folder / FILE_NAME).exists() else None
    plan = read_plan(plans_json, _choose(folder, plans_json, card, configuration))
    labels = read_labels(dataset_json)
    channels = read_channel_names(dataset_json)
    if len(channels) != len(plan.normalization):
        raise ModelError(
            f"dataset.json names {len(channels)} channels, "
            f"but plans.json normalises {len(plan.normalization)}."
        )
    if plans_json.get("label_manager", "LabelManager") != "LabelManager":
        raise UnsupportedModelError(
            "This model is not supported, because its labels are decided by a class of its own."
        )
    reader = plans_json.get("image_reader_writer", KEEPING_READERS[0])
    if reader not in (*KEEPING_READERS, *TURNING_READERS):
        raise UnsupportedModelError(
            "This model is not supported, because it reads images with a class of its own."
        )
    checkpoint_name, folds = _find_folds(folder)
    name = _readable_name(folder)
    return Model(
        path=folder,
        id=(card.id if card else "") or name,
        card=complete_card(
            card, name=name, labels=labels, channels=channels, dataset_json=dataset_json
        ),
        plan=plan,
        labels=labels,
        channel_names=channels,
        folds=folds,
        checkpoint_name=checkpoint_name,
        dataset_json=dataset_json,
        plans_json=plans_json,
    )


def find_model_folder(path: Path, configuration: str | None = None) -> Path:
    """The model folder at or below `path` (at most two levels). Raises ModelError."""
    if path.is_file():
        raise ModelError(
            f"{path.name} is a file, not a model folder.", "Import it first if it is a zip."
        )
    if not path.is_dir():
        raise ModelError(f"There is no model folder {path}.")
    if (path / "plans.json").is_file():
        return path
    found = [p.parent for depth in ("*", "*/*") for p in sorted(path.glob(f"{depth}/plans.json"))]
    if not found:
        raise ModelError(f"{path} is not a model folder: it has no plans.json.")
    return choose_folder(found, configuration)


_P = TypeVar("_P", bound=PurePath)


def choose_folder(found: Sequence[_P], configuration: str | None = None) -> _P:
    """The one of several model folders that is meant: by configuration, or as preferred.

    Raises:
        ModelError: none, or more than one, fits.
    """
    names = ", ".join(f.name[:60] for f in found[:5])
    for wanted in (configuration,) if configuration else PREFERRED:
        matching = [f for f in found if f.name.endswith(f"__{wanted}")]
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise ModelError(f"There are several models: {names}.", "Choose one of them.")
    if len(found) == 1:
        return found[0]
    raise ModelError(f"There are several models, and none can be chosen by itself: {names}.")


def folder_configuration(folder: PurePath) -> str:
    """Configuration in nnU-Net's folder name `<trainer>__<plans>__<configuration>`, or ""."""
    parts = folder.name.split("__")
    return parts[2] if len(parts) == 3 else ""


def _choose(
    folder: Path, plans_json: Mapping[str, Any], card: Card | None, configuration: str | None
) -> str:
    """The configuration to open: as asked, as the card or the folder says, or the likeliest."""
    if configuration:
        return configuration.rpartition("__")[2]
    if card and card.configuration:
        return card.configuration
    if named := folder_configuration(folder):
        return named
    usable = configurations(plans_json)
    for name in (*PREFERRED, *usable):
        if name in usable:
            return name
    table = plans_json.get("configurations")
    if isinstance(table, dict) and table:
        return next(iter(table))  # reading it says why it is not supported
    raise ModelError("plans.json holds no configuration.")


def _find_folds(folder: Path) -> tuple[str, tuple[str, ...]]:
    names = [m[1] for p in folder.iterdir() if (m := FOLD_FOLDER.fullmatch(p.name)) and p.is_dir()]
    names.sort(key=lambda n: (n == "all", int(n) if n != "all" else 0))
    for checkpoint in CHECKPOINTS:
        folds = tuple(n for n in names if (folder / f"fold_{n}" / checkpoint).is_file())
        if folds:
            return checkpoint, folds
    raise ModelError(
        f"{folder} holds no trained fold (fold_0/{CHECKPOINTS[0]}).",
        "The training may not have finished, or the copy is incomplete.",
    )


def _readable_name(folder: Path) -> str:
    """nnU-Net's dataset folder names the model better than `<trainer>__<plans>__<config>`."""
    if folder_configuration(folder) and folder.resolve().parent.name:
        return folder.resolve().parent.name
    return folder.resolve().name

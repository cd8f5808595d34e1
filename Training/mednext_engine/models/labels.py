"""Labels of a model as nnU-Net v2's `dataset.json` states them.

Two kinds: labels that exclude each other (softmax, one head a label, background first) and regions
that may overlap (sigmoid, one head a region), which `regions_class_order` turns into one label map
by writing region after region, later ones on top.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ModelError
from .jsonfile import read_dict, read_int, read_list

MAX_VALUE = 65535
MAX_LABELS = 1024


@dataclass(frozen=True)
class Labels:
    """What the network's output channels ("heads") mean.

    Attributes:
        names: name of each head, in head order; `names[0]` is "background" unless regions.
        values: label value that each head writes (for regions: `regions_class_order`).
        regions: for regions, the set of label values that each head covers; else None.
        regions_class_order: for regions, the value each head writes, in order of writing.
        ignore: value that marks unknown voxels in training data; the network has no head for it.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    regions: tuple[tuple[int, ...], ...] | None = None
    regions_class_order: tuple[int, ...] | None = None
    ignore: int | None = None

    @property
    def has_regions(self) -> bool:
        return self.regions is not None

    @property
    def num_heads(self) -> int:
        """Number of the network's output channels."""
        return len(self.names)

    @property
    def segments(self) -> dict[int, str]:
        """Label value -> name of what a result may hold, without background and ignore."""
        return {v: n for v, n in zip(self.values, self.names, strict=True) if v != 0}


def read_labels(dataset_json: Mapping[str, Any]) -> Labels:
    """Reads `labels` and `regions_class_order` of a `dataset.json`.

    Raises:
        ModelError: no background 0, values that are not consecutive, regions without an order,
            an ignore label that is not the highest.
    """
    table = _table(dataset_json)
    ignore = table.pop("ignore", None)
    singles = {v for values in table.values() for v in values}
    if any(len(values) > 1 for values in table.values()):
        labels = _read_regions(table, dataset_json.get("regions_class_order"))
    else:
        labels = _read_exclusive(table)
    if ignore is None:
        return labels
    if len(ignore) != 1 or ignore[0] != max(singles) + 1:
        raise ModelError("The ignore label of dataset.json is not one above the highest label.")
    return Labels(
        labels.names, labels.values, labels.regions, labels.regions_class_order, ignore[0]
    )


def _table(dataset_json: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Label name -> its value or values, checked."""
    raw = read_dict(dataset_json.get("labels"), "'labels' of dataset.json")
    if len(raw) > MAX_LABELS:
        raise ModelError(f"dataset.json names more than {MAX_LABELS} labels.")
    table: dict[str, tuple[int, ...]] = {}
    for name, value in raw.items():
        if not name.strip() or len(name) > 200:
            raise ModelError("A label of dataset.json has an empty or overlong name.")
        what = f"Label '{name}' of dataset.json"
        if not isinstance(value, (list, tuple)):
            value = [value]
        entries = [
            read_int(v, what, 0, MAX_VALUE) for v in read_list(value, what, limit=MAX_LABELS)
        ]
        if not entries:
            raise ModelError(f"{what} has no value.")
        table[name] = tuple(entries)
    if table.get("background") != (0,):
        raise ModelError("dataset.json does not name label 0 'background'.")
    if isinstance(raw.get("ignore"), (list, tuple)):
        raise ModelError("The ignore label of dataset.json is a region instead of one value.")
    return table


def _read_exclusive(table: dict[str, tuple[int, ...]]) -> Labels:
    names: dict[int, str] = {}
    for name, (value,) in table.items():
        names.setdefault(value, name)
    values = sorted(names)
    if values != list(range(len(values))):
        raise ModelError("The label values of dataset.json are not consecutive from 0.")
    return Labels(tuple(names[v] for v in values), tuple(values))


def _read_regions(table: dict[str, tuple[int, ...]], order: Any) -> Labels:
    if order is None:
        raise ModelError("dataset.json defines regions, but no 'regions_class_order'.")
    regions = {name: values for name, values in table.items() if set(values) != {0}}
    what = "'regions_class_order' of dataset.json"
    written = tuple(
        read_int(v, what, 0, MAX_VALUE) for v in read_list(order, what, length=len(regions))
    )
    return Labels(tuple(regions), written, tuple(regions.values()), written)


def read_channel_names(dataset_json: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the input channels in order: `channel_names`, or `modality` in older files.

    Raises:
        ModelError: neither is there, or the keys are not "0", "1", ... without a gap.
    """
    raw = dataset_json.get("channel_names", dataset_json.get("modality"))
    what = "'channel_names' of dataset.json"
    if isinstance(raw, list):
        raw = {str(i): name for i, name in enumerate(raw)}
    table = read_dict(raw, what)
    if not 1 <= len(table) <= 64:
        raise ModelError(f"{what} has {len(table)} entries; 1 to 64 are possible.")
    names = []
    for index in range(len(table)):
        name = table.get(str(index))
        if not isinstance(name, str) or len(name) > 200:
            raise ModelError(f"{what} has no name for channel {index}.")
        names.append(name)
    return tuple(names)

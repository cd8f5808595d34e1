"""Which cases are trained on and which validate; with one case, which part of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError
from .annotation import UNKNOWN
from .facts import CaseFacts
from .problems import counted

_SHARE = 0.2
"""Of the cases, or of one case, that validates."""

_ENOUGH = 0.15
_TOO_MUCH = 0.5
"""A label is well divided when between these shares of its voxels are held out."""


@dataclass(frozen=True)
class HeldOut:
    """The part of a case that validates and is not trained on.

    Attributes:
        axis: array axis (z, y, x) that the slices are across.
        slices: their indices.
        gap: slices on either side that are neither trained on nor validated, because they look
            much like the held-out ones.
    """

    axis: int
    slices: tuple[int, ...]
    gap: int = 0


@dataclass(frozen=True)
class Split:
    """Case ids by use.

    Attributes:
        train, validate: ids; a case in both is divided (`inside`) or, with no entry there,
            validated on what it was trained on (`trained_on`).
        inside: the part of a case that is held out.
        sentence: for the person: on what the figures are measured.
    """

    train: tuple[str, ...]
    validate: tuple[str, ...]
    inside: Mapping[str, HeldOut] = field(default_factory=dict)
    sentence: str = ""

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Cases whose validation is on voxels that were trained on."""
        both = set(self.train) & set(self.validate)
        return tuple(case for case in self.validate if case in both and case not in self.inside)


def split_cases(
    cases: Sequence[CaseFacts],
    previous_validation: Collection[str] = (),
    previous_training: Collection[str] = (),
) -> Split:
    """Chooses what validates, always the same for the same cases.

    Whoever sets cases to "validate" chooses; else a fifth of the cases, at least one, that leave
    every label to train on and hold as many as possible; of a single case a part.

    Args:
        cases: facts, with the use that the person chose.
        previous_validation: digests of images that only validated in the run this one continues;
            they stay in validation where that is possible.
        previous_training: digests of images that it was trained on, wholly or in part; others
            validate where that is possible.

    Raises:
        InputError: there is no case, or every case is to validate.
    """
    if not cases:
        raise InputError("There is no case to train on.", "Add an image with its segmentation.")
    chosen = [case for case in cases if case.use == "validate"]
    if len(chosen) == len(cases):
        raise InputError(
            "Every case is set to validate, so none is left to train on.",
            "Set one case at least to train.",
        )
    if chosen:
        return _apart(cases, chosen, "as chosen")
    if len(cases) == 1 and cases[0].use == "auto":
        return _divided(cases[0])
    groups = _groups([case for case in cases if case.use == "auto"])
    if not groups or len({case.digest for case in cases}) == 1:
        return _on_training(cases)
    before = [case for group in groups for case in group if case.digest in previous_validation]
    if 0 < len(before) < len(cases):
        return _apart(cases, before, "the same as in the run that this one continues")
    return _apart(cases, _choose(cases, groups, previous_training), "chosen automatically")


def _apart(cases: Sequence[CaseFacts], held: Sequence[CaseFacts], how: str) -> Split:
    validate = tuple(case.id for case in held)
    train = tuple(case.id for case in cases if case.id not in validate)
    one = len(validate) == 1
    sentence = (
        f"{counted(len(train), 'case')} {'is' if len(train) == 1 else 'are'} trained on; the "
        f"figures are measured on {counted(len(validate), 'other')} ({', '.join(validate[:5])}"
        f"{', ...' if len(validate) > 5 else ''}; {how}), which {'is' if one else 'are'} not."
    )
    return Split(train, validate, {}, sentence)


def _on_training(cases: Sequence[CaseFacts]) -> Split:
    ids = tuple(case.id for case in cases)
    sentence = (
        "Nothing is held out: the figures are measured on what was trained on, so they are better "
        "than on a new image."
    )
    return Split(ids, ids, {}, sentence)


# --- several cases ---------------------------------------------------------------------------


def _groups(cases: Sequence[CaseFacts]) -> list[list[CaseFacts]]:
    """Cases of the same image together: they must not stand on both sides."""
    groups: dict[str, list[CaseFacts]] = {}
    for case in cases:
        groups.setdefault(case.digest, []).append(case)
    return list(groups.values())


def _choose(
    cases: Sequence[CaseFacts], groups: Sequence[list[CaseFacts]], trained: Collection[str]
) -> list[CaseFacts]:
    fixed = {case.digest for case in cases if case.use == "train"}
    free = [group for group in groups if group[0].digest not in fixed] or list(groups)
    wanted = max(1, round(_SHARE * len(cases)))
    held: list[CaseFacts] = []
    while len(held) < wanted:
        free = [group for group in free if len(held) + len(group) < len(cases)]
        if not free:
            break
        best = max(free, key=lambda group: _worth(group, cases, held, trained))
        free.remove(best)
        held += best
    return held


def _worth(
    group: Sequence[CaseFacts],
    cases: Sequence[CaseFacts],
    held: Sequence[CaseFacts],
    trained: Collection[str],
) -> tuple[int, bool, int, bool, int]:
    """Higher is better: no label lost to training, not trained on before, many labels that would
    be measured, everything annotated."""
    out = {case.id for case in (*held, *group)}
    left = _present([case for case in cases if case.id not in out])
    everywhere, shown = _present(cases), _present([*held, *group])
    lost = int(np.count_nonzero(everywhere & ~left))
    fresh = group[0].digest not in trained
    complete = all(case.kind == "everything" for case in group)
    return -lost, fresh, int(np.count_nonzero(shown)), complete, cases.index(group[0])


def _present(cases: Sequence[CaseFacts]) -> np.ndarray:
    """Which labels some of the cases hold, (N,) bool."""
    if not cases:
        return np.zeros(0, dtype=bool)
    return np.any([case.counts[1:] > 0 for case in cases], axis=0)


# --- one case --------------------------------------------------------------------------------


def _divided(case: CaseFacts) -> Split:
    candidates = _stripes(case) if _is_sparse(case) else _slabs(case)
    candidates = [held for held in candidates if not _lost(case, held).any()]
    if not candidates:
        return _on_training([case])
    held = max(candidates, key=lambda held: _balance(case, held))
    total = len(case.slices) if case.slices else case.shape[held.axis]
    plane = _plane(case.direction, held.axis)
    annotated = "annotated " if case.slices else ""
    sentence = (
        f"There is only one case, so a part of it is held out: {len(held.slices)} of its {total} "
        f"{annotated}{plane} slices are not trained on, and the figures are measured there. "
        "On images of other patients they may be worse."
    )
    return Split((case.id,), (case.id,), {case.id: held}, sentence)


def _is_sparse(case: CaseFacts) -> bool:
    """Annotated slices with gaps between them."""
    return bool(case.slices) and bool(np.median(np.diff([-9, *case.slices])) > 1)


def _stripes(case: CaseFacts) -> list[HeldOut]:
    """Every fifth annotated slice, every fourth or third of a few; the best phase comes later."""
    n = len(case.slices)
    if n < 3 or case.slice_axis is None:
        return []
    step = 5 if n >= 10 else 4 if n >= 4 else 3
    axis = case.slice_axis
    phases = sorted(range(step), key=lambda phase: abs(phase - step // 2))
    stripes = [HeldOut(axis, case.slices[phase::step]) for phase in phases]
    for fewest in (2, 1):  # one slice says little of a structure, if another can be had
        found = [_keeping_labels(case, held, fewest) for held in stripes]
        if any(held.slices for held in found):
            return [held for held in found if held.slices]
    return []


def _keeping_labels(case: CaseFacts, held: HeldOut, fewest: int) -> HeldOut:
    """Without the slices of labels that would keep fewer than `fewest` of theirs to learn from."""
    shown = case.profiles[held.axis] > 0
    total = shown.sum(axis=1)
    left = total - shown[:, list(held.slices)].sum(axis=1)
    short = shown[left < np.minimum(total, fewest)]
    kept = tuple(index for index in held.slices if not short[:, index].any())
    return HeldOut(held.axis, kept, held.gap)


def _lost(case: CaseFacts, held: HeldOut) -> np.ndarray:
    """Which classes would be left without a voxel to learn from, (N + 1,) bool."""
    n = case.shape[held.axis]
    near = {s + d for s in held.slices for d in range(-held.gap, held.gap + 1)}
    out = case.profiles[held.axis][:, sorted(i for i in near if 0 <= i < n)].sum(axis=1)
    return np.asarray((case.counts > 0) & (out == case.counts))


def _slabs(case: CaseFacts) -> list[HeldOut]:
    """Slabs of a fifth of the labelled extent, at nine places along each axis."""
    found = []
    for axis in range(3) if case.slice_axis is None else (case.slice_axis,):
        labelled = np.flatnonzero(case.profiles[axis][1:].sum(axis=0))
        if len(labelled) == 0:
            continue
        start, length = int(labelled[0]), int(labelled[-1] - labelled[0]) + 1
        if length < 5:
            continue
        width = max(1, round(_SHARE * length))
        gap = 2 if length >= 40 else 1 if length >= 10 else 0
        places = np.linspace(start, start + length - width, 9).round().astype(int)
        ordered = sorted(set(places.tolist()), key=lambda p: abs(p - places[4]))
        found += [HeldOut(axis, tuple(range(p, p + width)), gap) for p in ordered]
    return found


def _balance(case: CaseFacts, held: HeldOut) -> float:
    """How many labels can be both learnt and measured; the first of equals is taken."""
    total, out = case.counts[1:], held_counts(case, held)[1:]
    share = out[total > 0] / total[total > 0]
    good = np.minimum(share / _ENOUGH, 1.0)
    return float(np.where(share > _TOO_MUCH, 2.0 * (1.0 - share), good).sum())


def held_counts(case: CaseFacts, held: HeldOut) -> np.ndarray:
    """Annotated voxels of each class in the held-out part, (N + 1,)."""
    return np.asarray(case.profiles[held.axis][:, list(held.slices)].sum(axis=1))


def hold_out(labels: np.ndarray, held: HeldOut) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation labels (z, y, x): what is of the other is `UNKNOWN` in each."""
    train, validation = labels.copy(), np.full_like(labels, UNKNOWN)
    slices = np.asarray(held.slices)
    n = labels.shape[held.axis]
    around = np.unique(slices[:, None] + np.arange(-held.gap, held.gap + 1))
    around = around[(around >= 0) & (around < n)]
    np.moveaxis(train, held.axis, 0)[around] = UNKNOWN
    np.moveaxis(validation, held.axis, 0)[slices] = np.moveaxis(labels, held.axis, 0)[slices]
    return train, validation


def _plane(direction: Sequence[float], axis: int) -> str:
    """What slices across an array axis are called."""
    column = np.abs(np.asarray(direction, dtype=float).reshape(3, 3)[:, 2 - axis])
    return ("sagittal", "coronal", "axial")[int(np.argmax(column))]

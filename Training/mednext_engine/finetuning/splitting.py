"""Which cases are trained on and which validate; with one case, which part of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from .case_file import Box
from .facts import CaseFacts


@dataclass(frozen=True)
class HeldOut:
    """The part of a case that validates and is not trained on, in array axes (z, y, x).

    Either `slices` across `axis`, or a `box` (half-open); `gap` voxels on either side of it along
    `axis` are neither trained on nor validated.
    """

    axis: int
    slices: tuple[int, ...] = ()
    box: Box | None = None
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


def split_cases(cases: Sequence[CaseFacts], previous_validation: Collection[str] = ()) -> Split:
    """Chooses what validates, always the same for the same cases.

    Args:
        cases: facts, with the use that the person chose.
        previous_validation: digests of images that validated in the run this one continues; they
            stay in validation where that is possible.

    Raises:
        InputError: every case is to validate.
    """
    raise NotImplementedError

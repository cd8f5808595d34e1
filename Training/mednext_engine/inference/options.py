"""How a volume is to be segmented: one object, checked once, with the reason when it is wrong."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from ..errors import InputError

Precision = Literal["auto", "float32", "bfloat16", "float16"]
Backend = Literal["auto", "torch", "openvino"]

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
BACKENDS = ("auto", "torch", "openvino")


@dataclass(frozen=True)
class Box:
    """A region of interest, from `low` to `high` (three numbers each, low below high).

    `space` says in which system: "voxel" (i, j, k; half-open, in the image's own grid), "ras" or
    "lps" (millimetres in the patient; the box is axis-parallel there and its eight corners are
    taken to the image).
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    space: Literal["voxel", "ras", "lps"] = "voxel"

    def __post_init__(self) -> None:
        if self.space not in ("voxel", "ras", "lps"):
            raise InputError(
                f"A region of interest is in 'voxel', 'ras' or 'lps', not {self.space!r}."
            )
        if len(self.low) != 3 or len(self.high) != 3:
            raise InputError(
                "A region of interest needs three numbers for each of its two corners."
            )
        if not all(a < b for a, b in zip(self.low, self.high, strict=True)):
            raise InputError(
                "The region of interest is empty.",
                "Give the lower corner first, then the higher one.",
            )


@dataclass(frozen=True)
class Options:
    """Everything that may be chosen for one segmentation.

    Attributes:
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        step: distance of neighbouring tiles as a share of the patch, (0, 1]; nnU-Net uses 0.5.
        mirror: average over mirrored copies along the axes the model allows (8 times the work).
        folds: which folds to average; None for all that are there.
        precision: of the network. "auto": bfloat16 on GPUs that have it; on CPUs float32, unless a
            check of this model on this computer has shown bfloat16 to be equal and faster.
        backend: what runs the network on a CPU. "auto" is OpenVINO where installed, else PyTorch.
        roi: only this box is segmented; the rest of the output is background.
        probabilities: also return the probability of each label.
        uncertainty: also return the entropy of the probabilities, 0 to 1.
        threads: CPU threads of the network; None for all cores.
        largest_memory: bytes the run may use at most; None for what is free.
    """

    device: str = "auto"
    step: float = 0.5
    mirror: bool = False
    folds: tuple[str, ...] | None = None
    precision: Precision = "auto"
    backend: Backend = "auto"
    roi: Box | None = None
    probabilities: bool = False
    uncertainty: bool = False
    threads: int | None = None
    largest_memory: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.step <= 1:
            raise InputError(f"The step must lie above 0 and at most at 1, not at {self.step}.")
        if self.precision not in PRECISIONS:
            raise InputError(f"The precision is one of {', '.join(PRECISIONS)}.")
        if self.backend not in BACKENDS:
            raise InputError(f"The backend is one of {', '.join(BACKENDS)}.")
        if self.threads is not None and self.threads < 1:
            raise InputError("At least one thread is needed.")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Options:
        """Reads what a message or a file says; unknown names are refused in words."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(f"Unknown option: {', '.join(unknown)}.")
        given = dict(values)
        if isinstance(given.get("roi"), dict):
            roi = given["roi"]
            given["roi"] = Box(tuple(roi["low"]), tuple(roi["high"]), roi.get("space", "voxel"))
        if given.get("folds") is not None:
            given["folds"] = tuple(str(f) for f in given["folds"])
        return cls(**given)

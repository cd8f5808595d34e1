"""Dice, surface Dice and HD95 of one label.

Masks are boolean arrays (z, y, x) on one grid; `spacing` is in mm in the same order. One convention
for empty masks throughout (Maier-Hein, Reinke et al., Metrics reloaded, Nature Methods 2024):
where the label is neither in the prediction nor in the reference there is nothing to score and the
result is NaN; where it is in only one of them, the result is the worst there is (0, or infinity
for a distance).

Surfaces are those of Nikolov et al., "Deep learning to achieve clinically applicable segmentation
of head and neck anatomy" (JMIR 2021): a surface element at each corner of voxels where inside and
outside meet, weighted by its area in mm². Their library `surface-distance` computes them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DependencyError, InputError

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class LabelScore:
    """Scores of one label in one case. Distances in mm, volumes in ml; NaN: nothing to score."""

    dice: float
    surface_dice: float
    hd95: float
    volume: float
    reference_volume: float


def dice(prediction: Mask, reference: Mask) -> float:
    """Dice similarity coefficient 2|A∩B| / (|A|+|B|), 0 to 1 (Dice, Ecology 1945)."""
    _check(prediction, reference)
    total = int(prediction.sum()) + int(reference.sum())
    return 2.0 * int((prediction & reference).sum()) / total if total else math.nan


def surface_dice(
    prediction: Mask, reference: Mask, spacing: Sequence[float], tolerance: float
) -> float:
    """Share of both surfaces that lies within `tolerance` mm of the other one, 0 to 1 (NSD)."""
    return score_label(prediction, reference, spacing, tolerance).surface_dice


def hausdorff95(prediction: Mask, reference: Mask, spacing: Sequence[float]) -> float:
    """HD95 in mm: the larger of the two 95th percentiles, by area, of the distances from each
    surface to the other."""
    return score_label(prediction, reference, spacing, 0.0).hd95


def score_label(
    prediction: Mask, reference: Mask, spacing: Sequence[float], tolerance: float = 1.0
) -> LabelScore:
    """All scores at once; the surfaces are found once.

    Args:
        prediction: boolean (z, y, x).
        reference: boolean (z, y, x), same grid.
        spacing: distance of voxel centres along z, y and x, mm.
        tolerance: of the surface Dice, mm.

    Raises:
        InputError: other shapes or types, a spacing or tolerance that is none.
        DependencyError: `surface-distance` is not installed.
    """
    overlap = dice(prediction, reference)
    if len(spacing) != 3 or not all(math.isfinite(s) and s > 0 for s in spacing):
        raise InputError("A spacing is three positive numbers in mm.")
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise InputError("A tolerance is a distance in mm, zero or more.")
    millilitre = math.prod(spacing) / 1000.0
    found, wanted = int(prediction.sum()), int(reference.sum())
    if found and wanted:
        near, far = _surfaces(prediction, reference, spacing, tolerance)
    elif found or wanted:
        near, far = 0.0, math.inf
    else:
        near, far = math.nan, math.nan
    return LabelScore(overlap, near, far, found * millilitre, wanted * millilitre)


def _check(prediction: Mask, reference: Mask) -> None:
    if prediction.dtype != np.bool_ or reference.dtype != np.bool_:
        raise InputError("Scores are taken of boolean masks.")
    if prediction.ndim != 3 or prediction.shape != reference.shape:
        raise InputError(
            f"The masks have shapes {prediction.shape} and {reference.shape}; "
            "scores need two volumes of one shape."
        )


def _surfaces(
    prediction: Mask, reference: Mask, spacing: Sequence[float], tolerance: float
) -> tuple[float, float]:
    """Surface Dice and HD95 of two masks, neither empty."""
    library = _library()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its own, of SciPy's old names
        distances = library.compute_surface_distances(reference, prediction, tuple(spacing))
    # A tolerance of 0.1 mm means to include what lies at 0.1 mm, whatever the last digit.
    within = library.compute_surface_dice_at_tolerance(distances, tolerance * (1 + 1e-6))
    return float(within), float(library.compute_robust_hausdorff(distances, 95.0))


def _library() -> Any:
    try:
        import surface_distance
    except ImportError as error:
        raise DependencyError(
            f"Surface distances need the package 'surface-distance' ({error}).",
            "Install it: pip install 'mednext_engine[evaluation]'",
        ) from None
    return surface_distance

"""What neighbouring annotated slices agree on, taken to hold between them.

A few slices leave most of an image unknown, and a network that never saw it labels things there.
But where two neighbouring slices show the same label at the same place, what lies between is hardly
ever anything else; and where neither shows any label for further around than the slices are apart,
nothing that they show can have come there, unless it runs flatter than 45 degrees. Everything else
stays unknown. Such voxels teach, but no figure is measured on them.

On ten structures of the AAL atlas, drawn on every tenth 1 mm slice, background found like this is
background everywhere, and 87 to 100 % of the voxels of each label are that label.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from .annotation import UNKNOWN


def fill_between(
    labels: np.ndarray, axis: int, slices: Sequence[int], spacing: Sequence[float]
) -> np.ndarray:
    """`labels` with what each two neighbouring slices agree on between them.

    Args:
        labels: (z, y, x), int16; 0 background, 1 to N, `UNKNOWN`.
        axis: array axis that the slices are across.
        slices: indices of the annotated ones, in rising order.
        spacing: mm, of the axes z, y, x.

    Returns:
        A copy; what is known already stays as it is.
    """
    from scipy.ndimage import distance_transform_edt

    result = labels.copy()
    stack = np.moveaxis(result, axis, 0)
    in_plane = [mm for index, mm in enumerate(spacing) if index != axis]
    for low, high in pairwise(slices):
        if high - low < 2:
            continue
        first, second = stack[low], stack[high]
        agreed = np.where((first == second) & (first > 0), first, UNKNOWN)
        empty = (first == 0) & (second == 0)
        shown = (first > 0) | (second > 0)
        reach = (high - low) * spacing[axis]
        if shown.any():
            empty &= distance_transform_edt(~shown, sampling=in_plane) > reach
        agreed[empty] = 0
        part = stack[low + 1 : high]
        np.copyto(part, agreed, where=part == UNKNOWN)
    return result

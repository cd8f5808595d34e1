"""Depthwise transposed convolutions of stride 2, several times faster than the CPU library's own.

As a whole: an ordinary convolution of the input with zeros between its voxels. Or in eight parts,
without the zeros and without the whole result. Outputs at even places of an axis see every other
tap of the kernel, those at odd places the rest. So there are eight small ordinary convolutions of
the input as it is, one for each choice of even or odd along the three axes, and each can be taken
further on its own. Together they would be the largest tensor of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from itertools import product

import numpy as np

from .graph_ops import (
    ONE,
    SPACE,
    Node,
    constant,
    depthwise,
    integers,
    spatial,
    spread,
)
from .openvino_runtime import ops

Parity = tuple[int, int, int]


def transposed(x: Node, kernel: np.ndarray) -> Node:
    """The whole of it: (1, c, d, h, w) -> (1, c, 2 d - 1, ...); `kernel` as in `parities`."""
    half = kernel.shape[-1] // 2
    # One voxel less of padding at the end gives the 2 d - 1 planes at once.
    return depthwise(spread(x, 0), np.flip(kernel, (2, 3, 4)), [half] * 3, [half - 1] * 3)


def parities(x: Node, kernel: np.ndarray) -> Iterator[tuple[Parity, Node]]:
    """The parts of the transposed convolution of `x` with stride 2 and half a kernel of padding.

    Args:
        x: (1, c, d, h, w); the whole result has 2 d - 1 planes, and so on.
        kernel: (c, 1, k, k, k), k odd and at least 3.

    Yields:
        Whether the part lies at odd places (0 or 1 for each axis) and its d - odd planes, and so
        on.
    """
    size = spatial(x)
    for odd in product((0, 1), (0, 1), (0, 1)):
        planes = [n - o for n, o in zip(size, odd, strict=True)]
        axes = [_taps(kernel.shape[-1], o) for o in odd]
        d, h, w = (taps for taps, _ in axes)
        taps = kernel[:, :, d][:, :, :, h][..., w]
        begin = [-places[0] for _, places in axes]
        end = [p + places[-1] - n for p, (_, places), n in zip(planes, axes, size, strict=True)]
        yield odd, ops.group_convolution(x, constant(taps[:, None]), ONE, begin, end, ONE)


def _taps(size: int, odd: int) -> tuple[list[int], list[int]]:
    """Taps of a kernel of `size` that meet the outputs 2 i + `odd`, and where: input i + place."""
    half = size // 2
    pairs = [((odd + half - tap) // 2, tap) for tap in range(size) if (odd + half - tap) % 2 == 0]
    places, taps = zip(*sorted(pairs), strict=True)
    return list(taps), list(places)


def standardised_parities(
    x: Node, kernel: np.ndarray, eps: float
) -> Callable[[int], Iterator[tuple[Parity, Node]]]:
    """The parts with zero mean and unit variance over all of them, for each channel.

    Returns:
        A function that gives the parts anew; OpenVINO would find what is equal and keep all of it,
        so that each time, numbered from 1, the convolutions are multiples of the others'.
    """
    # About their mean, which keeps the digits of what differs from it, in half precision too.
    gain = kernel.sum((1, 2, 3, 4)).reshape(1, -1, 1, 1, 1) / 8
    near = ops.multiply(ops.reduce_mean(x, integers(SPACE), True), constant(gain))
    voxels = np.prod([2 * n - 1 for n in spatial(x)])
    sums = []
    for _, part in parities(x, kernel):
        deviation = ops.subtract(part, near)
        share = constant(np.prod(spatial(part)) / voxels)
        mean = ops.multiply(ops.reduce_mean(deviation, integers(SPACE), True), share)
        norm = ops.reduce_l2(deviation, integers(SPACE), True)
        # One next to the other, so that a part is done with before the next one is made.
        sums.append(ops.concat([mean, ops.divide(ops.multiply(norm, norm), constant(voxels))], 1))
    mean, square = ops.split(reduce(ops.add, sums), constant(1, np.int64), 2).outputs()
    variance = ops.relu(ops.subtract(square, ops.multiply(mean, mean)))
    scale = ops.sqrt(ops.add(variance, constant(eps)))

    def parts(number: int) -> Iterator[tuple[Parity, Node]]:
        times = constant(2.0**number)
        centre, offset, size = (ops.multiply(one, times) for one in (near, mean, scale))
        for odd, part in parities(x, 2.0**number * kernel):
            deviation = ops.subtract(part, centre)
            yield odd, ops.divide(ops.subtract(deviation, offset), size)

    return parts


def interleaved(parts: dict[Parity, Node]) -> Node:
    """The parts (1, c, ...) at their places, behind one plane of zeros at the front of each axis.

    With the zeros all parts have one size, and the odd ones come to lie at even places.
    """
    zero = ops.constant(0.0, dtype=np.float32)
    ordered = []
    for odd in sorted(parts, reverse=True):
        front = integers([0, 0, *odd])
        part = parts[odd]
        ordered.append(
            ops.pad(part, front, integers([0] * 5), "constant", zero) if any(odd) else part
        )
    return ops.depth_to_space(ops.concat(ordered, 1), "blocks_first", 2)

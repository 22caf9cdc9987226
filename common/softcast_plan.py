"""What the sender decides about an analog group: which means to tell, which chunks to send."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.softcast_layout import Floats, Int32, Planes, Shape, chunk_counts, chunk_sums, join
from common.softcast_metadata import MAX_STEP_LOG2, levels_of_octaves, lost_code, remainder_octave
from common.softcast_numbers import IntPlanes, corner_shape, told

NOTHING = -100
"""Octave of a chunk without energy."""
_WEAKEST = 2.0**-9  # mean squares below this are nothing: rounding pictures to 8 bits alone leaves 2**-3.6
_STEP_SHARE = 5.0
_MAX_MEAN = 32_000


def choose_step(planes: Planes, symbols: int, shape: Shape) -> int:
    """log2 of the step of the means.

    planes : coefficients, [T, H, W] each

    Halving the step costs each told coefficient a bit, about a channel use, and halves its share of Σ √λ, whose
    square the error goes with (as 1 / k goes with the uses). The two balance where what is left of a coefficient
    deviates by one to two times Σ √λ / k; in steps (√12 deviations) that is about five.
    """
    energies = tuple(chunk_sums(plane**2) for plane in planes)
    for energy in energies:
        energy[:, 0, 0] = 0
    counts = join(tuple(chunk_counts(plane) for plane in shape.planes))
    deviations = np.sqrt(join(energies) / counts)
    order = np.argsort(-deviations, kind="stable")
    counts = counts[order]
    sent = np.clip(2 * symbols - (np.cumsum(counts) - counts), 0, counts)
    wanted = _STEP_SHARE * float(sent @ deviations[order]) / symbols
    largest = max(float(np.abs(plane).max()) for plane in planes)
    least = np.ceil(np.log2(max(1.0, largest / _MAX_MEAN)))
    return int(np.clip(np.rint(np.log2(max(1.0, wanted))), least, MAX_STEP_LOG2))


def quantise_means(planes: Planes, step_log2: int, corner: int) -> IntPlanes:
    """The means to tell, in steps: [T, corner, corner] of each plane."""
    y, u, v = (
        np.rint(np.ldexp(plane[:, :height, :width], -step_log2)).astype(np.int32)
        for plane, (_, height, width) in ((plane, corner_shape(plane.shape, corner)) for plane in planes)
    )
    return y, u, v


def choose_levels(rest: Planes, means: IntPlanes, step_log2: int, symbols: int) -> tuple[int, IntPlanes]:
    """Floor and levels: the strongest chunks, as many as it takes to fill the channel uses.

    rest : coefficients without their told means
    """
    octaves = [_octaves(plane, mean, step_log2) for plane, mean in zip(rest, means, strict=True)]
    flat = join(tuple(octaves))
    counts = join(tuple(chunk_counts(plane.shape) for plane in rest))
    order = np.argsort(-flat, kind="stable")
    order = order[: np.count_nonzero(flat > NOTHING)]
    if not order.size:
        return 0, _three(octaves, 0)
    enough = int(np.searchsorted(np.cumsum(counts[order]), 2 * symbols))
    floor = int(flat[order[min(enough, order.size - 1)]])
    return floor, _three(octaves, floor)


def lost_codes(values: Floats, order: NDArray[np.intp], shape: Shape) -> tuple[int, int, int]:
    """Energy of what is not sent in each plane, as `Metadata` has it.

    values : all coefficients without their told means
    order : those that are sent
    """
    energy = values**2
    energy[order] = 0
    ends = np.cumsum([np.prod(plane) for plane in shape.planes])
    y, u, v = (lost_code(float(part.sum())) for part in np.split(energy, ends[:-1]))
    return y, u, v


def _three(octaves: list[Int32], floor: int) -> IntPlanes:
    y, u, v = (levels_of_octaves(octave, floor) for octave in octaves)
    return y, u, v


def _octaves(rest: Floats, means: Int32, step_log2: int) -> Int32:
    """log2 of the mean square of every chunk of a plane, rounded; where means are told, that of their remainder."""
    mean_square = chunk_sums(rest**2) / chunk_counts(rest.shape)
    octaves = np.rint(np.log2(np.maximum(mean_square, _WEAKEST))).astype(np.int32)
    octaves[mean_square < _WEAKEST] = NOTHING
    octaves[told(means, rest.shape)] = remainder_octave(step_log2)
    return octaves

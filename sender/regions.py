"""Which rectangle of a picture is worth sending: all of them are weighed at once, on a grid of 64 samples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from common.motion import BLOCK
from common.units import MIN_CODED_SIDE, Region

Floats = NDArray[np.float64]

_STEP = MIN_CODED_SIDE // BLOCK
_MOST_LINES = 13  # of the grid, to either side: beyond, the grid is made coarser


def best_region(
    saved: Floats, share: Floats, worth_of: Callable[[Floats, Floats], Floats]
) -> tuple[Region, float] | None:
    """The rectangle that is worth most and its share of the bytes, None where none is worth anything.

    saved, share : by block [H/16, W/16]: what it brings, and what of the bytes of the whole it takes
    worth_of : of rectangles, by the sums of both
    """
    tops, bottoms = _spans(saved.shape[0])
    lefts, rights = _spans(saved.shape[1])
    inside = [_sums(values, (tops, bottoms), (lefts, rights)) for values in (saved, share)]
    worths = worth_of(*inside)
    down, across = np.unravel_index(int(np.argmax(worths)), worths.shape)
    if not worths[down, across] > 0:
        return None
    y, x = int(tops[down]), int(lefts[across])
    height, width = int(bottoms[down]) - y, int(rights[across]) - x
    return Region(x * BLOCK, y * BLOCK, width * BLOCK, height * BLOCK), float(inside[1][down, across])


def _spans(blocks: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Begin and end of every stretch of a side that an encoder takes, in blocks; grid lines, and the far edge."""
    step = _STEP * -(-blocks // (_STEP * (_MOST_LINES - 1)))
    lines = np.append(np.arange(0, blocks, step, dtype=np.intp), blocks)
    first, last = np.nonzero(lines[None] - lines[:, None] >= _STEP)
    return lines[first], lines[last]


def _sums(
    values: Floats,
    down: tuple[NDArray[np.intp], NDArray[np.intp]],
    across: tuple[NDArray[np.intp], NDArray[np.intp]],
) -> Floats:
    """Sum of the values in every rectangle, [stretches down, stretches across]."""
    total = np.pad(values.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    rows = total[down[1]] - total[down[0]]
    return np.asarray(rows[:, across[1]] - rows[:, across[0]])

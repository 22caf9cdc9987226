"""Does a figure of a program that runs for long grow? Theil's slope and its interval (Theil 1950; Sen 1968)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import theilslopes

Verdict = Literal["flat", "unclear", "grows"]

CONFIDENCE = 0.95
BLOCK_S = 60.0
"""The interval takes its samples as independent, which neighbours are not: one median for each minute goes in."""
LEAST_BLOCKS = 5
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure of a program over time. bound : growth an hour that is still flat, in the figure's unit"""

    program: str
    figure: str
    unit: str
    bound: float
    at_s: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Slope:
    """How a figure grows. per_hour, low, high : Theil-Sen and its 95 % interval, None where there is too little to tell

    median, first, last : of the blocks
    verdict : grows where the whole interval is above the bound, flat where all of it is at most the bound
    """

    program: str
    figure: str
    unit: str
    median: float
    first: float
    last: float
    per_hour: float | None
    low: float | None
    high: float | None
    bound: float
    verdict: Verdict


def slope_of(measured: Measured, from_s: float) -> Slope | None:
    """Of what was seen from `from_s` on; None where nothing was."""
    at_s, values = blocks(measured.at_s, measured.values, from_s)
    if not values:
        return None
    per_hour = low = high = None
    if len(values) >= LEAST_BLOCKS:
        found = theilslopes(values, np.asarray(at_s) / _HOUR_S, alpha=CONFIDENCE)
        per_hour, low, high = (
            round(float(value), 4) for value in (found.slope, found.low_slope, found.high_slope)
        )
    return Slope(
        measured.program, measured.figure, measured.unit, round(float(np.median(values)), 3), round(values[0], 3),
        round(values[-1], 3), per_hour, low, high, measured.bound, _verdict(low, high, measured.bound),
    )  # fmt: skip


def blocks(at_s: Sequence[float], values: Sequence[float], from_s: float) -> tuple[list[float], list[float]]:
    """(middle times, medians) of blocks of `BLOCK_S` from `from_s` on."""
    members: dict[int, list[float]] = {}
    for time_s, value in zip(at_s, values, strict=True):
        if time_s >= from_s and math.isfinite(value):
            members.setdefault(int((time_s - from_s) // BLOCK_S), []).append(value)
    middles = [from_s + (number + 0.5) * BLOCK_S for number in members]
    return middles, [float(np.median(block)) for block in members.values()]


def _verdict(low: float | None, high: float | None, bound: float) -> Verdict:
    if low is None or high is None:
        return "unclear"
    return "flat" if high <= bound else "grows" if low > bound else "unclear"

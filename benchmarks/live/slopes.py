"""Does a figure of a program that runs for long grow? The median of the slopes between all pairs of minutes, with its
interval (Theil 1950; Sen 1968).

Where conditions come again after a period, pairs are those in one phase of it, so that conditions drop out (Hirsch, Slack
and Smith 1982, "Techniques of trend analysis for monthly water quality data"; the interval: Gilbert 1987, 17.3.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

Verdict = Literal["flat", "unclear", "grows"]

CONFIDENCE = 0.95
BLOCK_S = 60.0
"""The interval takes its samples as independent, which neighbours are not: one median for each minute goes in."""
LEAST_PAIRS = 10
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
    """How a figure grows. per_hour, low, high : slope and its 95 % interval, None where there is too little to tell

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


def slope_of(measured: Measured, from_s: float, period_s: float | None = None) -> Slope | None:
    """Of what was seen from `from_s` on; None where nothing was. period_s : after which conditions come again"""
    at_s, values = blocks(measured.at_s, measured.values, from_s)
    if not values:
        return None
    per_hour, low, high = slope_and_interval(at_s, values, period_s) or (None, None, None)
    return Slope(
        measured.program, measured.figure, measured.unit, round(float(np.median(values)), 3), round(values[0], 3),
        round(values[-1], 3), per_hour, low, high, measured.bound, _verdict(low, high, measured.bound),
    )  # fmt: skip


def slope_and_interval(
    at_s: Sequence[float], values: Sequence[float], period_s: float | None = None
) -> tuple[float, float, float] | None:
    """(slope, low, high) an hour; None for less than `LEAST_PAIRS`. Equal values make the interval a little too wide."""
    numbers = np.rint((np.asarray(at_s) - at_s[0]) / BLOCK_S).astype(int)
    phases = numbers * 0 if period_s is None else numbers % round(period_s / BLOCK_S)
    found, variance = [], 0.0
    for phase in np.unique(phases):
        times, figures = np.asarray(at_s)[phases == phase] / _HOUR_S, np.asarray(values)[phases == phase]
        first, second = np.triu_indices(len(times), 1)
        found.append((figures[second] - figures[first]) / (times[second] - times[first]))
        variance += len(times) * (len(times) - 1) * (2 * len(times) + 5) / 18  # of Kendall's S
    slopes = np.sort(np.concatenate(found))
    if len(slopes) < LEAST_PAIRS:
        return None
    reach = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt(variance)
    low, high = round((len(slopes) - reach) / 2) - 1, round((len(slopes) + reach) / 2)
    ends = slopes[max(low, 0)], slopes[min(high, len(slopes) - 1)]
    return round(float(np.median(slopes)), 4), round(float(ends[0]), 4), round(float(ends[1]), 4)


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

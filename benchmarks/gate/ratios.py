"""How long something takes compared with a fixed piece of work, on a machine that others use too.

    kernel subject kernel subject ... kernel        processor time, single thread, a few milliseconds each
    ratio of each subject to the kernels on both sides of it -> median -> interval by bootstrap

Going on until the interval is narrow costs time only where the machine is noisy. Pure: what measures is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 500
CONFIDENCE = 0.95

Stopwatch = Callable[[Callable[[], object]], float]
"""Seconds that a call takes."""


@dataclass(frozen=True, slots=True)
class Effort:
    """When to stop.

    least, most : pairs measured
    narrow : half the interval over the median at which it is narrow enough
    every : pairs between two looks at the interval
    """

    least: int = 24
    most: int = 160
    narrow: float = 0.008
    every: int = 8


@dataclass(frozen=True, slots=True)
class Ratio:
    """value : median; low, high : its 95 % interval; pairs : how many there were"""

    value: float
    low: float
    high: float
    pairs: int

    @property
    def half_width(self) -> float:
        """Half the interval over the median."""
        return (self.high - self.low) / 2 / self.value


def ratio_of(kernels_s: Sequence[float], subjects_s: Sequence[float]) -> Ratio:
    """n + 1 kernels around n subjects; ValueError for other numbers of them."""
    if len(kernels_s) != len(subjects_s) + 1 or not subjects_s:
        raise ValueError(f"{len(subjects_s)} subjects need one kernel more, got {len(kernels_s)}")
    kernels = np.asarray(kernels_s, np.float64)
    ratios = np.asarray(subjects_s, np.float64) * 2 / (kernels[:-1] + kernels[1:])
    low, high = _interval(ratios)
    return Ratio(float(np.median(ratios)), low, high, len(ratios))


def _interval(ratios: NDArray[np.float64]) -> tuple[float, float]:
    """Of the median, by percentile bootstrap; the draws are the same for the same number of ratios."""
    draws = np.random.default_rng(len(ratios)).integers(0, len(ratios), (RESAMPLES, len(ratios)))
    medians = np.median(ratios[draws], axis=1)
    edge = (1 - CONFIDENCE) / 2
    low, high = np.quantile(medians, [edge, 1 - edge])
    return float(low), float(high)


def compare(
    subject: Callable[[], object],
    kernel: Callable[[], object],
    stopwatch: Stopwatch,
    effort: Effort,
) -> Ratio:
    """Measure in turn until the interval is narrow or `effort.most` pairs are there."""
    kernels_s, subjects_s = [stopwatch(kernel)], list[float]()
    while True:
        subjects_s.append(stopwatch(subject))
        kernels_s.append(stopwatch(kernel))
        count = len(subjects_s)
        if count < effort.least or ((count - effort.least) % effort.every and count < effort.most):
            continue
        found = ratio_of(kernels_s, subjects_s)
        if count >= effort.most or found.half_width <= effort.narrow:
            return found

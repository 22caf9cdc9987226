"""How steady pictures are from one to the next, relative to the source's own steadiness.

    source -DIS flow of pairs spread over the clip-> flow, and where it can be trusted      (once for a clip)
    any series of that clip -> mean |x_k - W(x_{k-1})| there, over the same of the source

The figure of `common.quality.warping_error_ratio`, which looks at every pair and finds the flow anew for each series;
here many series are judged against one clip, and a bounded number of pairs has to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.quality import Metric, trusted_flow, warp_back
from common.types import Picture, Plane

SAMPLED = 40
"""Places of a clip at which measures that take long look."""

_NO_ERROR = 1e-3
"""Warping error of a source, in 8-bit steps, to which none can be compared."""


def spread(count: int, most: int = SAMPLED) -> list[int]:
    """At most `most` of the indices 0..count - 1, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [round(float(at)) for at in np.linspace(0, count - 1, most)]


@dataclass(frozen=True, slots=True, eq=False)
class _Way:
    """From a picture to the one before it. now : index; flow [H, W, 2] pixels; trusted [H, W], not occluded"""

    now: int
    flow: NDArray[np.float32]
    trusted: NDArray[np.bool_]


class Steadiness:
    """Judges series of pictures against one source."""

    def __init__(self, source: Sequence[Picture], most: int = SAMPLED) -> None:
        """source : pictures of one size; most : pairs of them to look at"""
        self._count = len(source)
        latter = [first + 1 for first in spread(len(source) - 1, most)]
        self._ways = [_Way(now, *trusted_flow(source[now - 1].y, source[now].y)) for now in latter]
        self._of_source = self._error(source)

    def warping_error_ratio(self, pictures: Sequence[Picture]) -> Metric:
        """Warping error of the luma over the source's own; 1 is as steady, less is steadier, as a blur is.

        Absent for fewer than two pictures, and for a source that its flow explains entirely, such as a still one.
        Raises ValueError for another number of pictures than the source has.
        """
        if len(pictures) != self._count:
            raise ValueError(f"needs {self._count} pictures, got {len(pictures)}")
        if not self._ways:
            return Metric(None, "warping error needs at least two pictures")
        if self._of_source < _NO_ERROR:
            return Metric(None, "the source's own warping error is zero (nothing but exact shifts)")
        return Metric(self._error(pictures) / self._of_source)

    def _error(self, pictures: Sequence[Picture]) -> float:
        """Mean over the pairs, 8-bit steps; a pair without any trusted place counts as none."""
        errors = [_error_along(way, pictures[way.now - 1].y, pictures[way.now].y) for way in self._ways]
        return float(np.mean(errors)) if errors else 0.0


def _error_along(way: _Way, before: Plane, now: Plane) -> float:
    if not way.trusted.any():
        return 0.0
    change = now.astype(np.int16) - warp_back(before, way.flow).astype(np.int16)
    return float(np.abs(change)[way.trusted].mean())

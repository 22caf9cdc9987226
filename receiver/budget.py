"""Which level of the ladder fits before the deadline: measured costs, and a pure choice."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

_WINDOW = 48
_FADE = 0.98  # per picture painted at another level: one slow picture rules a level out for under a second


def plan(now_s: float, deadline_s: float | None, costs_s: Mapping[str, float], levels: Sequence[str]) -> str:
    """The best level that is expected to be ready in time.

    levels : cheapest first; the first one always fits
    costs_s : p95 cost of each level; a level without a cost has never been tried and is not chosen
    deadline_s : None chooses the best level that has a cost
    """
    chosen = levels[0]
    for level in levels[1:]:
        cost = costs_s.get(level)
        if cost is not None and (deadline_s is None or now_s + cost <= deadline_s):
            chosen = level
    return chosen


class CostModel:
    """p95 of what each level took on this machine lately, in seconds.

    A level that was found too dear is not measured any more, so its cost fades until it is tried again: load goes away.
    """

    def __init__(self) -> None:
        self._seen: dict[str, deque[float]] = {}
        self._last: dict[str, int] = {}
        self._count = 0

    @property
    def known(self) -> bool:
        """Whether anything has been measured yet."""
        return bool(self._seen)

    def observe(self, level: str, cost_s: float) -> None:
        """Note what painting one picture at `level` took."""
        self._count += 1
        self._last[level] = self._count
        self._seen.setdefault(level, deque(maxlen=_WINDOW)).append(cost_s)

    def costs_s(self) -> dict[str, float]:
        """p95 by level; bridges that were not tried are scaled from one that was."""
        known = {
            level: float(np.percentile(tuple(seen), 95)) * _FADE ** (self._count - self._last[level])
            for level, seen in self._seen.items()
        }
        steps = {"bridge1": 1, "bridge2": 2, "bridge4": 4}
        if "bridge1" in known:
            step_s = known["bridge1"] - known.get("base", 0.0)
            for level, count in steps.items():
                known.setdefault(level, known["bridge1"] + (count - 1) * step_s)
        return known

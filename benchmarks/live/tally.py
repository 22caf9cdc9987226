"""What a receiver has shown, for the report at its end: how smoothly, and how long after capture."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from common.stats import FreezeSummary, Latency, find_freezes
from receiver.pipeline import Shown

_SOME = 180
"""Pictures compared for drift, at the beginning and at the end."""
_KEPT = 1 << 16
"""Times of pictures kept for the report: half an hour at 30 a second."""


class Recent:
    """The last numbers of a series without end, eight bytes each, in a place that is taken once."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._values = np.zeros(kept)
        self._count = 0

    def __len__(self) -> int:
        return min(self._count, len(self._values))

    def append(self, value: float) -> None:
        """One more; the oldest goes where there is no room."""
        self._values[self._count % len(self._values)] = value
        self._count += 1

    @property
    def values(self) -> NDArray[np.float64]:
        """Oldest first."""
        if self._count <= len(self._values):
            return self._values[: self._count].copy()
        return np.roll(self._values, -(self._count % len(self._values)))


@dataclass(slots=True)
class Tally:
    """What one stream has shown, for the report at the end. Times are this end's.

    taken_back : pictures where the decoder contradicted the guide, so that a part of them is the base picture
    """

    shown_s: Recent = field(default_factory=Recent)
    delay_ms: Recent = field(default_factory=Recent)
    first_s: float | None = None
    taken_back: int = 0

    def picture(self, shown: Shown, now_s: float, delay_ms: float | None) -> None:
        """One picture was shown."""
        if shown.concealed:
            return
        self.first_s = now_s if self.first_s is None else self.first_s
        self.shown_s.append(now_s)
        self.taken_back += shown.taken_back > 0
        if delay_ms is not None:
            self.delay_ms.append(delay_ms)

    def document(self, frame_s: float, end_s: float) -> dict[str, object]:
        """JSON: how smoothly, and how long after capture."""
        shown_s = self.shown_s.values.tolist()
        end_s = max(end_s, shown_s[-1] + frame_s) if shown_s else end_s
        freezes = FreezeSummary.of(find_freezes(shown_s, frame_s, end_s))
        watched_s = end_s - shown_s[0] if shown_s else 0.0
        latency = Latency.of(self.delay_ms.values.tolist()) if len(self.delay_ms) else None
        return {
            "pictures": len(shown_s), "watched_s": round(watched_s, 3),
            "fps": round(len(shown_s) / watched_s, 2) if watched_s else 0.0,
            "freezes": freezes.count, "longest_freeze_s": round(freezes.longest_s, 3),
            "freeze_ratio": round(freezes.total_s / watched_s, 4) if watched_s else 0.0,
            "drift_ms": self._drift_ms(), "taken_back_pictures": self.taken_back,
            "glass_to_glass_ms": None if latency is None else {
                "p50": round(latency.p50_ms, 1), "p95": round(latency.p95_ms, 1), "max": round(latency.max_ms, 1),
            },
        }  # fmt: skip

    def _drift_ms(self) -> float | None:
        """How much later pictures were shown at the end than at the beginning; None where that is not known."""
        if len(self.delay_ms) < 2 * _SOME:
            return None
        delays = self.delay_ms.values
        return round(float(np.median(delays[-_SOME:]) - np.median(delays[:_SOME])), 1)

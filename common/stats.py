"""Figures gathered while the link runs: stage times, freezes, and counts by reason.

Collectors are objects owned by one session; what they hand out are frozen values.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from common.clock import Clock

TIMER_WINDOW = 4096
"""Newest samples a stage keeps: two minutes at 30 pictures a second. An hour of them, which they were once, is 3 MB for
each stage, and looks like a leak until it is over."""

FREEZE_HISTORY = 30
"""Frame durations that the average of the freeze definition looks back on."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Summary of one stage in milliseconds; percentiles interpolate linearly between samples."""

    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, samples_ms: Sequence[float]) -> Latency:
        """Raises ValueError for no samples: a stage that never ran has no latency."""
        if len(samples_ms) == 0:
            raise ValueError("no samples to summarise")
        p50, p95, p99 = (float(p) for p in np.percentile(np.asarray(samples_ms, np.float64), [50, 95, 99]))
        return cls(len(samples_ms), p50, p95, p99, float(max(samples_ms)))


class StageTimer:
    """Times named stages on a clock.

    >>> timer = StageTimer(clock)
    >>> with timer.stage("guide"):
    ...     encode_guide()
    >>> timer.summaries()["guide"].p95_ms
    """

    def __init__(self, clock: Clock, window: int = TIMER_WINDOW) -> None:
        self._clock = clock
        self._window = window
        self._samples_ms: dict[str, deque[float]] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the body; a body that raises is counted too, since its time was spent."""
        start_s = self._clock.now_s()
        try:
            yield
        finally:
            self.record(name, (self._clock.now_s() - start_s) * 1e3)

    def record(self, name: str, duration_ms: float) -> None:
        """Add a duration measured elsewhere, for example capture to display."""
        self._samples_ms.setdefault(name, deque(maxlen=self._window)).append(duration_ms)

    def samples_ms(self, name: str) -> tuple[float, ...]:
        """The kept durations of one stage, oldest first; empty for a stage that never ran."""
        return tuple(self._samples_ms.get(name, ()))

    def summaries(self) -> dict[str, Latency]:
        """One summary per stage that ran, in order of first use."""
        return {name: Latency.of(samples) for name, samples in self._samples_ms.items()}


@dataclass(frozen=True, slots=True)
class Freeze:
    """One interval in which the picture stood still too long.

    start_s : when the picture that froze was shown
    duration_s : until the next new picture
    """

    start_s: float
    duration_s: float


@dataclass(frozen=True, slots=True)
class FreezeSummary:
    """Totals over a session (`freezeCount`, `totalFreezesDuration` of W3C webrtc-stats)."""

    count: int = 0
    total_s: float = 0.0
    longest_s: float = 0.0

    @classmethod
    def of(cls, freezes: Iterable[Freeze]) -> FreezeSummary:
        durations_s = [freeze.duration_s for freeze in freezes]
        return cls(len(durations_s), sum(durations_s), max(durations_s, default=0.0))


class FreezeDetector:
    """Finds freezes as W3C webrtc-stats defines `freezeCount`.

    A frame duration is a freeze when it is at least max(3 * mean, mean + 150 ms), where the mean is taken
    over the 30 durations before it. The source's own frame duration stands in until there is one, so that
    a freeze right at the start counts.
    """

    def __init__(self, frame_s: float) -> None:
        """frame_s : seconds between source frames"""
        self._durations_s: deque[float] = deque([frame_s], maxlen=FREEZE_HISTORY)
        self._shown_s: float | None = None

    def shown(self, now_s: float) -> Freeze | None:
        """Tell that a new picture (not a repeated one) was shown; returns the freeze that it ended."""
        previous_s, self._shown_s = self._shown_s, now_s
        if previous_s is None:
            return None
        duration_s = now_s - previous_s
        mean_s = sum(self._durations_s) / len(self._durations_s)
        self._durations_s.append(duration_s)
        is_freeze = duration_s >= max(3.0 * mean_s, mean_s + 0.150)
        return Freeze(previous_s, duration_s) if is_freeze else None


def find_freezes(shown_s: Iterable[float], frame_s: float, end_s: float | None = None) -> tuple[Freeze, ...]:
    """All freezes of a session.

    shown_s : times at which new pictures were shown, ascending
    end_s : when the session ended, so that a picture that stood still until then counts
    """
    detector = FreezeDetector(frame_s)
    times_s = [*shown_s] if end_s is None else [*shown_s, end_s]
    return tuple(freeze for time_s in times_s if (freeze := detector.shown(time_s)) is not None)


class ReasonCounter:
    """Counts events by reason: what was dropped, refused or concealed, and why."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, reason: str, times: int = 1) -> None:
        """Raises ValueError for a negative number: counters only go up."""
        if times < 0:
            raise ValueError(f"a counter only goes up, got {times}")
        self._counts[reason] += times

    @property
    def total(self) -> int:
        return self._counts.total()

    def by_reason(self) -> Mapping[str, int]:
        """A copy, most frequent first."""
        return dict(self._counts.most_common())

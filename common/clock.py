"""The one clock. Everything else is handed `now_s`; lint bans `time.*` in other files."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Seconds that only go forward, from an arbitrary zero."""

    def now_s(self) -> float: ...


class SystemClock:
    """The machine's monotonic clock."""

    def now_s(self) -> float:
        return time.perf_counter()


class UnixClock:
    """Seconds since 1970, which may jump: only for what other machines must agree on, such as when a token expires."""

    def now_s(self) -> float:
        return time.time()


class VirtualClock:
    """A clock that a simulation or a test moves by hand.

    >>> clock = VirtualClock(); clock.advance_to(2.5); clock.now_s()
    2.5
    """

    def __init__(self, now_s: float = 0.0) -> None:
        self._now_s = now_s

    def now_s(self) -> float:
        return self._now_s

    def advance_to(self, now_s: float) -> None:
        """Move to `now_s`; raises ValueError for a step back."""
        if now_s < self._now_s:
            raise ValueError(f"clock cannot go back from {self._now_s} to {now_s}")
        self._now_s = now_s

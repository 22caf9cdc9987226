"""When to show which frame: capture times mapped to this clock by the fastest arrival seen, plus a fixed delay."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Playout:
    """Maps stream time to this end's clock.

    delay_s : added to the fastest arrival, so that slower ones are still in time
    fastest_s : least (arrival - capture time) seen, None before the first frame
    next_slot : the frame to show next
    """

    delay_s: float
    fastest_s: float | None = None
    next_slot: int = 0

    def arrived(self, capture_s: float, arrival_s: float) -> Playout:
        """Take note of one frame's arrival."""
        offset = arrival_s - capture_s
        if self.fastest_s is None or offset < self.fastest_s:
            return replace(self, fastest_s=offset)
        return self

    def due_s(self, capture_s: float) -> float:
        """When a frame captured at `capture_s` (stream time) is to be shown; infinite before any arrival."""
        return float("inf") if self.fastest_s is None else capture_s + self.fastest_s + self.delay_s

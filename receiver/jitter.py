"""When to show which frame: capture times mapped to this clock by the fastest arrival seen, plus a fixed delay."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Playout:
    """Maps stream time to this end's clock.

    delay_s : added to the fastest arrival, so that slower ones are still in time
    fastest_s : least (arrival - capture time) seen, None before the first frame
    next_slot : the frame to show next
    forgetting : by how much the fastest arrival is taken to have been slower, a second: clocks drift apart and routes
        change. 0 on one clock
    heard_s : when the last frame arrived
    """

    delay_s: float
    fastest_s: float | None = None
    next_slot: int = 0
    forgetting: float = 0.0
    heard_s: float = 0.0

    def arrived(self, capture_s: float, arrival_s: float) -> Playout:
        """Take note of one frame's arrival."""
        offset, fastest_s = arrival_s - capture_s, self.fastest_s
        if fastest_s is not None:
            offset = min(offset, fastest_s + self.forgetting * max(0.0, arrival_s - self.heard_s))
        return replace(self, fastest_s=offset, heard_s=arrival_s)

    def due_s(self, capture_s: float) -> float:
        """When a frame captured at `capture_s` (stream time) is to be shown; infinite before any arrival."""
        return float("inf") if self.fastest_s is None else capture_s + self.fastest_s + self.delay_s

"""Matching what a detector of cuts found to what happened.

What was found counts for the event that it belongs to until some pictures after the event is over. A receiver that shows
nothing for a while, because units were lost, has so many from the first picture on that it shows after that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.cuts_report import DetectorRow
from benchmarks.scenes import NEW_SCENE, Event, Kind


@dataclass(slots=True)
class Tally:
    """What one detector made of events, by kind: how many there were, how many it took for new scenes; and what it took
    for one without cause."""

    there: dict[Kind, int] = field(default_factory=dict)
    taken: dict[Kind, int] = field(default_factory=dict)
    false: int = 0

    def add(self, verdict: Verdict) -> None:
        """Count one clip."""
        for event, slot in verdict.events:
            self.there[event.kind] = self.there.get(event.kind, 0) + 1
            self.taken[event.kind] = self.taken.get(event.kind, 0) + (slot is not None)
        self.false += len(verdict.false)

    def row(self, detector: str) -> DetectorRow:
        """All of it, for the report."""
        return DetectorRow(detector=detector, there=self.there, taken=self.taken, false=self.false)


@dataclass(frozen=True, slots=True)
class Verdict:
    """events : each with the slot at which it was taken for a new scene, or None; false : slots without an event"""

    events: tuple[tuple[Event, int | None], ...]
    false: tuple[int, ...]


def judge(events: Sequence[Event], found: Sequence[int], slack: int, shown: Sequence[int] = ()) -> Verdict:
    """Match what was found to what happened, new scenes first; each finding is used up by one event.

    slack : slots after an event's last picture, or after the first one shown from there on, within which it counts
    shown : slots that had pictures, none is all
    """
    left, judged = sorted(found), []
    for event in sorted(events, key=lambda event: (event.kind not in NEW_SCENE, event.first)):
        over = next((slot for slot in shown if slot >= event.last), event.last)
        hit = next((slot for slot in left if event.first <= slot <= over + slack), None)
        if hit is not None:
            left.remove(hit)
        judged.append((event, hit))
    return Verdict(tuple(judged), tuple(left))

"""When pictures are shown, as times that start at 0 and increase: what files and players want."""

from __future__ import annotations

import math
from fractions import Fraction

from common.types import Frame
from common.units import StreamConfig


class Timeline:
    """Times of the pictures of one stream, in its time base; the first picture is at 0.

    A held picture, and one shown late, carries only its slot's nominal time, which says nothing where the source's
    rate is not constant. Such a picture follows the one before it by as many nominal slots as lie between them.

    least_s : two pictures are at least so far apart, and never nearer than one tick
    """

    def __init__(self, stream: StreamConfig, least_s: Fraction = Fraction(0)) -> None:
        self._stream = stream
        self._least = max(1, math.ceil(least_s / stream.time_base))
        self._first: int | None = None
        self._last: Frame | None = None
        self._last_pts = 0
        self._placed = 0

    def place(self, frame: Frame) -> int:
        """The time of `frame`, which was shown after all those placed before."""
        pts = self._own_pts(frame)
        if self._first is None:
            self._first, self._placed = pts, -self._least
        self._last, self._last_pts = frame, pts
        self._placed = max(pts - self._first, self._placed + self._least)
        return self._placed

    def _own_pts(self, frame: Frame) -> int:
        """As the source told it, or else as its place after the last picture tells."""
        nominal, slot_ticks = self._stream.pts_of(frame.slot), self._stream.ticks_per_slot
        if self._last is None or frame.pts != nominal:
            return frame.pts
        expected = self._last_pts + (frame.slot - self._last.slot) * slot_ticks
        return frame.pts if abs(frame.pts - expected) < slot_ticks else round(expected)

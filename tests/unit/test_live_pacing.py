"""A source read on a thread of its own: each frame in its time, the newest wins, and errors are told."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction

import pytest

from benchmarks.live.pacing import PacedFrames
from common.clock import VirtualClock
from common.errors import SourceError
from common.types import Frame
from tests.page_pictures import plain
from tests.webrtc_pair import PATIENCE_S, until

FRAME = Frame(plain(60), 0, Fraction(1, 25))


def frames(count: int) -> Iterator[Frame]:
    return (replace(FRAME, slot=slot, pts=slot) for slot in range(count))


class Gate:
    """A source that says when its first frames have been taken, and gives the rest once it is let on."""

    def __init__(self, first: Iterable[Frame], rest: Iterable[Frame] = ()) -> None:
        self._first, self._rest = first, rest
        self.reached, self.let_on = threading.Event(), threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        yield from self._first
        self.reached.set()
        self.let_on.wait(PATIENCE_S)
        yield from self._rest


def taken(paced: PacedFrames) -> list[int]:
    """Slots of all frames until the end."""
    slots: list[int] = []

    def look() -> bool:
        frame = paced.take()
        if frame is not None:
            slots.append(frame.slot)
        return paced.ended

    until(look)
    return slots


def test_each_frame_waits_for_its_time() -> None:
    clock, waits = VirtualClock(100.0), []

    def wait(seconds: float) -> bool:
        waits.append(round(seconds, 6))
        clock.advance_to(clock.now_s() + seconds)
        return False

    late = (frame for frame in frames(5) if frame.slot != 2 or clock.advance_to(100.11) is None)
    paced = PacedFrames(late, clock, wait=wait).start()
    until(lambda: paced.dropped == 4)
    assert waits == [0.04, 0.01, 0.04], "the third was late by itself"
    assert paced.began_s == 100.0 and taken(paced) == [4]
    paced.close()


def test_a_camera_is_not_waited_for() -> None:
    def wait(seconds: float) -> bool:
        raise AssertionError("a camera delivers in its own time")

    paced = PacedFrames(frames(3), VirtualClock(), paced=False, wait=wait).start()
    assert taken(paced)[-1] == 2
    paced.close()


def test_the_newest_wins() -> None:
    gate = Gate(frames(3), [replace(FRAME, slot=7, pts=7)])
    paced = PacedFrames(gate, VirtualClock(), paced=False).start()
    assert gate.reached.wait(PATIENCE_S)
    frame = paced.take()
    assert frame is not None and frame.slot == 2 and paced.take() is None
    assert paced.dropped == 2 and not paced.ended
    gate.let_on.set()
    assert taken(paced) == [7] and paced.take() is None and paced.dropped == 2
    paced.close()


@pytest.mark.parametrize("error", [SourceError("the camera was unplugged"), ValueError("a fault of ours")])
def test_errors_of_the_source_come_out(error: Exception) -> None:
    def broken() -> Iterator[Frame]:
        yield from frames(1)
        raise error

    paced = PacedFrames(broken(), VirtualClock(), paced=False).start()
    with pytest.raises(type(error), match=str(error)):
        taken(paced)
    assert paced.take() is None and paced.ended
    paced.close()


def test_closing_ends_a_wait() -> None:
    paced = PacedFrames((replace(frame, pts=10**6) for frame in frames(2)), VirtualClock()).start()
    paced.close()
    assert paced.take() is None and paced.ended


def test_closing_before_the_start_is_harmless() -> None:
    PacedFrames(frames(1), VirtualClock()).close()

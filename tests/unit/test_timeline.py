"""Times of shown pictures: from 0, increasing, and honest about pictures whose own time is unknown."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from common.types import Frame
from common.units import StreamConfig
from receiver.timeline import Timeline
from tests.small_stream import frame

MS = StreamConfig(1, 128, 128, Fraction(25), Fraction(1, 1000))
PICTURE = frame(0).picture


def place(timeline: Timeline, *stamps: tuple[int, int]) -> list[int]:
    """(slot, pts) of pictures in turn."""
    return [timeline.place(Frame(PICTURE, pts, Fraction(1, 1000), slot)) for slot, pts in stamps]


def test_a_constant_rate_begins_at_zero_wherever_the_stream_is() -> None:
    assert place(Timeline(MS), (9000, 360_000), (9001, 360_040), (9003, 360_120)) == [0, 40, 120]


def test_own_times_are_kept_exactly() -> None:
    assert place(Timeline(MS), (0, 500), (1, 533), (2, 600), (3, 613), (4, 900)) == [0, 33, 100, 113, 400]


def test_a_held_picture_follows_the_one_before_it() -> None:
    """The camera gives 20 pictures a second where it promised 25: nominal times are far behind after a minute."""
    told = [(slot, 50 * slot) for slot in (1500, 1501)]
    held = [(1502, MS.pts_of(1502)), (1503, MS.pts_of(1503))]
    assert place(Timeline(MS), *told, *held, (1504, 50 * 1504)) == [0, 50, 90, 130, 200]


def test_where_a_held_picture_runs_ahead_the_next_comes_right_after_it() -> None:
    told, held = [(300, 9000), (301, 9030)], [(302, MS.pts_of(302)), (303, MS.pts_of(303))]
    assert place(Timeline(MS), *told, *held, (304, 9100), (305, 9180)) == [0, 30, 70, 110, 111, 180]


def test_pictures_can_be_kept_apart() -> None:
    timeline = Timeline(MS, least_s=Fraction(1, 400))
    assert place(timeline, (0, 7), (1, 8), (2, 9), (3, 107)) == [0, 3, 6, 100]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10**6)), min_size=1), st.integers(0, 10**6))
def test_times_always_increase_from_zero(steps: list[tuple[int, int]], start: int) -> None:
    timeline, slot, placed = Timeline(MS), start, []
    for ahead, pts in steps:
        slot += 1 + ahead
        placed.append(timeline.place(replace(frame(0), slot=slot, pts=pts)))
    assert placed[0] == 0 and all(a < b for a, b in pairwise(placed))

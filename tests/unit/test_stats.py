"""Stage times, freezes and counters on a virtual clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import VirtualClock
from common.stats import (
    Freeze,
    FreezeSummary,
    Latency,
    ReasonCounter,
    StageTimer,
    find_freezes,
)

FRAME_S = 1 / 30


def test_latency_percentiles_of_a_known_ramp() -> None:
    summary = Latency.of([float(i) for i in range(101)])
    assert summary == Latency(count=101, p50_ms=50.0, p95_ms=95.0, p99_ms=99.0, max_ms=100.0)


def test_latency_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no samples"):
        Latency.of([])


@given(st.lists(st.floats(0.0, 1e4), min_size=1, max_size=50))
def test_latency_is_ordered(samples: list[float]) -> None:
    summary = Latency.of(samples)
    assert summary.p50_ms <= summary.p95_ms <= summary.p99_ms <= summary.max_ms == max(samples)


def test_stage_timer_measures_each_stage_on_its_clock() -> None:
    clock = VirtualClock()
    timer = StageTimer(clock)
    for duration_s in (0.010, 0.030):
        with timer.stage("guide"):
            clock.advance_to(clock.now_s() + duration_s)
        clock.advance_to(clock.now_s() + 1.0)  # time outside a stage does not count
    timer.record("end_to_end", 80.0)
    assert timer.samples_ms("guide") == pytest.approx((10.0, 30.0))
    assert list(timer.summaries()) == ["guide", "end_to_end"]
    assert timer.samples_ms("never") == ()


def test_stage_timer_counts_a_body_that_raises() -> None:
    clock = VirtualClock()
    timer = StageTimer(clock)
    with pytest.raises(RuntimeError), timer.stage("decode"):
        clock.advance_to(0.5)
        raise RuntimeError
    assert timer.samples_ms("decode") == pytest.approx((500.0,))


def test_stage_timer_keeps_the_newest_samples() -> None:
    timer = StageTimer(VirtualClock(), window=3)
    for value in range(5):
        timer.record("x", float(value))
    assert timer.samples_ms("x") == (2.0, 3.0, 4.0)


def test_steady_pictures_do_not_freeze() -> None:
    assert find_freezes([i * FRAME_S for i in range(100)], FRAME_S) == ()


@pytest.mark.parametrize(("gap_s", "frozen"), [(FRAME_S + 0.149, False), (FRAME_S + 0.151, True)])
def test_fast_sources_freeze_at_mean_plus_150_ms(gap_s: float, frozen: bool) -> None:
    times_s = [0.0, FRAME_S, FRAME_S + gap_s]
    assert bool(find_freezes(times_s, FRAME_S)) is frozen


@pytest.mark.parametrize(("gap_s", "frozen"), [(0.59, False), (0.61, True)])
def test_slow_sources_freeze_at_three_times_the_mean(gap_s: float, frozen: bool) -> None:
    times_s = [0.0, 0.2, 0.4, 0.4 + gap_s]
    assert bool(find_freezes(times_s, 0.2)) is frozen


def test_a_freeze_says_when_and_how_long() -> None:
    (freeze,) = find_freezes([0.0, FRAME_S, FRAME_S + 0.5], FRAME_S)
    assert freeze.start_s == pytest.approx(FRAME_S)
    assert freeze.duration_s == pytest.approx(0.5)


def test_a_picture_that_stands_still_to_the_end_is_a_freeze() -> None:
    assert find_freezes([0.0], FRAME_S) == ()
    assert find_freezes([0.0], FRAME_S, end_s=2.0) == (Freeze(0.0, 2.0),)


def test_freeze_summary() -> None:
    summary = FreezeSummary.of([Freeze(0.0, 0.25), Freeze(3.0, 0.5)])
    assert summary == FreezeSummary(count=2, total_s=0.75, longest_s=0.5)
    assert FreezeSummary.of([]) == FreezeSummary()


def test_reason_counter() -> None:
    counter = ReasonCounter()
    counter.add("late")
    counter.add("corrupt", 3)
    copy = counter.by_reason()
    counter.add("late")
    assert list(copy.items()) == [("corrupt", 3), ("late", 1)]
    assert counter.total == 5
    with pytest.raises(ValueError, match="only goes up"):
        counter.add("late", -1)

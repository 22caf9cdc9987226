"""Sequence numbers: which are missing, and when to ask for them."""

from __future__ import annotations

import random

import pytest

from receiver.losses import Arrival, LossTracker


def _tracker() -> LossTracker:
    return LossTracker(reorder_ms=20, give_up_ms=1000, rtt_ms=100)


def _tracker_with_gap(missing: int = 3) -> LossTracker:
    """0..5 without `missing`, whose absence showed at 0 s."""
    tracker = _tracker()
    for seq in range(6):
        if seq != missing:
            assert tracker.arrived(seq, 0.0) is Arrival.NEW
    return tracker


def test_a_gap_is_asked_for_after_the_reordering_time() -> None:
    tracker = _tracker_with_gap()
    assert not tracker.ask_due(0.019)
    assert tracker.ask(0, 0.019) == ()
    assert tracker.ask_due(0.02)
    assert tracker.ask(1, 0.02) == (3,)
    assert not tracker.ask_due(0.021)


def test_reordering_is_not_loss() -> None:
    tracker = _tracker_with_gap()
    assert tracker.arrived(3, 0.015) is Arrival.NEW
    assert tracker.ask(0, 0.1) == ()
    assert tracker.take_loss_ratio() == 0


def test_asks_every_half_round_trip_at_most_eight_times() -> None:
    tracker = _tracker_with_gap()
    asked_ms = [ms for ms in range(2000) if tracker.ask(ms, ms / 1000)]
    assert asked_ms == pytest.approx(list(range(20, 420, 50)), abs=8)


def test_a_slow_link_is_asked_until_the_age_limit() -> None:
    tracker = LossTracker(reorder_ms=20, give_up_ms=1000, rtt_ms=400)
    tracker.arrived(0, 0.0)
    tracker.arrived(2, 0.0)
    asked_ms = [ms for ms in range(3000) if tracker.ask(ms, ms / 1000)]
    assert asked_ms == pytest.approx([20, 220, 420, 620, 820], abs=5)


def test_what_came_before_the_first_arrival_is_missing_at_the_beginning_of_a_stream() -> None:
    tracker = _tracker()
    tracker.arrived(2, 0.0)
    assert tracker.ask(0, 0.02) == (0, 1)
    assert tracker.take_loss_ratio() == pytest.approx(2 / 3)
    late = _tracker()
    late.arrived(500, 0.0)
    assert late.ask(0, 0.02) == () and late.take_loss_ratio() == 0, "who joins in the middle misses nothing"


def test_at_most_32_numbers_oldest_first() -> None:
    tracker = _tracker()
    tracker.arrived(0, 0.0)
    tracker.arrived(100, 0.0)
    assert tracker.ask(0, 0.1) == tuple(range(1, 33))
    assert tracker.ask(1, 0.15) == tuple(range(33, 65))


def test_the_round_trip_is_measured_from_the_report_that_was_answered() -> None:
    tracker = _tracker_with_gap()
    for round_number in range(40):
        tracker.arrived(7 + 2 * round_number, 1.0 * round_number)
        assert tracker.ask(round_number, 1.0 * round_number + 0.05)
        tracker.answered(round_number % 4, 1.0 * round_number + 0.09)
        tracker.answered(round_number % 4, 1.0 * round_number + 0.5)
    assert tracker.rtt_s == pytest.approx(0.04, abs=0.002)


def test_numbers_wrap() -> None:
    tracker = _tracker()
    for seq in [65533, 65534, 65535, 1, 2]:
        assert tracker.arrived(seq, 0.0) is Arrival.NEW
    assert tracker.highest_seq == 2
    assert tracker.ask(0, 0.1) == (0,)
    assert tracker.arrived(0, 0.2) is Arrival.NEW
    assert tracker.arrived(65535, 0.2) is Arrival.DUPLICATE


def test_loss_ratio_since_the_last_report() -> None:
    tracker = _tracker()
    assert tracker.take_loss_ratio() == 0
    tracker.arrived(0, 0.0)
    for seq in range(1, 101):
        if seq % 4:
            tracker.arrived(seq, 0.0)
    assert tracker.take_loss_ratio() == pytest.approx(24 / 100)
    for seq in range(101, 111):
        tracker.arrived(seq, 0.0)
    assert tracker.take_loss_ratio() == pytest.approx(0, abs=0.1)


def test_a_restarted_sender_is_followed() -> None:
    tracker = _tracker()
    for seq in range(20_000, 20_100):
        tracker.arrived(seq, 0.0)
    assert tracker.arrived(0, 1.0) is Arrival.STRAY
    assert tracker.highest_seq == 20_099
    assert tracker.arrived(1, 1.0) is Arrival.NEW
    assert tracker.highest_seq == 1

    for seq in range(2, 200):
        tracker.arrived(seq, 2.0)
    for seq in range(100):
        tracker.arrived(seq, 3.0)
    assert tracker.highest_seq == 99


def test_one_stray_number_changes_nothing() -> None:
    tracker = _tracker_with_gap()
    assert tracker.arrived(40_000, 0.0) is Arrival.STRAY
    assert tracker.arrived(6, 0.0) is Arrival.NEW
    assert tracker.highest_seq == 6


def test_memory_is_bounded_under_heavy_loss() -> None:
    tracker, chooser = _tracker(), random.Random(1)
    seq = 0
    for step in range(5000):
        seq = (seq + chooser.randrange(1, 60)) % 65536
        tracker.arrived(seq, step * 1e-5)
    asked: set[int] = set()
    for report in range(100):
        asked.update(tracker.ask(report, 0.06 + report * 1e-4))
    assert 0 < len(asked) <= 512

"""A run of losses that goes on is told from reports that keep naming the same datagram."""

from __future__ import annotations

from channel.flight import Flight

RTT_S = 0.1


def flight(count: int, first: int = 0) -> Flight:
    """Datagrams every 50 ms from second 0."""
    made = Flight(1e6)
    for index in range(count):
        made.sent((first + index) % 65536, 100, 0.05 * index)
    return made


def test_what_is_reported_in_time_is_not_lost() -> None:
    made = flight(3)
    assert made.reported(0, 0.1) == ()
    assert made.reported(2, 0.2) == ()
    assert made.reported(2, 5.0) == ()
    assert not made.silent


def test_all_in_flight_is_given_up_when_the_oldest_is_overdue() -> None:
    made = flight(4)
    assert made.reported(0, 0.1) == ()
    assert made.reported(0, 0.05 + RTT_S) == ()
    assert made.reported(0, 0.05 + 1.2 * RTT_S) == (1, 2, 3)
    assert made.silent
    assert made.reported(0, 9.0) == ()


def test_a_run_that_goes_on_is_found_sooner_and_an_arrival_ends_it() -> None:
    made = flight(2)
    made.reported(0, 0.1)
    assert made.reported(0, 0.17) == (1,)
    made.sent(2, 100, 0.17)
    assert made.reported(0, 0.26) == (2,)  # before a whole round trip
    made.sent(3, 100, 0.26)
    assert made.reported(3, 0.36) == () and not made.silent
    made.sent(4, 100, 0.36)
    assert made.reported(3, 0.45) == ()


def test_numbers_wrap_and_old_reports_change_nothing() -> None:
    made = flight(4, first=65534)
    assert made.reported(0, 0.12) == ()
    assert made.reported(65534, 0.13) == ()
    assert made.reported(1, 0.2) == ()
    assert made.reported(1, 9.0) == ()


def test_before_the_first_arrival_nothing_is_judged() -> None:
    assert flight(3).reported(-1, 9.0) == ()


def test_a_large_picture_may_take_as_long_as_the_rate_needs() -> None:
    made = Flight(24_000)
    for seq in range(3):
        made.sent(seq, 1200, 0.0)  # 0.4 s each at that rate
    assert made.reported(0, 0.3) == ()
    assert made.reported(0, 0.6) == ()
    assert made.reported(0, 1.8) == (1, 2)


def test_nothing_is_lost_while_the_queue_before_it_moves() -> None:
    made = Flight(24_000)
    for seq in range(5):
        made.sent(seq, 600, 0.0)  # 0.2 s each at that rate, and the link takes twice as long
    for seq in range(5):
        assert made.reported(seq, 0.4 * (seq + 1)) == ()
    assert not made.silent


def test_a_link_that_still_holds_datagrams_is_not_judged() -> None:
    made = flight(3)
    assert made.reported(0, 0.1) == ()
    assert made.reported(0, 9.0, patient=True) == ()
    assert made.reported(0, 9.0) == (1, 2)

"""The bandwidth estimator on a bottleneck with a queue, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channel.bandwidth import BandwidthEstimator, BandwidthSettings

FRAME_S, REPORT_S, DELAY_S = 0.04, 0.05, 0.025


@dataclass
class Bottleneck:
    """A sender that uses exactly the estimate, a queue without bound, and reports every 50 ms.

    capacity : bit/s by time; loss : share of frames lost after the queue
    """

    capacity: Callable[[float], float]
    estimator: BandwidthEstimator
    loss: float = 0.0
    rates: list[tuple[float, float, float]] = field(default_factory=list)
    """(time, rate, queueing delay)."""

    def run(self, seconds: float) -> None:
        rng = np.random.default_rng(1)
        busy_s, flights, reported = 0.0, [], 0
        for tick in range(int(seconds / 0.005)):
            now_s = tick * 0.005
            if tick % 8 == 0:
                bits = self.estimator.rate_bps * FRAME_S
                busy_s = max(busy_s, now_s) + bits / self.capacity(now_s)
                flights.append((now_s, busy_s + DELAY_S, bits, rng.random() < self.loss))
                self.rates.append((now_s, self.estimator.rate_bps, max(0.0, busy_s - now_s)))
            if tick % 10 == 0:
                arrived = [f for f in flights[reported:] if f[1] <= now_s - DELAY_S]
                reported += len(arrived)
                good = [f for f in arrived if not f[3]]
                waiting_s = max((now_s - f[0] for f in flights[reported:] if not f[3]), default=0.0)
                rtt_s = now_s - good[-1][0] if good else None
                lost = 1 - len(good) / len(arrived) if arrived else 0.0
                self.estimator.on_report(now_s, rtt_s, sum(f[2] for f in good) / REPORT_S, lost, waiting_s)

    def between(self, first_s: float, last_s: float) -> list[tuple[float, float]]:
        return [(rate, queue) for at, rate, queue in self.rates if first_s <= at < last_s]


def _run(
    capacity: Callable[[float], float], seconds: float, loss: float = 0.0, **settings: float
) -> Bottleneck:
    link = Bottleneck(capacity, BandwidthEstimator(BandwidthSettings(**settings)), loss)
    link.run(seconds)
    return link


@pytest.mark.parametrize("capacity", [12_000.0, 48_000.0, 400_000.0, 1_500_000.0])
def test_it_finds_what_the_link_carries_and_keeps_the_queue_short(capacity: float) -> None:
    link = _run(lambda _: capacity, 40, start_bps=24_000)
    late = link.between(20, 40)
    assert 0.6 * capacity < np.mean([rate for rate, _ in late]) < 1.02 * capacity
    assert np.quantile([queue for _, queue in late], 0.95) < 0.25


def test_a_drop_is_followed_within_two_seconds_and_the_queue_stays_bounded() -> None:
    link = _run(lambda at: 100_000 if at < 15 else 24_000, 30, start_bps=90_000, most_bps=100_000)
    assert np.mean([rate for rate, _ in link.between(10, 15)]) > 75_000
    assert all(rate <= 24_000 for rate, _ in link.between(15.6, 17))
    assert max(queue for _, queue in link.between(15, 30)) < 1.1
    assert max(queue for _, queue in link.between(16.6, 30)) < 0.3
    assert np.mean([rate for rate, _ in link.between(20, 30)]) > 14_000


def test_it_comes_back_when_the_link_does() -> None:
    link = _run(lambda at: 24_000 if 10 <= at < 15 else 200_000, 45, start_bps=100_000)
    assert np.mean([rate for rate, _ in link.between(40, 45)]) > 100_000


@pytest.mark.parametrize("loss", [0.02, 0.05, 0.1])
def test_random_loss_is_no_congestion(loss: float) -> None:
    link = _run(lambda _: 100_000, 30, loss, start_bps=48_000, most_bps=64_000)
    assert np.mean([rate for rate, _ in link.between(15, 30)]) > 44_000


def test_much_loss_lowers_the_rate() -> None:
    link = _run(lambda _: 1e6, 20, 0.4, start_bps=48_000, most_bps=64_000)
    assert np.mean([rate for rate, _ in link.between(15, 20)]) < 24_000


@pytest.mark.parametrize(("own_s", "lowered"), [(0.0, True), (1.0, False)])
def test_a_queue_that_a_key_picture_makes_is_no_overuse(own_s: float, lowered: bool) -> None:
    estimator = BandwidthEstimator(BandwidthSettings(start_bps=12_000, most_bps=12_000))
    for step in range(20):
        estimator.on_report(0.25 * step, 0.1, 12_000, 0.0)
    for step in range(20, 24):
        estimator.on_report(0.25 * step, 0.9, 12_000, 0.0, own_s=own_s)
    assert (estimator.rate_bps < 12_000) == lowered


def test_silence_changes_nothing() -> None:
    """In an outage reports do not come, or name nothing new: when it ends the old rate is the best guess."""
    estimator = BandwidthEstimator(BandwidthSettings(start_bps=48_000, most_bps=48_000))
    for step in range(40):
        estimator.on_report(0.05 * step, 0.06, 48_000, 0.0)
    for step in range(40, 80):
        estimator.on_report(0.05 * step, None, 0.0, 0.0)
    assert estimator.rate_bps == 48_000


reports = st.lists(
    st.tuples(st.floats(0.001, 2), st.none() | st.floats(0, 5), st.floats(0, 1e7), st.floats(0, 1)),
    max_size=60,
)


@settings(max_examples=60)
@given(reports)
def test_whatever_is_reported_the_rate_stays_in_its_limits(
    given_reports: list[tuple[float, float | None, float, float]],
) -> None:
    limits = BandwidthSettings(start_bps=24_000, least_bps=8_000, most_bps=96_000)
    estimator, now_s = BandwidthEstimator(limits), 0.0
    for step_s, rtt_s, received_bps, loss in given_reports:
        now_s += step_s
        after = estimator.on_report(now_s, rtt_s, received_bps, loss)
        assert 8_000 <= after <= 96_000
        assert estimator.queue_s >= 0

"""How much a link carries, from the receiver's reports: what a live sender sets its rate by.

    report -> round trip of the newest datagram it names -> queueing delay (above the least of the last seconds)
           -> overused?  rate := 0.85 of what arrives, less what empties the queue in a second
              filling?   hold
              free?      rate := 0.85 of what arrived, once the queue is empty; from then on a little more,
                         fast until the first overuse, then slowly near the last one

The delay gradient alone cannot see a queue that stands, so the level is used, as in LEDBAT (RFC 6817) and SCReAM (RFC
8298); the states and the rate after overuse are those of Google's congestion control (Carlucci et al., MMSys 2016,
which aiortc's receiver implements for one-way delays). Random loss is no congestion: only much of it lowers the rate,
as in GCC's loss controller. Pure: time comes in.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field


class BandwidthSettings(BaseModel):
    """Settings of the estimator.

    start_bps, least_bps, most_bps : the rate at first, and its limits
    overuse_ms, filling_ms : queueing delays from which on the rate falls, and from which on it no longer rises
    backoff : part of what arrives that the rate falls to
    loss_limit : share of datagrams lost over a second from which on loss lowers the rate
    rise_first, rise : growth in a second, before the first overuse and later
    rise_near_bps : growth in a second close to the rate of the last overuse
    base_window_s : over which the least round trip is taken
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    start_bps: float = Field(24_000, gt=0)
    least_bps: float = Field(6_000, gt=0)
    most_bps: float = Field(2_000_000, gt=0)
    overuse_ms: float = Field(90, gt=0)
    filling_ms: float = Field(50, gt=0)
    backoff: float = Field(0.85, gt=0, lt=1)
    loss_limit: float = Field(0.15, gt=0, le=1)
    rise_first: float = Field(0.5, gt=0)
    rise: float = Field(0.12, gt=0)
    rise_near_bps: float = Field(2_000, gt=0)
    base_window_s: float = Field(10, gt=0)


@dataclass(frozen=True, slots=True)
class _Report:
    """What one report says. at_s : when it came; interval_s : since the one before"""

    at_s: float
    interval_s: float
    rtt_s: float | None
    received_bps: float
    loss_ratio: float


_RATE_WINDOW_S = 0.5
_LOSS_WINDOW_S = 1.0
_NOW_WINDOW_S, _NOW_REPORTS = 0.25, 3.0
"""What arrives while the queue grows is what the link carries: the last five reports, not those before; and three where
they come less often."""
_SETTLE_S = 0.16
_LEAST_DRAIN = 0.35
"""Part of what arrives that is sent at the least while a queue empties."""
_NEAR = 0.15
"""A rate within so much of that of the last overuse is near it."""
_HEADROOM = 1.5
"""The rate rises to so many times what arrives: a sender with nothing to send learns nothing about the link."""
_FORGET_S = 20.0
"""After so long without overuse the link is taken for another one."""


class BandwidthEstimator:
    """The rate that a sender may use.

    rate_bps : at present
    queue_s : queueing delay at the last report
    """

    def __init__(self, settings: BandwidthSettings) -> None:
        self._settings = settings
        self.rate_bps = min(max(settings.start_bps, settings.least_bps), settings.most_bps)
        self.queue_s = 0.0
        self._standing_s = 0.0
        """The lesser of the last two measurements: an end that was busy for once is no queue, unless it is a long one."""
        self._reports: deque[_Report] = deque()
        self._overuse: tuple[float, float] | None = None
        """(when, what arrived then)."""
        self._lowered_s = float("-inf")
        self._settle_s = _SETTLE_S
        self._draining_since_s: float | None = None

    def on_report(
        self,
        now_s: float,
        rtt_s: float | None,
        received_bps: float,
        loss_ratio: float,
        waiting_s: float | None = None,
        own_s: float = 0.0,
    ) -> float:
        """Take in a report; returns the rate to use from now on, bit/s.

        rtt_s : from the sending of the newest datagram that the report names to now, None where it names no new one
        received_bps, loss_ratio : since the report before
        waiting_s : for how long the oldest datagram that no report has named has been on its way: a queue shows in
            it before what stands in the queue arrives; None where there is none
        own_s : how long a queue there has to be, as more than the rate was sent for a while: no overuse
        """
        interval_s = now_s - self._reports[-1].at_s if self._reports else 0.0
        self._reports.append(_Report(now_s, interval_s, rtt_s, received_bps, loss_ratio))
        while self._reports[0].at_s < now_s - self._settings.base_window_s:
            self._reports.popleft()
        seen_s = max(rtt_s or 0.0, waiting_s or 0.0) - self.base_s
        if rtt_s is not None or waiting_s is None or seen_s > self.queue_s:
            measured_s = max(0.0, seen_s)
            self._standing_s, self.queue_s = min(self.queue_s, measured_s), measured_s
        if interval_s > 0:
            self._adapt(now_s, interval_s, own_s)
        return self.rate_bps

    def _adapt(self, now_s: float, interval_s: float, own_s: float) -> None:
        s = self._settings
        recent = [report for report in self._reports if report.at_s > now_s - _RATE_WINDOW_S]
        heard = any(report.rtt_s is not None for report in recent)
        settled = now_s - self._lowered_s > self._settle_s
        if heard and max(self._standing_s - own_s, (self.queue_s - own_s) / 2) * 1000 > s.overuse_ms:
            if settled:
                self._drain(now_s)
        elif self._loss() > s.loss_limit and now_s - self._lowered_s > _LOSS_WINDOW_S:
            self._lower(now_s, self.rate_bps * (1 - 0.5 * self._loss()))
        elif heard and self.queue_s * 1000 <= s.filling_ms and settled:
            self._raise(now_s, interval_s)

    def _drain(self, now_s: float) -> None:
        """Overuse: what arrives is all that the link carries, and the queue has to go."""
        carried_bps = self._received_bps(max(_NOW_WINDOW_S, _NOW_REPORTS * self._reports[-1].interval_s))
        if self._draining_since_s is None:
            self._draining_since_s = now_s
        self._overuse = now_s, carried_bps
        wanted_bps = max(_LEAST_DRAIN, self._settings.backoff - self.queue_s) * carried_bps
        self._lower(now_s, max(wanted_bps, _LEAST_DRAIN * self.rate_bps))

    def _lower(self, now_s: float, rate_bps: float) -> None:
        # What is measured until then was sent before.
        self._lowered_s, self._settle_s = now_s, max(_SETTLE_S, self.base_s + 0.5 * self.queue_s)
        self.rate_bps = max(self._settings.least_bps, min(self.rate_bps, rate_bps))

    def _raise(self, now_s: float, interval_s: float) -> None:
        s, known = self._settings, self._overuse
        if known is not None and now_s - known[0] > _FORGET_S:
            known = self._overuse = None
        if self._draining_since_s is not None:  # empty again: while it was not, the link was never idle
            carried_bps = self._received_bps(
                max(_NOW_WINDOW_S, now_s - self._draining_since_s - _NOW_WINDOW_S)
            )
            known = self._overuse = now_s, carried_bps
            self._draining_since_s = None
            self.rate_bps = min(max(self.rate_bps, s.backoff * carried_bps), s.most_bps)
        if known is None:
            growth_bps = s.rise_first * self.rate_bps
        elif abs(self.rate_bps - known[1]) < _NEAR * known[1]:
            growth_bps = min(s.rise_near_bps, s.rise * self.rate_bps)
        else:
            growth_bps = s.rise * self.rate_bps
        ceiling = max(self.rate_bps, _HEADROOM * self._received_bps(_RATE_WINDOW_S))
        self.rate_bps = min(self.rate_bps + growth_bps * interval_s, ceiling, s.most_bps)

    @property
    def base_s(self) -> float:
        """The least round trip of the window, what the way takes without a queue; 0 before the first."""
        return min((report.rtt_s for report in self._reports if report.rtt_s is not None), default=0.0)

    def _received_bps(self, window_s: float) -> float:
        return self._mean(window_s, [report.received_bps for report in self._reports])

    def _loss(self) -> float:
        return self._mean(_LOSS_WINDOW_S, [report.loss_ratio for report in self._reports])

    def _mean(self, window_s: float, values: list[float]) -> float:
        """Mean over the last `window_s`, weighted by the time that each report is about."""
        newest_s, total, weight = self._reports[-1].at_s, 0.0, 0.0
        for report, value in zip(self._reports, values, strict=True):
            if report.at_s > newest_s - window_s:
                total, weight = total + value * report.interval_s, weight + report.interval_s
        return total / weight if weight else 0.0

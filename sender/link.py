"""What the sender knows of its link, as far as it bears on what to begin: from the rate that it is told and the reports.

A file, or a link that nobody reports on, is steady: its rate is the usual one, and nothing is lost or waits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from common.types import Feedback

_USUAL_S = 2.0  # the rate of how long ago counts as usual
_FELL = 0.8  # part of the usual rate below which it has just fallen
_QUEUED_S = 0.25  # a link this far behind is to be left to empty
_LOSSY = 0.3
_LOSS_MEMORY = 0.15  # weight of one report; four to twenty come in a second
_LAG_LEAK = 0.005  # by how much of it the least lag is forgotten with a report: delays, and clocks, change


@dataclass(frozen=True, slots=True)
class LinkState:
    """The link as of now.

    rate_bps : what may be sent; usual_bps : its mean over the last seconds
    loss_ratio : share of datagrams lost lately, 0..1
    queue_s : by how much frames come later than they could, the sender's grouping of them apart
    least_lag_s : from a frame to the report that it is there, at best; infinite before the first
    """

    rate_bps: float
    usual_bps: float
    loss_ratio: float = 0.0
    queue_s: float = 0.0
    least_lag_s: float = math.inf

    @classmethod
    def steady(cls, rate_bps: float) -> LinkState:
        """A link that does what it is expected to."""
        return cls(rate_bps, rate_bps)

    @property
    def strained(self) -> bool:
        """Whether nothing should be begun that can wait: the rate has just fallen, a queue stands, or much is lost."""
        return self.rate_bps < _FELL * self.usual_bps or self.queue_s > _QUEUED_S or self.loss_ratio > _LOSSY

    @property
    def goodput_bps(self) -> float:
        """What arrives of the rate: whatever is lost takes its place again."""
        return self.rate_bps * (1 - self.loss_ratio)

    def after(self, elapsed_s: float, rate_bps: float) -> LinkState:
        """The link so much later, at the rate that it has now."""
        share = 1 - math.exp(-max(0.0, elapsed_s) / _USUAL_S)
        return replace(
            self, rate_bps=rate_bps, usual_bps=self.usual_bps + share * (rate_bps - self.usual_bps)
        )

    def reported(self, report: Feedback, slot: int, frame_rate: float, group: int = 4) -> LinkState:
        """The link after a report that came when frame `slot` had been sent.

        group : frames from one that others build on to the next, by which a report may be behind without any queue
        """
        loss = self.loss_ratio + _LOSS_MEMORY * (report.loss_ratio - self.loss_ratio)
        if report.last_slot < 0:
            return replace(self, loss_ratio=loss)
        lag_s = max(0, slot - report.last_slot) / frame_rate
        least_s = (
            lag_s if math.isinf(self.least_lag_s) else self.least_lag_s * (1 - _LAG_LEAK) + _LAG_LEAK * lag_s
        )
        least_s = min(least_s, lag_s)
        queue_s = max(0.0, lag_s - least_s - group / frame_rate)
        return replace(self, loss_ratio=loss, queue_s=queue_s, least_lag_s=least_s)

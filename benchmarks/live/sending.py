"""The sending live end: one source, one encoder, any number of far ends.

PacedFrames -> SenderSession -> Outlets -> links
                    ^_ rate, anchors, refresh _|
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.live.figures import StreamFigures
from benchmarks.live.outlets import Outlet, Outlets
from benchmarks.live.pacing import PacedFrames
from common.clock import Clock
from common.types import Frame
from common.wire import pack_config
from sender.pipeline import SenderSession

TICK_S = 0.005
KEY_EVERY_S = 0.5
"""Who joins shortly after another waits so long for a key picture that serves both."""
DRAIN_S = 0.5
"""How long a sender stays after its last frame to repeat what got lost."""
LEAST_BPS, MOST_BPS = 6_000.0, 2_000_000.0
"""What a far end may ask for."""
_SETTLED = 0.03
"""A change of rate smaller than this part is not worth following."""


@dataclass(slots=True)
class LiveSender:
    """Encodes while somebody is there to receive.

    wait : until something arrives, at most so many seconds
    on_frame : is told each frame that is encoded, before it leaves
    """

    session: SenderSession
    frames: PacedFrames
    outlets: Outlets
    clock: Clock
    wait: Callable[[float], None]
    on_frame: Callable[[Frame], None] = lambda frame: None
    counts: Counter[str] = field(default_factory=Counter)
    key_s: float = float("-inf")

    @property
    def now_s(self) -> float:
        """On this end's clock, as arrival times are."""
        return self.clock.now_s()

    def turn(self) -> None:
        """Take in reports, encode the newest frame if there is one, send what is due; waits a tick where there is not."""
        self.outlets.exchange(self.now_s)
        frame = self.frames.take()
        if frame is None:
            self.wait(TICK_S)
        elif not self.outlets.wanted:
            self.counts["unwatched"] += 1
        elif self.outlets.stand_still(self.now_s):
            self.counts["skipped"] += 1
        else:
            self._send(frame)

    def drain(self) -> None:
        """After the last frame: what got lost is repeated for a while."""
        until_s = self.now_s + DRAIN_S
        while self.outlets.wanted and self.now_s < until_s:
            self.outlets.exchange(self.now_s)
            self.wait(TICK_S)

    def hear(self, outlet: Outlet, messages: Sequence[Any]) -> None:
        """What a far end asks for on its control channel; what makes no sense is counted."""
        for message in messages:
            value = message.get("bitrate_bps")
            if isinstance(value, int | float) and LEAST_BPS <= value <= MOST_BPS:
                outlet.limit_bps = float(value)
            else:
                self.counts["damaged control"] += 1

    def figures(self) -> StreamFigures:
        """As of now."""
        counts = self.counts
        return StreamFigures(
            target_bps=self.session.target.rate_bps, frames=counts["frames"], skipped=counts["skipped"],
            dropped_pictures=self.frames.dropped, keys=counts["key"],
            receivers=sum(outlet.link.connected for outlet in self.outlets.all),
        )  # fmt: skip

    def _send(self, frame: Frame) -> None:
        now_s = self.now_s
        self.session.on_feedback(self.outlets.feedback(now_s))
        if self.outlets.joining(now_s) and now_s - self.key_s >= KEY_EVERY_S:
            self.session.refresh_asked = True
        self._follow(self.outlets.rate_bps(now_s))
        self.on_frame(frame)
        if self.session.budget is not None:
            self.session.budget.behind_s = max(0.0, now_s - self.frames.began_s - frame.time_s)
        step = self.session.step(frame)
        self.counts.update(("frames", *step.events))
        if "key" in step.events:
            self.key_s = now_s
        self.outlets.offer(step.units, pack_config(self.session.config, frame.slot), self.now_s)
        self.outlets.exchange(self.now_s)

    def _follow(self, rate_bps: float | None) -> None:
        """Encode for another rate once it differs noticeably."""
        if rate_bps is None:
            return
        if abs(rate_bps - self.session.target.rate_bps) > _SETTLED * self.session.target.rate_bps:
            self.session.retarget(rate_bps)

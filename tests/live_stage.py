"""A live receiver in virtual time, on a link and with a page that remember what they were given."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from benchmarks.live.receiving import LiveReceiver
from benchmarks.live.streams import Studio
from channel.packetise import Packetiser, PacketiserConfig
from common.clock import VirtualClock
from common.config import Config, load_config
from common.datagram import parse_feedback
from common.types import Datagram, Feedback, Frame, UnitKind
from receiver.pipeline import Shown
from receiver.web.messages import Control, PageStats
from tests.live_ends import FakeLink
from tests.small_stream import Recording, open_session, record
from tests.webrtc_pair import until

T = TypeVar("T")
BASE_ONLY = load_config(None, ["receiver.steps=0", "receiver.budget_ms=none"])
FRAME_S = 1 / 25


def record_story() -> Recording:
    """Slots 100 to 149, a key picture at 100 and one at 125."""
    return record(range(100, 150), open_session(), refresh_at=(125,))


@dataclass
class FakePage:
    """What a page is given."""

    pictures: list[Shown] = field(default_factory=list)
    stats: list[PageStats] = field(default_factory=list)
    sources: list[Frame] = field(default_factory=list)
    controls: list[Control] = field(default_factory=list)
    recordings_over: int = 0

    def recording_over(self) -> None:
        self.recordings_over += 1

    def publish(self, shown: Shown | None, stats: PageStats) -> None:
        self.pictures += [] if shown is None else [shown]
        self.stats.append(stats)

    def publish_source(self, frame: Frame) -> None:
        self.sources.append(frame)

    def set_control(self, control: Control) -> None:
        self.controls.append(control)


class Stage:
    """A live receiver on a clock that waiting moves, a link, and a page."""

    def __init__(self, folder: Path, config: Config = BASE_ONLY) -> None:
        self.clock = VirtualClock(50.0)
        self.link = FakeLink(clock=self.clock)
        self.page = FakePage()
        self.warned: list[str] = []
        self.receiver = LiveReceiver(
            config, self.clock, Studio(config, self.clock, self.warned.append), folder, self.warned.append
        )
        self.receiver.page = self.page  # type: ignore[assignment]
        self.receiver.follow(self.link)  # type: ignore[arg-type]

    def send(self, story: Recording, configured: bool = True) -> None:
        """Let a stream begin to arrive now. configured : says what it is"""
        packetiser, begin_s = Packetiser(PacketiserConfig(rate_bps=1e6)), self.clock.now_s()
        for number, step in enumerate(story.steps):
            now_s = begin_s + number * FRAME_S
            units = [unit for unit in step.units if configured or unit.kind is not UnitKind.CONFIG]
            packetiser.push(units, now_s)
            self.link.inbox += [Datagram(data, now_s) for data in packetiser.poll(now_s)]

    def run(self, seconds: float) -> None:
        end_s = self.clock.now_s() + seconds
        while self.clock.now_s() < end_s:
            self.receiver.turn()

    def asked(self, wish: Callable[[], T]) -> T:
        """What comes of a wish that a viewer has while the receiver runs."""
        with ThreadPoolExecutor(1) as page:
            done = page.submit(wish)
            until(lambda: self.receiver.turn() or done.done(), lambda timeout_s: None)
            return done.result()

    def reports(self) -> list[Feedback]:
        return [parse_feedback(data) for data in self.link.sent]

    def slots(self) -> list[int]:
        """Of pictures that were not held."""
        return [shown.frame.slot for shown in self.page.pictures if not shown.concealed]

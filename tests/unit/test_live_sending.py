"""The sending live end in virtual time: one encoder, far ends that come and go, and what they may ask for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from benchmarks.live import send as send_module
from benchmarks.live.outlets import Outlets
from benchmarks.live.send import SendingDesk
from benchmarks.live.sending import DRAIN_S, KEY_EVERY_S, LEAST_BPS, MOST_BPS, LiveSender
from channel.packetise import PacketiserConfig
from channel.webrtc.link import PeerLink
from channel.webrtc.stats import PeerEvent, PeerState
from common.clock import VirtualClock
from common.errors import ChannelError
from common.types import Frame
from common.units import ConfigUnit
from common.wire import is_key, kind_of, parse_unit
from sender.budget import SenderBudget
from tests.live_ends import FakeFarEnd, FakeLink, outlet_to, peer_link
from tests.small_stream import SIDE, frame, open_session

FRAME_S = 1 / 25


@dataclass
class Camera:
    """The newest frame of the built-in clip, as `PacedFrames` gives it."""

    clock: VirtualClock
    next_slot: int = 0
    dropped: int = 0
    began_s: float = 0.0

    def take(self) -> Frame | None:
        slot = int(self.clock.now_s() / FRAME_S + 1e-6)
        if slot < self.next_slot:
            return None
        self.dropped, self.next_slot = self.dropped + slot - self.next_slot, slot + 1
        return frame(slot, SIDE)


@dataclass
class Studio:
    """A live sender whose waiting moves the clock, and far ends that report every 50 ms."""

    clock: VirtualClock = field(default_factory=VirtualClock)
    far_ends: dict[str, FakeFarEnd] = field(default_factory=dict)

    def __post_init__(self) -> None:
        session = open_session(60_000)
        self.sender = LiveSender(session, Camera(self.clock), Outlets(), self.clock, self._wait)  # type: ignore[arg-type]
        self.reported_s = 0.0

    def _wait(self, timeout_s: float) -> None:
        self.clock.advance_to(self.clock.now_s() + timeout_s)

    def join(self, name: str) -> FakeFarEnd:
        link = FakeLink(name)
        self.sender.outlets.all.append(outlet_to(link))
        self.far_ends[name] = FakeFarEnd(link)
        return self.far_ends[name]

    def run_until(self, end_s: float) -> None:
        while self.clock.now_s() < end_s:
            self.sender.turn()
            now_s = self.clock.now_s()
            for far in self.far_ends.values():
                far.take(now_s)
                if now_s - self.reported_s >= 0.05:
                    far.answer(now_s)
            if now_s - self.reported_s >= 0.05:
                self.reported_s = now_s


def test_nothing_is_encoded_while_nobody_is_there() -> None:
    live = Studio()
    live.run_until(0.2)
    live.sender.outlets.all.append(outlet_to(FakeLink("on its way", connected=False)))
    live.run_until(0.4)
    assert live.sender.counts["unwatched"] == 10 and live.sender.counts["frames"] == 0
    assert live.sender.session.timer.summaries() == {}
    live.sender.drain()
    assert live.clock.now_s() < 0.41, "there is nobody to stay for"


def test_who_comes_late_gets_a_key_picture_soon_and_one_serves_all_who_wait() -> None:
    live = Studio()
    first = live.join("first")
    live.run_until(1.0)
    late = [live.join("late"), live.join("as late")]
    live.run_until(1.0 + 2 * FRAME_S)
    assert all(far.decoder.state is not None for far in late)
    again = live.join("shortly after another")
    live.run_until(1.2)
    assert again.decoder.state is None
    live.run_until(1.0 + KEY_EVERY_S + 3 * FRAME_S)
    assert again.decoder.state is not None
    assert live.sender.counts["key"] == 3
    live.run_until(2.0)
    assert live.sender.counts["key"] == 3 and live.sender.figures().keys == 3
    for far in live.far_ends.values():
        units = far.link.units()
        assert isinstance(parse_unit(units[0], 0, 0), ConfigUnit) and is_key(units[1])
        assert far.decoder.state is not None and far.decoder.mismatches == []
        assert far.decoder.state.digest == first.decoder.state.digest  # type: ignore[union-attr]


def test_frames_are_left_out_while_nobody_could_take_them() -> None:
    live = Studio()
    live.join("one"), live.join("other")
    live.run_until(0.4)
    for outlet in live.sender.outlets.all:
        outlet.estimator.queue_s = 1.0
    encoded = live.sender.counts["frames"]
    live.far_ends["one"].answer = live.far_ends["other"].answer = lambda now_s: None  # type: ignore[method-assign]
    live.run_until(0.6)
    assert live.sender.counts["frames"] == encoded and live.sender.counts["skipped"] == 5
    live.sender.outlets.all[1].estimator.queue_s = 0.0
    live.run_until(0.7)
    assert live.sender.counts["frames"] > encoded and live.sender.figures().skipped == 5


def test_the_encoder_is_told_how_late_a_frame_is() -> None:
    told = []

    class Budget(SenderBudget):
        def begin(self, now_s: float) -> None:
            told.append(self.behind_s)
            super().begin(now_s)

    live = Studio()
    live.join("one")
    live.sender.session.budget = Budget(FRAME_S)
    live.run_until(0.2)
    live.sender.frames.began_s = -0.1  # type: ignore[misc]
    live.run_until(0.4)
    assert max(told[:5]) < 0.01 and min(told[-4:]) > 0.09


def test_the_encoder_follows_the_rate_where_it_changes_noticeably(monkeypatch: pytest.MonkeyPatch) -> None:
    live = Studio()
    live.join("one")
    # What the far ends can take; None as nobody has said anything lately.
    for rate_bps, used in (
        (20_000.0, 20_000.0),
        (20_400.0, 20_000.0),
        (30_000.0, 30_000.0),
        (None, 30_000.0),
    ):
        monkeypatch.setattr(Outlets, "rate_bps", lambda self, now_s, rate_bps=rate_bps: rate_bps)
        live.run_until(live.clock.now_s() + 0.2)
        assert live.sender.session.target.rate_bps == live.sender.figures().target_bps == used


def test_anchors_and_wishes_of_the_far_ends_reach_the_encoder() -> None:
    live = Studio()
    far = live.join("one")
    live.run_until(0.6)
    keys = live.sender.counts["key"]
    far.link.report(0.6, refresh=True)
    live.run_until(0.8)
    assert live.sender.counts["key"] == keys + 1
    assert sum(is_key(unit) for unit in far.link.units() if kind_of(unit).name == "FRAME") == keys + 1


def test_each_frame_is_told_before_it_leaves() -> None:
    live = Studio()
    far, told = live.join("one"), []
    live.sender.on_frame = lambda frame: told.append((frame.slot, len(far.link.sent)))
    live.run_until(0.2)
    assert [slot for slot, _ in told] == [0, 1, 2, 3, 4] and told[0][1] == 0
    figures = live.sender.figures()
    assert (figures.frames, figures.dropped_pictures, figures.receivers) == (5, 0, 1)


@pytest.mark.parametrize("value", [LEAST_BPS, 30_000, 45_678.9, MOST_BPS])
def test_a_far_end_may_ask_for_a_rate(value: float) -> None:
    live = Studio()
    live.join("one")
    outlet = live.sender.outlets.all[0]
    live.sender.hear(outlet, [{"bitrate_bps": value}])
    assert outlet.limit_bps == value and not live.sender.counts


@pytest.mark.parametrize(
    "message",
    [
        {"bitrate_bps": LEAST_BPS - 1}, {"bitrate_bps": MOST_BPS + 1}, {"bitrate_bps": float("nan")},
        {"bitrate_bps": float("inf")}, {"bitrate_bps": -1}, {"bitrate_bps": True}, {"bitrate_bps": "30000"},
        {"bitrate_bps": None}, {"bitrate_bps": [30_000]}, {}, {"something": "else"},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_counted(message: dict[str, Any]) -> None:
    live = Studio()
    live.join("one")
    outlet = live.sender.outlets.all[0]
    limit_bps = outlet.limit_bps
    live.sender.hear(outlet, [message, message])
    assert outlet.limit_bps == limit_bps and live.sender.counts["damaged control"] == 2


def test_after_the_last_frame_it_stays_to_repeat_what_got_lost() -> None:
    live = Studio()
    far = live.join("one")
    live.run_until(0.4)
    sent = len(far.link.sent)
    far.link.report(0.41, missing=(sent - 2,))
    live.sender.drain()
    assert len(far.link.sent) == sent + 1
    assert live.clock.now_s() == pytest.approx(0.4 + DRAIN_S, abs=0.02)


# --- who comes and goes -------------------------------------------------------------------------------------------


@dataclass
class Room:
    """Both the room and the transport of a sending desk."""

    came: list[PeerLink] = field(default_factory=list)
    happened: list[PeerEvent] = field(default_factory=list)
    links: list[PeerLink] = field(default_factory=list)
    failure: str | None = None
    welcome: dict[str, Any] | None = None

    def new_links(self) -> list[PeerLink]:
        came, self.came = self.came, []
        self.links += came
        return came

    def events(self) -> list[PeerEvent]:
        happened, self.happened = self.happened, []
        return happened

    def take_failure(self) -> str | None:
        failure, self.failure = self.failure, None
        return failure

    def set_welcome(self, said: dict[str, Any]) -> None:
        self.welcome = said


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said to people."""
    said: list[str] = []
    monkeypatch.setattr(send_module, "say", said.append)
    return said


def desk_in(room: Room) -> SendingDesk:
    return SendingDesk(Studio().sender, 50_000.0, PacketiserConfig(), room, room)  # type: ignore[arg-type]


def attend(desk: SendingDesk) -> None:
    desk.attended_s = float("-inf")
    desk.attend()


def closed(link: PeerLink) -> PeerEvent:
    link.report(PeerState.CLOSED)
    link.close()
    return PeerEvent(link.name, PeerState.CLOSED, "it left")


def test_a_far_end_comes_asks_and_goes(lines: list[str]) -> None:
    link, room = peer_link("anna"), Room()
    desk = desk_in(room)
    room.came, room.happened = [link], [PeerEvent("anna", PeerState.CONNECTED)]
    link.report(PeerState.CONNECTED, connected=True)
    link.deliver_control('{"bitrate_bps": 20000}')
    attend(desk)
    (outlet,) = desk.sender.outlets.all
    assert outlet.limit_bps == 20_000.0 and outlet.link is link
    room.happened = [closed(link)]
    attend(desk)
    assert desk.sender.outlets.all == [] and [gone["name"] for gone in desk.documents()] == ["anna"]
    assert desk.gone[0]["state"] == "closed"
    assert lines == ["receiver anna: connected", "receiver anna: closed (it left)"]


def test_a_far_end_that_was_started_anew_is_not_taken_for_the_old_one(lines: list[str]) -> None:
    """Who comes with the same token has the same name."""
    old, new, room = peer_link("anna"), peer_link("anna"), Room()
    desk = desk_in(room)
    room.came = [old]
    attend(desk)
    room.came, room.happened = [new], [closed(old)]
    attend(desk)
    assert [outlet.link for outlet in desk.sender.outlets.all] == [new]


def test_a_room_that_fails_is_said_once_and_ends_it_when_nobody_is_left(lines: list[str]) -> None:
    link = peer_link("anna")
    room = Room(came=[link], failure="the server has gone")
    desk = desk_in(room)
    attend(desk), attend(desk)
    assert lines == ["nobody new can join any more: the server has gone"]
    room.happened = [closed(link)]
    with pytest.raises(ChannelError, match="nobody new can join any more: the server has gone"):
        attend(desk)


def test_everybody_is_told_about_this_end_and_who_comes_later_as_well() -> None:
    link, room = peer_link("anna"), Room()
    desk = desk_in(room)
    room.came = [link]
    attend(desk)
    desk.introduce({"began_s": 1.0})
    assert room.welcome == {"began_s": 1.0}
    SendingDesk(desk.sender, 1e4, PacketiserConfig()).introduce(
        {"began_s": 1.0}
    )  # by UDP there is nobody to tell

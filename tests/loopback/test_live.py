"""Both live ends in one process over real WebRTC: pictures, who joins late, recordings, rooms, and restarts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks.files import decode_file, open_input, open_sender
from benchmarks.live.links import UdpLink
from benchmarks.live.outlets import Outlet, Outlets
from benchmarks.live.pacing import PacedFrames
from benchmarks.live.receiving import LiveReceiver
from benchmarks.live.room import OwnSignalling, Room
from benchmarks.live.send import send_live
from benchmarks.live.sending import LiveSender
from benchmarks.live.streams import Studio
from channel.packetise import PacketiserConfig
from channel.signalling.urls import parse_room_url
from channel.udp import Address
from channel.webrtc.link import PeerLink
from channel.webrtc.stats import PeerState
from channel.webrtc.transport import WebRtcTransport
from common.clock import SystemClock
from common.config import load_config
from common.errors import ChannelError
from common.logs import stderr_log
from common.types import Datagram, UnitKind
from common.units import ConfigUnit
from common.wire import kind_of, parse_unit
from receiver.pipeline import Shown
from receiver.reassembly import Reassembler
from receiver.web.messages import PageStats
from sender.sources import open_source
from tests.webrtc_pair import Pair, on_loopback, pair, until, until_connected

CONFIG = load_config(
    None,
    ["stream.size=128x128", "stream.bitrate_bps=64k", "semantics.enabled=false", "receiver.steps=0",
     "receiver.budget_ms=none"],
)  # fmt: skip
ANYWHERE = Address("127.0.0.1", 0)


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    on_loopback(monkeypatch)


@dataclass
class Page:
    """Counts what a page is given."""

    shown: int = 0
    stats: PageStats = field(default_factory=PageStats)

    def publish(self, shown: Shown | None, stats: PageStats) -> None:
        self.shown += shown is not None and not shown.concealed
        self.stats = stats


class Viewer:
    """A live receiver on a link, and what it shows."""

    def __init__(self, link: PeerLink, folder: Path) -> None:
        clock = SystemClock()
        self.page, self.warned = Page(), []
        self.receiver = LiveReceiver(
            CONFIG, clock, Studio(CONFIG, clock, self.warned.append), folder, self.warned.append
        )
        self.receiver.page = self.page  # type: ignore[assignment]
        self.receiver.follow(link)


class Show:
    """A sender of the built-in clip and its viewers, all by turns."""

    def __init__(self, stack: ExitStack, ends: Pair) -> None:
        clock = SystemClock()
        source = stack.enter_context(open_input(None, CONFIG, None, loop=True, live=True))
        session = open_sender(source, CONFIG)
        stack.callback(session.close)
        frames = stack.enter_context(closing(PacedFrames(source, clock)))
        self.sender = LiveSender(session, frames.start(), Outlets(), clock, ends.sender.wait)
        self.viewers: list[Viewer] = []

    def join(self, ends: Pair, folder: Path) -> Viewer:
        self.sender.outlets.all.append(Outlet.to(ends.outlet, PacketiserConfig(), 64_000.0))
        self.viewers.append(Viewer(ends.inlet, folder))
        return self.viewers[-1]

    def until(self, condition: Callable[[], object]) -> None:
        until(lambda: self._turn() or condition(), lambda timeout_s: None)

    def asked(self, wish: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
        with ThreadPoolExecutor(1) as page:
            done = page.submit(wish)
            self.until(done.done)
            return done.result()

    def _turn(self) -> None:
        self.sender.turn()
        for viewer in self.viewers:
            viewer.receiver.turn()


def test_pictures_arrive_also_for_who_joins_late_and_can_be_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as stack, pair() as ends:
        show = Show(stack, ends)
        first = show.join(ends, tmp_path / "first")
        show.until(lambda: first.page.shown >= 3)
        assert show.sender.outlets.all[0].rtt_s is not None
        assert first.page.stats.link == "connected" and first.page.stats.width == 128

        with pair() as others:
            late = show.join(others, tmp_path / "late")
            files = show.asked(first.receiver.start_recording)
            show.until(lambda: late.page.shown >= 3)
            recorder = first.receiver.stream and first.receiver.stream.recorder
            assert recorder is not None
            show.until(lambda: recorder.begun)
            goal = first.page.shown + 8
            show.until(lambda: first.page.shown >= goal)
            assert show.asked(first.receiver.stop_recording) == files

        # Who has left has no say any more; the other goes on until the sender leaves.
        goal = first.page.shown + 2
        show.until(lambda: first.page.shown >= goal and not others.outlet.connected)
        assert show.sender.figures().receivers == 1
        ends.sender.close()
        first.receiver.turn()
        until(lambda: first.receiver.turn() or first.receiver.stream is None)
        (told,) = first.receiver.ended
        assert told["pictures"] == first.page.shown >= 13 and first.page.stats.link == "connected"
        assert first.warned == late.warned == []

    decode_file(tmp_path / "first" / files[0], tmp_path / "decoded.mkv", CONFIG)
    decoded = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert decoded["frames"] >= 5 and decoded["levels"]["base"] >= 5
    with open_source(str(tmp_path / "first" / files[1])) as video:
        assert (video.width, video.height) == (128, 128) and len(list(video)) >= 5


def test_a_sender_that_takes_reports_from_its_links_does_not_spin() -> None:
    with pair() as ends:
        ends.inlet.send_poll([b"a report"], 0.0)
        until(lambda: ends.outlet.receive(0.0))
        ends.sender.wait(0.0)
        assert not ends.sender._arrived.is_set(), "the next wait is one"


# --- rooms --------------------------------------------------------------------------------------------------------


@pytest.fixture
def transports() -> Iterator[tuple[WebRtcTransport, WebRtcTransport]]:
    here, there = WebRtcTransport(SystemClock()), WebRtcTransport(SystemClock())
    try:
        yield here, there
    finally:
        there.close()
        here.close()


def test_both_ends_meet_in_a_room(transports: tuple[WebRtcTransport, WebRtcTransport]) -> None:
    here, there = transports
    own = OwnSignalling(here, ANYWHERE, stderr_log())
    receiving = Room(here, parse_room_url(own.url("receiver", "127.0.0.1")), "receiver")
    sending = Room(there, parse_room_url(own.url("sender", "127.0.0.1")), "sender")
    there.set_welcome({"began_s": 1.0})
    links: list[PeerLink] = []
    until(lambda: links.extend(receiving.new_links() + sending.new_links()) or len(links) == 2)
    until_connected(*links)
    (inlet,), (outlet,) = here.links, there.links
    outlet.send_poll([b"a picture"], 0.0)
    arrived: list[Datagram] = []
    until(lambda: arrived.extend(inlet.receive(0.0)) or arrived)
    assert arrived[0].data == b"a picture"
    assert receiving.take_failure() is None and sending.new_links() == []

    # The receiver's program ends, and with it its server.
    here.close()
    until(lambda: outlet.state is PeerState.CLOSED)
    assert receiving.take_failure() is not None and receiving.take_failure() is None


@pytest.mark.parametrize("wrong", ["token", "role", "none"])
def test_a_wrong_token_is_refused(transports: tuple[WebRtcTransport, WebRtcTransport], wrong: str) -> None:
    here, there = transports
    own = OwnSignalling(here, ANYWHERE, stderr_log())
    url = own.url("receiver" if wrong == "role" else "sender", "127.0.0.1")
    server, _, token = url.partition("?token=")
    given = {"token": f"{server}?token={token[:-4]}aaaa", "role": url, "none": server}[wrong]
    with pytest.raises(ChannelError) as refused:
        Room(there, parse_room_url(given), "sender")
    text = str(refused.value)
    assert text and "\n" not in text and token[:20] not in text


def test_signalling_on_a_port_that_is_in_use(transports: tuple[WebRtcTransport, WebRtcTransport]) -> None:
    here, there = transports
    own = OwnSignalling(here, ANYWHERE, stderr_log())
    with pytest.raises(ChannelError, match=r"cannot listen on 127\.0\.0\.1"):
        OwnSignalling(there, own.address, stderr_log())


# --- the program --------------------------------------------------------------------------------------------------


def test_a_sender_that_is_started_again_sends_another_stream(capsys: pytest.CaptureFixture[str]) -> None:
    """The same source both times; a receiver must not wait for the numbers of the first to come again."""
    streams = []
    for _ in range(2):
        with closing(UdpLink(ANYWHERE)) as inlet:
            send_live(None, inlet.local, CONFIG, seconds=0.2)
            told = json.loads(capsys.readouterr().out.splitlines()[-1])
            assert told["stream"]["frames"] > 0 and told["receivers"][0]["sent_bytes"] > 500
            reassembler = Reassembler()
            units = [unit.data for found in inlet.receive(0.0) for unit in reassembler.push(found)]
        config = parse_unit(next(data for data in units if kind_of(data) is UnitKind.CONFIG), 0, 0)
        assert isinstance(config, ConfigUnit)
        streams.append(config.config)
    assert streams[0] != streams[1]

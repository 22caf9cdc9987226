"""The receiving live end in virtual time: streams come and go, viewers change things, disks are full."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from benchmarks.live import receive as receive_module
from benchmarks.live import receiving, streams
from benchmarks.live.receiving import (
    MOST_REPORT_S,
    REPORT_BITS,
    REPORT_S,
    REPORT_SHARE,
    LiveReceiver,
    report_interval_s,
)
from benchmarks.live.sameness import Sameness, SourceWindow, boot_id
from benchmarks.live.streams import Studio
from benchmarks.live.tally import Tally
from channel.packetise import Packetiser, PacketiserConfig
from channel.webrtc.link import PeerEvent, PeerLink, PeerState
from common.clock import VirtualClock
from common.config import Config, load_config
from common.container import read_sgv
from common.datagram import WholeUnit, pack_datagram, parse_feedback
from common.errors import ChannelError, ConfigError, UsageError
from common.types import Datagram, Feedback, Frame, UnitKind
from common.wire import HEADER_BYTES, kind_of, pack_config
from receiver.decoder.synth import LEVELS
from receiver.painter import BasePainter
from receiver.pipeline import Shown
from receiver.web.messages import Control, PageStats
from tests.live_ends import FakeLink, peer_link
from tests.page_pictures import shown
from tests.small_stream import SIDE, STREAM, Recording, open_session, record
from tests.webrtc_pair import until

T = TypeVar("T")

BASE_ONLY = load_config(None, ["receiver.steps=0", "receiver.budget_ms=none"])
FRAME_S = 1 / 25


@pytest.fixture(scope="module")
def story() -> Recording:
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


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


# --- streams ------------------------------------------------------------------------------------------------------


def test_a_stream_opens_with_its_configuration(stage: Stage, story: Recording) -> None:
    stage.send(story, configured=False)
    stage.run(0.4)
    assert stage.receiver.stream is None and stage.page.pictures == [] and stage.receiver.heard_s is not None
    assert stage.link.sent == [], "there is nothing to report on"
    begin = pack_config(STREAM, 125)
    stage.link.inbox.append(Datagram(_sole_datagram(begin.data), stage.clock.now_s()))
    stage.run(3.0)
    assert stage.receiver.stream is not None and stage.receiver.stream.config == STREAM
    assert stage.slots() == list(range(125, 150)), "it begins with the key picture that follows"
    assert stage.page.stats[-1].link == "silent" and stage.page.stats[-1].width == SIDE


def test_reports_say_what_is_held(stage: Stage, story: Recording) -> None:
    stage.send(story)
    stage.run(1.0)
    reports = stage.reports()
    assert 8 <= len(reports) <= 25 and [report.sequence for report in reports] == list(range(len(reports)))
    assert 120 <= reports[-1].last_slot <= 125
    assert sum(report.received_bps for report in reports) > 10_000 * len(reports)
    assert not any(report.refresh for report in reports)


def test_pictures_are_shown_in_time_and_once(stage: Stage, story: Recording) -> None:
    stage.send(story)
    stage.run(2.0)
    assert stage.receiver.stream is not None
    behind = stage.receiver.stream.session.playout.delay_s / FRAME_S
    assert stage.slots() == list(range(100, 100 + len(stage.slots())))
    assert len(stage.slots()) == pytest.approx(50 - behind, abs=1)
    stats = stage.page.stats[-1]
    assert stats.link == "connected" and stats.fps == pytest.approx(25, rel=0.03) and stats.delay_ms is None
    assert stats.late == 0 and dict(stats.layer_bps).keys() >= {"guide"}
    assert stage.receiver.connected_s is None and stage.receiver.met_s == 50.0


def test_another_configuration_begins_another_stream(
    stage: Stage, story: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[int, int]] = []
    open_painter = streams.open_painter
    monkeypatch.setattr(
        streams, "open_painter", lambda config, seed, size: opened.append(size) or open_painter(config, seed, size)
    )  # fmt: skip
    stage.send(story)
    stage.run(1.0)
    first, before = stage.receiver.stream, len(stage.slots())
    stage.link.inbox.clear()
    stage.send(record(range(7, 30), open_session(60_000, replace(STREAM, session=8))))
    stage.run(1.2)
    assert stage.receiver.stream is not None and stage.receiver.stream is not first
    assert stage.slots()[before:] == list(range(7, 30)) and opened == [(SIDE, SIDE)], "the painter is kept"
    (ended,) = stage.receiver.ended
    assert ended["pictures"] == before > 20 and ended["freezes"] == 0
    assert stage.reports()[-1].highest_seq == stage.receiver.reassembler.stats.datagrams > 0

    stage.link.inbox.clear()
    half = replace(STREAM, session=9, width=SIDE // 2, height=SIDE // 2)
    stage.send(record(range(10), open_session(60_000, half)))
    stage.run(0.4)
    assert opened == [(SIDE, SIDE), (SIDE // 2, SIDE // 2)]
    assert stage.page.pictures[-1].frame.picture.width == SIDE // 2 and stage.warned == []


def test_the_same_configuration_again_changes_nothing(stage: Stage, story: Recording) -> None:
    stage.send(story)
    stage.run(0.5)
    first = stage.receiver.stream
    for data in (pack_config(STREAM, 110).data, b"", b"\x00", bytes(30), pack_config(STREAM, 5).data[:-2]):
        stage.link.inbox.append(Datagram(_sole_datagram(data or b"?", 999), stage.clock.now_s()))
    stage.link.inbox.append(Datagram(b"no datagram at all", stage.clock.now_s()))
    stage.run(0.5)
    assert stage.receiver.stream is first and stage.receiver.ended == []


def test_a_new_link_is_a_new_beginning(stage: Stage, story: Recording) -> None:
    stage.send(story)
    stage.run(1.0)
    stage.receiver.sameness = Sameness(1.0)
    other = FakeLink("other", clock=stage.clock)
    stage.receiver.follow(other)  # type: ignore[arg-type]
    assert stage.receiver.stream is None and stage.receiver.sameness is None
    assert len(stage.receiver.ended) == 1 and stage.receiver.reassembler.stats.datagrams == 0
    stage.link, before = other, len(stage.slots())
    stage.run(0.3)
    assert stage.page.stats[-1].link == "waiting" and stage.page.stats[-1].fps == 0.0
    stage.send(story)
    stage.run(1.0)
    assert stage.receiver.stream is not None and stage.slots()[before : before + 9] == list(range(100, 109))


def test_a_silent_link_is_said_to_be_silent(stage: Stage, story: Recording) -> None:
    stage.run(1.0)
    assert stage.receiver.heard_s is None and {stats.link for stats in stage.page.stats} == {"waiting"}
    stage.send(story)
    stage.run(4.0)
    stats = stage.page.stats[-1]
    assert stats.link == "silent" and stats.fps < 25 and stats.rate_bps == 0.0
    assert stage.page.pictures[-1].concealed and stats.concealed > 20, "the last picture is held"
    assert stage.receiver.stream is not None and stage.warned == []
    stage.receiver.close_stream(), stage.receiver.close_stream()
    (document,) = stage.receiver.ended
    assert document["pictures"] == 50 and document["freezes"] == 0, "silence after the end is no freeze"


def test_the_senders_leaving_ends_the_stream_once_all_is_shown(stage: Stage, story: Recording) -> None:
    link = peer_link("sender", stage.clock)
    link.report(PeerState.CONNECTED, connected=True)
    stage.receiver.follow(link)
    stage.link.inbox.clear()
    stage.send(story)
    for datagram in stage.link.inbox:
        stage.clock.advance_to(datagram.arrival_s)
        link.deliver(datagram.data, ends_poll=True)
        stage.receiver.turn()
    assert stage.slots()[-1] < 149
    link.report(PeerState.CLOSED)
    link.close()
    for _ in range(60):
        stage.clock.advance_to(stage.clock.now_s() + 0.01)
        stage.receiver.turn()
    assert stage.slots()[-1] == 149 and stage.receiver.stream is None and stage.receiver.link is link
    assert stage.receiver.ended[0]["pictures"] == 50 and stage.page.stats[-1].link == "waiting"


# --- what the sender says of itself -------------------------------------------------------------------------------


def test_a_sender_on_this_machine_is_measured_against(stage: Stage, story: Recording) -> None:
    if boot_id() is None:
        pytest.skip("this system does not say which boot of it this is")
    said = Sameness.message(50.0 - 100 * FRAME_S, None, SIDE, SIDE)
    stage.link.heard.append({**said, "bitrate_bps": 32_000})
    stage.send(story)
    stage.run(1.5)
    assert stage.receiver.stream is not None
    delay_ms = stage.receiver.stream.session.playout.delay_s * 1e3
    assert stage.page.controls == [Control("bitrate_bps", 32_000.0, 6_000.0, 2_000_000.0)]
    # Captured and arrived in the same instant: what is left is the wait for stragglers.
    assert stage.page.stats[-1].delay_ms == pytest.approx(delay_ms, abs=6) and stage.page.sources == []
    with closing(SourceWindow.create(SIDE, SIDE)) as window:
        for frame in story.frames:
            window.put(frame)
        stage.receiver.sameness = Sameness(0.0, window)
        stage.run(0.2)
        assert [frame.slot for frame in stage.page.sources] == stage.slots()[-len(stage.page.sources) :] != []
        last = stage.page.sources[-1]
        assert (last.picture.y == story.frames[last.slot - 100].picture.y).all()
    stage.receiver.sameness = None
    stage.receiver.close_stream()
    latency = stage.receiver.ended[0]["glass_to_glass_ms"]
    assert isinstance(latency, dict) and latency["p50"] == pytest.approx(delay_ms, abs=6)


@pytest.mark.parametrize("value", [5, 3e6, "x", None, True, float("nan"), [], {}])
def test_a_rate_that_makes_no_sense_is_not_shown(stage: Stage, value: object) -> None:
    stage.link.heard += [{"bitrate_bps": value}, {}, {"boot_id": value, "began_s": value}]
    stage.run(0.02)
    assert stage.page.controls == [] and stage.receiver.sameness is None


# --- what viewers ask for -----------------------------------------------------------------------------------------


def test_controls_are_as_configured(tmp_path: Path) -> None:
    def values(*settings: str) -> dict[str, Any]:
        controls = Stage(tmp_path, load_config(None, list(settings))).receiver.controls()
        return {control.name: (control.value, control.choices) for control in controls}

    found = values("channel.spec=packet:loss=0.1,delay_ms=20", "stream.bitrate_bps=32k", "receiver.steps=2")
    assert found == {
        "bitrate_bps": (32_000, ()), "budget_ms": (42.0, ()), "steps": ("2", ("auto", "0", "1", "2", "4")),
        "loss": (0.1, ()), "delay_ms": (20.0, ()), "rate_kbps": (4e3, ()),
    }  # fmt: skip
    assert values("receiver.steps=0")["steps"] == ("0", ("0",)), (
        "without decoder there is nothing else to choose"
    )
    with pytest.raises(ConfigError, match="packet channel"):
        values("channel.spec=analog:snr_db=7")


class Ladder(BasePainter):
    """All levels, and the same picture at each."""

    levels = LEVELS


def test_changes_reach_the_stream_and_the_next_one(
    story: Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "open_painter", lambda config, seed, size: Ladder())
    stage = Stage(tmp_path, load_config(None, ["receiver.budget_ms=none"]))
    stage.asked(lambda: stage.receiver.change("budget_ms", 20.0))
    stage.send(story)
    stage.run(0.5)
    assert stage.receiver.stream is not None and stage.receiver.stream.session.settings.budget_ms == 20.0
    assert stage.page.stats[-1].budget_ms == 20.0
    for value, number in (("4", 4), ("auto", "auto"), ("0", 0)):
        stage.asked(lambda value=value: stage.receiver.change("steps", value))
        assert stage.receiver.stream.session.settings.steps == stage.receiver.settings.steps == number
    stage.asked(lambda: stage.receiver.change("budget_ms", 60))
    assert stage.receiver.stream.session.settings.budget_ms == 60
    stage.run(0.2)
    assert stage.receiver.config.receiver.budget_ms is None, "the configuration is as it was"


def test_the_link_can_be_made_worse(stage: Stage, story: Recording) -> None:
    stage.send(story)
    stage.run(0.4)
    before = len(stage.slots())
    stage.asked(lambda: stage.receiver.change("loss", 1.0))
    stage.run(0.6)
    assert stage.receiver.impaired.spec.loss == 1.0 and len(stage.slots()) <= before + 5
    assert stage.page.pictures[-1].concealed


def test_the_sender_can_be_asked_for_another_rate(stage: Stage) -> None:
    stage.asked(lambda: stage.receiver.change("bitrate_bps", 20_000.0))
    assert stage.link.said == [{"bitrate_bps": 20_000.0}]
    stage.link.controllable = False  # as with UDP
    with pytest.raises(UsageError, match="cannot be asked"):
        stage.asked(lambda: stage.receiver.change("bitrate_bps", 20_000.0))
    stage.receiver.link = None
    stage.receiver.idle = stage.link  # type: ignore[assignment]
    with pytest.raises(UsageError, match="cannot be asked"):
        stage.asked(lambda: stage.receiver.change("bitrate_bps", 20_000.0))


def test_too_many_wishes_are_refused(stage: Stage) -> None:
    while stage.receiver.orders.put(lambda: None):
        pass
    with pytest.raises(UsageError, match="too much at once"):
        stage.receiver.change("loss", 0.1)
    stage.receiver.turn()
    stage.asked(lambda: stage.receiver.change("loss", 0.1))
    assert stage.receiver.impaired.spec.loss == 0.1


def test_what_took_too_long_is_not_done_later(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "ORDER_S", 0.0)
    with pytest.raises(UsageError, match="busy"):
        stage.receiver.change("loss", 0.1)
    stage.receiver.turn()
    assert stage.receiver.impaired.spec.loss == 0.0


# --- recordings ---------------------------------------------------------------------------------------------------


def test_a_recording_begins_with_the_key_picture_that_it_asks_for(
    stage: Stage, story: Recording, tmp_path: Path
) -> None:
    for wish, message in (
        (stage.receiver.start_recording, "nothing is coming yet"),
        (stage.receiver.stop_recording, "nothing is being recorded"),
    ):
        with pytest.raises(UsageError, match=message):
            stage.asked(wish)
    stage.send(story)
    stage.run(0.9)
    files = stage.asked(stage.receiver.start_recording)
    assert files == ("recording-00007-1.sgv", "recording-00007-1.mp4")
    stage.run(0.1)
    assert sum(report.refresh for report in stage.reports()) == 1
    stage.run(1.2)
    assert stage.asked(stage.receiver.stop_recording) == files
    units = list(read_sgv(tmp_path / files[0]))
    frames = [unit for unit in units if kind_of(unit) is UnitKind.FRAME]
    sent = [u.data for f, s in zip(story.frames, story.steps, strict=True) if f.slot >= 125 for u in s.units]
    assert frames == [data for data in sent if kind_of(data) is UnitKind.FRAME]
    assert (tmp_path / files[1]).stat().st_size > 0
    with pytest.raises(UsageError, match="nothing is being recorded"):
        stage.asked(stage.receiver.stop_recording)
    assert stage.asked(stage.receiver.start_recording)[0] == "recording-00007-2.sgv"
    stage.receiver.close_stream()
    assert len(stage.warned) == 1 and "nothing was recorded" in stage.warned[0]


def test_the_end_of_the_stream_completes_a_recording(stage: Stage, story: Recording, tmp_path: Path) -> None:
    stage.send(story)
    stage.run(0.5)
    files = stage.asked(stage.receiver.start_recording)
    stage.run(1.5)
    stage.receiver.close_stream()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files) and stage.warned == []
    assert stage.page.recordings_over == 1, "the page must not say that it is still recording"


def test_a_full_disk_ends_the_recording_and_nothing_else(
    stage: Stage, story: Recording, tmp_path: Path
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    stage.send(story)
    stage.run(0.5)
    files = stage.asked(stage.receiver.start_recording)
    (tmp_path / f"{files[0]}.partial").symlink_to("/dev/full")
    stage.run(1.0)
    assert stage.receiver.stream is not None and stage.receiver.stream.recorder is None
    before = len(stage.slots())
    stage.run(0.4)
    assert len(stage.slots()) > before
    assert len(stage.warned) == 1 and "No space left" in stage.warned[0] and "\n" not in stage.warned[0]
    assert not (tmp_path / files[0]).exists() and stage.page.recordings_over == 1


def test_a_folder_that_cannot_be_written_is_said_to_who_asked(story: Recording, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    stage = Stage(tmp_path / "file" / "folder")
    stage.send(story)
    stage.run(0.5)
    with pytest.raises(OSError, match="cannot be made"):
        stage.asked(stage.receiver.start_recording)
    before = len(stage.slots())
    stage.run(0.5)
    assert len(stage.slots()) > before and stage.warned == []


# --- figures ------------------------------------------------------------------------------------------------------


def test_reports_take_no_more_of_a_narrow_way_back_than_stated() -> None:
    assert report_interval_s(2e6) == report_interval_s(100e3) == REPORT_S
    assert report_interval_s(0.0) == report_interval_s(4e3) == MOST_REPORT_S
    for rate_bps in (16e3, 24e3, 40e3):
        assert REPORT_BITS / report_interval_s(rate_bps) == pytest.approx(REPORT_SHARE * rate_bps)


def test_where_nobody_can_come_any_more_it_ends_once_the_stream_has(
    stage: Stage, story: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receive_module, "say", lambda text: None)
    room = ClosedRoom()
    stage.send(story)
    stage.run(0.5)
    receive_module._attend_sender(stage.receiver, room, room)  # type: ignore[arg-type]
    stage.receiver.close_stream()
    with pytest.raises(ChannelError, match="nobody can come any more: the server has gone"):
        receive_module._attend_sender(stage.receiver, room, room)  # type: ignore[arg-type]


def test_a_sender_of_another_release_is_named_once(stage: Stage, story: Recording) -> None:
    units = [unit for step in story.steps for unit in step.units if unit.kind is UnitKind.CONFIG]
    for unit in units[:2] * 2:
        data = bytearray(unit.data)
        data[HEADER_BYTES + 2] += 1  # the version, after two bytes of magic
        stage.receiver._configure(bytes(data))
    assert stage.receiver.stream is None and len(stage.warned) == 1
    assert "cannot show this sender: stream version" in stage.warned[0]


class ClosedRoom:
    """A room whose server has gone, and the transport that met nobody."""

    def __init__(self) -> None:
        self.failures = ["the server has gone"]

    def new_links(self) -> list[PeerLink]:
        return []

    def events(self) -> list[PeerEvent]:
        return []

    def take_failure(self) -> str | None:
        return self.failures.pop() if self.failures else None


def test_what_a_stream_has_shown() -> None:
    tally = Tally()
    assert tally.document(FRAME_S, 9.0)["pictures"] == 0 and tally.document(FRAME_S, 9.0)["fps"] == 0.0
    for slot in range(50):
        now_s = 10.0 + slot * FRAME_S + (1.0 if slot >= 30 else 0.0)
        tally.picture(shown(slot, taken_back=0.2 * (slot == 7)), now_s, 100.0 + slot)
        tally.picture(shown(slot, concealed=True), now_s + 0.01, 5.0)
    found = tally.document(FRAME_S, 13.0)
    assert tally.first_s == 10.0
    assert found == {
        "pictures": 50, "watched_s": 3.0, "fps": 16.67, "freezes": 1, "longest_freeze_s": 1.04,
        "freeze_ratio": round(1.04 / 3, 4), "drift_ms": None, "taken_back_pictures": 1,
        "glass_to_glass_ms": {"p50": 124.5, "p95": 146.6, "max": 149.0},
    }  # fmt: skip
    assert tally.document(FRAME_S, 0.0)["watched_s"] == 3.0, "at least until the last picture's time is over"
    assert tally.document(FRAME_S, 20.0)["freezes"] == 2, "a picture that stood until the end stood still"


def test_drift_is_how_much_later_pictures_come_in_the_end() -> None:
    tally = Tally()
    for slot in range(1000):
        tally.picture(shown(0), slot * FRAME_S, 100.0 + 0.02 * slot)
    assert tally.document(FRAME_S, 40.0)["drift_ms"] == pytest.approx(0.02 * 820, abs=0.1)


def _sole_datagram(data: bytes, seq: int = 30_000) -> bytes:
    return pack_datagram(seq, [WholeUnit(data)])

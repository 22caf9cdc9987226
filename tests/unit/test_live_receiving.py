"""The receiving live end in virtual time: streams come and go."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.live import receive as receive_module
from benchmarks.live import streams
from benchmarks.live.receiving import MOST_REPORT_S, REPORT_BITS, REPORT_S, REPORT_SHARE, report_interval_s
from benchmarks.live.sameness import Sameness, SourceWindow, boot_id
from channel.webrtc.link import PeerLink
from channel.webrtc.stats import PeerEvent, PeerState
from common.datagram import WholeUnit, pack_datagram
from common.errors import ChannelError
from common.types import Datagram, UnitKind
from common.wire import HEADER_BYTES, pack_config
from receiver.web.messages import Control
from tests.live_ends import FakeLink, peer_link
from tests.live_stage import FRAME_S, Stage, record_story
from tests.small_stream import SIDE, STREAM, Recording, open_session, record


@pytest.fixture(scope="module")
def story() -> Recording:
    return record_story()


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


def _sole_datagram(data: bytes, seq: int = 30_000) -> bytes:
    return pack_datagram(seq, [WholeUnit(data)])

"""Live links for real: ICE, DTLS and SRTP between two event loops of this process, over 127.0.0.1."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable

import pytest
from aioice.ice import StunProtocol
from aiortc.rtp import is_rtcp

from channel.packetise import Packetiser, PacketiserConfig
from channel.webrtc.settings import WebRtcConfig
from channel.webrtc.stats import PeerState
from channel.webrtc.transport import WebRtcTransport
from common.clock import SystemClock
from common.datagram import pack_feedback, parse_feedback
from common.types import EncodedUnit, Feedback, UnitKind
from receiver.reassembly import Reassembler
from tests.webrtc_pair import (
    MemorySignaller,
    collect,
    conversation,
    on_loopback,
    pair,
    until,
    until_connected,
    until_state,
)

VP8_OFFER = """v=0
o=- 1 1 IN IP4 0.0.0.0
s=-
t=0 0
a=group:BUNDLE 0
m=video 9 UDP/TLS/RTP/SAVPF 97
c=IN IP4 0.0.0.0
a=sendonly
a=mid:0
a=rtcp-mux
a=rtpmap:97 VP8/90000
a=ice-ufrag:abcd
a=ice-pwd:abcdefghijklmnopqrstuv
a=fingerprint:sha-256 00:11
a=setup:actpass
""".replace("\n", "\r\n")


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    on_loopback(monkeypatch)


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Everything but ICE that crosses the network, as it is on the wire."""
    seen: list[bytes] = []
    send = StunProtocol.send_data

    async def spy(self: StunProtocol, data: bytes, addr: tuple[str, int]) -> None:
        seen.append(data)
        await send(self, data, addr)

    monkeypatch.setattr(StunProtocol, "send_data", spy)
    return seen


def _lossy_network(monkeypatch: pytest.MonkeyPatch, lose: Callable[[bytes], bool]) -> None:
    """Lose each RTP or RTCP packet for which `lose` says so; its header can be read on the wire."""
    send = StunProtocol.send_data

    async def lossy(self: StunProtocol, data: bytes, addr: tuple[str, int]) -> None:
        if not (128 <= data[0] < 192 and lose(data)):
            await send(self, data, addr)

    monkeypatch.setattr(StunProtocol, "send_data", lossy)


def _datagrams(count: int) -> list[bytes]:
    """Different ones of 1 to 1200 bytes."""
    rng = random.Random(1)
    return [index.to_bytes(2, "big") + rng.randbytes(rng.choice((1, 80, 1198))) for index in range(count)]


def test_bytes_cross_unchanged_in_order_and_encrypted(wire: list[bytes]) -> None:
    sent = _datagrams(60)
    with pair() as ends:
        for first in range(0, 60, 3):
            ends.sender.send_poll(sent[first : first + 3], first / 30)
        assert [datagram.data for datagram in ends.deliver(60)] == sent
        ends.receiver.send(b"our report", 0.0)
        assert [datagram.data for datagram in ends.reports(1)] == [b"our report"]
        out, back = ends.outlet.stats(), ends.inlet.stats()
    assert (out.packetsSent, out.bytesSent, out.framesSent) == (60, sum(map(len, sent)), 20)
    assert (back.packetsReceived, back.bytesReceived, back.framesReceived) == (60, out.bytesSent, 20)
    assert (out.packetsReceived, back.packetsSent) == (1, 1)
    assert back.path.packetsLost == 0 and back.path.jitter is not None
    assert out.drops == back.drops == ()
    packets = [data for data in wire if 128 <= data[0] < 192]
    assert len(packets) >= 61
    assert not any(data[20:40] in packet for data in sent if len(data) >= 40 for packet in packets)
    assert not any(b"our report" in data for data in wire)


def test_a_lost_packet_is_asked_for_and_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[int] = []

    def every_fifth_once(packet: bytes) -> bool:
        number = int.from_bytes(packet[2:4], "big")
        if is_rtcp(packet) or number % 5 or number in lost:
            return False
        lost.append(number)
        return True

    with pair() as ends:
        ends.sender.send(b"the first must arrive for others to be missed", 0.0)
        ends.deliver(1)
        _lossy_network(monkeypatch, every_fifth_once)
        sent = _datagrams(40)
        for datagram in sent:
            ends.sender.send(datagram, 0.0)
        arrived = {
            datagram.data for datagram in ends.deliver(39)
        }  # the last one may be lost and not missed yet
        assert len(arrived) >= 39 and arrived <= set(sent)
        assert len(lost) == 8 and ends.inlet.stats().nackCount >= 7
        out = ends.outlet.stats()
        assert out.nackCount >= 7 and out.retransmittedPacketsSent >= 7


def test_every_unit_arrives_through_heavy_loss_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """10 % of all packets are lost, reports included, and no NACK is answered: our own reports do it."""
    rng, clock = random.Random(7), SystemClock()
    units = [EncodedUnit(UnitKind.FRAME, slot, slot.to_bytes(4, "big") * 40) for slot in range(60)]
    packetiser = Packetiser(PacketiserConfig(rate_bps=2_000_000))
    reassembler = Reassembler()
    arrived: set[bytes] = set()
    reported_s, waiting = 0.0, list(reversed(units))
    with pair(WebRtcConfig(answer_nacks=False)) as ends:
        _lossy_network(monkeypatch, lambda packet: rng.random() < 0.1)

        def turn() -> bool:
            nonlocal reported_s
            now_s = clock.now_s()
            if waiting:
                packetiser.push([waiting.pop()], now_s)
            ends.sender.send_poll(packetiser.poll(now_s), now_s)
            for datagram in ends.receiver.receive(now_s):
                arrived.update(unit.data for unit in reassembler.push(datagram))
            if now_s - reported_s > 0.05 or reassembler.ask_due(now_s):
                reported_s = now_s
                ends.receiver.send(pack_feedback(reassembler.report(now_s)), now_s)
            for datagram in ends.sender.receive(now_s):
                packetiser.on_feedback(parse_feedback(datagram.data), now_s)
            return len(arrived) == len(units)

        until(turn, ends.receiver.wait)
        assert ends.outlet.stats().retransmittedPacketsSent == 0
    assert arrived == {unit.data for unit in units}
    assert packetiser.stats.retransmission_bytes > 0


def test_a_refresh_request_goes_as_a_pli_too() -> None:
    with pair() as ends:
        assert ends.outlet.take_refresh()  # it has just joined
        report = pack_feedback(Feedback(1, refresh=True))
        for _ in range(5):
            ends.receiver.send(report, 0.0)
        assert [datagram.data for datagram in ends.reports(5)] == [report] * 5
        until(ends.outlet.take_refresh)
        assert ends.inlet.stats().pliCount >= 1  # not one for each report, but time decides how many
        ends.inlet.request_refresh()
        until(ends.outlet.take_refresh)
        ends.receiver.send(pack_feedback(Feedback(2)), 0.0)
        ends.reports(1)
        assert not ends.outlet.take_refresh()


def test_a_late_joiner_is_welcomed_and_a_dead_one_holds_up_nobody() -> None:
    with pair() as ends:
        ends.sender.set_welcome({"type": "stream", "size": [512, 512]})
        dead = ends.sender.offer(conversation()[0], "dead")
        here, there = conversation()
        late = ends.sender.offer(here, "late")
        joined = WebRtcTransport(SystemClock())
        try:
            inlet = joined.answer(there)
            until_connected(late, inlet)
            sent = _datagrams(20)
            for datagram in sent:
                ends.sender.send(datagram, 0.0)
            assert [datagram.data for datagram in ends.deliver(20)] == sent
            assert [datagram.data for datagram in collect(joined, 20)] == sent
            messages: list[object] = []
            until(lambda: messages.extend(inlet.receive_control()) or messages)
            assert messages == [{"type": "stream", "size": [512, 512]}]
            inlet.send_control({"type": "settings", "playout_delay_ms": 100})
            answers: list[object] = []
            until(lambda: answers.extend(late.receive_control()) or answers)
            assert answers == [{"type": "settings", "playout_delay_ms": 100}]
            assert late.take_refresh()
            assert dead.state is PeerState.CONNECTING and dict(dead.stats().drops) == {"not_connected": 20}
            assert set(ends.sender.stats()) == {"receiver", "dead", "late"}
        finally:
            joined.close()
        until_state(late, PeerState.CLOSED)
        ends.sender.drop(dead)
        until_state(dead, PeerState.CLOSED)
        told = ends.sender.events()
        assert [(event.peer, event.state) for event in told if event.state is PeerState.CLOSED] == [
            ("dead", PeerState.CLOSED), ("late", PeerState.CLOSED),
        ]  # fmt: skip
        assert ends.sender.links == (ends.outlet,)
        ends.sender.send(b"still here", 0.0)
        assert ends.deliver(1)[0].data == b"still here"


def test_closing_leaves_nothing_behind() -> None:
    before = set(threading.enumerate())
    with pair() as ends:
        ends.sender.send(b"x", 0.0)
        ends.deliver(1)
        ends.sender.close()
        ends.sender.close()
        until_state(ends.inlet, PeerState.CLOSED)
        assert ends.outlet.state is PeerState.CLOSED
        ends.sender.send(b"y", 0.0)
        ends.sender.drop(ends.outlet)
        assert ends.sender.receive(0.0) == [] and ends.outlet.stats().packetsSent == 1
    assert set(threading.enumerate()) == before


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """While its one entry is set nothing crosses."""
    state: list[bool] = [False]
    send = StunProtocol.send_data

    async def maybe(self: StunProtocol, data: bytes, addr: tuple[str, int]) -> None:
        if not state[0]:
            await send(self, data, addr)

    monkeypatch.setattr(StunProtocol, "send_data", maybe)
    return state


def test_a_connection_that_falls_silent_is_made_anew(silent: list[bool]) -> None:
    with pair(WebRtcConfig(lost_after_s=0.2, renew_after_s=0.6)) as ends:

        def talk() -> None:
            ends.sender.send(b"a", 0.0)
            ends.receiver.send(b"b", 0.0)

        ends.sender.send(b"a", 0.0)
        ends.deliver(1)
        silent[0] = True
        told: list[PeerState] = []
        until(lambda: told.extend(event.state for event in ends.inlet.events()) or PeerState.LOST in told)
        until(lambda: len(ends.signallers[1].seen) > 1)
        silent[0] = False
        until(lambda: talk() or ends.receiver.receive(0.0), ends.receiver.wait)
        assert [message["type"] for message in ends.signallers[1].seen[:2]] == ["offer", "offer"]
        assert ends.signallers[1].seen[-1]["session"] >= 2
        until(lambda: talk() or (ends.inlet.connected and ends.outlet.connected))


def test_the_far_end_may_ask_for_a_new_connection() -> None:
    with pair() as ends:
        ends.outlet.take_refresh()
        ends.signallers[0].put({"type": "renew", "session": 7})  # about another connection: no effect
        ends.signallers[0].put({"type": "nonsense"})
        ends.signallers[0].put({"type": "renew", "session": 1})
        until(ends.outlet.take_refresh)
        until_connected(ends.outlet, ends.inlet)
        ends.sender.send(b"x", 0.0)
        assert ends.deliver(1)[0].data == b"x"
        assert dict(ends.outlet.stats().drops)["bad_signal"] >= 2
        assert [event.state for event in ends.outlet.events()] == [
            PeerState.CONNECTED, PeerState.LOST, PeerState.CONNECTED,
        ]  # fmt: skip


def test_a_connection_goes_on_without_its_signaller() -> None:
    with pair() as ends:
        ends.signallers[0].cut()
        ends.sender.send(b"x", 0.0)
        assert ends.deliver(1)[0].data == b"x"
        ends.receiver.close()
        until_state(ends.outlet, PeerState.CLOSED)
        assert ends.outlet.events()[-1].reason == ""


def test_a_connection_that_falls_silent_without_its_signaller_is_given_up(silent: list[bool]) -> None:
    with pair(WebRtcConfig(lost_after_s=0.1, renew_after_s=0.2)) as ends:
        ends.signallers[0].cut()
        ends.receiver.send(b"b", 0.0)
        ends.reports(1)  # silence counts from the first word
        silent[0] = True
        until_state(ends.outlet, PeerState.CLOSED)
        assert ends.outlet.events()[-1].reason == (
            "the connection to receiver is lost, and nothing is left to agree on a new one with: "
            "nothing heard for 0.2 s"
        )


def _only_end(signaller: MemorySignaller, role: str, config: WebRtcConfig | None = None) -> str:
    """Why the session of an end that has no sensible far end is over."""
    transport = WebRtcTransport(SystemClock(), config)
    try:
        link = transport.offer(signaller) if role == "offer" else transport.answer(signaller)
        until_state(link, PeerState.CLOSED)
        return link.events()[-1].reason
    finally:
        transport.close()


@pytest.mark.parametrize(
    ("sdp", "reason"),
    [
        (VP8_OFFER, "no Semcast stream"),
        ("v=0\r\nm=video x y", "unusable offer"),
        ("rubbish", "Semcast|unusable"),
    ],
)
def test_offers_that_are_none_of_ours(sdp: str, reason: str) -> None:
    here, _ = conversation()
    here.put({"type": "offer", "session": 1, "sdp": sdp})
    assert re.search(reason, _only_end(here, "answer"))


def test_nobody_answers_once() -> None:
    reason = _only_end(conversation()[0], "offer", WebRtcConfig(connect_timeout_s=0.1, max_attempts=1))
    assert reason == "no connection to receiver after 1 attempt: no connection within 0.1 s"


def test_nobody_answers() -> None:
    here, there = conversation()
    reason = _only_end(here, "offer", WebRtcConfig(connect_timeout_s=0.1, max_attempts=2))
    assert reason == "no connection to receiver after 2 attempts: no connection within 0.1 s"
    assert [message["type"] for message in there.seen] == ["offer", "offer", "bye"]


@pytest.mark.parametrize(
    ("role", "reason"), [("offer", "cannot reach receiver"), ("answer", "offers no new connection")]
)
def test_a_signaller_that_fails_at_once(role: str, reason: str) -> None:
    here, _ = conversation()
    here.cut()
    assert reason in _only_end(here, role)

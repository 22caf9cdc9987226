"""One function for each reader of foreign bytes: `one(data)` returns, or has found a fault.

Where a checksum guards a reader, the bytes go in twice: as they are, and with the check that fits. Where a writer is
the reader's inverse, what was read must come back from what is written of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np

from channel.bandwidth import BandwidthEstimator, BandwidthSettings
from channel.packetise import Packetiser, PacketiserConfig
from channel.signalling.admission import forwarded_for
from channel.signalling.limits import Limits, network_of
from channel.signalling.messages import parse_heard, parse_said
from channel.signalling.refusals import Reason, RefusedError
from channel.signalling.rooms import Member, Rooms
from channel.signalling.stats import Stats
from channel.signalling.tokens import Grant, check_token, issue_token
from channel.webrtc.link import PeerLink
from channel.webrtc.payload import pack_report, unpack_report
from channel.webrtc.signaller import parse_signal
from common import motion, semantics
from common.av1_headers import HeaderContext, begin, expand, shrink
from common.clock import VirtualClock
from common.codec_headers import check_av1, check_h264, check_vp9
from common.container import RecordJoiner, read_sgv, read_units
from common.datagram import (
    is_feedback,
    pack_datagram,
    pack_feedback,
    parse_datagram,
    parse_feedback,
    record_bytes,
)
from common.entropy import RangeReader
from common.errors import BitstreamError, SourceError, UsageError
from common.provenance import read_provenance
from common.residual import decode_residual
from common.short_code import ShortReader
from common.softcast_metadata import parse_metadata
from common.state import initial_state
from common.tables import HEADER_TABLES
from common.types import Datagram, EncodedUnit, Feedback, UnitKind
from common.units import AnchorUnit, ConfigUnit, FrameUnit, GroupUnit, NoteUnit, ResidualUnit, Unit
from common.wire import (
    is_disposable,
    is_group,
    is_key,
    kind_of,
    pack_anchor,
    pack_config,
    pack_frame,
    pack_group,
    pack_note,
    pack_residual,
    parse_unit,
    slot_near,
)
from receiver.analog import AnalogDecoder
from receiver.chain import SceneDecoder
from receiver.reassembly import Reassembler
from receiver.web.access import Access
from receiver.web.messages import Control, SetControl, parse_browser_message
from tests.fuzz.sealing import sealed_datagram, sealed_metadata, sealed_unit, split

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "builtin_128.sgv"
SECRET = b"sixteen bytes or more"
UNIX_S = 1_800_000_000.0
FIRST_SLOT = 20
"""Of the golden stream."""

_DIGEST = 0x5EED
_SLOT = 300
_SIDE = 128


def _whole(data: bytes) -> str:
    return data.decode("utf-8", "replace")


# --- units and files ----------------------------------------------------------------------------------------------


def wire(data: bytes) -> None:
    """One unit."""
    for unit in (data, sealed_unit(data, _SLOT, _DIGEST)):
        with suppress(BitstreamError):
            kind_of(unit), is_key(unit), is_disposable(unit), is_group(unit), slot_near(unit, _SLOT)
            parsed = parse_unit(unit, _SLOT, _DIGEST)
            assert parse_unit(_packed(parsed).data, _SLOT, _DIGEST if _bound(parsed) else 0) == parsed


def _bound(unit: Unit) -> bool:
    return isinstance(unit, FrameUnit | ResidualUnit)


def _packed(unit: Unit) -> EncodedUnit:
    match unit:
        case FrameUnit():
            return pack_frame(unit, _DIGEST)
        case AnchorUnit():
            return pack_anchor(unit)
        case ResidualUnit():
            return pack_residual(unit, _DIGEST)
        case GroupUnit():
            return pack_group(unit)
        case ConfigUnit():
            return pack_config(unit.config, unit.slot)
        case NoteUnit():
            return pack_note(unit)


def container(data: bytes) -> None:
    """A `.sgv` file, and the records of one alone."""
    with suppress(BitstreamError, SourceError):
        for unit in read_units(BytesIO(data), Path("fuzzed.sgv")):
            assert len(unit) <= len(data)
    joiner = RecordJoiner()
    for record in split(data):
        with suppress(BitstreamError):
            joiner.push(record)


@cache
def _golden() -> tuple[bytes, ...]:
    """The units up to the frame after the first."""
    units, frames = [], 0
    for unit in read_sgv(GOLDEN):
        frames += kind_of(unit) is UnitKind.FRAME
        units.append(unit)
        if frames == 2:
            return tuple(units)
    raise AssertionError("the golden stream is shorter than that")


def chain(data: bytes) -> None:
    """Units on top of a stream that stands: the closed loop, AV1 decoding, composition."""
    decoder = SceneDecoder()
    for unit in _golden():
        decoder.push(unit, 0.0)
    now_s = 0.0
    for message in split(data)[:8]:
        state = decoder.state
        if state is None:
            break
        slot = state.slot + (not message or message[0] >> 6 != UnitKind.RESIDUAL)
        named = message[:1] + bytes([slot & 0xFF]) + message[2:]
        now_s += 0.04
        decoder.push(sealed_unit(named, slot, state.digest), now_s)
        if decoder.state is not None:
            decoder.compose(decoder.state)
        decoder.stalled_for_s(now_s)


def analog(data: bytes) -> None:
    """Units of an analog link, each with symbols of another seed."""
    decoder = AnalogDecoder()
    decoder.push(_golden()[0], 0.0)
    noise = np.random.default_rng(1)
    for message in split(data)[:4]:
        unit = message
        if len(message) > 10 and is_group(message):
            unit = message[:6] + sealed_metadata(message[6:])
            with suppress(BitstreamError):
                count = min(4096, parse_metadata(unit[6:]).symbols)
                symbols = noise.normal(size=count) + 1j * noise.normal(size=count)
                decoder.hear(symbols, np.full(count, 0.1))
        decoder.push(sealed_unit(unit, FIRST_SLOT, 0), 0.0)
        if decoder.state is not None:
            decoder.compose(decoder.state)


# --- the layers ---------------------------------------------------------------------------------------------------


def layers(data: bytes) -> None:
    """Payloads of residual, motion and labels, and the analog layer's metadata."""
    rows = cols = _SIDE // 16
    with suppress(BitstreamError):
        decode_residual(data, _SIDE, _SIDE)
    with suppress(BitstreamError):
        reader, tables = RangeReader(data), motion.default_tables()
        for _ in range(3):
            update, tables = motion.decode_update(reader, rows, cols, tables)
            motion.apply_update(update, update)
    with suppress(BitstreamError):
        label_map, label_tables = np.zeros((rows, cols), np.uint8), semantics.default_tables()
        for start in range(3):
            label_map, label_tables = semantics.decode_labels(data[start:], label_map, label_tables)
        assert int(label_map.max()) <= 20
    for metadata in (data, sealed_metadata(data)):
        with suppress(BitstreamError):
            parse_metadata(metadata)


@cache
def _context() -> HeaderContext:
    """After the golden stream's key picture."""
    first, key = parse_unit(_golden()[0], 0, 0), _golden()[1]
    assert isinstance(first, ConfigUnit)
    frame = parse_unit(key, FIRST_SLOT, initial_state(first.config).digest)
    assert isinstance(frame, FrameUnit) and frame.guide is not None
    context = begin(frame.guide, FIRST_SLOT)
    assert context is not None
    return context


def av1_headers(data: bytes) -> None:
    """Reduced AV1 headers, and headers to reduce: whatever goes in must come out again."""
    begin(data, 0)
    context: HeaderContext | None = _context()
    with suppress(BitstreamError):
        for slot in range(FIRST_SLOT + 1, FIRST_SLOT + 4):
            _, context = expand(data, context, slot)
    code = shrink(data, _context(), FIRST_SLOT + 1)
    assert expand(code, _context(), FIRST_SLOT + 1)[0] == data


def codec_headers(data: bytes) -> None:
    """What the codecs' own headers announce, before a decoder sees them."""
    for check in (check_av1, check_vp9, check_h264):
        with suppress(BitstreamError):
            check(data, (_SIDE, _SIDE))


def short_code(data: bytes) -> None:
    """Symbols of a header code in any order, raw bits between."""
    if not data:
        return
    names, reader = sorted(HEADER_TABLES), ShortReader(data[1:])
    with suppress(BitstreamError):
        for number in range(data[0]):
            tables = HEADER_TABLES[names[number % len(names)]]
            symbol = reader.read(tables[number % len(tables)])
            assert 0 <= symbol < len(tables[number % len(tables)].frequencies)
            assert 0 <= reader.raw(number % 9) < 1 << number % 9
        assert 0 <= reader.finish() <= len(data) - 1


# --- datagrams and feedback ---------------------------------------------------------------------------------------


def datagram(data: bytes) -> None:
    """One datagram."""
    for received in (data, sealed_datagram(data)):
        with suppress(BitstreamError):
            parsed = parse_datagram(received)
            if (
                sum(map(record_bytes, parsed.records)) <= 1195
            ):  # a unit alone in its datagram needs no record header
                packed = pack_datagram(parsed.seq, parsed.records, parsed.echo)
                assert parse_datagram(packed) == parsed


def reassembly(data: bytes) -> None:
    """A run of datagrams into units and reports, with forward error correction."""
    reassembler, now_s = Reassembler(), 0.0
    for number, message in enumerate(split(data)[:64]):
        now_s += 0.01
        for unit in reassembler.push(Datagram(sealed_datagram(message), now_s)):
            assert len(unit.data) <= 1 << 18
        if number % 8 == 7:
            pack_feedback(reassembler.report(now_s))
    assert reassembler.stats.partial_bytes <= 1 << 20


def feedback(data: bytes) -> None:
    """One report, and its wrapping in RTCP."""
    is_feedback(data)
    report = unpack_report(data)
    if report is not None:
        assert unpack_report(pack_report(report)) == report
    for received in (data, sealed_datagram(data)):
        with suppress(BitstreamError):
            parsed = parse_feedback(received)
            assert parse_feedback(pack_feedback(parsed)) == parsed


def sending(data: bytes) -> None:
    """What reports do to the sending end: retransmission and rate."""
    packetiser = Packetiser(PacketiserConfig(rate_bps=200_000))
    estimator, now_s = BandwidthEstimator(BandwidthSettings()), 0.0
    for slot, message in enumerate(split(data)[:16]):
        now_s += 0.04
        size = 1 + len(message) * 37 % 4000
        kind = UnitKind(slot % 3)
        unit = EncodedUnit(kind, slot, bytes(size), key=slot % 5 == 0, protect=slot % 5 == 0)
        packetiser.push([unit], now_s)
        packetiser.poll(now_s)
        with suppress(BitstreamError):
            report: Feedback = parse_feedback(sealed_datagram(message))
            packetiser.on_feedback(report, now_s)
            rate_bps = estimator.on_report(
                now_s, packetiser.round_trip_s(), report.received_bps, report.loss_ratio,
                packetiser.waiting_s(now_s),
            )  # fmt: skip
            assert 6_000 <= rate_bps <= 2_000_000
            packetiser.set_rate_bps(rate_bps)


# --- messages -----------------------------------------------------------------------------------------------------


@dataclass
class _Ears:
    """Hears and forgets."""

    heard: int = 0

    def deliver(self, text: str) -> None:
        parse_heard(text)
        self.heard += 1

    def close(self, reason: Reason) -> None:
        self.heard += 1


def signalling(data: bytes) -> None:
    """What a member of a room says, and what one hears."""
    for text in (data, _whole(data)):
        with suppress(RefusedError):
            parse_heard(text)
        with suppress(RefusedError):
            said = parse_said(text)
            parse_signal(said.model_dump())
            rooms = Rooms(Limits(), Stats())
            sender, receiver = Member("a", "sender", "s", _Ears()), Member("b", "receiver", "r", _Ears())
            rooms.join("room", sender)
            rooms.join("room", receiver)
            for member in (sender, receiver):
                with suppress(RefusedError):
                    rooms.relay("room", member, said)


@cache
def _signature() -> str:
    return token_of().partition(".")[2]


def token_of() -> str:
    """A sound one."""
    return issue_token(SECRET, Grant(room="room", role="sender", expires_s=int(UNIX_S) + 60, nonce="member"))


def tokens(data: bytes) -> None:
    """Tokens: nothing but the very token that was issued opens a room."""
    text = _whole(data)
    for token in (text, text.partition(".")[0] + "." + _signature()):
        with suppress(RefusedError):
            check_token(SECRET, token, "room", "sender", UNIX_S)
            assert token == token_of()


def page(data: bytes) -> None:
    """What a browser says to the page's server."""
    with suppress(BitstreamError):
        message = parse_browser_message(_whole(data))
        if isinstance(message, SetControl):
            choices = ("auto", "0", "1")
            for control in (
                Control(message.name, 1.0, 0.0, 10.0),
                Control(message.name, "auto", choices=choices),
            ):
                with suppress(UsageError):
                    value = control.checked(message.value)
                    assert value in choices or 0.0 <= float(value) <= 10.0


def provenance(data: bytes) -> None:
    """What a file says of its pictures."""
    for text in (data, _whole(data)):
        found = read_provenance(text)
        assert found is None or read_provenance(found.text()) == found


def access(data: bytes) -> None:
    """Headers and queries: nobody comes in without the token."""
    parts = [part.decode("utf-8", "surrogateescape") for part in split(data)]
    host, origin, token, forwarded = [*parts, "", "", "", ""][:4]
    page_access = Access("0.0.0.0", "the token")
    for asked in (host, "192.0.2.7:8080"):
        for named in (None, origin):
            refused = page_access.refusal(asked, named, token)
            assert refused is not None or token == "the token"
    network_of(forwarded_for([forwarded]))


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def control(data: bytes) -> None:
    """Control messages of a live link, and what comes as its datagrams."""
    link = PeerLink("far end", VirtualClock(), _loop(), 8)
    for message in split(data)[:64]:
        link.deliver_control(_whole(message))
        link.deliver(message, ends_poll=True)
    link.deliver_control(_whole(data))
    for said in link.receive_control():
        parse_signal(said)
    assert len(link.receive(0.0)) <= 8
    link.close()


@dataclass(frozen=True)
class Target:
    """A reader under test.

    one : takes any bytes; raises when it has found a fault
    max_bytes : of an input
    share : of the executions of a run
    """

    one: Callable[[bytes], None]
    max_bytes: int
    share: int = 1000

    @property
    def name(self) -> str:
        return self.one.__name__


TARGETS = {
    target.name: target
    for target in (
        Target(wire, 1024),
        Target(container, 2048),
        Target(datagram, 1200),
        Target(feedback, 256),
        Target(codec_headers, 256),
        Target(short_code, 128),
        Target(signalling, 1024),
        Target(tokens, 512),
        Target(page, 256),
        Target(provenance, 1024),
        Target(access, 256),
        Target(control, 1024, share=300),
        Target(reassembly, 8192, share=100),
        Target(av1_headers, 192, share=50),
        Target(layers, 512, share=50),
        Target(sending, 1024, share=50),
        Target(chain, 2048, share=5),
        Target(analog, 1024, share=5),
    )
}

"""Readers of datagrams and of the reports that come back."""

from __future__ import annotations

from contextlib import suppress

from channel.bandwidth import BandwidthEstimator, BandwidthSettings
from channel.packetise import Packetiser, PacketiserConfig
from channel.webrtc.payload import pack_report, unpack_report
from common.datagram import (
    is_feedback,
    pack_datagram,
    pack_feedback,
    parse_datagram,
    parse_feedback,
    record_bytes,
)
from common.errors import BitstreamError
from common.types import Datagram, EncodedUnit, Feedback, UnitKind
from receiver.reassembly import Reassembler
from tests.fuzz.sealing import sealed_datagram, split


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

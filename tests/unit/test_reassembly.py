"""The receiving end of a packet channel: bad bytes, bounds, news, reports; and a whole lossy link."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from channel.simulated import make_link
from channel.spec import PacketSpec
from common.datagram import FecPiece, Fragment, WholeUnit, pack_datagram, pack_feedback, parse_feedback
from common.errors import BitstreamError
from common.fec import protect
from common.types import Datagram, Feedback
from receiver.reassembly import Reassembler, ReassemblyConfig
from tests.packets import deliver, drops_of, frame_unit, new_packetiser

# --- the receiving end --------------------------------------------------------------------------------------------


def test_bad_bytes_are_counted_and_harmless() -> None:
    reassembler, chooser = Reassembler(), random.Random(1)
    good = pack_datagram(0, [WholeUnit(b"unit")])
    for size in (0, 1, 4, 5, 50, 1200, 5000):
        assert reassembler.push(Datagram(chooser.randbytes(size), 0.0)) == []
    assert reassembler.push(Datagram(good[:-1], 0.0)) == []
    assert drops_of(reassembler) == {"corrupt": 8}
    assert [unit.data for unit in reassembler.push(Datagram(good, 0.5))] == [b"unit"]
    assert reassembler.stats.datagrams == 1


def test_arrival_time_is_that_of_the_completing_datagram() -> None:
    reassembler = Reassembler()
    reassembler.push(Datagram(pack_datagram(0, [Fragment(1, 0, 2, b"ab")]), 1.0))
    (unit,) = reassembler.push(Datagram(pack_datagram(1, [Fragment(1, 1, 2, b"c")]), 2.0))
    assert (unit.data, unit.arrival_s) == (b"abc", 2.0)


def test_incomplete_units_are_bounded_in_number_bytes_and_age() -> None:
    reassembler = Reassembler(ReassemblyConfig(max_partial_units=8, stale_ms=1000))
    for number in range(20):
        reassembler.push(Datagram(pack_datagram(number, [Fragment(number, 0, 2, bytes(1000))]), 0.1))
    assert (reassembler.stats.partial_units, reassembler.stats.partial_bytes) == (8, 8000)
    assert drops_of(reassembler) == {"evicted": 12}
    reassembler.push(Datagram(pack_datagram(20, [WholeUnit(b"x")]), 1.2))
    assert reassembler.stats.partial_units == 0
    assert drops_of(reassembler) == {"evicted": 12, "stale": 8}

    greedy = Reassembler()
    for number in range(3000):
        piece = Fragment(number % 5, number // 5, 4096, bytes(1180))
        greedy.push(Datagram(pack_datagram(number, [piece]), 0.0))
        assert greedy.stats.partial_bytes <= 1024 * 1024
    assert drops_of(greedy)["contradiction"] + drops_of(greedy).get("evicted", 0) > 0


def test_pieces_of_a_finished_unit_start_nothing_new() -> None:
    reassembler = Reassembler()
    symbols = protect(random.Random(1).randbytes(300), 104, 1.0)
    for seq, symbol in enumerate(symbols):
        reassembler.push(Datagram(pack_datagram(seq, [FecPiece(4, symbol)]), seq * 1.0))
    assert (reassembler.stats.units, reassembler.stats.partial_units) == (1, 0)


def test_an_equal_unit_is_news_again_after_a_while() -> None:
    """Configurations repeat on purpose, for those who join late."""
    reassembler = Reassembler()
    arrivals = [len(deliver(reassembler, [pack_datagram(n, [WholeUnit(b"c")])], n * 0.8)) for n in range(3)]
    assert arrivals == [1, 0, 0]
    assert deliver(reassembler, [pack_datagram(3, [WholeUnit(b"c")])], 9.0) == [b"c"]
    assert drops_of(reassembler) == {"repeated_unit": 2}


def test_the_report_says_what_the_decoder_and_the_link_know() -> None:
    reassembler = Reassembler()
    assert reassembler.report(0.0, refresh=True) == Feedback(0, refresh=True)
    for seq in (0, 1, 2, 5, 6, 7, 8, 9):
        reassembler.push(Datagram(pack_datagram(seq, [WholeUnit(bytes([seq]) * 120)]), seq * 0.01))
    report = reassembler.report(0.1, last_slot=4, anchors=(1, 2))
    assert report == Feedback(1, 9, (3, 4), report.loss_ratio, report.received_bps, 4, (1, 2), held_ms=10)
    stats = reassembler.stats
    assert stats.loss_ratio == report.loss_ratio == pytest.approx(0.2)
    assert stats.received_bps == report.received_bps == pytest.approx(80_000)
    assert reassembler.report(0.2).loss_ratio == 0


# --- over a bad link ----------------------------------------------------------------------------------------------


def test_frames_of_a_lossy_link_arrive_almost_all() -> None:
    """5 % loss in bursts, reordering, repeats, damage: with retransmission under 0.5 % of frames are lost."""
    spec = PacketSpec(
        loss=0.05, burst=3, delay_ms=40, jitter_ms=10, reorder=0.02, duplicate=0.02, corrupt=0.01
    )
    forward, backward = make_link(spec, seed=5)
    packetiser = new_packetiser(rate_bps=40_000)
    reassembler = Reassembler()
    got: dict[bytes, float] = {}
    frames = {slot: frame_unit(slot, 90, key=slot == 0, protect=slot == 0) for slot in range(900)}
    for tick in range(6 * 950):
        now_s = tick / 180
        if tick % 6 == 0 and tick // 6 in frames:
            packetiser.push([frames[tick // 6]], now_s)
        for data in packetiser.poll(now_s):
            forward.send(data, now_s)
        for datagram in forward.receive(now_s):
            for unit in reassembler.push(datagram):
                assert unit.data not in got
                got[unit.data] = unit.arrival_s
        if tick % 9 == 0:
            backward.send(pack_feedback(reassembler.report(now_s)), now_s)
        for datagram in backward.receive(now_s):
            with suppress(BitstreamError):
                packetiser.on_feedback(parse_feedback(datagram.data), now_s)
    delays_s = sorted(got[frame.data] - slot / 30 for slot, frame in frames.items() if frame.data in got)
    assert len(delays_s) >= 896
    assert delays_s[450] < 0.055
    assert delays_s[-1] < 1.0
    assert reassembler.stats.rtt_s == pytest.approx(0.09, abs=0.02)
    assert packetiser.stats.retransmission_bytes < 0.15 * packetiser.stats.frame_bytes

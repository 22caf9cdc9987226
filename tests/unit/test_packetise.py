"""Both ends of a packet channel together: packetiser, datagrams, reassembler."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from channel.packetise import Packetiser, PacketiserConfig
from channel.simulated import make_link
from channel.spec import PacketSpec
from common.datagram import (
    FecPiece,
    Fragment,
    WholeUnit,
    pack_datagram,
    pack_feedback,
    parse_datagram,
    parse_feedback,
)
from common.errors import BitstreamError
from common.fec import protect
from common.types import Datagram, EncodedUnit, Feedback, UnitKind
from receiver.reassembly import Reassembler, ReassemblyConfig

_FRAME_S = 1 / 30


def _unit(
    kind: UnitKind,
    slot: int,
    size: int,
    key: bool = False,
    disposable: bool = False,
    protect: bool = False,
) -> EncodedUnit:
    """A unit whose bytes say what it is, so that no two are equal."""
    head = bytes([kind]) + slot.to_bytes(4, "big")
    data = (head + random.Random(slot * 4 + kind).randbytes(size))[:size]
    return EncodedUnit(kind, slot, data, key, disposable, protect)


def _frame(slot: int, size: int = 80, **fields: bool) -> EncodedUnit:
    return _unit(UnitKind.FRAME, slot, size, **fields)


def _anchor(slot: int, size: int = 3000, protect: bool = True) -> EncodedUnit:
    return _unit(UnitKind.ANCHOR, slot, size, protect=protect)


def _packetiser(**settings: float) -> Packetiser:
    return Packetiser(PacketiserConfig.model_validate(settings))


def _deliver(reassembler: Reassembler, datagrams: Sequence[bytes], now_s: float = 0.0) -> list[bytes]:
    return [unit.data for data in datagrams for unit in reassembler.push(Datagram(data, now_s))]


def _drops(part: Packetiser | Reassembler) -> dict[str, int]:
    return dict(part.stats.drops)


def _seqs(datagrams: Sequence[bytes]) -> list[int]:
    return [parse_datagram(data).seq for data in datagrams]


# --- round trips ---------------------------------------------------------------------------------

kinds = st.sampled_from(list(UnitKind))
sizes = st.integers(5, 300) | st.integers(1100, 1300) | st.integers(5, 12_000)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(kinds, sizes, st.booleans(), st.booleans()), min_size=1, max_size=12),
    st.sampled_from([0.0, 0.2, 0.5]),
    st.sampled_from([0.0, 66.0]),
    st.sampled_from([256, 1200]),
    st.randoms(use_true_random=False),
)
def test_everything_arrives_once_whatever_the_order(
    shapes: list[tuple[UnitKind, int, bool, bool]],
    repair_ratio: float,
    hold_ms: float,
    max_datagram_bytes: int,
    shuffler: random.Random,
) -> None:
    packetiser = _packetiser(
        rate_bps=1e8, repair_ratio=repair_ratio, hold_ms=hold_ms, max_datagram_bytes=max_datagram_bytes
    )
    units = [
        _unit(kind, slot, size, key=key, protect=guarded)
        for slot, (kind, size, key, guarded) in enumerate(shapes)
        if kind != UnitKind.ANCHOR or all(later[0] != UnitKind.ANCHOR for later in shapes[slot + 1 :])
    ]
    datagrams = []
    for tick in range(120):
        if tick < 2:
            packetiser.push(units[tick::2], tick * _FRAME_S)
        datagrams += packetiser.poll(tick * _FRAME_S)
    assert all(len(data) <= max_datagram_bytes for data in datagrams)
    assert packetiser.stats.total_bytes == sum(map(len, datagrams))
    assert packetiser.stats.drops == ()

    datagrams += datagrams[::3]
    shuffler.shuffle(datagrams)
    received = _deliver(Reassembler(), datagrams)
    assert sorted(received) == sorted(unit.data for unit in units)


def test_bytes_are_booked_by_kind() -> None:
    packetiser = _packetiser(rate_bps=1e6, repair_ratio=0)
    packetiser.push(
        [
            _unit(UnitKind.CONFIG, 0, 40),
            _frame(0, 100),
            _unit(UnitKind.RESIDUAL, 0, 60),
            _anchor(0, 500, protect=False),
        ],
        0.0,
    )
    packetiser.poll(0.0)
    packetiser.poll(0.1)
    stats = packetiser.stats
    assert (stats.config_bytes, stats.frame_bytes, stats.residual_bytes, stats.anchor_bytes) == (
        40,
        100,
        60,
        500,
    )
    assert stats.header_bytes == stats.total_bytes - 700
    assert (stats.fec_bytes, stats.retransmission_bytes, stats.datagrams) == (0, 0, 2)


def test_a_frame_alone_costs_five_bytes() -> None:
    packetiser = _packetiser()
    packetiser.push([_frame(0, 80)], 0.0)
    assert [len(data) for data in packetiser.poll(0.0)] == [85]


# --- order, company, pace ------------------------------------------------------------------------


def test_configuration_then_frames_then_residual() -> None:
    packetiser = _packetiser()
    residual, config = _unit(UnitKind.RESIDUAL, 3, 50), _unit(UnitKind.CONFIG, 0, 30)
    packetiser.push([residual, _frame(3), config], 0.0)
    assert _deliver(Reassembler(), packetiser.poll(0.0)) == [config.data, _frame(3).data, residual.data]


def test_frames_wait_for_company_but_not_too_long() -> None:
    packetiser = _packetiser(hold_ms=66.0)
    sent = {}
    for slot in range(6):
        packetiser.push([_frame(slot)], slot * _FRAME_S)
        sent[slot] = packetiser.poll(slot * _FRAME_S)
    assert [len(sent[slot]) for slot in range(6)] == [0, 0, 1, 0, 0, 1]
    assert _deliver(Reassembler(), sent[2]) == [_frame(slot).data for slot in (0, 1, 2)]


def test_a_full_datagram_does_not_wait() -> None:
    packetiser = _packetiser(hold_ms=1000)
    packetiser.push([_frame(0, 700)], 0.0)
    assert packetiser.poll(0.0) == []
    packetiser.push([_frame(1, 700)], 0.01)
    assert len(packetiser.poll(0.01)) == 2


def test_anchors_use_what_frames_leave_over() -> None:
    """Frames take 85 of the 100 bytes that 24 kbit/s give a frame slot: anchors get the other 15."""
    packetiser = _packetiser(rate_bps=24_000, repair_ratio=0)
    packetiser.push([_anchor(0, 20_000, protect=False)], 0.0)
    frame_slots = 300
    for slot in range(frame_slots):
        packetiser.push([_frame(slot)], slot * _FRAME_S)
        datagrams = packetiser.poll(slot * _FRAME_S)
        assert _deliver(Reassembler(), datagrams)[0] == _frame(slot).data
        assert len(datagrams) == 1
    stats = packetiser.stats
    assert stats.frame_bytes == frame_slots * 80
    assert stats.total_bytes == pytest.approx(frame_slots * 100, rel=0.02)
    assert stats.anchor_bytes > 0.7 * frame_slots * 15
    assert stats.anchor_backlog_bytes > 0


def test_anchors_alone_keep_the_rate_and_small_pieces() -> None:
    packetiser = _packetiser(rate_bps=24_000)
    packetiser.push([_anchor(0, 20_000)], 0.0)
    sizes = [len(data) for tick in range(1000) for data in packetiser.poll(tick * 0.005)]
    assert sum(sizes) == pytest.approx(5 * 3000, rel=0.1)
    assert max(sizes) <= 2 * 120 + 30


def test_frames_never_wait_for_the_bucket_and_anchors_repay_it() -> None:
    packetiser = _packetiser(rate_bps=24_000, repair_ratio=0)
    packetiser.push([_frame(0, 6000, key=True), _anchor(0)], 0.0)
    assert sum(map(len, packetiser.poll(0.0))) > 6000
    quiet = [tick for tick in range(1, 120) if not packetiser.poll(tick * _FRAME_S)]
    assert quiet[:59] == list(range(1, 60))  # two seconds of debt at 3000 bytes/s
    assert packetiser.stats.anchor_bytes > 0


def test_an_anchor_that_is_given_up_is_neither_sent_nor_sent_again() -> None:
    packetiser = _packetiser(rate_bps=24_000)
    packetiser.push([_anchor(0, 6000, protect=False)], 0.0)
    sent = [seq for slot in range(1, 9) for seq in _seqs(packetiser.poll(slot * _FRAME_S))]
    assert packetiser.stats.anchor_backlog_bytes > 0
    ending = replace(_frame(9), ends_anchors=True)
    packetiser.push([ending, _anchor(9, 100, protect=False)], 9 * _FRAME_S)
    assert _drops(packetiser) == {"anchor_given_up": 1}
    packetiser.on_feedback(Feedback(0, highest_seq=sent[-1], missing=tuple(sent[:-1])), 9 * _FRAME_S)
    received = _deliver(Reassembler(), [d for slot in range(9, 40) for d in packetiser.poll(slot * _FRAME_S)])
    assert sorted(received) == sorted([ending.data, _anchor(9, 100).data])
    packetiser.push([_anchor(3)], 2.0)  # from before: superseded
    assert packetiser.stats.anchor_backlog_bytes == 0


def test_a_newer_anchor_replaces_the_rest_of_an_older_one() -> None:
    packetiser, reassembler = _packetiser(rate_bps=24_000), Reassembler()
    packetiser.push([_anchor(0)], 0.0)
    received = _deliver(reassembler, [d for t in range(20) for d in packetiser.poll(t * _FRAME_S)])
    packetiser.push([_anchor(20)], 20 * _FRAME_S)
    packetiser.push([_anchor(10)], 20 * _FRAME_S)
    received += _deliver(reassembler, [d for t in range(20, 120) for d in packetiser.poll(t * _FRAME_S)])
    assert received == [_anchor(20).data]
    assert _drops(packetiser) == {"anchor_superseded": 2}


def test_residuals_wait_while_far_in_debt_and_are_dropped_when_late() -> None:
    packetiser = _packetiser(rate_bps=24_000, residual_debt_ms=500, residual_max_age_ms=200)
    packetiser.push([_frame(0, 5000), _unit(UnitKind.RESIDUAL, 0, 100)], 0.0)
    packetiser.poll(0.0)
    packetiser.poll(0.19)
    assert (packetiser.stats.residual_bytes, _drops(packetiser)) == (0, {})
    packetiser.poll(0.21)
    assert _drops(packetiser) == {"residual_late": 1}
    packetiser.push([_unit(UnitKind.RESIDUAL, 60, 100)], 2.0)
    packetiser.poll(2.0)
    assert packetiser.stats.residual_bytes == 100


def test_queues_are_bounded_and_drops_are_counted() -> None:
    packetiser = _packetiser(max_queue_bytes=10_000)
    for slot in range(100):
        packetiser.push([_frame(slot, 1000)], 0.0)
    packetiser.push([_unit(UnitKind.ANCHOR, 100, 20_000, protect=True)], 0.0)
    packetiser.push([EncodedUnit(UnitKind.FRAME, 0, b"")], 0.0)
    packetiser.push([EncodedUnit(UnitKind.FRAME, 0, bytes(256 * 1024 + 1))], 0.0)
    assert sum(map(len, packetiser.poll(0.0))) < 11_000
    assert _drops(packetiser) == {"queue_full": 100 - 9 + 1, "unit_size": 2}


def test_the_rate_can_follow_a_new_target() -> None:
    packetiser = _packetiser(rate_bps=24_000)
    packetiser.push([_anchor(0, 60_000)], 0.0)
    packetiser.poll(0.0)
    packetiser.set_rate_bps(240_000)
    sent = sum(len(data) for tick in range(1, 201) for data in packetiser.poll(tick * 0.005))
    assert sent == pytest.approx(30_000, rel=0.1)
    with pytest.raises(ValueError, match="positive"):
        packetiser.set_rate_bps(0)


def test_settings_are_checked() -> None:
    for wrong in ({"rate_bps": 0}, {"max_datagram_bytes": 1201}, {"retransmit_share": 2}, {"unknown": 1}):
        with pytest.raises(ValidationError):
            PacketiserConfig.model_validate(wrong)


# --- protection ----------------------------------------------------------------------------------


def _run_out(packetiser: Packetiser, start_s: float = 0.0, seconds: float = 1.0) -> list[bytes]:
    steps = int(seconds * 30)
    return [data for step in range(steps) for data in packetiser.poll(start_s + step * _FRAME_S)]


def test_a_small_protected_unit_is_sent_twice_at_different_times() -> None:
    packetiser = _packetiser(repair_ratio=0.2)
    config = _unit(UnitKind.CONFIG, 0, 50, protect=True)
    packetiser.push([config], 0.0)
    first = packetiser.poll(0.0)
    packetiser.push([_frame(1)], 0.04)
    second = packetiser.poll(0.04)
    assert _deliver(Reassembler(), first) == [config.data]
    assert _deliver(Reassembler(), second) == [_frame(1).data, config.data]
    assert packetiser.stats.fec_bytes == 50
    assert _run_out(packetiser, 0.1) == []


def test_without_repair_ratio_nothing_is_sent_twice() -> None:
    packetiser = _packetiser(repair_ratio=0)
    packetiser.push([_unit(UnitKind.CONFIG, 0, 50, protect=True), _frame(0, 3000, protect=True)], 0.0)
    assert len(_run_out(packetiser)) == 3
    assert packetiser.stats.fec_bytes == 0


@pytest.mark.parametrize("size", [257, 700, 1195, 5000])
def test_any_one_datagram_of_a_protected_key_frame_may_be_lost(size: int) -> None:
    packetiser = _packetiser(repair_ratio=0.2)
    key = _frame(0, size, key=True, protect=True)
    packetiser.push([key], 0.0)
    datagrams = _run_out(packetiser)
    for lost in range(len(datagrams)):
        assert _deliver(Reassembler(), datagrams[:lost] + datagrams[lost + 1 :]) == [key.data]
    assert packetiser.stats.total_bytes < 1.5 * size + 100


def test_without_loss_a_protected_key_frame_is_complete_at_once() -> None:
    packetiser = _packetiser(repair_ratio=0.2)
    key = _frame(0, 700, key=True, protect=True)
    packetiser.push([key], 0.0)
    assert _deliver(Reassembler(), packetiser.poll(0.0)) == [key.data]


def test_an_anchor_survives_random_loss() -> None:
    packetiser, chooser = _packetiser(repair_ratio=0.3, rate_bps=48_000), random.Random(3)
    packetiser.push([_anchor(0, 6000)], 0.0)
    datagrams = [data for data in _run_out(packetiser, seconds=3) if chooser.random() > 0.12]
    assert _deliver(Reassembler(), datagrams) == [_anchor(0, 6000).data]


# --- retransmission ------------------------------------------------------------------------------


def _lose_one(make: Callable[[int], EncodedUnit], **settings: float) -> tuple[Packetiser, int]:
    """A packetiser that has sent one unit in one datagram, and that datagram's number."""
    packetiser = _packetiser(**settings)
    packetiser.poll(-0.1)
    packetiser.push([make(5)], 0.0)
    (datagram,) = packetiser.poll(0.0)
    return packetiser, parse_datagram(datagram).seq


def test_a_missing_frame_goes_out_again_under_a_new_number() -> None:
    packetiser, seq = _lose_one(_frame)
    packetiser.push([_frame(6)], 0.1)
    packetiser.on_feedback(Feedback(sequence=7, missing=(seq,)), 0.1)
    first, *rest = packetiser.poll(0.1)
    parsed = parse_datagram(first)
    assert (parsed.seq, parsed.echo) == (seq + 1, 7 % 4)
    assert parsed.records[0] == WholeUnit(_frame(5).data)
    assert rest == []
    assert packetiser.stats.retransmission_bytes == 80
    packetiser.on_feedback(Feedback(sequence=8, missing=(seq,)), 0.2)
    assert packetiser.poll(0.2) == []
    packetiser.on_feedback(Feedback(sequence=9, missing=(seq + 1,)), 0.3)
    assert len(packetiser.poll(0.3)) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda slot: _frame(slot, disposable=True),
        lambda slot: _unit(UnitKind.RESIDUAL, slot, 50),
    ],
)
def test_what_nothing_builds_on_is_not_sent_again(make: Callable[[int], EncodedUnit]) -> None:
    packetiser, seq = _lose_one(make)
    packetiser.on_feedback(Feedback(0, missing=(seq,)), 0.1)
    assert packetiser.poll(0.1) == []


def test_what_is_of_no_use_any_more_is_not_sent_again() -> None:
    packetiser, seq = _lose_one(_frame)
    packetiser.on_feedback(Feedback(0, missing=(seq,), last_slot=5), 0.1)
    assert packetiser.poll(0.1) == []

    packetiser, seq = _lose_one(_frame)
    packetiser.push([_frame(6, key=True)], 0.1)
    packetiser.on_feedback(Feedback(0, missing=(seq,)), 0.1)
    packetiser.poll(0.1)
    assert packetiser.stats.retransmission_bytes == 0

    packetiser, seq = _lose_one(lambda slot: _anchor(slot, 100, protect=False), rate_bps=24_000)
    packetiser.push([_anchor(6, 100, protect=False)], 0.1)
    packetiser.on_feedback(Feedback(0, missing=(seq,)), 0.1)
    packetiser.poll(0.1)
    assert packetiser.stats.retransmission_bytes == 0


def test_nothing_is_sent_again_after_the_window() -> None:
    packetiser, seq = _lose_one(_frame)
    packetiser.on_feedback(Feedback(0, missing=(seq,)), 1.01)
    assert packetiser.poll(1.01) == []


def test_a_lost_symbol_first_uses_up_the_repair_symbols() -> None:
    packetiser = _packetiser(repair_ratio=0.2)
    packetiser.push([_frame(0, 900, key=True, protect=True)], 0.0)
    seqs = _seqs(packetiser.poll(0.0))
    assert len(seqs) == 3
    packetiser.on_feedback(Feedback(0, missing=(seqs[0],)), 0.01)
    assert packetiser.poll(0.01) == []
    packetiser.on_feedback(Feedback(1, missing=(seqs[1],)), 0.02)
    (again,) = packetiser.poll(0.02)
    record = parse_datagram(again).records[0]
    assert isinstance(record, FecPiece)
    assert record.symbol.esi == 1


def test_a_run_of_losses_is_sent_again_unasked_and_twice() -> None:
    packetiser = _packetiser(rate_bps=24_000)
    for slot in range(4):
        packetiser.push([_frame(slot)], slot * 0.05)
        packetiser.poll(slot * 0.05)
    packetiser.on_feedback(Feedback(1, highest_seq=0, last_slot=0), 0.1)
    packetiser.on_feedback(Feedback(2, highest_seq=0, last_slot=0), 0.18)
    for now_s in (0.18, 0.2):  # the copies fill one datagram each
        (again,) = packetiser.poll(now_s)
        assert [record for record in parse_datagram(again).records] == [
            WholeUnit(_frame(slot).data) for slot in (1, 2, 3)
        ]
    assert packetiser.poll(0.3) == []


def test_both_copies_may_leave_in_one_late_poll() -> None:
    packetiser = _packetiser(rate_bps=24_000)
    for slot in range(4):
        packetiser.push([_frame(slot)], slot * 0.05)
        packetiser.poll(slot * 0.05)
    for report, now_s in enumerate((0.1, 0.18)):
        packetiser.on_feedback(Feedback(report, highest_seq=0, last_slot=0), now_s)
    (again,) = packetiser.poll(0.25)  # a busy machine polls late
    assert {WholeUnit(_frame(slot).data) for slot in (1, 2, 3)} == set(parse_datagram(again).records)
    packetiser.on_feedback(Feedback(2, highest_seq=4, missing=(4,), last_slot=0), 0.3)
    assert packetiser.poll(5.0) == []


def test_the_loss_of_one_copy_is_no_news() -> None:
    packetiser = _packetiser(rate_bps=24_000)
    for slot in range(2):
        packetiser.push([_frame(slot)], slot * 0.05)
        packetiser.poll(slot * 0.05)
    for report, now_s in enumerate((0.1, 0.2)):
        packetiser.on_feedback(Feedback(report, highest_seq=0, last_slot=0), now_s)
    first, second = _seqs(packetiser.poll(0.2)), _seqs(packetiser.poll(0.22))
    packetiser.on_feedback(Feedback(2, highest_seq=second[0], missing=tuple(first), last_slot=0), 0.3)
    assert packetiser.poll(0.3) == []


def test_during_a_run_of_losses_frames_do_not_wait_for_company() -> None:
    packetiser = _packetiser(rate_bps=24_000, hold_ms=40)
    packetiser.push([_frame(0), _frame(1)], 0.0)
    packetiser.poll(0.04)
    packetiser.push([_frame(2)], 0.05)
    packetiser.poll(0.09)
    for report, now_s in enumerate((0.1, 0.3)):
        packetiser.on_feedback(Feedback(report, highest_seq=0, last_slot=1), now_s)
    packetiser.poll(0.33)
    packetiser.push([_frame(3)], 0.33)
    assert len(packetiser.poll(0.33)) == 1


def test_retransmissions_keep_to_their_share_of_the_rate() -> None:
    packetiser = _packetiser(rate_bps=24_000, retransmit_share=0.3, burst_ms=0)
    wanted: list[int] = []
    for slot in range(300):
        packetiser.push([_frame(slot, 300)], slot * _FRAME_S)
        packetiser.on_feedback(Feedback(slot, missing=tuple(wanted)), slot * _FRAME_S)
        wanted = _seqs(packetiser.poll(slot * _FRAME_S))
    spent = packetiser.stats.retransmission_bytes
    overdraft = 24_000 / 8 * PacketiserConfig().retransmit_overdraft_ms / 1000
    assert 0.8 * 9000 < spent < 1.05 * 9000 + 1200 + overdraft
    assert _drops(packetiser)["resend_late"] > 0


# --- the receiving end ---------------------------------------------------------------------------


def test_bad_bytes_are_counted_and_harmless() -> None:
    reassembler, chooser = Reassembler(), random.Random(1)
    good = pack_datagram(0, [WholeUnit(b"unit")])
    for size in (0, 1, 4, 5, 50, 1200, 5000):
        assert reassembler.push(Datagram(chooser.randbytes(size), 0.0)) == []
    assert reassembler.push(Datagram(good[:-1], 0.0)) == []
    assert _drops(reassembler) == {"corrupt": 8}
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
    assert _drops(reassembler) == {"evicted": 12}
    reassembler.push(Datagram(pack_datagram(20, [WholeUnit(b"x")]), 1.2))
    assert reassembler.stats.partial_units == 0
    assert _drops(reassembler) == {"evicted": 12, "stale": 8}

    greedy = Reassembler()
    for number in range(3000):
        piece = Fragment(number % 5, number // 5, 4096, bytes(1180))
        greedy.push(Datagram(pack_datagram(number, [piece]), 0.0))
        assert greedy.stats.partial_bytes <= 1024 * 1024
    assert _drops(greedy)["contradiction"] + _drops(greedy).get("evicted", 0) > 0


def test_pieces_of_a_finished_unit_start_nothing_new() -> None:
    reassembler = Reassembler()
    symbols = protect(random.Random(1).randbytes(300), 104, 1.0)
    for seq, symbol in enumerate(symbols):
        reassembler.push(Datagram(pack_datagram(seq, [FecPiece(4, symbol)]), seq * 1.0))
    assert (reassembler.stats.units, reassembler.stats.partial_units) == (1, 0)


def test_an_equal_unit_is_news_again_after_a_while() -> None:
    """Configurations repeat on purpose, for those who join late."""
    reassembler = Reassembler()
    arrivals = [len(_deliver(reassembler, [pack_datagram(n, [WholeUnit(b"c")])], n * 0.8)) for n in range(3)]
    assert arrivals == [1, 0, 0]
    assert _deliver(reassembler, [pack_datagram(3, [WholeUnit(b"c")])], 9.0) == [b"c"]
    assert _drops(reassembler) == {"repeated_unit": 2}


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


# --- over a bad link -----------------------------------------------------------------------------


def test_frames_of_a_lossy_link_arrive_almost_all() -> None:
    """5 % loss in bursts, reordering, repeats, damage: with retransmission under 0.5 % of frames are lost."""
    spec = PacketSpec(
        loss=0.05, burst=3, delay_ms=40, jitter_ms=10, reorder=0.02, duplicate=0.02, corrupt=0.01
    )
    forward, backward = make_link(spec, seed=5)
    packetiser = _packetiser(rate_bps=40_000)
    reassembler = Reassembler()
    got: dict[bytes, float] = {}
    frames = {slot: _frame(slot, 90, key=slot == 0, protect=slot == 0) for slot in range(900)}
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

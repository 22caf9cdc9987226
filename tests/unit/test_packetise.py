"""The sending end of a packet channel: round trips, order, pace, company and protection."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from channel.packetise import PacketiserConfig
from common.types import EncodedUnit, Feedback, UnitKind
from receiver.reassembly import Reassembler
from tests.packets import (
    FRAME_S,
    anchor_unit,
    deliver,
    drops_of,
    frame_unit,
    made_unit,
    new_packetiser,
    run_out,
    seqs_of,
)

# --- round trips --------------------------------------------------------------------------------------------------

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
    packetiser = new_packetiser(
        rate_bps=1e8, repair_ratio=repair_ratio, hold_ms=hold_ms, max_datagram_bytes=max_datagram_bytes
    )
    units = [
        made_unit(kind, slot, size, key=key, protect=guarded)
        for slot, (kind, size, key, guarded) in enumerate(shapes)
        if kind != UnitKind.ANCHOR or all(later[0] != UnitKind.ANCHOR for later in shapes[slot + 1 :])
    ]
    datagrams = []
    for tick in range(120):
        if tick < 2:
            packetiser.push(units[tick::2], tick * FRAME_S)
        datagrams += packetiser.poll(tick * FRAME_S)
    assert all(len(data) <= max_datagram_bytes for data in datagrams)
    assert packetiser.stats.total_bytes == sum(map(len, datagrams))
    assert packetiser.stats.drops == ()

    datagrams += datagrams[::3]
    shuffler.shuffle(datagrams)
    received = deliver(Reassembler(), datagrams)
    assert sorted(received) == sorted(unit.data for unit in units)


def test_bytes_are_booked_by_kind() -> None:
    packetiser = new_packetiser(rate_bps=1e6, repair_ratio=0)
    packetiser.push(
        [
            made_unit(UnitKind.CONFIG, 0, 40),
            frame_unit(0, 100),
            made_unit(UnitKind.RESIDUAL, 0, 60),
            anchor_unit(0, 500, protect=False),
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
    packetiser = new_packetiser()
    packetiser.push([frame_unit(0, 80)], 0.0)
    assert [len(data) for data in packetiser.poll(0.0)] == [85]


# --- order, company, pace -----------------------------------------------------------------------------------------


def test_configuration_then_frames_then_residual() -> None:
    packetiser = new_packetiser()
    residual, config = made_unit(UnitKind.RESIDUAL, 3, 50), made_unit(UnitKind.CONFIG, 0, 30)
    packetiser.push([residual, frame_unit(3), config], 0.0)
    assert deliver(Reassembler(), packetiser.poll(0.0)) == [config.data, frame_unit(3).data, residual.data]


def test_frames_wait_for_company_but_not_too_long() -> None:
    packetiser = new_packetiser(hold_ms=66.0)
    sent = {}
    for slot in range(6):
        packetiser.push([frame_unit(slot)], slot * FRAME_S)
        sent[slot] = packetiser.poll(slot * FRAME_S)
    assert [len(sent[slot]) for slot in range(6)] == [0, 0, 1, 0, 0, 1]
    assert deliver(Reassembler(), sent[2]) == [frame_unit(slot).data for slot in (0, 1, 2)]


def test_a_full_datagram_does_not_wait() -> None:
    packetiser = new_packetiser(hold_ms=1000)
    packetiser.push([frame_unit(0, 700)], 0.0)
    assert packetiser.poll(0.0) == []
    packetiser.push([frame_unit(1, 700)], 0.01)
    assert len(packetiser.poll(0.01)) == 2


def test_anchors_use_what_frames_leave_over() -> None:
    """Frames take 85 of the 100 bytes that 24 kbit/s give a frame slot: anchors get the other 15."""
    packetiser = new_packetiser(rate_bps=24_000, repair_ratio=0)
    packetiser.push([anchor_unit(0, 20_000, protect=False)], 0.0)
    frame_slots = 300
    for slot in range(frame_slots):
        packetiser.push([frame_unit(slot)], slot * FRAME_S)
        datagrams = packetiser.poll(slot * FRAME_S)
        assert deliver(Reassembler(), datagrams)[0] == frame_unit(slot).data
        assert len(datagrams) == 1
    stats = packetiser.stats
    assert stats.frame_bytes == frame_slots * 80
    assert stats.total_bytes == pytest.approx(frame_slots * 100, rel=0.02)
    assert stats.anchor_bytes > 0.7 * frame_slots * 15
    assert stats.anchor_backlog_bytes > 0


def test_anchors_alone_keep_the_rate_and_small_pieces() -> None:
    packetiser = new_packetiser(rate_bps=24_000)
    packetiser.push([anchor_unit(0, 20_000)], 0.0)
    sizes = [len(data) for tick in range(1000) for data in packetiser.poll(tick * 0.005)]
    assert sum(sizes) == pytest.approx(5 * 3000, rel=0.1)
    assert max(sizes) <= 2 * 120 + 30


def test_frames_never_wait_for_the_bucket_and_anchors_repay_it() -> None:
    packetiser = new_packetiser(rate_bps=24_000, repair_ratio=0)
    packetiser.push([frame_unit(0, 6000, key=True), anchor_unit(0)], 0.0)
    assert sum(map(len, packetiser.poll(0.0))) > 6000
    quiet = [tick for tick in range(1, 120) if not packetiser.poll(tick * FRAME_S)]
    assert quiet[:59] == list(range(1, 60))  # two seconds of debt at 3000 bytes/s
    assert packetiser.stats.anchor_bytes > 0


def test_an_anchor_that_is_given_up_is_neither_sent_nor_sent_again() -> None:
    packetiser = new_packetiser(rate_bps=24_000)
    packetiser.push([anchor_unit(0, 6000, protect=False)], 0.0)
    sent = [seq for slot in range(1, 9) for seq in seqs_of(packetiser.poll(slot * FRAME_S))]
    assert packetiser.stats.anchor_backlog_bytes > 0
    ending = replace(frame_unit(9), ends_anchors=True)
    packetiser.push([ending, anchor_unit(9, 100, protect=False)], 9 * FRAME_S)
    assert drops_of(packetiser) == {"anchor_given_up": 1}
    packetiser.on_feedback(Feedback(0, highest_seq=sent[-1], missing=tuple(sent[:-1])), 9 * FRAME_S)
    received = deliver(Reassembler(), [d for slot in range(9, 40) for d in packetiser.poll(slot * FRAME_S)])
    assert sorted(received) == sorted([ending.data, anchor_unit(9, 100).data])
    packetiser.push([anchor_unit(3)], 2.0)  # from before: superseded
    assert packetiser.stats.anchor_backlog_bytes == 0


def test_a_newer_anchor_replaces_the_rest_of_an_older_one() -> None:
    packetiser, reassembler = new_packetiser(rate_bps=24_000), Reassembler()
    packetiser.push([anchor_unit(0)], 0.0)
    received = deliver(reassembler, [d for t in range(20) for d in packetiser.poll(t * FRAME_S)])
    packetiser.push([anchor_unit(20)], 20 * FRAME_S)
    packetiser.push([anchor_unit(10)], 20 * FRAME_S)
    received += deliver(reassembler, [d for t in range(20, 120) for d in packetiser.poll(t * FRAME_S)])
    assert received == [anchor_unit(20).data]
    assert drops_of(packetiser) == {"anchor_superseded": 2}


def test_residuals_wait_while_far_in_debt_and_are_dropped_when_late() -> None:
    packetiser = new_packetiser(rate_bps=24_000, residual_debt_ms=500, residual_max_age_ms=200)
    packetiser.push([frame_unit(0, 5000), made_unit(UnitKind.RESIDUAL, 0, 100)], 0.0)
    packetiser.poll(0.0)
    packetiser.poll(0.19)
    assert (packetiser.stats.residual_bytes, drops_of(packetiser)) == (0, {})
    packetiser.poll(0.21)
    assert drops_of(packetiser) == {"residual_late": 1}
    packetiser.push([made_unit(UnitKind.RESIDUAL, 60, 100)], 2.0)
    packetiser.poll(2.0)
    assert packetiser.stats.residual_bytes == 100


def test_queues_are_bounded_and_drops_are_counted() -> None:
    packetiser = new_packetiser(max_queue_bytes=10_000)
    for slot in range(100):
        packetiser.push([frame_unit(slot, 1000)], 0.0)
    packetiser.push([made_unit(UnitKind.ANCHOR, 100, 20_000, protect=True)], 0.0)
    packetiser.push([EncodedUnit(UnitKind.FRAME, 0, b"")], 0.0)
    packetiser.push([EncodedUnit(UnitKind.FRAME, 0, bytes(256 * 1024 + 1))], 0.0)
    assert sum(map(len, packetiser.poll(0.0))) < 11_000
    assert drops_of(packetiser) == {"queue_full": 100 - 9 + 1, "unit_size": 2}


def test_the_rate_can_follow_a_new_target() -> None:
    packetiser = new_packetiser(rate_bps=24_000)
    packetiser.push([anchor_unit(0, 60_000)], 0.0)
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


# --- protection ---------------------------------------------------------------------------------------------------


def test_a_small_protected_unit_is_sent_twice_at_different_times() -> None:
    packetiser = new_packetiser(repair_ratio=0.2)
    config = made_unit(UnitKind.CONFIG, 0, 50, protect=True)
    packetiser.push([config], 0.0)
    first = packetiser.poll(0.0)
    packetiser.push([frame_unit(1)], 0.04)
    second = packetiser.poll(0.04)
    assert deliver(Reassembler(), first) == [config.data]
    assert deliver(Reassembler(), second) == [frame_unit(1).data, config.data]
    assert packetiser.stats.fec_bytes == 50
    assert run_out(packetiser, 0.1) == []


def test_without_repair_ratio_nothing_is_sent_twice() -> None:
    packetiser = new_packetiser(repair_ratio=0)
    packetiser.push([made_unit(UnitKind.CONFIG, 0, 50, protect=True), frame_unit(0, 3000, protect=True)], 0.0)
    assert len(run_out(packetiser)) == 3
    assert packetiser.stats.fec_bytes == 0


@pytest.mark.parametrize("size", [257, 700, 1195, 5000])
def test_any_one_datagram_of_a_protected_key_frame_may_be_lost(size: int) -> None:
    packetiser = new_packetiser(repair_ratio=0.2)
    key = frame_unit(0, size, key=True, protect=True)
    packetiser.push([key], 0.0)
    datagrams = run_out(packetiser)
    for lost in range(len(datagrams)):
        assert deliver(Reassembler(), datagrams[:lost] + datagrams[lost + 1 :]) == [key.data]
    assert packetiser.stats.total_bytes < 1.5 * size + 100


def test_without_loss_a_protected_key_frame_is_complete_at_once() -> None:
    packetiser = new_packetiser(repair_ratio=0.2)
    key = frame_unit(0, 700, key=True, protect=True)
    packetiser.push([key], 0.0)
    assert deliver(Reassembler(), packetiser.poll(0.0)) == [key.data]


def test_an_anchor_survives_random_loss() -> None:
    packetiser, chooser = new_packetiser(repair_ratio=0.3, rate_bps=48_000), random.Random(3)
    packetiser.push([anchor_unit(0, 6000)], 0.0)
    datagrams = [data for data in run_out(packetiser, seconds=3) if chooser.random() > 0.12]
    assert deliver(Reassembler(), datagrams) == [anchor_unit(0, 6000).data]

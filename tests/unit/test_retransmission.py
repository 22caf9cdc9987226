"""What is missing goes out again: what, when, how often, and within its share of the rate."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from channel.packetise import Packetiser, PacketiserConfig
from common.datagram import FecPiece, WholeUnit, parse_datagram
from common.types import EncodedUnit, Feedback, UnitKind
from tests.packets import FRAME_S, anchor_unit, drops_of, frame_unit, made_unit, new_packetiser, seqs_of


def _lose_one(make: Callable[[int], EncodedUnit], **settings: float) -> tuple[Packetiser, int]:
    """A packetiser that has sent one unit in one datagram, and that datagram's number."""
    packetiser = new_packetiser(**settings)
    packetiser.poll(-0.1)
    packetiser.push([make(5)], 0.0)
    (datagram,) = packetiser.poll(0.0)
    return packetiser, parse_datagram(datagram).seq


def test_a_missing_frame_goes_out_again_under_a_new_number() -> None:
    packetiser, seq = _lose_one(frame_unit)
    packetiser.push([frame_unit(6)], 0.1)
    packetiser.on_feedback(Feedback(sequence=7, missing=(seq,)), 0.1)
    first, *rest = packetiser.poll(0.1)
    parsed = parse_datagram(first)
    assert (parsed.seq, parsed.echo) == (seq + 1, 7 % 4)
    assert parsed.records[0] == WholeUnit(frame_unit(5).data)
    assert rest == []
    assert packetiser.stats.retransmission_bytes == 80
    packetiser.on_feedback(Feedback(sequence=8, missing=(seq,)), 0.2)
    assert packetiser.poll(0.2) == []
    packetiser.on_feedback(Feedback(sequence=9, missing=(seq + 1,)), 0.3)
    assert len(packetiser.poll(0.3)) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda slot: frame_unit(slot, disposable=True),
        lambda slot: made_unit(UnitKind.RESIDUAL, slot, 50),
    ],
)
def test_what_nothing_builds_on_is_not_sent_again(make: Callable[[int], EncodedUnit]) -> None:
    packetiser, seq = _lose_one(make)
    packetiser.on_feedback(Feedback(0, missing=(seq,)), 0.1)
    assert packetiser.poll(0.1) == []


def test_what_is_of_no_use_any_more_is_not_sent_again() -> None:
    packetiser, seq = _lose_one(frame_unit)
    packetiser.on_feedback(Feedback(0, missing=(seq,), last_slot=5), 0.1)
    assert packetiser.poll(0.1) == []

    packetiser, seq = _lose_one(frame_unit)
    packetiser.push([frame_unit(6, key=True)], 0.1)
    packetiser.on_feedback(Feedback(0, missing=(seq,)), 0.1)
    packetiser.poll(0.1)
    assert packetiser.stats.retransmission_bytes == 0

    packetiser, seq = _lose_one(lambda slot: anchor_unit(slot, 100, protect=False), rate_bps=24_000)
    packetiser.push([anchor_unit(6, 100, protect=False)], 0.1)
    packetiser.on_feedback(Feedback(0, missing=(seq,)), 0.1)
    packetiser.poll(0.1)
    assert packetiser.stats.retransmission_bytes == 0


def test_nothing_is_sent_again_after_the_window() -> None:
    packetiser, seq = _lose_one(frame_unit)
    packetiser.on_feedback(Feedback(0, missing=(seq,)), 1.01)
    assert packetiser.poll(1.01) == []


def test_a_lost_symbol_first_uses_up_the_repair_symbols() -> None:
    packetiser = new_packetiser(repair_ratio=0.2)
    packetiser.push([frame_unit(0, 900, key=True, protect=True)], 0.0)
    seqs = seqs_of(packetiser.poll(0.0))
    assert len(seqs) == 3
    packetiser.on_feedback(Feedback(0, missing=(seqs[0],)), 0.01)
    assert packetiser.poll(0.01) == []
    packetiser.on_feedback(Feedback(1, missing=(seqs[1],)), 0.02)
    (again,) = packetiser.poll(0.02)
    record = parse_datagram(again).records[0]
    assert isinstance(record, FecPiece)
    assert record.symbol.esi == 1


def test_a_run_of_losses_is_sent_again_unasked_and_twice() -> None:
    packetiser = new_packetiser(rate_bps=24_000)
    for slot in range(4):
        packetiser.push([frame_unit(slot)], slot * 0.05)
        packetiser.poll(slot * 0.05)
    packetiser.on_feedback(Feedback(1, highest_seq=0, last_slot=0), 0.1)
    packetiser.on_feedback(Feedback(2, highest_seq=0, last_slot=0), 0.18)
    for now_s in (0.18, 0.2):  # the copies fill one datagram each
        (again,) = packetiser.poll(now_s)
        assert [record for record in parse_datagram(again).records] == [
            WholeUnit(frame_unit(slot).data) for slot in (1, 2, 3)
        ]
    assert packetiser.poll(0.3) == []


def test_both_copies_may_leave_in_one_late_poll() -> None:
    packetiser = new_packetiser(rate_bps=24_000)
    for slot in range(4):
        packetiser.push([frame_unit(slot)], slot * 0.05)
        packetiser.poll(slot * 0.05)
    for report, now_s in enumerate((0.1, 0.18)):
        packetiser.on_feedback(Feedback(report, highest_seq=0, last_slot=0), now_s)
    (again,) = packetiser.poll(0.25)  # a busy machine polls late
    assert {WholeUnit(frame_unit(slot).data) for slot in (1, 2, 3)} == set(parse_datagram(again).records)
    packetiser.on_feedback(Feedback(2, highest_seq=4, missing=(4,), last_slot=0), 0.3)
    assert packetiser.poll(5.0) == []


def test_the_loss_of_one_copy_is_no_news() -> None:
    packetiser = new_packetiser(rate_bps=24_000)
    for slot in range(2):
        packetiser.push([frame_unit(slot)], slot * 0.05)
        packetiser.poll(slot * 0.05)
    for report, now_s in enumerate((0.1, 0.2)):
        packetiser.on_feedback(Feedback(report, highest_seq=0, last_slot=0), now_s)
    first, second = seqs_of(packetiser.poll(0.2)), seqs_of(packetiser.poll(0.22))
    packetiser.on_feedback(Feedback(2, highest_seq=second[0], missing=tuple(first), last_slot=0), 0.3)
    assert packetiser.poll(0.3) == []


def test_during_a_run_of_losses_frames_do_not_wait_for_company() -> None:
    packetiser = new_packetiser(rate_bps=24_000, hold_ms=40)
    packetiser.push([frame_unit(0), frame_unit(1)], 0.0)
    packetiser.poll(0.04)
    packetiser.push([frame_unit(2)], 0.05)
    packetiser.poll(0.09)
    for report, now_s in enumerate((0.1, 0.3)):
        packetiser.on_feedback(Feedback(report, highest_seq=0, last_slot=1), now_s)
    packetiser.poll(0.33)
    packetiser.push([frame_unit(3)], 0.33)
    assert len(packetiser.poll(0.33)) == 1


def test_retransmissions_keep_to_their_share_of_the_rate() -> None:
    packetiser = new_packetiser(rate_bps=24_000, retransmit_share=0.3, burst_ms=0)
    wanted: list[int] = []
    for slot in range(300):
        packetiser.push([frame_unit(slot, 300)], slot * FRAME_S)
        packetiser.on_feedback(Feedback(slot, missing=tuple(wanted)), slot * FRAME_S)
        wanted = seqs_of(packetiser.poll(slot * FRAME_S))
    spent = packetiser.stats.retransmission_bytes
    overdraft = 24_000 / 8 * PacketiserConfig().retransmit_overdraft_ms / 1000
    assert 0.8 * 9000 < spent < 1.05 * 9000 + 1200 + overdraft
    assert drops_of(packetiser)["resend_late"] > 0

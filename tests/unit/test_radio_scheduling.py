"""What leaves a radio link in an interval: order, schemes, budget, age."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("sionna.phy", reason="needs the extra `radio`: pip install 'semcast[radio]'")

from channel.radio.mcs import MCS_TABLE, Mcs, McsPolicy, block_bytes, longest_block_uses, mcs_named
from channel.radio.scheduler import Scheduler, fit_uses
from channel.radio.segments import HEADER_BYTES, MIN_PIECE_BYTES, Joiner, parse_block
from channel.traffic import Traffic
from tests.numbered import message_of


@given(st.sampled_from(MCS_TABLE), st.integers(1, 5000), st.integers(1, 20_000))
def test_blocks_are_long_enough_and_no_longer_than_there_is_room(
    mcs: Mcs, size_bytes: int, available: int
) -> None:
    uses = fit_uses(mcs, size_bytes, available)
    assert uses <= available
    if uses:
        assert block_bytes(mcs, uses) >= min(size_bytes, HEADER_BYTES + MIN_PIECE_BYTES)
        assert block_bytes(mcs, uses) >= size_bytes or uses == min(available, longest_block_uses(mcs))


sends = st.lists(st.tuples(st.sampled_from(Traffic), st.integers(1, 1200)), min_size=1, max_size=12)


@given(sends, st.integers(1, 1500), st.none() | st.floats(-5, 25), st.sampled_from([None, *MCS_TABLE]))
def test_an_interval_never_exceeds_its_budget_and_everything_leaves_once(
    sent: list[tuple[Traffic, int]], uses: int, report_db: float | None, fixed: Mcs | None
) -> None:
    scheduler = Scheduler(McsPolicy(fixed, 1.0, 2.0), queue_s=1.0)
    for number, (traffic, size) in enumerate(sent):
        scheduler.push(number, message_of(number, max(2, size)), traffic, 0.0)
    joiner, received = Joiner(), []
    for _ in range(12 * 1200 // MIN_PIECE_BYTES):
        blocks = list(scheduler.blocks(uses, report_db))
        assert sum(block.uses for block in blocks) <= uses
        for block in blocks:
            assert len(block.payload) == block_bytes(block.mcs, block.uses)
            received += [data for part in parse_block(block.payload) if (data := joiner.push(part))]
        if not blocks:
            break
    if not scheduler:
        expected = [message_of(number, max(2, size)) for number, (_, size) in enumerate(sent)]
        assert sorted(received) == sorted(expected)
    else:
        assert fit_uses(MCS_TABLE[-1], 1200, uses) == 0


def _order(sent: list[Traffic], uses: int = 480) -> list[int]:
    scheduler = Scheduler(McsPolicy(mcs_named("qpsk-1/2"), 1.0, 2.0), queue_s=1.0)
    for number, traffic in enumerate(sent):
        scheduler.push(number, message_of(number, 50), traffic, 0.0)
    order, joiner = [], Joiner()
    while blocks := list(scheduler.blocks(uses, None)):
        order += [
            int.from_bytes(data[:2], "big")
            for block in blocks
            for part in parse_block(block.payload)
            if (data := joiner.push(part))
        ]
    return order


def test_everything_leaves_in_the_order_in_which_it_came() -> None:
    kinds = [Traffic.ANCHOR, Traffic.RESIDUAL, Traffic.FRAME, Traffic.KEY, Traffic.FRAME, Traffic.CONFIG]
    assert _order(kinds) == [0, 1, 2, 3, 4, 5]


def test_what_is_vital_is_sent_with_a_more_robust_scheme() -> None:
    scheduler = Scheduler(McsPolicy(mcs_named("16qam-1/2"), 1.0, 3.0), queue_s=1.0)
    for number, traffic in enumerate([Traffic.CONFIG, Traffic.FRAME, Traffic.RESIDUAL]):
        scheduler.push(number, message_of(number, 60), traffic, 0.0)
    used = {block.content[0][0].traffic: block.mcs.bits_per_use for block in scheduler.blocks(2000, None)}
    assert used[Traffic.CONFIG] < used[Traffic.FRAME] <= used[Traffic.RESIDUAL]


@pytest.mark.parametrize(("uses", "name"), [(440, "qpsk-1/10"), (439, "qpsk-1/5"), (120, "qpsk-1/2")])
def test_short_intervals_get_the_most_robust_scheme_that_they_hold(uses: int, name: str) -> None:
    scheduler = Scheduler(McsPolicy(None, 1.0, 0.0), queue_s=1.0)
    scheduler.push(0, message_of(0, 60), Traffic.FRAME, 0.0)
    assert [block.mcs.name for block in scheduler.blocks(uses, -10.0)] == [name]


def test_what_an_interval_has_no_room_left_for_waits() -> None:
    """A faster scheme would have room for it, but not get through."""
    scheduler = Scheduler(McsPolicy(None, 1.0, 3.0), queue_s=1.0)
    scheduler.push(0, message_of(0, 8), Traffic.FRAME, 0.0)
    scheduler.push(1, message_of(1, 30), Traffic.ANCHOR, 0.0)
    sent = [[block.mcs.name for block in scheduler.blocks(480, 0.0)] for _ in range(2)]
    assert sent == [["qpsk-1/5"], ["qpsk-1/10"]]


def test_what_waits_too_long_is_dropped_unless_it_has_begun() -> None:
    scheduler = Scheduler(McsPolicy(mcs_named("qpsk-1/2"), 1.0, 0.0), queue_s=0.1)
    for number in range(3):
        scheduler.push(number, message_of(number, 200), Traffic.FRAME, 0.0)
    assert len(list(scheduler.blocks(480, None))) == 1
    assert scheduler.drop_late(0.09) == 0
    assert scheduler.drop_late(0.2) == 2
    assert scheduler

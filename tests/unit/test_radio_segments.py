"""Datagrams are cut into blocks of the radio link and joined again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("sionna.phy", reason="needs the extra `radio`: pip install 'semcast[radio]'")

from channel.radio.segments import HEADER_BYTES, NUMBERS, Joiner, Outgoing, Segment, parse_block
from tests.numbered import message_of


@given(st.lists(st.binary(min_size=1, max_size=1200), min_size=1, max_size=8), st.integers(9, 400))
def test_datagrams_survive_being_cut_and_joined(datagrams: list[bytes], block_size: int) -> None:
    waiting = [Outgoing(NUMBERS - 4 + number, data) for number, data in enumerate(datagrams)]
    joiner, received = Joiner(), []
    while waiting:
        block = b""
        while waiting and (segment := waiting[0].cut(block_size - len(block))):
            block += segment
            waiting = waiting if waiting[0].left_bytes else waiting[1:]
        assert len(block) <= block_size
        for part in parse_block(block.ljust(block_size, b"\0")):
            joined = joiner.push(part)
            received += [] if joined is None else [joined]
    assert received == datagrams


@given(st.integers(100, 1200), st.sets(st.integers(0, 119), min_size=1, max_size=5))
def test_a_datagram_with_a_gap_is_not_delivered(size: int, lost: set[int]) -> None:
    outgoing, joiner, received = Outgoing(7, message_of(7, size)), Joiner(), []
    blocks = []
    while outgoing.left_bytes:
        blocks.append(outgoing.cut(14))
    hit = {number % len(blocks) for number in lost}
    for number, block in enumerate(blocks):
        if number not in hit:
            received += [joined for part in parse_block(block) if (joined := joiner.push(part))]
    assert received == []
    fresh = Outgoing(7 + NUMBERS, b"the next with the same number")
    assert joiner.push(next(parse_block(fresh.cut(100)))) == b"the next with the same number"


@given(st.binary(max_size=300))
def test_any_block_is_parsed(block: bytes) -> None:
    parts = list(parse_block(block))
    assert sum(len(part.data) + HEADER_BYTES for part in parts) <= len(block)
    joiner = Joiner()
    assert all(len(joiner.push(part) or b"") <= 1200 for part in parts)


def test_a_datagram_never_grows_beyond_its_bound() -> None:
    joiner = Joiner()
    for index in range(40):
        assert joiner.push(Segment(1, index % 128, index == 0, False, bytes(100))) is None
    assert all(len(data) <= 1200 for _, data in joiner._open.values())

"""What is sent in a transmission interval: the queue, and the blocks that its head fills.

First come, first served: the packetiser has sorted by urgency, and whoever overtakes leaves a gap in the numbers of the
datagrams, which the receiver takes for a loss. A block is as long as what needs its protection; whatever else is next
in the queue and needs no more fills it up.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile

from channel.radio.mcs import (
    MCS_TABLE,
    PROTECTION,
    Mcs,
    McsPolicy,
    block_bytes,
    block_uses,
    longest_block_uses,
)
from channel.radio.segments import HEADER_BYTES, MIN_PIECE_BYTES, NUMBERS, Outgoing
from channel.traffic import Traffic

MAX_QUEUED = NUMBERS // 4
"""More datagrams on their way at once could not be told apart by their numbers."""

BLOCK_USES = tuple(12 * step << octave for octave in range(10) for step in (4, 5, 6, 7))
"""Lengths of blocks that do not fill an interval: a few, so that few codes have to be built."""


@dataclass(slots=True)
class Queued:
    """A datagram in the queue or partly sent.

    lost : a block with a part of it has failed
    """

    outgoing: Outgoing
    traffic: Traffic
    since_s: float
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """One code block.

    payload : segments and zeros, as long as the block can carry
    content : the datagrams of which it holds a part, and bytes of each with segment headers
    """

    mcs: Mcs
    uses: int
    payload: bytes
    content: tuple[tuple[Queued, int], ...]


def fit_uses(mcs: Mcs, size_bytes: int, available: int) -> int:
    """Channel uses of a block for so many bytes of segments, or of the longest that there is; 0 when none is long
    enough for a part of them."""
    limit = min(available, longest_block_uses(mcs))
    lengths = BLOCK_USES[bisect_left(BLOCK_USES, block_uses(mcs, size_bytes)) :]
    whole = min((limit, *lengths[:1]))
    return whole if block_bytes(mcs, whole) >= min(size_bytes, HEADER_BYTES + MIN_PIECE_BYTES) else 0


def _that_fits(mcs: Mcs, size_bytes: int, interval_uses: int) -> Mcs:
    """This scheme, or the next faster one of which an empty interval holds a block."""
    faster = MCS_TABLE[MCS_TABLE.index(mcs) :]
    return next((each for each in faster if fit_uses(each, size_bytes, interval_uses)), mcs)


class Scheduler:
    """The sending end: datagrams wait here until their bits are in blocks.

    queue_s : what has waited longer before its first bit was sent is dropped
    """

    def __init__(self, policy: McsPolicy, queue_s: float) -> None:
        self._policy = policy
        self._queue_s = queue_s
        self._queue: list[Queued] = []

    def __bool__(self) -> bool:
        return bool(self._queue)

    def push(self, number: int, data: bytes, traffic: Traffic, now_s: float) -> bool:
        """Queue a datagram; False when the queue is full."""
        if len(self._queue) >= MAX_QUEUED:
            return False
        self._queue.append(Queued(Outgoing(number, data), traffic, now_s))
        return True

    def clear(self) -> None:
        """Forget everything."""
        self._queue = []

    def drop_late(self, now_s: float) -> int:
        """Drop what has waited too long; returns how many."""
        kept = [
            entry
            for entry in self._queue
            if entry.outgoing.sent_bytes or now_s - entry.since_s <= self._queue_s + 1e-9
        ]
        dropped, self._queue = len(self._queue) - len(kept), kept
        return dropped

    def blocks(
        self, available: int, report_db: float | None, interval_uses: int | None = None
    ) -> Iterator[Block]:
        """The blocks for what is left of an interval, `available` of its `interval_uses` channel uses (or all)."""
        whole = available if interval_uses is None else interval_uses
        while self._queue and (block := self._next_block(available, whole, report_db)) is not None:
            available -= block.uses
            yield block

    def _next_block(self, available: int, interval_uses: int, report_db: float | None) -> Block | None:
        head = self._queue[0]
        need = PROTECTION[head.traffic]
        company = list(takewhile(lambda entry: PROTECTION[entry.traffic] <= need, self._queue))
        size_bytes = sum(
            entry.outgoing.left_bytes + HEADER_BYTES for entry in company if PROTECTION[entry.traffic] == need
        )
        mcs = self._policy.choose(
            head.traffic, report_db, lambda mcs: max(1, fit_uses(mcs, size_bytes, available))
        )
        mcs = _that_fits(mcs, size_bytes, interval_uses)
        uses = fit_uses(mcs, size_bytes, available)
        return self._fill(mcs, uses, company) if uses else None

    def _fill(self, mcs: Mcs, uses: int, company: list[Queued]) -> Block:
        """Cut segments for a block until it is full."""
        capacity = block_bytes(mcs, uses)
        payload, content = b"", []
        for entry in company:
            segment = entry.outgoing.cut(capacity - len(payload))
            if not segment:
                break
            payload += segment
            content.append((entry, len(segment)))
        self._queue = [entry for entry in self._queue if entry.outgoing.left_bytes]
        return Block(mcs, uses, payload.ljust(capacity, b"\0"), tuple(content))

"""Datagrams in blocks: cut at the sender, joined at the receiver (in the manner of RLC unacknowledged mode).

    block    segment*, then zeros
    segment  4 bytes: number (12 bits) | index mod 128 (7 bits) | first | last | length (11 bits, 0 ends the block)
             then so many bytes of datagram `number`

Nothing says how long a datagram is, or what came before: a gap shows in the index, or in the datagram's own CRC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from common.datagram import MAX_DATAGRAM_BYTES

HEADER_BYTES = 4
NUMBERS = 1 << 12
_INDICES = 1 << 7
MIN_PIECE_BYTES = 4
"""A datagram is not begun or continued for less room than this, unless it ends there."""


@dataclass(slots=True)
class Outgoing:
    """A datagram on its way into blocks."""

    number: int
    data: bytes
    sent_bytes: int = 0
    segments: int = 0

    @property
    def left_bytes(self) -> int:
        """What is not in a block yet."""
        return len(self.data) - self.sent_bytes

    def cut(self, room_bytes: int) -> bytes:
        """The next segment, header included, in at most so many bytes; empty when there is too little room."""
        size = min(self.left_bytes, room_bytes - HEADER_BYTES)
        if size < min(self.left_bytes, MIN_PIECE_BYTES):
            return b""
        piece = self.data[self.sent_bytes : self.sent_bytes + size]
        place = self.number % NUMBERS << 7 | self.segments % _INDICES
        flags = (self.segments == 0) << 1 | (size == self.left_bytes)
        self.sent_bytes += size
        self.segments += 1
        return (place << 13 | flags << 11 | size).to_bytes(HEADER_BYTES, "big") + piece


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment as received."""

    number: int
    index: int
    first: bool
    last: bool
    data: bytes


def parse_block(block: bytes) -> Iterator[Segment]:
    """The segments of a block, up to the first that cannot be one."""
    at = 0
    while at + HEADER_BYTES < len(block):
        head = int.from_bytes(block[at : at + HEADER_BYTES], "big")
        size, start = head & 0x7FF, at + HEADER_BYTES
        if size == 0 or start + size > len(block):
            return
        at = start + size
        index, first, last = head >> 13 & 0x7F, bool(head >> 12 & 1), bool(head >> 11 & 1)
        yield Segment(head >> 20, index, first, last, block[start:at])


class Joiner:
    """Puts datagrams together again; holds unfinished ones for at most half of all numbers, the newest."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[int, bytes]] = {}

    def push(self, segment: Segment) -> bytes | None:
        """The datagram that this segment completes. One with a gap is forgotten."""
        count, data = self._open.pop(segment.number, (0, b""))
        if segment.first:
            count, data = 0, b""  # what is held is of an earlier datagram
        if segment.index != count % _INDICES or segment.first != (count == 0):
            return None
        data += segment.data
        if segment.last or len(data) > MAX_DATAGRAM_BYTES:
            return data if len(data) <= MAX_DATAGRAM_BYTES else None
        self._open[segment.number] = (count + 1, data)
        if len(self._open) > NUMBERS // 2:
            del self._open[next(iter(self._open))]
        return None

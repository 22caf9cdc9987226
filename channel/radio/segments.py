"""Datagrams in blocks: cut at the sender, joined at the receiver (in the manner of RLC unacknowledged mode).

    block    segment*, then zeros
    segment  3 bytes: number (8 bits) | index mod 16 (4 bits) | last (1 bit) | length (11 bits, 0 ends the block)
             then so many bytes of datagram `number`
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from common.datagram import MAX_DATAGRAM_BYTES

HEADER_BYTES = 3
NUMBERS = 256
_INDICES = 16
_MIN_PIECE_BYTES = 4
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
        if size < min(self.left_bytes, _MIN_PIECE_BYTES):
            return b""
        piece = self.data[self.sent_bytes : self.sent_bytes + size]
        head = self.number % NUMBERS << 16 | self.segments % _INDICES << 12 | size
        self.sent_bytes += size
        self.segments += 1
        return (head | (self.left_bytes == 0) << 11).to_bytes(HEADER_BYTES, "big") + piece


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment as received."""

    number: int
    index: int
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
        yield Segment(head >> 16, head >> 12 & 0xF, bool(head >> 11 & 1), block[start : start + size])
        at = start + size


class Joiner:
    """Puts datagrams together again; holds at most one unfinished datagram for each of the 256 numbers."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[int, bytes]] = {}

    def push(self, segment: Segment) -> bytes | None:
        """The datagram that this segment completes. One with a gap is forgotten."""
        count, data = self._open.pop(segment.number, (0, b""))
        if segment.index != count % _INDICES:
            count, data = 0, b""  # what is held belongs to an earlier datagram, or this one lost its beginning
            if segment.index != 0:
                return None
        data += segment.data
        if len(data) > MAX_DATAGRAM_BYTES:
            return None
        if segment.last:
            return data
        self._open[segment.number] = (count + 1, data)
        return None

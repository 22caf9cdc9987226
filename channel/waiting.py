"""Pieces of units that wait to be put into datagrams, bounded in bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from channel.pieces import Piece


@dataclass(frozen=True, slots=True)
class Waiting:
    """A piece in a queue, since when (or, for `later` and `resend`, from when on).

    echo : number of the report that asked for it
    """

    since_s: float
    piece: Piece
    echo: int | None = None


class PieceQueue:
    """Pieces in order, bounded in bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.items: deque[Waiting] = deque()
        self.size_bytes = 0

    def __bool__(self) -> bool:
        return bool(self.items)

    def offer(self, pieces: Iterable[tuple[float, Piece]], echo: int | None = None) -> bool:
        """Add all of `pieces` (time, piece), or none when they do not fit (False)."""
        added = [Waiting(since_s, piece, echo) for since_s, piece in pieces]
        added_bytes = sum(entry.piece.wire_bytes for entry in added)
        if self.size_bytes + added_bytes > self._max_bytes:
            return False
        self.items.extend(added)
        self.size_bytes += added_bytes
        return True

    def pop(self) -> Waiting:
        """The oldest one, taken out."""
        entry = self.items.popleft()
        self.size_bytes -= entry.piece.wire_bytes
        return entry

    def keep(self, wanted: Iterable[Waiting]) -> None:
        """Replace the contents by `wanted`."""
        self.items = deque(wanted)
        self.size_bytes = sum(entry.piece.wire_bytes for entry in self.items)

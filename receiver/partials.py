"""Units on their way to being complete, and a short memory of those that were."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from common.datagram import MAX_UNIT_BYTES, FecPiece, Fragment
from common.errors import BitstreamError
from common.fec import FecBlock

PieceKey = tuple[int, ...]
"""What ties the pieces of a unit together: its id, and the sizes on which all its pieces must agree."""


def piece_key(piece: Fragment | FecPiece) -> PieceKey:
    """The key of the unit that `piece` belongs to."""
    if isinstance(piece, Fragment):
        return piece.unit_id, piece.count
    return piece.block_id, piece.symbol.transfer_bytes, len(piece.symbol.data)


class PartialFragments:
    """The fragments of one unit, in any order."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._chunks: dict[int, bytes] = {}
        self.held_bytes = 0

    def add(self, fragment: Fragment) -> bytes | None:
        """The unit, when this fragment completes it. Raises BitstreamError when the unit grows too large."""
        if fragment.index in self._chunks:
            return None
        self._chunks[fragment.index] = fragment.data
        self.held_bytes += len(fragment.data)
        if self.held_bytes > MAX_UNIT_BYTES:
            raise BitstreamError(f"fragments add up to more than {MAX_UNIT_BYTES} bytes")
        if len(self._chunks) < self._count:
            return None
        return b"".join(self._chunks[index] for index in range(self._count))


class PartialUnit:
    """Pieces of one unit, and when it was last fed.

    first : any piece of it; says what kind of pieces it has
    """

    def __init__(self, first: Fragment | FecPiece) -> None:
        self.fed_s = 0.0
        self._parts: PartialFragments | FecBlock = (
            PartialFragments(first.count)
            if isinstance(first, Fragment)
            else FecBlock(first.symbol.transfer_bytes, len(first.symbol.data))
        )

    @property
    def held_bytes(self) -> int:
        """Bytes of pieces held."""
        return self._parts.held_bytes

    def add(self, piece: Fragment | FecPiece, now_s: float) -> bytes | None:
        """The unit, when `piece` completes it. Raises BitstreamError when it contradicts the others."""
        self.fed_s = now_s
        if isinstance(piece, Fragment) and isinstance(self._parts, PartialFragments):
            return self._parts.add(piece)
        if isinstance(piece, FecPiece) and isinstance(self._parts, FecBlock):
            return self._parts.add(piece.symbol)
        raise BitstreamError("fragments and FEC symbols of one unit")


class RecentlySeen:
    """Remembers keys for `window_s` after they were last met, at most `capacity` of them."""

    def __init__(self, window_s: float, capacity: int = 512) -> None:
        self._window_s = window_s
        self._capacity = capacity
        self._met_s: OrderedDict[Hashable, float] = OrderedDict()

    def knows(self, key: Hashable, now_s: float) -> bool:
        """Whether `key` was met lately; meeting it again renews the memory."""
        met_s = self._met_s.get(key)
        if met_s is None or now_s - met_s > self._window_s:
            return False
        self.add(key, now_s)
        return True

    def add(self, key: Hashable, now_s: float) -> None:
        """`key` was met now."""
        self._met_s[key] = now_s
        self._met_s.move_to_end(key)
        if len(self._met_s) > self._capacity:
            self._met_s.popitem(last=False)

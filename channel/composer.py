"""Fills the datagrams of one poll."""

from __future__ import annotations

from collections import Counter

from channel.pieces import Piece, Protection
from channel.traffic import Traffic
from common.datagram import HEADER_BYTES
from common.types import UnitKind


class Builder:
    """One datagram under construction."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.resent: list[Piece] = []
        self.echo: int | None = None
        self.size_bytes = HEADER_BYTES
        self._symbols: Counter[Protection] = Counter()

    def fits(self, piece: Piece, max_bytes: int) -> bool:
        """Room for it, and losing this datagram must not cost more of a unit than can be repaired."""
        group = piece.protection
        crowded = group is not None and self._symbols[group] >= group.per_datagram
        return not crowded and self.size_bytes + piece.wire_bytes <= max_bytes

    def add(self, piece: Piece) -> None:
        """Append a piece that `fits`."""
        self.pieces.append(piece)
        self.size_bytes += piece.wire_bytes
        if piece.protection is not None:
            self._symbols[piece.protection] += 1

    @property
    def traffic(self) -> Traffic:
        """What the datagram carries, by the most demanding of its pieces."""
        kinds = {piece.kind for piece in self.pieces}
        if UnitKind.CONFIG in kinds:
            return Traffic.CONFIG
        if UnitKind.FRAME in kinds:
            return Traffic.KEY if any(piece.vital for piece in self.pieces) else Traffic.FRAME
        return Traffic.ANCHOR if UnitKind.ANCHOR in kinds else Traffic.RESIDUAL


class Composer:
    """The datagrams that one poll sends, filled first-fit in order of priority."""

    def __init__(self, max_datagram_bytes: int) -> None:
        self._max_bytes = max_datagram_bytes
        self.builders: list[Builder] = []

    @property
    def total_bytes(self) -> int:
        """Size of all the datagrams so far."""
        return sum(builder.size_bytes for builder in self.builders)

    def place(self, piece: Piece) -> Builder:
        """Put `piece` in the first datagram with room, or in a new one; returns that datagram."""
        builder = next((b for b in self.builders if b.fits(piece, self._max_bytes)), None)
        if builder is None:
            builder = Builder()
            self.builders.append(builder)
        builder.add(piece)
        return builder

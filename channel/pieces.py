"""From a unit to the pieces that fit in datagrams: whole, fragments, or RaptorQ symbols.

    protect and repair_ratio > 0:   small unit      -> whole now, one copy a little later
                                    any other       -> source symbols now, repair symbols a little later
    otherwise:                      fits a datagram -> whole
                                    larger          -> fragments

An anchor is cut small, so that at a low rate each piece occupies the link for only a few tens of
milliseconds and the next frame does not queue behind it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from common.datagram import (
    HEADER_BYTES,
    MAX_FRAGMENTS,
    FecPiece,
    Fragment,
    Record,
    WholeUnit,
    payload_bytes,
    record_bytes,
)
from common.fec import SYMBOL_ALIGNMENT, fit_symbol_bytes, protect
from common.types import EncodedUnit, UnitKind

_MIN_PIECE_BYTES = 64
"""An anchor piece smaller than this would be a tenth record header."""

_MIN_SYMBOLS = 3
"""An urgent protected unit is cut in at least so many symbols: one repair then costs a third of it."""

_RESERVE_FROM_REPAIRS = 3
"""With so many repair symbols one is not counted on: K symbols fail to solve in 1 case of 300 (measured), and
a request to send a lost one again may itself be lost."""

_RECORD_HEADER_BYTES = 12
"""More than any record header of `common.datagram` takes."""


class Account(Enum):
    """What the bytes of a piece are booked under."""

    FRAME = "frame"
    ANCHOR = "anchor"
    CONFIG = "config"
    RESIDUAL = "residual"
    FEC = "fec"
    RETRANSMISSION = "retransmission"


_ACCOUNT_OF_KIND = {
    UnitKind.CONFIG: Account.CONFIG,
    UnitKind.FRAME: Account.FRAME,
    UnitKind.ANCHOR: Account.ANCHOR,
    UnitKind.RESIDUAL: Account.RESIDUAL,
}


class Protection:
    """The pieces of one protected unit that can replace one another.

    spare : how many of them may still be lost without harm
    """

    def __init__(self, spare: int) -> None:
        self.spare = spare
        self.per_datagram = max(1, spare)

    def lose(self) -> bool:
        """One more piece was lost: a spare piece stands in for it, or (True) it must be sent again."""
        self.spare -= 1
        return self.spare < 0


@dataclass(frozen=True, eq=False)
class Piece:
    """One record on its way, and what is known about the unit it came from.

    vital : configuration, guide keys, anchors: worth more protection than the rest
    """

    record: Record
    kind: UnitKind
    slot: int
    account: Account
    resendable: bool
    vital: bool
    protection: Protection | None = None

    @property
    def wire_bytes(self) -> int:
        """Bytes it takes in a datagram, record header included."""
        return record_bytes(self.record)

    @property
    def payload_bytes(self) -> int:
        """Bytes of the unit (or symbol) in it."""
        return payload_bytes(self.record)


@dataclass(frozen=True, slots=True)
class CutUnit:
    """The pieces of one unit.

    now : what the receiver needs
    later : copies and repair symbols, better sent a little later than the rest (losses come in bursts)
    """

    now: tuple[Piece, ...]
    later: tuple[Piece, ...] = ()


@dataclass(frozen=True, slots=True)
class Cutting:
    """How to cut.

    max_datagram_bytes : largest datagram
    repair_ratio : repair symbols per source symbol, 0 switches protection off
    copy_limit_bytes : protected units up to this size are sent twice instead of being coded
    anchor_piece_bytes : wanted size of anchor pieces
    """

    max_datagram_bytes: int
    repair_ratio: float
    copy_limit_bytes: int
    anchor_piece_bytes: int


def cut_unit(unit: EncodedUnit, unit_id: int, cutting: Cutting) -> CutUnit:
    """Pieces of `unit`; `unit_id` (0..65535) ties them together. `unit.data` is 1..MAX_UNIT_BYTES long."""
    size = len(unit.data)
    limit = cutting.max_datagram_bytes - HEADER_BYTES - _RECORD_HEADER_BYTES
    if unit.kind == UnitKind.ANCHOR:
        limit = min(limit, max(_MIN_PIECE_BYTES, cutting.anchor_piece_bytes))
    if unit.protect and cutting.repair_ratio > 0:
        if size <= min(limit, cutting.copy_limit_bytes):
            return _cut_with_copy(unit)
        third = math.ceil(size / _MIN_SYMBOLS) + SYMBOL_ALIGNMENT - 1
        return _cut_symbols(unit, unit_id, min(limit, third), cutting.repair_ratio)
    if size <= limit:
        return CutUnit((_piece(unit, WholeUnit(unit.data)),))
    return _cut_fragments(unit, unit_id, limit)


def _cut_with_copy(unit: EncodedUnit) -> CutUnit:
    protection, record = Protection(spare=1), WholeUnit(unit.data)
    return CutUnit((_piece(unit, record, protection),), (_piece(unit, record, protection, Account.FEC),))


def _cut_symbols(unit: EncodedUnit, block_id: int, limit_bytes: int, repair_ratio: float) -> CutUnit:
    symbols = protect(unit.data, fit_symbol_bytes(len(unit.data), limit_bytes), repair_ratio)
    repairs = [symbol for symbol in symbols if symbol.is_repair]
    reserve = int(len(repairs) >= _RESERVE_FROM_REPAIRS)
    protection = Protection(spare=len(repairs) - reserve)
    return CutUnit(
        tuple(_piece(unit, FecPiece(block_id, s), protection) for s in symbols if not s.is_repair),
        tuple(_piece(unit, FecPiece(block_id, s), protection, Account.FEC) for s in repairs),
    )


def _cut_fragments(unit: EncodedUnit, unit_id: int, limit_bytes: int) -> CutUnit:
    count = math.ceil(len(unit.data) / max(limit_bytes, math.ceil(len(unit.data) / MAX_FRAGMENTS)))
    size = math.ceil(len(unit.data) / count)
    chunks = [unit.data[start : start + size] for start in range(0, len(unit.data), size)]
    return CutUnit(
        tuple(_piece(unit, Fragment(unit_id, i, len(chunks), chunk)) for i, chunk in enumerate(chunks))
    )


def _piece(
    unit: EncodedUnit, record: Record, protection: Protection | None = None, account: Account | None = None
) -> Piece:
    resendable = unit.kind != UnitKind.RESIDUAL and not unit.disposable
    account = account or _ACCOUNT_OF_KIND[unit.kind]
    return Piece(record, unit.kind, unit.slot, account, resendable, unit.protect or unit.key, protection)

"""Forward error correction of one unit with RaptorQ (RFC 6330), through the `raptorq` package.

A unit of `transfer_bytes` is cut in K source symbols; any K of the K + R symbols sent (in 99 cases of 100;
K + 1 in practically all) give the unit back. Source symbols are the unit itself, so without loss nothing
has to be solved.

The library aborts on malformed symbols and allocates whatever a length field says, so every bound is checked
here before it sees a byte. Its own 4-byte symbol header (block number, symbol number) is rebuilt from
`FecSymbol.esi`: one unit is always one source block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from raptorq import Decoder, Encoder

from common.errors import BitstreamError

MAX_BLOCK_BYTES = 256 * 1024
"""Largest unit that can be protected."""

SYMBOL_ALIGNMENT = 8
"""Symbol sizes are multiples of this (RFC 6330 section 4.3, the library's Al)."""

MIN_SYMBOL_BYTES = 32
MAX_SYMBOL_BYTES = 1192
MAX_SOURCE_SYMBOLS = 2048
"""Bounds the solver: 2048 symbols take about 10 ms on one core."""

MAX_ESI = 0xFFFF
"""Highest encoding symbol identifier in our format (the RFC allows 24 bits)."""

_MAX_EXCESS = 64
"""Symbols beyond K after which a block that still does not solve is hopeless, hence damaged."""


@dataclass(frozen=True, slots=True)
class FecSymbol:
    """One encoding symbol.

    transfer_bytes : size of the protected unit, 1..MAX_BLOCK_BYTES
    esi : encoding symbol identifier, 0..MAX_ESI; below K it is a piece of the unit itself
    data : the symbol, a multiple of SYMBOL_ALIGNMENT bytes
    """

    transfer_bytes: int
    esi: int
    data: bytes

    @property
    def is_repair(self) -> bool:
        """Whether it is redundancy rather than a piece of the unit."""
        return self.esi >= source_symbols(self.transfer_bytes, len(self.data))


def source_symbols(transfer_bytes: int, symbol_bytes: int) -> int:
    """K: how many symbols the unit itself fills."""
    return math.ceil(transfer_bytes / symbol_bytes)


def fit_symbol_bytes(transfer_bytes: int, limit_bytes: int) -> int:
    """The symbol size, at most about `limit_bytes`, that pads a unit of `transfer_bytes` the least.

    Equal symbols waste at most K * 8 bytes; cutting 1201 bytes in symbols of 1160 would send 2320.
    The result is larger than the limit only where MAX_SOURCE_SYMBOLS demands it.
    """
    limit = min(limit_bytes, MAX_SYMBOL_BYTES) // SYMBOL_ALIGNMENT * SYMBOL_ALIGNMENT
    limit = max(limit, MIN_SYMBOL_BYTES, _align_up(math.ceil(transfer_bytes / MAX_SOURCE_SYMBOLS)))
    count = source_symbols(transfer_bytes, limit)
    return max(MIN_SYMBOL_BYTES, _align_up(math.ceil(transfer_bytes / count)))


def check_symbol(transfer_bytes: int, symbol_bytes: int, esi: int) -> None:
    """Raise BitstreamError unless the library can be trusted with such a symbol."""
    if not 1 <= transfer_bytes <= MAX_BLOCK_BYTES:
        raise BitstreamError(f"FEC block of {transfer_bytes} bytes, allowed 1..{MAX_BLOCK_BYTES}")
    if not MIN_SYMBOL_BYTES <= symbol_bytes <= MAX_SYMBOL_BYTES or symbol_bytes % SYMBOL_ALIGNMENT:
        raise BitstreamError(f"FEC symbol of {symbol_bytes} bytes is not allowed")
    if source_symbols(transfer_bytes, symbol_bytes) > MAX_SOURCE_SYMBOLS:
        raise BitstreamError(f"FEC block of {transfer_bytes} bytes in symbols of {symbol_bytes}: too many")
    if not 0 <= esi <= MAX_ESI:
        raise BitstreamError(f"FEC symbol number {esi}, allowed 0..{MAX_ESI}")


def protect(data: bytes, symbol_bytes: int, repair_ratio: float) -> list[FecSymbol]:
    """Source symbols of `data`, then ceil(K * repair_ratio) repair symbols.

    data : the unit, 1..MAX_BLOCK_BYTES
    symbol_bytes : size of each symbol, see `fit_symbol_bytes`
    repair_ratio : repair symbols per source symbol, 0 for none

    Raises BitstreamError when the sizes are outside the bounds of this format.
    """
    check_symbol(len(data), symbol_bytes, 0)
    repairs = math.ceil(source_symbols(len(data), symbol_bytes) * repair_ratio)
    packets: Sequence[bytes] = Encoder.with_defaults(data, symbol_bytes).get_encoded_packets(repairs)
    return [FecSymbol(len(data), int.from_bytes(packet[1:4], "big"), packet[4:]) for packet in packets]


class FecBlock:
    """Collects the symbols of one unit until they give it back. Memory: at most K + 64 symbols.

    Raises BitstreamError for sizes outside the bounds.
    """

    def __init__(self, transfer_bytes: int, symbol_bytes: int) -> None:
        check_symbol(transfer_bytes, symbol_bytes, 0)
        self._transfer_bytes = transfer_bytes
        self._symbol_bytes = symbol_bytes
        self._limit = source_symbols(transfer_bytes, symbol_bytes) + _MAX_EXCESS
        self._seen: set[int] = set()
        self._decoder: Decoder | None = Decoder.with_defaults(transfer_bytes, symbol_bytes)

    @property
    def held_bytes(self) -> int:
        """Bytes of symbols held; 0 once the unit came out."""
        return len(self._seen) * self._symbol_bytes if self._decoder else 0

    def add(self, symbol: FecSymbol) -> bytes | None:
        """The unit, once, when this symbol completes it; None otherwise. Repeats are harmless.

        Raises BitstreamError when the symbol belongs to another block, or the block is damaged.
        """
        if (symbol.transfer_bytes, len(symbol.data)) != (self._transfer_bytes, self._symbol_bytes):
            raise BitstreamError("FEC symbol does not fit the block it names")
        check_symbol(symbol.transfer_bytes, len(symbol.data), symbol.esi)
        if self._decoder is None or symbol.esi in self._seen:
            return None
        if len(self._seen) >= self._limit:
            raise BitstreamError("FEC block does not solve although enough symbols arrived")
        self._seen.add(symbol.esi)
        unit: bytes | None = self._decoder.decode(symbol.esi.to_bytes(4, "big") + symbol.data)
        if unit is not None:
            self._decoder = None
        return unit


def _align_up(size: int) -> int:
    return -(-size // SYMBOL_ALIGNMENT) * SYMBOL_ALIGNMENT

"""Arithmetic code of a few symbols, exact to the bit, that ends by itself: other bytes can follow at once.

The words of the range coder in common/entropy.py are four bytes long, more than all that a frame header has to say.
Here the interval is a pair of whole numbers of any size, which never round, and the code is the shortest string of
bytes whose every continuation lies inside the interval: the reader, who knows the interval too, knows its length
(Elias's code, see Cover and Thomas, Elements of Information Theory, 13.3). Time grows with the square of the length.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.errors import BitstreamError

TOTAL_BITS = 12
"""Frequencies of a table sum to 2**12."""
MAX_BYTES = 96
"""No longer code is read."""


@dataclass(frozen=True, slots=True)
class SymbolTable:
    """Static probabilities of symbols 0..size-1. frequencies : each >= 1, together 2**12"""

    frequencies: tuple[int, ...]

    @classmethod
    def of_counts(cls, counts: tuple[int, ...]) -> SymbolTable:
        """Frequencies in proportion to counts (>= 0), none less than 1."""
        total, room = sum(counts) or 1, (1 << TOTAL_BITS) - len(counts)
        frequencies = [1 + count * room // total for count in counts]
        frequencies[counts.index(max(counts))] += (1 << TOTAL_BITS) - sum(frequencies)
        return cls(tuple(frequencies))


class _Interval:
    """[low, low + width) / 2**bits, the part of 0..1 that the symbols so far have chosen."""

    def __init__(self) -> None:
        self.low, self.width, self.bits = 0, 1, 0

    def narrow(self, start: int, size: int, bits: int) -> None:
        self.low = (self.low << bits) + self.width * start
        self.width *= size
        self.bits += bits

    def shortest(self) -> bytes:
        """The first of the shortest strings of bytes all of whose continuations lie inside."""
        length = max(0, self.bits - self.width.bit_length()) // 8
        while True:
            step = (
                self.bits - 8 * length
            )  # how many bits of the interval's scale one unit of the string stands for
            low, width = (self.low, self.width) if step >= 0 else (self.low << -step, self.width << -step)
            unit = 1 << max(0, step)
            first = -(-low // unit)
            if (first + 1) * unit <= low + width:
                return first.to_bytes(length, "big")
            length += 1


class ShortWriter:
    """Collects symbols; `finish` gives the code."""

    def __init__(self) -> None:
        self._interval = _Interval()

    def write(self, table: SymbolTable, wanted: int) -> int:
        """Append a symbol; returns it."""
        frequencies = table.frequencies
        self._interval.narrow(sum(frequencies[:wanted]), frequencies[wanted], TOTAL_BITS)
        return wanted

    def raw(self, bits: int, wanted: int) -> int:
        """Append `bits` bits as they are."""
        self._interval.narrow(wanted, 1, bits)
        return wanted

    def finish(self) -> bytes:
        return self._interval.shortest()


class ShortReader:
    """Reads back what `ShortWriter` wrote, whatever follows it. Any bytes give *some* symbols in range."""

    def __init__(self, data: bytes) -> None:
        self._interval = _Interval()
        self._size = len(data)
        self._value = int.from_bytes(data[:MAX_BYTES].ljust(MAX_BYTES, b"\0"), "big")

    def _target(self, bits: int) -> int:
        """Which of 2**bits equal parts of the interval the value lies in."""
        left = 8 * MAX_BYTES - self._interval.bits - bits
        if left < 0:
            raise BitstreamError("a header code is too long")
        return ((self._value >> left) - (self._interval.low << bits)) // self._interval.width

    def read(self, table: SymbolTable) -> int:
        """The next symbol."""
        target, start = self._target(TOTAL_BITS), 0
        for symbol, size in enumerate(table.frequencies):
            if target < start + size:
                self._interval.narrow(start, size, TOTAL_BITS)
                return symbol
            start += size
        raise BitstreamError("header code is damaged")

    def raw(self, bits: int, wanted: int = -1) -> int:
        """The next `bits` bits. wanted : of writers only"""
        value = self._target(bits)
        self._interval.narrow(value, 1, bits)
        return value

    def finish(self) -> int:
        """Length of the code in bytes."""
        length = len(self._interval.shortest())
        if length > self._size:
            raise BitstreamError("a header code is cut short")
        return length

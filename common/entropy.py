"""Adaptive range coding with integer tables: the only file that knows the coder.

Tables are integer counts. Before use they are scaled to sum exactly 2**16, so every probability handed to
constriction (https://docs.rs/constriction, `Categorical`) is a dyadic rational that float64 holds without
rounding: no probability ever depends on floating-point behaviour (common/state.py, rule of the closed loop).

A round trip:

>>> import numpy as np
>>> table = AdaptiveTable.flat(4)
>>> writer = RangeWriter()
>>> writer.symbols(np.array([3, 0, 3, 3]), table)
>>> reader = RangeReader(writer.finish())
>>> reader.symbols(4, table).tolist()
[3, 0, 3, 3]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from common.errors import BitstreamError

TOTAL = 1 << 16
_LIMIT = (
    2048  # counts are halved above this sum, so that a table follows the scene within some hundred symbols
)
_STEP = 24  # weight of one observed symbol against the initial counts

Symbols = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class AdaptiveTable:
    """Counts of a small alphabet; a frozen value: `update` returns the next one.

    counts : positive integers, one per symbol
    """

    counts: tuple[int, ...]

    @classmethod
    def flat(cls, size: int) -> AdaptiveTable:
        return cls((16,) * size)

    @classmethod
    def geometric(cls, size: int, keep: int = 128) -> AdaptiveTable:
        """Counts falling by `keep`/256 per symbol: small symbols are likelier."""
        counts, level = [], 1 << 10
        for _ in range(size):
            counts.append(max(1, level))
            level = level * keep // 256
        return cls(tuple(counts))

    def update(self, symbols: Symbols) -> AdaptiveTable:
        """The table after seeing `symbols` (int32, any shape, each in 0..size-1)."""
        if symbols.size == 0:
            return self
        seen = np.bincount(symbols.ravel(), minlength=len(self.counts))
        counts = [c + _STEP * int(n) for c, n in zip(self.counts, seen, strict=True)]
        while sum(counts) > _LIMIT:
            counts = [(c + 1) >> 1 for c in counts]
        return AdaptiveTable(tuple(counts))

    def frequencies(self) -> NDArray[np.int64]:
        """Integers >= 1 that sum to 2**16, int64 [size]."""
        counts = np.asarray(self.counts, dtype=np.int64)
        scaled = 1 + counts * (TOTAL - counts.size) // int(counts.sum())
        scaled[int(np.argmax(scaled))] += TOTAL - int(scaled.sum())
        return scaled

    def model(self) -> Any:
        return constriction.stream.model.Categorical(self.frequencies() / TOTAL, perfect=False)


class RangeWriter:
    """Collects symbols; `finish` gives the bytes."""

    def __init__(self) -> None:
        self._coder: Any = constriction.stream.queue.RangeEncoder()

    def symbols(self, values: NDArray[np.integer[Any]], table: AdaptiveTable) -> None:
        """Append `values` (integers in 0..size-1, any shape, C order)."""
        if values.size:
            self._coder.encode(np.ascontiguousarray(values, dtype=np.int32).ravel(), table.model())

    def finish(self) -> bytes:
        """The code words, little endian, without trailing zero bytes (the reader puts them back)."""
        words: NDArray[np.uint32] = self._coder.get_compressed()
        return words.astype("<u4").tobytes().rstrip(b"\0")


class RangeReader:
    """Reads back what `RangeWriter` wrote. Any bytes decode to *some* symbols in range, never out of range."""

    def __init__(self, data: bytes) -> None:
        padded = data + b"\0" * (-len(data) % 4 + 4)
        self._coder: Any = constriction.stream.queue.RangeDecoder(
            np.frombuffer(padded, dtype="<u4").astype(np.uint32)
        )

    def symbols(self, count: int, table: AdaptiveTable) -> Symbols:
        """The next `count` symbols, int32 [count]; BitstreamError when the bytes are no valid code."""
        if count == 0:
            return np.zeros(0, np.int32)
        try:
            decoded: Symbols = self._coder.decode(table.model(), count)
        except AssertionError as error:
            raise BitstreamError("range-coded data is damaged") from error
        return decoded


MAGNITUDES = 15  # magnitudes 0..13 are one symbol, 14 escapes to Exp-Golomb bits
_HALF = AdaptiveTable((1, 1))
_ESCAPE_LENGTHS = AdaptiveTable.geometric(15)  # as long as the unary prefix of Exp-Golomb, but one symbol


def write_signed(writer: RangeWriter, values: NDArray[np.integer[Any]], table: AdaptiveTable) -> Symbols:
    """Write signed integers (|v| < 2**15): magnitude symbol, escape bits, sign. Returns the magnitude symbols."""
    flat = values.astype(np.int32).ravel()
    magnitude = np.abs(flat)
    symbols = np.minimum(magnitude, MAGNITUDES - 1)
    writer.symbols(symbols, table)
    rest = magnitude[symbols == MAGNITUDES - 1] - (MAGNITUDES - 2)
    length = np.frexp(rest)[1] - 1  # binary digits after the leading one
    writer.symbols(length, _ESCAPE_LENGTHS)
    places = np.arange(MAGNITUDES)
    writer.symbols((rest[:, None] >> places & 1)[places < length[:, None]], _HALF)
    writer.symbols((flat[magnitude > 0] < 0).astype(np.int32), _HALF)
    return symbols


def read_signed(reader: RangeReader, count: int, table: AdaptiveTable) -> tuple[Symbols, Symbols]:
    """Inverse of `write_signed`: (values, magnitude symbols), int32 [count] each."""
    symbols = reader.symbols(count, table)
    values = symbols.copy()
    escaped = symbols == MAGNITUDES - 1
    length = reader.symbols(int(np.count_nonzero(escaped)), _ESCAPE_LENGTHS)
    places = np.arange(MAGNITUDES)
    bits = np.zeros((length.size, MAGNITUDES), np.int32)
    bits[places < length[:, None]] = reader.symbols(int(length.sum()), _HALF)
    values[escaped] = (1 << length) + (bits << places).sum(axis=1) + (MAGNITUDES - 2)
    negative = reader.symbols(int(np.count_nonzero(values)), _HALF)
    values[values > 0] *= 1 - 2 * negative
    return values, symbols

"""One way of an analog link: symbols as they are and, between them, a few records in LDPC blocks.

    records -> blocks -> QAM symbols --\\                                          /-> blocks -> records or erasures
                                        spread evenly among ~ noise, fading, loss ~
    analog symbols --------------------/                                          \\-> symbols, their noise variances

Both take their turns in one stretch of channel uses, so that a fade hits a part of each. As with `channel.radio.link`,
lengths and scheme of the blocks are taken to reach the receiver.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from channel.analog import ReceivedSymbols, Symbols, awgn, lose_packets, rayleigh
from channel.analog_spec import AnalogSpec
from channel.radio.library import check_installed
from channel.radio.mcs import CRC_BITS, Mcs, block_bytes, longest_block_uses, mcs_named

PACKET_USES = 256
"""Analog symbols that are lost together."""
_STEPS = 8
"""Lengths of blocks in an octave: few, so that few codes have to be built."""


@dataclass(frozen=True, slots=True, eq=False)
class Arrived:
    """What came through of one transmission.

    records : bytes of each record with zeros after it, None for one that did not come
    analog : the symbols and the noise variance of each
    """

    records: tuple[bytes | None, ...]
    analog: ReceivedSymbols


@dataclass(frozen=True, slots=True)
class AnalogStats:
    """Totals: channel uses of either part, transmissions, records, and those of them that were lost."""

    uses_digital: int = 0
    uses_analog: int = 0
    transmissions: int = 0
    records: int = 0
    lost_records: int = 0

    @property
    def uses(self) -> int:
        return self.uses_digital + self.uses_analog

    def cbr(self, pixels: int) -> float:
        """Channel bandwidth ratio, uses / (3 H W), for so many pixels (H W, times frames)."""
        return self.uses / (3 * pixels)


class AnalogChannel:
    """Transmission number n has random numbers of its own: seed and n decide its fate.

    Raises ConfigError where sionna is missing, which codes the records.
    """

    def __init__(self, spec: AnalogSpec, seed: int) -> None:
        check_installed()
        self._spec, self._seed = spec, seed
        self._mcs = mcs_named(spec.mcs)
        self.stats = AnalogStats()

    def uses_of(self, size_bytes: int) -> int:
        """Channel uses of a record of so many bytes."""
        return sum(block_lengths(self._mcs, size_bytes))

    def transmit(self, records: Sequence[bytes], symbols: Symbols) -> Arrived:
        """Send records and symbols together. ChannelError where the symbols have more than unit mean power."""
        generator = np.random.default_rng([self._seed, self.stats.transmissions])
        parts = [self._encoded(record) for record in records]
        digital = np.concatenate([np.zeros(0, np.complex64), *parts])
        total = digital.size + symbols.size
        places = np.zeros(total, np.bool_)
        places[np.arange(digital.size) * total // max(1, digital.size)] = True
        sent = np.empty(total, np.complex64)
        sent[places], sent[~places] = digital, symbols
        heard = self._air(sent, generator)
        blocks = np.split(np.flatnonzero(places), np.cumsum([part.size for part in parts])[:-1])
        received = tuple(
            self._decoded(len(record), heard, where) for record, where in zip(records, blocks, strict=False)
        )
        analog = ReceivedSymbols(heard.symbols[~places], heard.noise[~places])
        self._book(digital.size, symbols.size, received)
        return Arrived(received, lose_packets(analog, PACKET_USES, self._spec.loss, generator))

    def _air(self, symbols: Symbols, generator: np.random.Generator) -> ReceivedSymbols:
        spec = self._spec
        if spec.fading == "none":
            return awgn(symbols, spec.snr_db, generator)
        coherence = max(1, round(spec.coherence_ms / 1000 * spec.uses_per_s))
        return rayleigh(symbols, spec.snr_db, coherence, generator)

    def _encoded(self, record: bytes) -> Symbols:
        from channel.radio.phy import block_code  # with PyTorch and sionna

        symbols, rest = [np.zeros(0, np.complex64)], record
        for uses in block_lengths(self._mcs, len(record)):
            size = block_bytes(self._mcs, uses)
            symbols.append(block_code(self._mcs, uses).encode([rest[:size].ljust(size, b"\0")])[0])
            rest = rest[size:]
        return np.concatenate(symbols)

    def _decoded(self, size_bytes: int, heard: ReceivedSymbols, where: NDArray[np.intp]) -> bytes | None:
        from channel.radio.phy import block_code

        lengths = block_lengths(self._mcs, size_bytes)
        pieces = []
        for uses, part in zip(lengths, np.split(where, np.cumsum(lengths)[:-1]), strict=True):
            noise = 2 * heard.noise[part].astype(np.float32)  # of both dimensions
            pieces += block_code(self._mcs, uses).decode(heard.symbols[None, part], noise[None])
        whole = [piece for piece in pieces if piece is not None]
        return b"".join(whole) if len(whole) == len(pieces) else None

    def _book(self, digital: int, analog: int, received: Sequence[bytes | None]) -> None:
        stats = self.stats
        self.stats = replace(
            stats, uses_digital=stats.uses_digital + digital, uses_analog=stats.uses_analog + analog,
            transmissions=stats.transmissions + 1, records=stats.records + len(received),
            lost_records=stats.lost_records + sum(record is None for record in received),
        )  # fmt: skip


def block_lengths(mcs: Mcs, size_bytes: int) -> list[int]:
    """Channel uses of the blocks for a record: as few as can hold it, alike in length."""
    longest = block_bytes(mcs, longest_block_uses(mcs))
    count = max(1, ceil(size_bytes / longest))
    return [_block_uses(mcs, ceil(size_bytes / count))] * count


def _block_uses(mcs: Mcs, size_bytes: int) -> int:
    uses = ceil((8 * size_bytes + CRC_BITS) / mcs.bits_per_use)
    step = max(1, (1 << uses.bit_length() - 1) // _STEPS)
    return min(-(-uses // step) * step, longest_block_uses(mcs))

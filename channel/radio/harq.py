"""Blocks that failed are sent again, and what was heard of them is put together (hybrid ARQ, Chase combining).

    block, number -> heard once -> CRC fails -> heard again, combined -> ... -> payload, or given up
    payloads leave in the order of the numbers, so that what comes later waits for what is sent again

The acknowledgement takes as long as a report. Combining is maximum-ratio: every copy counts by its SNR (Chase, Code
combining, IEEE Trans. Commun. 1985); TS 38.321 calls what is kept of a block its soft buffer. Order as by RLC's
reordering (TS 38.322).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from channel.radio.fading import Heard
from channel.radio.phy import block_code
from channel.radio.scheduler import Block

LEAST_NOISE = 1e-9
"""Noise variance taken as least, so that a copy without noise counts a lot and not infinitely."""


@dataclass(slots=True)
class Process:
    """A block that has not been decoded yet.

    number : of the block, in order of first transmission
    due : interval from which on it can be sent again
    sent : how often it was
    """

    number: int
    block: Block
    due: int = 0
    sent: int = 0
    _weighted: NDArray[np.complex128] | None = None
    _weights: NDArray[np.float64] | None = None

    def decode(self, heard: Heard, place: slice) -> bytes | None:
        """The payload after one more copy, heard at `place` of an interval; None where the CRC still fails."""
        self.sent += 1
        noise = np.maximum(heard.noise[place].astype(np.float64), LEAST_NOISE)
        weights, weighted = 1 / noise, heard.symbols[place] / noise
        if self._weighted is not None and self._weights is not None:
            weights, weighted = self._weights + weights, self._weighted + weighted
        self._weights, self._weighted = weights, weighted
        symbols, left = (weighted / weights).astype(np.complex64), (1 / weights).astype(np.float32)
        return block_code(self.block.mcs, self.block.uses).decode(symbols[None], left[None])[0]


@dataclass(slots=True)
class Repeats:
    """Blocks under way at both ends of one direction.

    limit : copies of a block besides the first; ack_intervals : until the sender knows that one failed
    """

    limit: int
    ack_intervals: int
    _waiting: list[Process] = field(default_factory=list)
    _done: dict[int, bytes | None] = field(default_factory=dict)
    _next_number: int = 0
    _next_out: int = 0

    def __bool__(self) -> bool:
        """Whether any block waits to be sent again."""
        return bool(self._waiting)

    def due(self, interval: int, uses: int) -> list[Process]:
        """Blocks to send again in an interval of so many channel uses, oldest first."""
        chosen = []
        for process in self._waiting:
            if process.due <= interval and process.block.uses <= uses:
                chosen.append(process)
                uses -= process.block.uses
        return chosen

    def begin(self, block: Block) -> Process:
        """A block that is sent for the first time."""
        self._next_number += 1
        return Process(self._next_number - 1, block)

    def judge(self, process: Process, payload: bytes | None, interval: int) -> bool:
        """Note how a copy sent in `interval` fared; False where the block is given up."""
        if process in self._waiting:
            self._waiting.remove(process)
        if payload is None and process.sent <= self.limit:
            process.due = interval + 1 + self.ack_intervals
            self._waiting.append(process)
            self._waiting.sort(key=lambda waiting: waiting.number)
            return True
        self._done[process.number] = payload
        return payload is not None

    def released(self) -> Iterator[bytes]:
        """Payloads whose turn has come."""
        while self._next_out in self._done:
            payload = self._done.pop(self._next_out)
            self._next_out += 1
            if payload is not None:
                yield payload

    def clear(self) -> None:
        """Give up all that waits."""
        self._waiting.clear()

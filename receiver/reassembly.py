"""Datagrams in, units out: tolerant of loss, reordering, repeats and damage, bounded in memory.

    Datagram -> parse -> sequence number -> LossTracker -> what to ask for again
                  |-> records: whole unit ------------------------------> unit
                               fragment ---> PartialUnit, until complete --> unit
                               FEC symbol -> PartialUnit, until it solves -> unit

A unit comes out once, whatever the number of ways in which it arrived.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b

from pydantic import BaseModel, ConfigDict, Field

from common.datagram import (
    MAX_UNIT_BYTES,
    SEQ_MODULUS,
    FecPiece,
    Fragment,
    Record,
    WholeUnit,
    parse_datagram,
)
from common.errors import BitstreamError
from common.queues import DropCounter, Drops
from common.types import Datagram, Feedback
from receiver.losses import Arrival, LossTracker
from receiver.partials import PartialUnit, PieceKey, RecentlySeen, piece_key


class ReassemblyConfig(BaseModel):
    """Settings of the receiving end of a packet channel.

    reorder_ms : how long a gap in the sequence may be mere reordering before it is asked for
    give_up_ms : age at which a missing datagram is not asked for any more
    rtt_ms : round trip assumed before the first measurement
    stale_ms : an incomplete unit that got nothing for so long is dropped
    max_partial_units : incomplete units held
    max_partial_bytes : bytes of incomplete units held
    repeat_window_ms : how long a complete unit is remembered, to drop its repeats
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reorder_ms: float = Field(20, ge=0)
    give_up_ms: float = Field(1000, ge=0)
    rtt_ms: float = Field(100, gt=0)
    stale_ms: float = Field(5000, gt=0)
    max_partial_units: int = Field(32, ge=1)
    max_partial_bytes: int = Field(4 * MAX_UNIT_BYTES, ge=2 * MAX_UNIT_BYTES)
    repeat_window_ms: float = Field(1500, ge=0)


@dataclass(frozen=True, slots=True)
class ReceivedUnit:
    """One complete unit.

    data : its bytes, as the sender's `EncodedUnit.data`
    arrival_s : when the datagram that completed it arrived
    """

    data: bytes
    arrival_s: float


@dataclass(frozen=True, slots=True)
class ReassemblyStats:
    """Totals since the start, and the rates of the last report.

    datagrams, received_bytes : sound ones, repeats included
    drops : by reason: "corrupt" and "duplicate" datagrams, "repeated_unit" for units that came twice,
            "contradiction" for pieces that cannot belong together, units "stale" or "evicted" half way
    """

    datagrams: int
    received_bytes: int
    units: int
    partial_units: int
    partial_bytes: int
    loss_ratio: float
    received_bps: float
    rtt_s: float
    drops: Drops


class Reassembler:
    """The receiving end of a packet channel. Pure: datagrams with their arrival times come in."""

    def __init__(self, config: ReassemblyConfig | None = None) -> None:
        self._config = config or ReassemblyConfig()
        self._losses = LossTracker(self._config.reorder_ms, self._config.give_up_ms, self._config.rtt_ms)
        self._partials: OrderedDict[PieceKey, PartialUnit] = OrderedDict()
        self._finished = RecentlySeen(self._config.repeat_window_ms / 1000)
        self._drops = DropCounter()
        self._datagrams = self._bytes = self._units = 0
        self._reports = 0
        self._reported_s: float | None = None
        self._newest: tuple[int, float] = (-1, 0.0)
        """(highest sequence number, when it came)."""
        self._reported_bytes = 0
        self._loss_ratio = self._received_bps = 0.0

    def push(self, datagram: Datagram) -> list[ReceivedUnit]:
        """Units that this datagram completes, in the order sent. Never raises for bad bytes: counts them."""
        now_s = datagram.arrival_s
        self._drop_stale(now_s)
        try:
            parsed = parse_datagram(datagram.data)
        except BitstreamError:
            self._drops.add("corrupt")
            return []
        self._datagrams += 1
        self._bytes += len(datagram.data)
        if self._losses.arrived(parsed.seq, now_s) is Arrival.DUPLICATE:
            self._drops.add("duplicate")
        elif parsed.echo is not None:
            self._losses.answered(parsed.echo, now_s)
        if self._losses.highest_seq != self._newest[0]:
            self._newest = self._losses.highest_seq, now_s
        units = [unit for record in parsed.records if (unit := self._complete(record, now_s)) is not None]
        self._units += len(units)
        return [ReceivedUnit(unit, now_s) for unit in units]

    def missing(self, now_s: float) -> tuple[int, ...]:
        """Sequence numbers (mod 2**16) to ask for again now, oldest first, at most 32.

        Asking is remembered: a number is repeated only after a retry interval, see `LossTracker.ask`.
        """
        return self._losses.ask(self._reports, now_s)

    def ask_due(self, now_s: float) -> bool:
        """Whether a report sent now would ask for something: worth sending it early."""
        return self._losses.ask_due(now_s)

    def report(
        self,
        now_s: float,
        last_slot: int = -1,
        anchors: tuple[int, ...] = (),
        refresh: bool = False,
        anchor_wanted: bool = False,
    ) -> Feedback:
        """The next report to the sender; call it every 50 to 100 ms, and when `ask_due` says so.

        last_slot, anchors, refresh, anchor_wanted : what the decoder knows, see `Feedback`
        """
        self._loss_ratio = self._losses.take_loss_ratio()
        self._received_bps = self._take_received_bps(now_s)
        feedback = Feedback(
            sequence=self._reports,
            highest_seq=self._losses.highest_seq,
            missing=self.missing(now_s),
            loss_ratio=self._loss_ratio,
            received_bps=self._received_bps,
            last_slot=last_slot,
            anchors=anchors,
            refresh=refresh,
            held_ms=self._held_ms(now_s),
            anchor_wanted=anchor_wanted and not refresh,
        )
        self._reports = (self._reports + 1) % SEQ_MODULUS
        return feedback

    @property
    def stats(self) -> ReassemblyStats:
        """Totals so far."""
        return ReassemblyStats(
            datagrams=self._datagrams,
            received_bytes=self._bytes,
            units=self._units,
            partial_units=len(self._partials),
            partial_bytes=self._partial_bytes(),
            loss_ratio=self._loss_ratio,
            received_bps=self._received_bps,
            rtt_s=self._losses.rtt_s,
            drops=self._drops.snapshot(),
        )

    def _complete(self, record: Record, now_s: float) -> bytes | None:
        """The unit that `record` completes, unless it came out before."""
        unit = record.data if isinstance(record, WholeUnit) else self._add_piece(record, now_s)
        if unit is None:
            return None
        digest = blake2b(unit, digest_size=8).digest()
        if self._finished.knows(digest, now_s):
            self._drops.add("repeated_unit")
            return None
        self._finished.add(digest, now_s)
        return unit

    def _add_piece(self, piece: Fragment | FecPiece, now_s: float) -> bytes | None:
        key = piece_key(piece)
        if self._finished.knows(key, now_s):
            return None
        partial = self._partials.get(key) or PartialUnit(piece)
        try:
            unit = partial.add(piece, now_s)
        except BitstreamError:
            self._drops.add("contradiction")
            self._partials.pop(key, None)
            return None
        if unit is None:
            self._partials[key] = partial
            self._partials.move_to_end(key)
            self._evict()
        else:
            self._partials.pop(key, None)
            self._finished.add(key, now_s)
        return unit

    def _drop_stale(self, now_s: float) -> None:
        """Least recently fed units come first, so the walk stops at the first fresh one."""
        while self._partials:
            key, oldest = next(iter(self._partials.items()))
            if now_s - oldest.fed_s <= self._config.stale_ms / 1000:
                return
            del self._partials[key]
            self._drops.add("stale")

    def _evict(self) -> None:
        config = self._config
        while len(self._partials) > 1 and (
            len(self._partials) > config.max_partial_units or self._partial_bytes() > config.max_partial_bytes
        ):
            self._partials.popitem(last=False)
            self._drops.add("evicted")

    def _partial_bytes(self) -> int:
        return sum(partial.held_bytes for partial in self._partials.values())

    def _held_ms(self, now_s: float) -> int:
        seq, arrived_s = self._newest
        return round(max(0.0, now_s - arrived_s) * 1000) if seq >= 0 else 0

    def _take_received_bps(self, now_s: float) -> float:
        elapsed_s = 0.0 if self._reported_s is None else now_s - self._reported_s
        received = self._bytes - self._reported_bytes
        self._reported_s, self._reported_bytes = now_s, self._bytes
        return received * 8 / elapsed_s if elapsed_s > 0 else 0.0

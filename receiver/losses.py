"""Which datagrams are missing, which of them to ask for, and how the link is doing.

datagram seq -> unwrap -> new / late / duplicate
                  |-> gaps: seen for `reorder_ms`? asked less than 4 times? younger than 1 s? -> ask
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum

from common.datagram import MAX_MISSING, SEQ_MODULUS

_MAX_DROPOUT = 3000
_MAX_MISORDER = 1000
"""Steps forward or back beyond these mean a restarted sender (RFC 3550 appendix A.1), not loss."""

_MAX_REPEATS = 32
"""So many old numbers in a row, without a single new one, mean a sender that starts over."""

_BEGINNING = 16
"""A sender counts from 0: when the first number to arrive is below this, those before it are missing."""
_MAX_GAPS = 512
_MAX_ASKS = 8
_RETRY_ROUND_TRIPS = 0.5
"""Pause between asks for the same datagram. Shorter than a round trip, since an ask may get lost and a repeated one is
harmless: a sender sends each datagram again only once."""

_RTT_GAIN = 1 / 8
"""Weight of a new round-trip sample (RFC 6298)."""


class Arrival(Enum):
    """What a sequence number turned out to be."""

    NEW = "new"
    DUPLICATE = "duplicate"
    STRAY = "stray"
    """Far from all others: not counted until the next one confirms it."""


@dataclass(slots=True)
class _Gap:
    """A missing datagram: since when, how often and when last asked for."""

    since_s: float
    asks: int = 0
    asked_s: float = 0.0


class LossTracker:
    """Follows the sequence numbers of one sender.

    reorder_ms : how long a gap may be mere reordering
    give_up_ms : age at which a gap is not worth asking for any more
    rtt_ms : round trip assumed before the first measurement
    """

    def __init__(self, reorder_ms: float, give_up_ms: float, rtt_ms: float) -> None:
        self._reorder_s = reorder_ms / 1000
        self._give_up_s = give_up_ms / 1000
        self.rtt_s = rtt_ms / 1000
        self._highest: int | None = None
        self._gaps: OrderedDict[int, _Gap] = OrderedDict()
        self._seen: OrderedDict[int, None] = OrderedDict()
        self._stray: int | None = None
        self._repeats = 0
        self._asked_at_s: dict[int, float] = {}
        self._received = 0
        self._expected = 0

    @property
    def highest_seq(self) -> int:
        """Highest sequence number so far modulo 2**16, -1 before the first datagram."""
        return -1 if self._highest is None else self._highest % SEQ_MODULUS

    def arrived(self, seq: int, now_s: float) -> Arrival:
        """Note the arrival of datagram `seq` (0..65535)."""
        if self._highest is None:
            self._restart(seq, now_s)
            return Arrival.NEW
        number = self._unwrap(seq)
        step = number - self._highest
        if step > _MAX_DROPOUT or step < -_MAX_MISORDER:
            return self._stray_arrival(seq, now_s)
        if number in self._seen:
            return self._repeated_arrival(seq, now_s)
        self._stray = None
        self._repeats = 0
        self._gaps.pop(number, None)
        for missing in range(max(self._highest + 1, number - _MAX_GAPS), number):
            self._gaps[missing] = _Gap(now_s)
        while len(self._gaps) > _MAX_GAPS:
            self._gaps.popitem(last=False)
        self._count(number, max(0, step))
        self._highest = max(self._highest, number)
        return Arrival.NEW

    def answered(self, echo: int, now_s: float) -> None:
        """A datagram came that answers report number `echo` (mod 4): one round trip is over."""
        asked_s = self._asked_at_s.pop(echo, None)
        if asked_s is not None and now_s - asked_s <= self._give_up_s:
            self.rtt_s += _RTT_GAIN * (now_s - asked_s - self.rtt_s)

    def ask(self, report: int, now_s: float) -> tuple[int, ...]:
        """Sequence numbers (mod 2**16) to ask for in report number `report`, oldest first, at most 32.

        Counts as asked: the same number comes again only after half a round trip, at most eight times, and not
        once the gap is older than `give_up_ms`.
        """
        for number in [n for n, gap in self._gaps.items() if now_s - gap.since_s > self._give_up_s]:
            del self._gaps[number]
        due = [number for number in sorted(self._gaps) if self._is_due(self._gaps[number], now_s)]
        if any(
            self._gaps[number].asks == 0 for number in due[:MAX_MISSING]
        ):  # repeats may have no answer of their own
            self._asked_at_s[report % 4] = now_s
        for number in due[:MAX_MISSING]:
            self._gaps[number].asks += 1
            self._gaps[number].asked_s = now_s
        return tuple(number % SEQ_MODULUS for number in due[:MAX_MISSING])

    def ask_due(self, now_s: float) -> bool:
        """Whether `ask` would name anything now."""
        return any(self._is_due(gap, now_s) for gap in self._gaps.values())

    def take_loss_ratio(self) -> float:
        """Fraction of the datagrams expected since the last call that did not come, 0..1 (RFC 3550 A.3)."""
        ratio = 1 - self._received / self._expected if self._expected else 0.0
        self._received = self._expected = 0
        return min(1.0, max(0.0, ratio))

    def _is_due(self, gap: _Gap, now_s: float) -> bool:
        settled = now_s - gap.since_s >= self._reorder_s
        rested = gap.asks == 0 or now_s - gap.asked_s >= _RETRY_ROUND_TRIPS * self.rtt_s
        return settled and rested and gap.asks < _MAX_ASKS and now_s - gap.since_s <= self._give_up_s

    def _unwrap(self, seq: int) -> int:
        """The number closest to the highest one that is `seq` modulo 2**16."""
        assert self._highest is not None
        half = SEQ_MODULUS // 2
        return self._highest + (seq - self._highest + half) % SEQ_MODULUS - half

    def _stray_arrival(self, seq: int, now_s: float) -> Arrival:
        """Far off: believed when the next one continues it, as after a restart of the sender."""
        if self._stray is not None and seq == (self._stray + 1) % SEQ_MODULUS:
            self._restart(seq, now_s)
            return Arrival.NEW
        self._stray = seq
        return Arrival.STRAY

    def _repeated_arrival(self, seq: int, now_s: float) -> Arrival:
        self._repeats += 1
        if self._repeats < _MAX_REPEATS:
            return Arrival.DUPLICATE
        self._restart(seq, now_s)
        return Arrival.NEW

    def _restart(self, seq: int, now_s: float) -> None:
        self._highest = seq + SEQ_MODULUS
        before = range(SEQ_MODULUS, self._highest) if seq < _BEGINNING else range(0)
        self._gaps = OrderedDict((number, _Gap(now_s)) for number in before)
        self._seen.clear()
        self._stray = None
        self._repeats = 0
        self._count(self._highest, 1 + len(before))

    def _count(self, number: int, newly_expected: int) -> None:
        self._seen[number] = None
        self._received += 1
        self._expected += newly_expected
        while len(self._seen) > 2 * _MAX_MISORDER:
            self._seen.popitem(last=False)

"""Datagrams of which nothing has been heard: tells when a run of losses goes on right now.

A receiver can ask only for what is followed by something that arrives. While a burst of losses lasts nothing does, and
its reports keep naming the same newest datagram; the time threshold of RFC 9002 (section 6.1.2) says when that is loss.
A large key picture on a narrow link arrives slowly, which is no loss: a datagram may also take as long as the bytes sent
before it take at the target rate; and on a link that is slower than that, as one that sends keys with more protection,
nothing is lost as long as what stands before it in the queue keeps arriving.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from common.datagram import SEQ_MODULUS

_PATIENCE = 9 / 8
"""Round trips after which a datagram that a report ought to have named is lost (RFC 9002, kTimeThreshold)."""
_PATIENCE_AGAIN = 3 / 4
"""The same once a run of losses is known to go on: most of what is sent then gets lost as well."""
_FIRST_RTT_S = 0.1
_RTT_GAIN = 1 / 8
_SLOW_LINK = 3.0
"""How many times longer than at the target rate the next datagram of a moving queue may take."""
_MAX_IN_FLIGHT = 1024


@dataclass(frozen=True, slots=True)
class _Sent:
    """A datagram on its way; queued_bytes : it and what was on its way when it left."""

    seq: int
    size_bytes: int
    queued_bytes: int
    at_s: float


class Flight:
    """Datagrams sent and not yet reported; bounded.

    rate_bps : what the link is taken to carry
    silent : a run of losses goes on, as far as is known
    sample_s : from the sending of the newest datagram that the last report named to that report, None where it named
        no new one
    """

    def __init__(self, rate_bps: float) -> None:
        self.rate_bps = rate_bps
        self._sent: deque[_Sent] = deque(maxlen=_MAX_IN_FLIGHT)
        self._unnamed: deque[_Sent] = deque(maxlen=_MAX_IN_FLIGHT)
        """Those given up as lost included: a queue that grows suddenly looks like a run of losses at first."""
        self._rtt_s = _FIRST_RTT_S
        self._moved_s = float("-inf")
        self.silent = False
        self.sample_s: float | None = None

    def waiting_s(self, now_s: float) -> float | None:
        """For how long the oldest datagram that no report has named has been on its way; None where there is none."""
        return now_s - self._unnamed[0].at_s if self._unnamed else None

    def sent(self, seq: int, size_bytes: int, now_s: float) -> None:
        """Note that datagram `seq` (0..65535) left."""
        queued_bytes = size_bytes + sum(sent.size_bytes for sent in self._sent)
        self._sent.append(_Sent(seq, size_bytes, queued_bytes, now_s))
        self._unnamed.append(self._sent[-1])

    def reported(self, highest_seq: int, now_s: float, patient: bool = False) -> tuple[int, ...]:
        """Take in a report; returns all that is in flight, oldest first, when the oldest of it must be lost.

        patient : nothing is judged this time

        What is returned counts as dealt with. A report that is older than one before it changes nothing, nor does one
        from before the first arrival (-1): there may be no receiver yet.
        """
        self.sample_s = None
        if highest_seq < 0:
            return ()
        while self._unnamed and self._reaches(highest_seq, self._unnamed[0].seq):
            self.sample_s = now_s - self._unnamed.popleft().at_s
        latest_s = self._rtt_s
        while self._sent and self._reaches(highest_seq, self._sent[0].seq):
            latest_s, self.silent, self._moved_s = now_s - self._sent.popleft().at_s, False, now_s
        self._rtt_s += _RTT_GAIN * (latest_s - self._rtt_s)
        if patient or not self._sent or now_s <= self._due_s(self._sent[0], latest_s):
            return ()
        lost = tuple(sent.seq for sent in self._sent)
        self._sent.clear()
        self.silent = True
        return lost

    def _due_s(self, oldest: _Sent, latest_s: float) -> float:
        """By when the oldest datagram must be reported; in a run of losses there is no queue to wait for."""
        round_trip_s = max(self._rtt_s, latest_s)
        if self.silent:
            return oldest.at_s + _PATIENCE_AGAIN * round_trip_s
        usual_s = 2 * self._rtt_s  # what is on its way anyway, reports come with delay
        queued_s = 8 * oldest.queued_bytes / self.rate_bps - usual_s
        due_s = oldest.at_s + _PATIENCE * round_trip_s + max(0.0, queued_s)
        if 8 * sum(sent.size_bytes for sent in self._sent) / self.rate_bps <= usual_s:
            return due_s
        own_s = 8 * oldest.size_bytes / self.rate_bps
        return max(due_s, self._moved_s + self._rtt_s + _SLOW_LINK * own_s)

    @staticmethod
    def _reaches(highest_seq: int, seq: int) -> bool:
        """Whether `highest_seq` is `seq` or comes after it, modulo 2**16."""
        return (highest_seq - seq) % SEQ_MODULUS < SEQ_MODULUS // 2

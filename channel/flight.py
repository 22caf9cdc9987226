"""Datagrams of which nothing has been heard: tells when a run of losses goes on right now.

A receiver can ask only for what is followed by something that arrives. While a burst of losses lasts nothing does, and
its reports keep naming the same newest datagram; the time threshold of RFC 9002 (section 6.1.2) says when that is loss.
"""

from __future__ import annotations

from collections import deque

from common.datagram import SEQ_MODULUS

_PATIENCE = 9 / 8
"""Round trips after which a datagram that a report ought to have named is lost (RFC 9002, kTimeThreshold)."""
_PATIENCE_AGAIN = 3 / 4
"""The same once a run of losses is known to go on: most of what is sent then gets lost as well."""
_FIRST_RTT_S = 0.1
_RTT_GAIN = 1 / 8
_MAX_IN_FLIGHT = 1024


class Flight:
    """Sequence numbers sent and not yet reported, with their times; bounded.

    silent : a run of losses goes on, as far as is known
    """

    def __init__(self) -> None:
        self._sent: deque[tuple[int, float]] = deque(maxlen=_MAX_IN_FLIGHT)
        self._rtt_s = _FIRST_RTT_S
        self.silent = False

    def sent(self, seq: int, now_s: float) -> None:
        """Note that datagram `seq` (0..65535) left."""
        self._sent.append((seq, now_s))

    def reported(self, highest_seq: int, now_s: float) -> tuple[int, ...]:
        """Take in a report; returns all that is in flight, oldest first, when the oldest of it must be lost.

        What is returned counts as dealt with. A report that is older than one before it changes nothing, nor does one
        from before the first arrival (-1): there may be no receiver yet.
        """
        if highest_seq < 0:
            return ()
        latest_s = self._rtt_s
        while self._sent and self._reaches(highest_seq, self._sent[0][0]):
            _, sent_s = self._sent.popleft()
            latest_s, self.silent = now_s - sent_s, False
        self._rtt_s += _RTT_GAIN * (latest_s - self._rtt_s)
        patience = _PATIENCE_AGAIN if self.silent else _PATIENCE
        if not self._sent or now_s - self._sent[0][1] <= patience * max(self._rtt_s, latest_s):
            return ()
        lost = tuple(seq for seq, _ in self._sent)
        self._sent.clear()
        self.silent = True
        return lost

    @staticmethod
    def _reaches(highest_seq: int, seq: int) -> bool:
        """Whether `highest_seq` is `seq` or comes after it, modulo 2**16."""
        return (highest_seq - seq) % SEQ_MODULUS < SEQ_MODULUS // 2

"""What was sent lately, so that it can be sent again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from channel.pieces import Piece
from common.datagram import SEQ_MODULUS


@dataclass(frozen=True, slots=True)
class _Sent:
    sent_s: float
    size_bytes: int
    pieces: tuple[Piece, ...]


class SentHistory:
    """Pieces of the datagrams of the last `window_s` seconds, bounded in number and bytes.

    A piece that was sent several times belongs to the datagram that held it last: the loss of an earlier one is no news.
    """

    def __init__(self, window_s: float, max_datagrams: int = 1024, max_bytes: int = 512 * 1024) -> None:
        self._window_s = window_s
        self._max_datagrams = min(max_datagrams, SEQ_MODULUS // 2)
        self._max_bytes = max_bytes
        self._sent: OrderedDict[int, _Sent] = OrderedDict()
        self._last_seq: dict[Piece, int] = {}
        self._bytes = 0

    def remember(self, seq: int, pieces: Sequence[Piece], now_s: float) -> None:
        """Keep the pieces of datagram `seq` (mod 2**16) that are worth sending again; one may be in it twice."""
        kept = tuple(dict.fromkeys(piece for piece in pieces if piece.resendable))
        if not kept:
            return
        size = sum(piece.payload_bytes for piece in kept)
        self._sent[seq % SEQ_MODULUS] = _Sent(now_s, size, kept)
        self._last_seq.update(dict.fromkeys(kept, seq % SEQ_MODULUS))
        self._bytes += size
        self.forget_old(now_s)

    def forget_old(self, now_s: float) -> None:
        """Drop what is beyond the bounds."""
        while self._sent and self._too_much(next(iter(self._sent.values())), now_s):
            self.take(next(iter(self._sent)))

    def take(self, seq: int) -> tuple[Piece, ...]:
        """The pieces of datagram `seq`, once: what is sent again is remembered under its new number."""
        seq %= SEQ_MODULUS
        sent = self._sent.pop(seq, None)
        if sent is None:
            return ()
        self._bytes -= sent.size_bytes
        taken = tuple(piece for piece in sent.pieces if self._last_seq.get(piece) == seq)
        for piece in taken:
            del self._last_seq[piece]
        return taken

    def _too_much(self, oldest: _Sent, now_s: float) -> bool:
        return (
            now_s - oldest.sent_s > self._window_s
            or len(self._sent) > self._max_datagrams
            or self._bytes > self._max_bytes
        )

"""The token bucket (as in RFC 2697) that paces what leaves."""

from __future__ import annotations


class TokenBucket:
    """Bytes that may leave at `rate_bps`, saving up at most `burst_s` of it (never less than `floor_bytes`).

    Urgent traffic may spend below zero: the debt is paid back before anything that waits for a positive
    level leaves.
    """

    def __init__(self, rate_bps: float, burst_s: float, floor_bytes: int) -> None:
        self.rate_bps = rate_bps
        self._burst_s = burst_s
        self._floor_bytes = floor_bytes
        self._updated_s: float | None = None
        self.level_bytes = 0.0

    def refill(self, now_s: float) -> None:
        """Earn what the time since the last call is worth."""
        elapsed_s = 0.0 if self._updated_s is None else max(0.0, now_s - self._updated_s)
        self._updated_s = now_s
        cap = max(self._floor_bytes, self.rate_bps / 8 * self._burst_s)
        self.level_bytes = min(cap, self.level_bytes + self.rate_bps / 8 * elapsed_s)

    def spend(self, count_bytes: int) -> None:
        """Take `count_bytes`; the level may go below zero."""
        self.level_bytes -= count_bytes

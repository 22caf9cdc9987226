"""How much anybody may ask for. Everything takes `now_s`, and nothing here waits."""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address

from pydantic import BaseModel, ConfigDict, Field


class Limits(BaseModel):
    """What the server allows."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    max_rooms: int = Field(200, ge=1, le=100_000)
    max_members: int = Field(16, ge=2, le=10_000)
    """Of one room, the sender among them."""
    max_message_bytes: int = Field(65_536, ge=1_024, le=1 << 20)
    messages_per_s: float = Field(20.0, gt=0.0, le=10_000.0)
    """Of one member, lasting."""
    burst: int = Field(60, ge=1, le=100_000)
    """So many messages may come at once."""
    idle_s: float = Field(60.0, gt=0.0)
    """A member that does not even answer pings for so long is put out."""
    handshake_s: float = Field(10.0, gt=0.0)
    """From the connection to its first complete request."""
    patience: int = Field(20, ge=1)
    """A member is put out when so many of its messages had to be refused, less one a second."""
    outbox_messages: int = Field(64, ge=1)
    """A member for which so many messages wait is put out."""
    failed_tokens: int = Field(10, ge=1)
    """Wrong tokens from one address, less `failed_tokens_per_min` a minute; then it has to wait."""
    failed_tokens_per_min: float = Field(6.0, gt=0.0)
    addresses: int = Field(10_000, ge=1)
    """How many addresses are remembered for that, the latest ones."""


class TokenBucket:
    """`burst` at once, `per_s` lasting; starts full. Not to be confused with access tokens."""

    __slots__ = ("_burst", "_level", "_per_s", "_since_s")

    def __init__(self, per_s: float, burst: int, now_s: float) -> None:
        self._per_s = per_s
        self._burst = self._level = float(burst)
        self._since_s = now_s

    def has(self, now_s: float) -> bool:
        """Whether one more would be allowed now."""
        self._level = min(self._burst, self._level + self._per_s * max(0.0, now_s - self._since_s))
        self._since_s = max(now_s, self._since_s)
        return self._level >= 1.0

    def take(self, now_s: float) -> bool:
        """Whether one more is allowed now, which is then counted."""
        allowed = self.has(now_s)
        self._level -= 1.0 if allowed else 0.0
        return allowed


class FailedTokens:
    """Addresses from which wrong tokens came, and how many more of these they may try."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def may_try(self, address: str, now_s: float) -> bool:
        """Whether a token from `address` is looked at at all."""
        bucket = self._buckets.get(address)
        return bucket is None or bucket.has(now_s)

    def failed(self, address: str, now_s: float) -> None:
        """One more wrong token came from `address`."""
        bucket = self._buckets.pop(address, None)
        if bucket is None:
            bucket = TokenBucket(self._limits.failed_tokens_per_min / 60, self._limits.failed_tokens, now_s)
        bucket.take(now_s)
        self._buckets[address] = bucket
        if len(self._buckets) > self._limits.addresses:
            self._buckets.popitem(last=False)


def network_of(remote: str | None) -> str:
    """What is counted as one address: of IPv6 the network of 64 bits, whose addresses belong to one place."""
    try:
        address = ip_address((remote or "").partition("%")[0])
    except ValueError:
        return "unknown"
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Address(int(address) >> 64 << 64))

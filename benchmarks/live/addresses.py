"""Where the live ends find each other, as people write it: checked before any library is loaded that takes long."""

from __future__ import annotations

from dataclasses import dataclass

from channel.signalling.urls import RoomUrl, parse_room_url
from channel.udp import SCHEME, Address, parse_udp_url
from common.errors import UsageError

Target = Address | RoomUrl
"""Where a sender sends: to an address over plain UDP, or into a room."""


def parse_target(to: str) -> Target:
    """Read `udp://HOST:PORT` or `ws[s]://HOST:PORT/ROOM?token=...`. Raises UsageError."""
    if not to:
        raise UsageError("nowhere to send to: give --to what `semcast receive` printed")
    return parse_udp_url(to) if to.startswith(SCHEME) else parse_room_url(to)


def without_token(target: Target) -> str:
    """The same as text, for people and results."""
    return f"{SCHEME}{target}" if isinstance(target, Address) else f"{target.server}/{target.room}"


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a receiver is found.

    page : address of the page; room : a room elsewhere, None for signalling of its own beside the page
    udp : address to take plain UDP on instead of WebRTC
    Raises UsageError for both.
    """

    page: Address
    room: RoomUrl | None = None
    udp: Address | None = None

    def __post_init__(self) -> None:
        if self.room is not None and self.udp is not None:
            raise UsageError("--udp and --from are two ways to get the same stream: choose one")

"""Where a room is: `wss://HOST:PORT/ROOM?token=...`, checked."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

from channel.signalling.tokens import IDENTITY, ROOM_NAME, Role
from channel.udp import Address
from common.errors import UsageError

SCHEMES = ("ws", "wss")
_DEFAULT_PORTS = {"ws": 80, "wss": 443}
_KEYS = ("token", "id")


@dataclass(frozen=True, slots=True)
class RoomUrl:
    """A room of a signalling server. token : may be None where the server runs with --open; id : only there"""

    secure: bool
    address: Address
    room: str
    token: str | None = field(default=None, repr=False)
    id: str | None = None

    @property
    def server(self) -> str:
        """Without room and token, for messages."""
        return f"{'wss' if self.secure else 'ws'}://{self.address}"

    def socket(self, role: Role, session: str) -> str:
        """What to connect to. Holds the token: not for logs or messages."""
        query = {"role": role, "session": session, "token": self.token, "id": self.id}
        given = {key: value for key, value in query.items() if value}
        return f"{self.server}/ws/{quote(self.room)}?{urlencode(given)}"


def parse_room_url(text: str) -> RoomUrl:
    """Read `ws[s]://HOST[:PORT]/ROOM[?token=...]`; raises UsageError that does not quote the token."""
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        raise _wrong("this", "host or port make no sense") from None
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if parts.scheme not in SCHEMES:
        raise _wrong(shown, f"it begins with {parts.scheme + ':' if parts.scheme else 'no scheme'}")
    if not parts.hostname or parts.username is not None or parts.password is not None or parts.fragment:
        raise _wrong(
            shown, "there is no host" if not parts.hostname else "user names and # have no place in it"
        )
    if port == 0:
        raise _wrong(shown, "port 0 cannot be connected to")
    room = parts.path.removeprefix("/").removesuffix("/")
    if not ROOM_NAME.fullmatch(room):
        raise _wrong(shown, "a room has 1 to 64 of A-Z a-z 0-9 _ -" if room else "there is no room in it")
    address = Address(parts.hostname, port or _DEFAULT_PORTS[parts.scheme])
    return RoomUrl(parts.scheme == "wss", address, room, **_query(parts, shown))


def _query(parts: SplitResult, shown: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in parse_qsl(parts.query, keep_blank_values=True, max_num_fields=None):
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1)
            raise _wrong(
                shown, f"unknown key {key!r}: " + (f"did you mean {near[0]}?" if near else "only token")
            )
        if key in found or not value:
            raise _wrong(shown, f"{key} is given twice" if key in found else f"{key} is empty")
        found[key] = value
    if not IDENTITY.fullmatch(found.get("id", "x")):
        raise _wrong(shown, "an id has 1 to 32 of A-Z a-z 0-9 _ -")
    return found


def _wrong(shown: str, why: str) -> UsageError:
    return UsageError(f"{shown!r} is no room: {why}; write wss://HOST:PORT/ROOM?token=TOKEN")

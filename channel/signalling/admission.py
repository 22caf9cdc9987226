"""Who is let in: the page that asks, the address it asks from, and its token.

    request -> origin (browsers only) -> address (how many wrong tokens came from there?) -> token -> Entrant

Browsers let any page open a WebSocket to any server, and say by `Origin` whose page it was; our own programs send none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast, get_args
from urllib.parse import urlsplit

from channel.signalling.limits import FailedTokens, Limits, network_of
from channel.signalling.refusals import Reason, RefusedError
from channel.signalling.tokens import IDENTITY, ROOM_NAME, Role, check_token, new_identity
from common.clock import Clock

if TYPE_CHECKING:
    from aiohttp.web import Request

NEVER_S = float("inf")


@dataclass(frozen=True, slots=True)
class Policy:
    """What a server does beyond its limits.

    behind_proxy : every connection comes from one proxy of ours, and the last address in X-Forwarded-For is true. Else
        that header is for anybody to write, and nobody looks at it.
    end_with_token : a member is put out when its token expires. Else, as with LiveKit, the token only lets it in; who
        loses the connection later needs one that still holds. Media do not cross this server either way.
    """

    behind_proxy: bool = False
    end_with_token: bool = False


DEFAULT_POLICY = Policy()


@dataclass(frozen=True, slots=True)
class Entrant:
    """Somebody who may come in. expires_s : when the stay ends at the latest, seconds since 1970"""

    room: str
    id: str
    role: Role
    expires_s: float = NEVER_S


class Admission:
    """Checks requests, and remembers addresses that wrong tokens came from.

    secret : signs tokens; None lets everybody in, who then says by `role` and `id` who it is (a lab's network)
    clock : limits; unix : expiry of tokens
    """

    def __init__(
        self, secret: bytes | None, limits: Limits, clock: Clock, unix: Clock, policy: Policy
    ) -> None:
        self._secret = secret
        self._clock = clock
        self._unix = unix
        self._policy = policy
        self._failed = FailedTokens(limits)

    def address(self, request: Request) -> str:
        """Where a request comes from, as far as that is to be believed."""
        named = self._policy.behind_proxy and forwarded_for(request.headers.getall("X-Forwarded-For", ()))
        return named or request.remote or ""

    def admit(self, request: Request) -> Entrant:
        """Who asks for what; raises RefusedError."""
        room, role = request.match_info["room"], request.query.get("role")
        if not ROOM_NAME.fullmatch(room) or role not in (None, *get_args(Role)):
            raise RefusedError(Reason.BAD_REQUEST)
        if self._is_foreign(request.headers.get("Origin"), request.host):
            raise RefusedError(Reason.FOREIGN_ORIGIN)
        if self._secret is None:
            identity = request.query.get("id") or new_identity()
            if role is None or not IDENTITY.fullmatch(identity):
                raise RefusedError(Reason.BAD_REQUEST)
            return Entrant(room, identity, cast(Role, role))
        return self._by_token(self._secret, request, room, role)

    def _by_token(self, secret: bytes, request: Request, room: str, role: str | None) -> Entrant:
        network, now_s = network_of(self.address(request)), self._clock.now_s()
        if not self._failed.may_try(network, now_s):
            raise RefusedError(Reason.ADDRESS_LIMITED)
        try:
            grant = check_token(secret, request.query.get("token", ""), room, role, self._unix.now_s())
        except RefusedError:
            self._failed.failed(network, now_s)
            raise
        expires_s = grant.expires_s if self._policy.end_with_token else NEVER_S
        return Entrant(room, grant.nonce, grant.role, expires_s)

    def _is_foreign(self, origin: str | None, host: str) -> bool:
        """Whether a page of another place asks. Where there are no tokens every page is foreign: nothing else would
        tell one whose host name was pointed at this machine (DNS rebinding)."""
        if origin is None:
            return False
        try:
            return self._secret is None or urlsplit(origin).netloc.lower() != host.lower()
        except ValueError:
            return True


def forwarded_for(headers: Sequence[str]) -> str | None:
    """The address that the nearest proxy saw: the last one of X-Forwarded-For; those before it anybody can write.

    headers : its values, in order; None where there are none. With or without a port: "192.0.2.7:4711", "[2001:db8::1]"
    """
    last = ",".join(headers).rpartition(",")[2].strip()
    if last.startswith("["):
        last = last[1:].partition("]")[0]
    elif last.count(":") == 1:
        last = last.partition(":")[0]
    return last or None

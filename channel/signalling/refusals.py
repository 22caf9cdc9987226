"""Why the server refuses: one word for logs and metrics, one sentence for whoever was refused."""

from __future__ import annotations

from enum import StrEnum

from common.errors import ChannelError


class Reason(StrEnum):
    """The value is what crosses the wire, and the label of logs and metrics; none names a room or a person."""

    NO_TOKEN = "no_token"
    BAD_TOKEN = "bad_token"
    EXPIRED_TOKEN = "expired_token"
    OTHER_ROOM = "other_room"
    OTHER_ROLE = "other_role"
    ADDRESS_LIMITED = "address_limited"
    BAD_REQUEST = "bad_request"
    NOT_FOUND = "not_found"
    FOREIGN_ORIGIN = "foreign_origin"
    SECOND_SENDER = "second_sender"
    ROOM_FULL = "room_full"
    TOO_MANY_ROOMS = "too_many_rooms"
    HANDSHAKE_TIMEOUT = "handshake_timeout"
    MALFORMED = "malformed"
    OVERSIZED = "oversized"
    TOO_FAST = "too_fast"
    UNKNOWN_MEMBER = "unknown_member"
    EXPELLED = "expelled"
    IDLE = "idle"
    SLOW = "slow"
    REPLACED = "replaced"
    INTERNAL = "internal"

    @property
    def sentence(self) -> str:
        """What happened, and what to do."""
        return _SENTENCES[self]

    @property
    def http_status(self) -> int:
        """Of the answer to a request that is refused for this."""
        return _HTTP_STATUS.get(self, 400)


_SENTENCES = {
    Reason.NO_TOKEN: "the signalling server wants a token: make one with semcast signal --new-token ROOM",
    Reason.BAD_TOKEN: "the token is not one of this signalling server: make a new one with its secret",
    Reason.EXPIRED_TOKEN: "the token has expired: make a new one",
    Reason.OTHER_ROOM: "the token is for another room",
    Reason.OTHER_ROLE: "the token, or the identity, is for another role: a sender's lets nobody receive, nor the reverse",
    Reason.ADDRESS_LIMITED: "too many wrong tokens came from this address: wait a minute",
    Reason.BAD_REQUEST: "the request is not understood: ask for /ws/ROOM?token=...&role=sender|receiver as a WebSocket",
    Reason.NOT_FOUND: "there is no such page: there are /ws/ROOM, /health and /metrics",
    Reason.FOREIGN_ORIGIN: "a page of another site may not open this connection",
    Reason.SECOND_SENDER: "the room has a sender already: stop that one, or use another room",
    Reason.ROOM_FULL: "the room is full: try again later, or raise --max-members",
    Reason.TOO_MANY_ROOMS: "the signalling server has no room left: try again later, or raise --max-rooms",
    Reason.HANDSHAKE_TIMEOUT: "the connection said nothing in time",
    Reason.MALFORMED: "the message is not understood: it must be an offer, answer, candidate, renew or bye in JSON",
    Reason.OVERSIZED: "the message is larger than the signalling server takes (--max-message-bytes)",
    Reason.TOO_FAST: "too many messages a second (--messages-per-s, --burst)",
    Reason.UNKNOWN_MEMBER: "whom the message names is not in the room, or cannot be talked to",
    Reason.EXPELLED: "too many messages had to be refused",
    Reason.IDLE: "there was no sign of life for too long",
    Reason.SLOW: "messages were not taken quickly enough",
    Reason.REPLACED: "somebody with the same token has taken this place: every member needs a token of its own",
    Reason.INTERNAL: "the signalling server failed: see its log",
}

_HTTP_STATUS = {
    Reason.NO_TOKEN: 401,
    Reason.BAD_TOKEN: 401,
    Reason.EXPIRED_TOKEN: 401,
    Reason.OTHER_ROOM: 403,
    Reason.OTHER_ROLE: 403,
    Reason.ADDRESS_LIMITED: 429,
    Reason.NOT_FOUND: 404,
    Reason.FOREIGN_ORIGIN: 403,
    Reason.SECOND_SENDER: 409,
    Reason.ROOM_FULL: 503,
    Reason.TOO_MANY_ROOMS: 503,
    Reason.INTERNAL: 500,
}

PASSING = frozenset(
    (
        Reason.ADDRESS_LIMITED,
        Reason.ROOM_FULL,
        Reason.TOO_MANY_ROOMS,
        Reason.IDLE,
        Reason.SLOW,
        Reason.INTERNAL,
    )
)
"""What may be gone when a client that was in the room comes back; the others will not get better by themselves."""


REFUSED_HEADER = "X-Semcast-Refused"
"""Of an answer that refuses: the reason's one word, for clients that do not read the body."""


class RefusedError(ChannelError):
    """The signalling server refuses. reason : why"""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.sentence)
        self.reason = reason

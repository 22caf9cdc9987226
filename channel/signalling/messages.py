"""What is said, in JSON, one message a WebSocket frame.

    members say     offer, answer, candidate, renew, bye      `to` names the other end; a receiver may leave it out
    members hear    the same, with `from` instead             and from the server: welcome, joined, left, refused

Field names of session descriptions and candidates are those of W3C's RTCSessionDescriptionInit and RTCIceCandidateInit.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from channel.signalling.ice import IceServer
from channel.signalling.refusals import Reason, RefusedError
from channel.signalling.tokens import Identity, Role

Number = Annotated[int, Field(ge=0, lt=1 << 53)]


class _Message(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_by_name=True, validate_by_alias=True
    )

    def text(self) -> str:
        """As it crosses; what is None is left out."""
        return self.model_dump_json(by_alias=True, exclude_none=True)


class Relayed(_Message):
    """What one member says to another. to : set by the member; from_ : set by the server, never by the member"""

    to: Identity | None = None
    from_: Identity | None = Field(None, alias="from")


class Offer(Relayed):
    """session : the sender's number of this attempt to connect; the answer repeats it"""

    type: Literal["offer"] = "offer"
    sdp: str
    session: Number | None = None


class Answer(Relayed):
    type: Literal["answer"] = "answer"
    sdp: str
    session: Number | None = None


class Candidate(Relayed):
    """candidate : None or empty after the last one"""

    type: Literal["candidate"] = "candidate"
    candidate: str | None = None
    sdpMid: str | None = None
    sdpMLineIndex: int | None = Field(None, ge=0, le=65_535)
    usernameFragment: str | None = None


class Renew(Relayed):
    """Connection `session` is lost: offer another."""

    type: Literal["renew"] = "renew"
    sdp: Literal[""] | None = None
    session: Number | None = None


class Bye(Relayed):
    type: Literal["bye"] = "bye"
    sdp: Literal[""] | None = None
    session: Number | None = None
    reason: str | None = None


class Somebody(_Message):
    """A member as others see it. session : another one after its program was started anew"""

    id: Identity
    role: Role
    session: Identity


class Welcome(_Message):
    """The first message to a member. id : the member's own; members : whom it can talk to"""

    type: Literal["welcome"] = "welcome"
    id: Identity
    role: Role
    members: list[Somebody] = []
    ice_servers: list[IceServer] = []
    max_message_bytes: int = Field(gt=0)


class Joined(Somebody):
    """Also when somebody comes back after its connection broke."""

    type: Literal["joined"] = "joined"


class Left(_Message):
    """Its connection has ended; it may come back."""

    type: Literal["left"] = "left"
    id: Identity
    role: Role


class Refused(_Message):
    """A message of this member was not passed on."""

    type: Literal["refused"] = "refused"
    reason: Annotated[Reason, Field(strict=False)]
    message: str


Said = Offer | Answer | Candidate | Renew | Bye
Heard = Said | Welcome | Joined | Left | Refused
_SAID: TypeAdapter[Said] = TypeAdapter(Annotated[Said, Field(discriminator="type")])
_HEARD: TypeAdapter[Heard] = TypeAdapter(Annotated[Heard, Field(discriminator="type")])

T = TypeVar("T")


def parse_said(data: str | bytes) -> Said:
    """What a member says; raises RefusedError for anything else."""
    said = _parse(_SAID, data)
    if said.from_ is not None:
        raise RefusedError(Reason.MALFORMED)
    return said


def parse_heard(data: str | bytes) -> Heard:
    """What a member hears; raises RefusedError for anything else."""
    return _parse(_HEARD, data)


def _parse(adapter: TypeAdapter[T], data: str | bytes) -> T:
    try:
        return adapter.validate_json(data)
    except ValidationError:
        raise RefusedError(Reason.MALFORMED) from None  # the cause would quote the message

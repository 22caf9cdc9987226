"""What two ends tell each other before they are connected, and how they get it across.

offer   sdp, session   the sender's, for each new connection; replaces the connection before
answer  sdp, session   the receiver's, to the offer of that number
renew   session        the receiver's: connection `session` is lost, offer another
bye                    the far end leaves for good
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

MAX_SDP_CHARACTERS = 64 * 1024

SignalKind = Literal["offer", "answer", "renew", "bye"]
Message = Mapping[str, Any]
"""A JSON object."""


class Signaller(Protocol):
    """Carries small JSON objects to one far end and back, in order.

    Used on the event loop of the transport only. Both methods raise ChannelError (or another OSError) once the
    far end cannot be reached any more; a connection that stands goes on without it.
    """

    async def send(self, message: Message) -> None: ...
    async def receive(self) -> Message: ...


@dataclass(frozen=True, slots=True)
class Signal:
    """One message of the exchange; `sdp` is empty for "renew" and "bye"."""

    kind: SignalKind
    session: int = 0
    sdp: str = ""

    def as_message(self) -> Message:
        """As `parse_signal` reads it."""
        return {"type": self.kind, "session": self.session, "sdp": self.sdp}


def parse_signal(message: object) -> Signal | None:
    """What `message` says, None where it is not one of ours."""
    if not isinstance(message, Mapping):
        return None
    kind: Any = message.get("type")
    session, sdp = message.get("session", 0), message.get("sdp", "")
    if kind not in get_args(SignalKind) or type(session) is not int or not isinstance(sdp, str):
        return None
    needs_sdp = kind in ("offer", "answer")
    if len(sdp) > MAX_SDP_CHARACTERS or needs_sdp != bool(sdp):
        return None
    return Signal(kind, session, sdp)

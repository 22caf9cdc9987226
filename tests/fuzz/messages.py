"""Readers of messages: signalling, tokens, the page, control messages of a link, and what files say of themselves."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from channel.signalling.admission import forwarded_for
from channel.signalling.limits import Limits, network_of
from channel.signalling.messages import parse_heard, parse_said
from channel.signalling.refusals import Reason, RefusedError
from channel.signalling.rooms import Member, Rooms
from channel.signalling.stats import Stats
from channel.signalling.tokens import Grant, check_token, issue_token
from channel.webrtc.link import PeerLink
from channel.webrtc.signaller import parse_signal
from common.clock import VirtualClock
from common.errors import BitstreamError, UsageError
from common.provenance import read_provenance
from receiver.web.access import Access
from receiver.web.messages import Control, SetControl, parse_browser_message
from tests.fuzz.sealing import split

SECRET = b"sixteen bytes or more"
UNIX_S = 1_800_000_000.0


def _whole(data: bytes) -> str:
    return data.decode("utf-8", "replace")


@dataclass
class _Ears:
    """Hears and forgets."""

    heard: int = 0

    def deliver(self, text: str) -> None:
        parse_heard(text)
        self.heard += 1

    def close(self, reason: Reason) -> None:
        self.heard += 1


def signalling(data: bytes) -> None:
    """What a member of a room says, and what one hears."""
    for text in (data, _whole(data)):
        with suppress(RefusedError):
            parse_heard(text)
        with suppress(RefusedError):
            said = parse_said(text)
            parse_signal(said.model_dump())
            rooms = Rooms(Limits(), Stats())
            sender, receiver = Member("a", "sender", "s", _Ears()), Member("b", "receiver", "r", _Ears())
            rooms.join("room", sender)
            rooms.join("room", receiver)
            for member in (sender, receiver):
                with suppress(RefusedError):
                    rooms.relay("room", member, said)


@cache
def _signature() -> str:
    return token_of().partition(".")[2]


def token_of() -> str:
    """A sound one."""
    return issue_token(SECRET, Grant(room="room", role="sender", expires_s=int(UNIX_S) + 60, nonce="member"))


def tokens(data: bytes) -> None:
    """Tokens: nothing but the very token that was issued opens a room."""
    text = _whole(data)
    for token in (text, text.partition(".")[0] + "." + _signature()):
        with suppress(RefusedError):
            check_token(SECRET, token, "room", "sender", UNIX_S)
            assert token == token_of()


def page(data: bytes) -> None:
    """What a browser says to the page's server."""
    with suppress(BitstreamError):
        message = parse_browser_message(_whole(data))
        if isinstance(message, SetControl):
            choices = ("auto", "0", "1")
            for control in (
                Control(message.name, 1.0, 0.0, 10.0),
                Control(message.name, "auto", choices=choices),
            ):
                with suppress(UsageError):
                    value = control.checked(message.value)
                    assert value in choices or 0.0 <= float(value) <= 10.0


def provenance(data: bytes) -> None:
    """What a file says of its pictures."""
    for text in (data, _whole(data)):
        found = read_provenance(text)
        assert found is None or read_provenance(found.text()) == found


def access(data: bytes) -> None:
    """Headers and queries: nobody comes in without the token."""
    parts = [part.decode("utf-8", "surrogateescape") for part in split(data)]
    host, origin, token, forwarded = [*parts, "", "", "", ""][:4]
    page_access = Access("0.0.0.0", "the token")
    for asked in (host, "192.0.2.7:8080"):
        for named in (None, origin):
            refused = page_access.refusal(asked, named, token)
            assert refused is not None or token == "the token"
    network_of(forwarded_for([forwarded]))


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def control(data: bytes) -> None:
    """Control messages of a live link, and what comes as its datagrams."""
    link = PeerLink("far end", VirtualClock(), _loop(), 8)
    for message in split(data)[:64]:
        link.deliver_control(_whole(message))
        link.deliver(message, ends_poll=True)
    link.deliver_control(_whole(data))
    for said in link.receive_control():
        parse_signal(said)
    assert len(link.receive(0.0)) <= 8
    link.close()

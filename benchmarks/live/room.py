"""How the ends of a live link find each other: in a room of a signalling server, their own or somebody else's.

Everything here runs on the event loop of a `WebRtcTransport`; the program's thread looks at what has come of it.
"""

from __future__ import annotations

import asyncio
import secrets

import structlog

from channel.signalling.client import RoomClient
from channel.signalling.far_end import FarEnd
from channel.signalling.limits import Limits
from channel.signalling.messages import Welcome
from channel.signalling.server import SignallingServer
from channel.signalling.tokens import Role, grant_for, issue_token
from channel.signalling.urls import RoomUrl
from channel.udp import Address
from channel.webrtc.link import PeerLink
from channel.webrtc.settings import IceServer
from channel.webrtc.transport import WebRtcTransport
from common.clock import SystemClock, UnixClock
from common.errors import ChannelError, SemcastError
from common.queues import BoundedQueue

OWN_ROOM = "live"
TOKEN_MINUTES = 24 * 60.0
_START_S = 15.0
_LINKS = 64


class Room:
    """Membership of a room: a link for each far end that comes in.

    Raises ChannelError where the server cannot be reached, or refuses.
    """

    def __init__(self, transport: WebRtcTransport, url: RoomUrl, role: Role) -> None:
        self._transport, self._url, self._role = transport, url, role
        self._came: BoundedQueue[PeerLink] = BoundedQueue(_LINKS)
        self._entered = asyncio.Event()
        self._failure: BaseException | None = None
        self._warned = False
        transport.start(self._attend, self._ended)
        try:
            transport.run(self._wait_until_in(), _START_S)
        except TimeoutError:
            raise ChannelError(
                f"{url.server} takes connections and says nothing: is it a signalling server?"
            ) from None

    def new_links(self) -> list[PeerLink]:
        """Links to far ends that came in since the last call."""
        found = []
        while (link := self._came.get()) is not None:
            found.append(link)
        return found

    def take_failure(self) -> str | None:
        """Why nobody new can come any more, once; links that stand go on."""
        if self._failure is None or self._warned:
            return None
        self._warned = True
        return str(self._failure)

    async def _attend(self) -> None:
        async with RoomClient(self._url, self._role) as client:
            self._entered.set()
            while True:
                far = await client.far_end()
                self._transport.set_ice_servers(ice_servers(client.welcome))
                self._came.put(self._meet(far))

    def _meet(self, far: FarEnd) -> PeerLink:
        if self._role == "sender":
            return self._transport.offer(far, far.id)
        return self._transport.answer(far, far.id)

    def _ended(self, error: BaseException | None) -> None:
        self._failure = error or ChannelError("the signalling link was closed")
        self._entered.set()

    async def _wait_until_in(self) -> None:
        await self._entered.wait()
        if isinstance(self._failure, SemcastError):
            raise self._failure
        if self._failure is not None:
            raise ChannelError(f"signalling failed: {self._failure}") from self._failure


class OwnSignalling:
    """A signalling server of this end's own, with one room and a new secret; gone with the transport.

    Raises ChannelError where `address` cannot be used.
    """

    def __init__(
        self, transport: WebRtcTransport, address: Address, log: structlog.typing.FilteringBoundLogger
    ) -> None:
        self._secret = secrets.token_bytes(32)
        self._ready = asyncio.Event()
        self._failure: BaseException | None = None
        self._server = SignallingServer(self._secret, Limits(), SystemClock(), UnixClock(), log)
        self._asked, self.address = address, address
        transport.start(self._serve, self._ended)
        transport.run(self._wait_until_ready(), _START_S)

    def url(self, role: Role, host: str) -> str:
        """Where a new member in `role` finds the room, token included; host : as that member reaches this machine"""
        token = issue_token(self._secret, grant_for(OWN_ROOM, role, TOKEN_MINUTES, UnixClock().now_s()))
        return f"ws://{Address(host, self.address.port)}/{OWN_ROOM}?token={token}"

    async def _serve(self) -> None:
        async with self._server.serving(self._asked) as self.address:
            self._ready.set()
            await asyncio.Event().wait()

    def _ended(self, error: BaseException | None) -> None:
        self._failure = error
        self._ready.set()

    async def _wait_until_ready(self) -> None:
        await self._ready.wait()
        if self._failure is not None:
            raise self._failure


def ice_servers(welcome: Welcome) -> tuple[IceServer, ...]:
    """The server's list, which has several addresses in an entry, as one entry for each."""
    return tuple(
        IceServer(url=url, username=server.username, credential=server.credential)
        for server in welcome.ice_servers
        for url in server.urls
    )

"""A signalling server on a free port of this machine, with clocks that tests move by hand."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import structlog

from channel.signalling.admission import DEFAULT_POLICY, Policy
from channel.signalling.ice import IceServerSettings
from channel.signalling.limits import Limits
from channel.signalling.server import SignallingServer
from channel.signalling.tokens import Grant, Role, issue_token, new_identity
from channel.udp import Address
from common.clock import VirtualClock

SECRET = b"a secret of sufficient length"
START_UNIX_S = 1_800_000_000.0
PATIENCE_S = 20.0
"""A test that waits for so long hangs."""


@dataclass
class Running:
    """A server that is up. logged : what it has logged, one dictionary an event"""

    server: SignallingServer
    clock: VirtualClock
    unix: VirtualClock
    address: Address
    http: aiohttp.ClientSession
    logged: list[dict[str, Any]] = field(default_factory=list)

    @property
    def base(self) -> str:
        return f"http://{self.address}"

    def token(
        self, role: Role = "sender", room: str = "studio", minutes: float = 5.0, nonce: str = ""
    ) -> str:
        expires_s = int(self.unix.now_s() + 60 * minutes)
        return issue_token(
            SECRET, Grant(room=room, role=role, expires_s=expires_s, nonce=nonce or new_identity())
        )

    def room_url(self, token: str, room: str = "studio") -> str:
        return f"ws://{self.address}/{room}?token={token}"

    @asynccontextmanager
    async def member(
        self, role: Role = "sender", room: str = "studio", **query: str
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse[Any]]:
        """A bare WebSocket in the room; its first message is the welcome."""
        params = {"token": self.token(role, room), **query}
        async with self.http.ws_connect(f"{self.base}/ws/{room}", params=params) as websocket:
            yield websocket

    async def refusal(
        self, path: str, extra: Mapping[str, str] | None = None, **query: str
    ) -> tuple[int, str]:
        """(HTTP status, reason) of a request to enter that is refused. extra : more headers"""
        headers = {
            **(extra or {}),
            "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        }  # fmt: skip
        async with self.http.get(self.base + path, params=query, headers=headers) as response:
            return response.status, (await response.json())["refused"]

    def refused(self) -> dict[str, int]:
        return {reason.value: count for reason, count in self.server.stats.refused.items()}


@asynccontextmanager
async def running(
    limits: Limits | None = None,
    secret: bytes | None = SECRET,
    ice: Sequence[IceServerSettings] = (),
    tls: ssl.SSLContext | None = None,
    policy: Policy = DEFAULT_POLICY,
) -> AsyncIterator[Running]:
    """A server for the time of the body, which fails rather than hang."""
    clock, unix, logged = VirtualClock(), VirtualClock(START_UNIX_S), []

    def keep(_: Any, level: str, event: dict[str, Any]) -> dict[str, Any]:
        logged.append({**event, "level": level})
        raise structlog.DropEvent

    log = structlog.wrap_logger(structlog.testing.CapturingLogger(), processors=[keep])
    server = SignallingServer(secret, limits or Limits(), clock, unix, log, ice, policy)
    async with (
        asyncio.timeout(PATIENCE_S),
        server.serving(Address("127.0.0.1", 0), tls) as address,
        aiohttp.ClientSession() as http,
    ):
        yield Running(server, clock, unix, address, http, logged)


async def until(condition: Callable[[], bool]) -> None:
    """Let the other tasks run until `condition` holds."""
    while not condition():
        await asyncio.sleep(0)

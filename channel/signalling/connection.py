"""One member's WebSocket: a bounded outbox, and one task that empties it.

A slow member holds up nobody: when its outbox is full it is put out.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import WebSocketError, WSCloseCode, WSMessage, WSMsgType, web

from channel.signalling.limits import Limits, TokenBucket
from channel.signalling.refusals import Reason

CLOSE_S = 1.0
"""How long a member may take to say goodbye when it is put out."""
_FRAME_REASONS = {
    WSCloseCode.MESSAGE_TOO_BIG: Reason.OVERSIZED,
    WSCloseCode.PROTOCOL_ERROR: Reason.MALFORMED,
    WSCloseCode.INVALID_TEXT: Reason.MALFORMED,
}
"""What a frame that aiohttp itself turned away is counted as."""

_Outgoing = tuple[WSMsgType, bytes]


class Connection:
    """One member's WebSocket; implements `rooms.Outlet`.

    heard_s : when it last gave a sign of life; ended_for : why it was put out; leaving : a goodbye is on its way
    expires_s : when its token expires, by the clock that tokens go by
    """

    def __init__(
        self,
        websocket: web.WebSocketResponse,
        request: web.Request,
        limits: Limits,
        now_s: float,
        expires_s: float = float("inf"),
    ) -> None:
        self.websocket = websocket
        self.expires_s = expires_s
        self.heard_s = now_s
        self.pace = TokenBucket(limits.messages_per_s, limits.burst, now_s)
        self.patience = TokenBucket(1.0, limits.patience, now_s)
        self.ended_for: Reason | None = None
        self.leaving = False
        self._transport = request.transport
        self._outbox: asyncio.Queue[_Outgoing] = asyncio.Queue(limits.outbox_messages)

    def deliver(self, text: str) -> None:
        """Send `text` some time; a member whose outbox is full is put out."""
        self._put(WSMsgType.TEXT, text.encode())

    def ping(self) -> None:
        self._put(WSMsgType.PING, b"")

    def pong(self, data: bytes) -> None:
        self._put(WSMsgType.PONG, data)

    def close(self, reason: Reason) -> None:
        """Say why, and goodbye, after what waits."""
        self.ended_for = self.ended_for or reason
        self._say_goodbye(reason.value)

    def go_away(self) -> None:
        """The server stops."""
        self._say_goodbye("")

    def abort(self, reason: Reason) -> None:
        """Cut the connection, which need not be alive."""
        self.ended_for = self.ended_for or reason
        if self._transport is not None:
            self._transport.abort()

    async def write(self) -> None:
        """Empty the outbox until the connection ends."""
        with suppress(ConnectionError):
            while True:
                kind, data = await self._outbox.get()
                if kind is WSMsgType.CLOSE:
                    code = WSCloseCode.POLICY_VIOLATION if data else WSCloseCode.GOING_AWAY
                    await self.websocket.close(code=code, message=data)
                    return
                await self.websocket.send_frame(data, kind)

    async def finish(self, writer: asyncio.Task[None]) -> None:
        """Let `writer` say goodbye where there is one to be said, then stop it."""
        if self.leaving:
            await asyncio.wait([writer], timeout=CLOSE_S)
        writer.cancel()
        await asyncio.wait([writer])

    def note(self, end: WSMessage) -> None:
        """Why the connection ended, where `end`, its last message, says that a frame was turned away."""
        if isinstance(end.data, WebSocketError):
            code = WSCloseCode(end.data.code)
            self.ended_for = self.ended_for or _FRAME_REASONS.get(code, Reason.MALFORMED)

    def _say_goodbye(self, why: str) -> None:
        if not self.leaving:
            self.leaving = True
            self._put(WSMsgType.CLOSE, why.encode())

    def _put(self, kind: WSMsgType, data: bytes) -> None:
        try:
            self._outbox.put_nowait((kind, data))
        except asyncio.QueueFull:
            self.abort(Reason.SLOW)

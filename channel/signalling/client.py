"""The client of one room, which reconnects by itself.

    async with RoomClient("wss://host:8765/studio?token=...", "sender") as room:
        far = await room.far_end()                # the next receiver that comes in
        await far.send({"type": "offer", "sdp": ...})
        answer = await far.receive()

`FarEnd` and `RoomClient` itself (for a room with one other end) have `send` and `receive`, which is what a peer
connection needs. A connection to the server that breaks is made again, in silence: media do not cross it. A far end whose
program was started anew is another `FarEnd`.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import aiohttp
from aiohttp import WSMsgType

from channel.signalling.far_end import FarEnd, Inbox
from channel.signalling.messages import (
    Heard,
    Joined,
    Left,
    Refused,
    Somebody,
    Welcome,
    parse_heard,
    parse_said,
)
from channel.signalling.refusals import PASSING, REFUSED_HEADER, Reason, RefusedError
from channel.signalling.tokens import Role, new_identity
from channel.signalling.urls import RoomUrl, parse_room_url
from common.clock import Clock, SystemClock
from common.errors import ChannelError, SemcastError, UsageError
from common.queues import DropCounter, Drops

CONNECT_S = 10.0
HEARTBEAT_S = 20.0
STEADY_S = 10.0
"""A connection that held for so long was a good one: the next wait is a short one again."""
FAR_ENDS = 256
"""Remembered at most; the ones that left are forgotten first."""

_Socket = aiohttp.ClientWebSocketResponse[Literal[True]]


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before connecting again: doubling, a random part less, so that not all come at once."""

    first_s: float = 0.5
    factor: float = 2.0
    longest_s: float = 15.0
    jitter: float = 0.5
    give_up_s: float = 120.0

    def delay_s(self, attempt: int, rng: random.Random) -> float:
        """Before attempt 0, 1, ...: between (1 - jitter) of the whole wait and the whole."""
        whole_s = min(self.longest_s, self.first_s * self.factor ** min(attempt, 64))
        return whole_s * (1.0 - self.jitter * rng.random())


class RoomClient:
    """A member of a room.

    tls : for wss; None trusts what the machine trusts
    sleep, rng, clock : how to wait between attempts, by how much, and for how long in all

    Entering raises RefusedError when the server refuses, ChannelError when it cannot be reached; nothing is retried
    before the first success.
    """

    def __init__(
        self,
        url: str | RoomUrl,
        role: Role,
        *,
        tls: ssl.SSLContext | None = None,
        backoff: Backoff = Backoff(),
        clock: Clock | None = None,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._url = parse_room_url(url) if isinstance(url, str) else url
        self._role: Role = role
        self._tls = tls
        self._backoff = backoff
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()
        self._sleep = sleep
        self._session_id = new_identity()
        self._http: aiohttp.ClientSession | None = None
        self._socket: _Socket | None = None
        self._connected = asyncio.Event()
        self._failure: SemcastError | None = None
        self._task: asyncio.Task[None] | None = None
        self._attempt = 0
        self._welcome: Welcome | None = None
        self._far_ends: dict[str, FarEnd] = {}
        self._arrivals: Inbox[FarEnd] = Inbox(FAR_ENDS)
        self._first: FarEnd | None = None
        self._accompanied = asyncio.Event()
        self._drops = DropCounter()

    @property
    def welcome(self) -> Welcome:
        """What the server said last on entering: own identity and ICE servers among it."""
        if self._welcome is None:
            raise ChannelError("not in a room yet: use `async with`")
        return self._welcome

    @property
    def drops(self) -> Drops:
        """Messages lost, by reason: those of the server, "inbox_full", "stranger", "malformed"."""
        return self._drops.snapshot()

    async def __aenter__(self) -> RoomClient:
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_S)
        self._http = aiohttp.ClientSession(timeout=timeout)
        try:
            socket = await self._connect(self._http)
        except BaseException:
            await self._http.close()
            raise
        self._task = asyncio.create_task(self._keep(self._http, socket))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._http is not None and self._task is not None
        if self._socket is not None:
            await self._socket.close()
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._http.close()
        if not self._task.cancelled() and (failure := self._task.exception()) is not None:
            raise failure

    async def far_end(self) -> FarEnd:
        """The next other end that came in, or is there already; raises ChannelError when none can come any more."""
        return await self._arrivals.get()

    async def send(self, message: Mapping[str, Any]) -> None:
        """To the first other end in the room, once there is one; see `FarEnd.send`."""
        await (await self._only()).send(message)

    async def receive(self) -> dict[str, Any]:
        """From the first other end in the room; see `FarEnd.receive`."""
        return await (await self._only()).receive()

    async def _only(self) -> FarEnd:
        await self._accompanied.wait()
        if self._first is None:
            raise self._failure or ChannelError("nobody else came into the room")
        return self._first

    # --- sending --------------------------------------------------------------------------------------------------

    async def _transmit(self, message: Mapping[str, Any]) -> None:
        text = self._checked(message)
        while True:
            await self._connected.wait()
            if self._failure is not None:
                raise self._failure
            socket = self._socket
            assert socket is not None
            try:
                await socket.send_str(text)
                return
            except (ConnectionError, aiohttp.ClientError):
                if socket is self._socket:
                    self._connected.clear()

    def _checked(self, message: Mapping[str, Any]) -> str:
        try:
            text = parse_said(_json(message)).text()
        except RefusedError as error:
            raise UsageError(f"cannot send {message.get('type')!r}: {error}") from None
        size, most = len(text.encode()), self.welcome.max_message_bytes
        if size > most:
            raise ChannelError(f"cannot send {message.get('type')!r}: {size} bytes, the server takes {most}")
        return text

    # --- the connection -------------------------------------------------------------------------------------------

    async def _keep(self, http: aiohttp.ClientSession, socket: _Socket) -> None:
        """Hear, and connect again, until that makes no sense any more; then everybody who waits is told."""
        try:
            while True:
                since_s = self._clock.now_s()
                await self._hear(socket)
                self._connected.clear()
                if self._clock.now_s() - since_s >= STEADY_S:
                    self._attempt = 0
                socket = await self._reconnect(http)
        except SemcastError as error:
            self._fail(error)
        finally:
            self._fail(ChannelError("the signalling link was closed"))

    async def _reconnect(self, http: aiohttp.ClientSession) -> _Socket:
        began_s = self._clock.now_s()
        while True:
            await self._sleep(self._backoff.delay_s(self._attempt, self._rng))
            self._attempt += 1
            try:
                return await self._connect(http)
            except ChannelError as error:
                if isinstance(error, RefusedError) and error.reason not in PASSING:
                    raise
                if self._clock.now_s() - began_s > self._backoff.give_up_s:
                    raise ChannelError(
                        f"gave up after {self._clock.now_s() - began_s:.0f} s: {error}"
                    ) from error

    async def _connect(self, http: aiohttp.ClientSession) -> _Socket:
        """A connection after its welcome. Errors never quote the URL, which holds the token."""
        try:
            async with asyncio.timeout(CONNECT_S):
                socket = await http.ws_connect(
                    self._url.socket(self._role, self._session_id),
                    ssl=self._tls or True,
                    heartbeat=HEARTBEAT_S,
                    compress=15,  # session descriptions shrink to a third: half a second at 12 kbit/s
                )
                first: aiohttp.WSMessage = await socket.receive()
        except aiohttp.WSServerHandshakeError as error:
            raise self._refusal(error) from None
        except aiohttp.ClientSSLError as error:
            raise ChannelError(
                f"{self._url.server} is not trusted: {error}; give its certificate authority, or ws:// where "
                "it serves without TLS"
            ) from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ChannelError(
                f"cannot reach the signalling server {self._url.server}: {_why(error)}; check the address, and that "
                "semcast signal runs there"
            ) from None
        self._raise_if_put_out(first)
        heard = _parsed(first)
        if not isinstance(heard, Welcome):
            await socket.close()
            raise ChannelError(f"{self._url.server} did not welcome us: is it a semcast signalling server?")
        self._enter(socket, heard)
        return socket

    def _refusal(self, error: aiohttp.WSServerHandshakeError) -> ChannelError:
        word = error.headers.get(REFUSED_HEADER, "") if error.headers else ""
        try:
            return RefusedError(Reason(word))
        except ValueError:
            return ChannelError(
                f"{self._url.server} answered {error.status}: is it a semcast signalling server?"
            )

    def _enter(self, socket: _Socket, welcome: Welcome) -> None:
        self._socket, self._welcome = socket, welcome
        here = {card.id for card in welcome.members}
        for far in self._far_ends.values():
            far.present = far.id in here
        for card in welcome.members:
            self._arrive(card)
        self._connected.set()

    async def _hear(self, socket: _Socket) -> None:
        """Until the connection ends; raises RefusedError when it is no use coming back."""
        while True:
            message: aiohttp.WSMessage = await socket.receive()
            if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                return self._raise_if_put_out(message)
            try:
                heard = _parsed(message)
            except RefusedError as error:
                self._drops.add(error.reason.value)
                continue
            self._take(heard)

    def _raise_if_put_out(self, message: aiohttp.WSMessage) -> None:
        if message.type is not WSMsgType.CLOSE or not message.extra:
            return
        try:
            reason = Reason(message.extra)
        except ValueError:
            return
        if reason not in PASSING:
            raise RefusedError(reason)

    def _take(self, heard: Heard) -> None:
        if isinstance(heard, Joined):
            self._arrive(heard)
        elif isinstance(heard, Left):
            if heard.id in self._far_ends:
                self._far_ends[heard.id].present = False
        elif isinstance(heard, Refused):
            self._drops.add(heard.reason.value)
        elif not isinstance(heard, Welcome):
            far = self._far_ends.get(heard.from_ or "")
            message = heard.model_dump(exclude={"to", "from_"}, exclude_none=True)
            if far is None or not far.inbox.put(message):
                self._drops.add("stranger" if far is None else "inbox_full")

    def _arrive(self, card: Somebody) -> None:
        """A far end is there: a new one, one that was started anew, or one whose connection had broken."""
        known = self._far_ends.pop(card.id, None)
        if known is not None and known.session == card.session:
            known.present = True
            self._far_ends[card.id] = known
            return
        if known is not None:
            known.replace()
        self._far_ends[card.id] = far = FarEnd(card, self._transmit)
        if self._first is None or self._first is known:
            self._first = far
            self._accompanied.set()
        if not self._arrivals.put(far):
            self._drops.add("inbox_full")
        self._forget()

    def _forget(self) -> None:
        gone = [far for far in self._far_ends.values() if not far.present]
        for far in gone[: max(0, len(self._far_ends) - FAR_ENDS)]:
            far.inbox.close(ChannelError("the other end has left"))
            del self._far_ends[far.id]

    def _fail(self, error: SemcastError) -> None:
        """Nothing comes any more; the first reason counts."""
        self._failure = self._failure or error
        self._arrivals.close(self._failure)
        for far in self._far_ends.values():
            far.inbox.close(self._failure)
        self._connected.set()
        self._accompanied.set()


def _why(error: Exception) -> str:
    """In the system's words where it has some: "Connection refused", not how aiohttp puts it."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    number = cause.errno if isinstance(cause, OSError) else None
    if number is not None and number in errno.errorcode:
        return os.strerror(number)
    return str(error) or "no answer in time"


def _parsed(message: aiohttp.WSMessage) -> Heard:
    if message.type is not WSMsgType.TEXT:
        raise RefusedError(Reason.MALFORMED)
    return parse_heard(message.data)


def _json(message: Mapping[str, Any]) -> str:
    try:
        return json.dumps(message)
    except (TypeError, ValueError):
        raise RefusedError(Reason.MALFORMED) from None

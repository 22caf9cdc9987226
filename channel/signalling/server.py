"""The signalling server: aiohttp around `Rooms`.

    request -> Admission -> Rooms.join -> welcome -> listen: limit, parse, Rooms.relay -> Rooms.leave
                                             other members' messages -> Connection: outbox -> writer -> WebSocket

What is refused is counted by reason; tokens and messages are never logged.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import WSMessage, WSMsgType, web

from channel.signalling.admission import DEFAULT_POLICY, Admission, Policy
from channel.signalling.connection import CLOSE_S, Connection
from channel.signalling.ice import IceServerSettings
from channel.signalling.limits import Limits
from channel.signalling.messages import Refused, parse_said
from channel.signalling.refusals import REFUSED_HEADER, Reason, RefusedError
from channel.signalling.rooms import Member, Rooms
from channel.signalling.stats import Stats, health, prometheus_text
from channel.signalling.tokens import IDENTITY, new_identity
from channel.udp import Address
from common.clock import Clock
from common.errors import ChannelError

if TYPE_CHECKING:
    from aiohttp.web_protocol import RequestHandler
    from structlog.typing import FilteringBoundLogger

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SignallingServer:
    """Rooms, and the pages /ws/ROOM, /health and /metrics.

    secret : signs tokens, None for none, see `Admission`
    clock : limits and idle times; unix : expiry of tokens and TURN credentials
    """

    def __init__(
        self,
        secret: bytes | None,
        limits: Limits,
        clock: Clock,
        unix: Clock,
        log: FilteringBoundLogger,
        ice: Sequence[IceServerSettings] = (),
        policy: Policy = DEFAULT_POLICY,
    ) -> None:
        self.stats = Stats()
        self.rooms = Rooms(limits, self.stats)
        self._admission = Admission(secret, limits, clock, unix, policy)
        self._limits = limits
        self._clock = clock
        self._unix = unix
        self._log = log
        self._ice = ice
        self._connections: set[Connection] = set()
        self._greeted: set[RequestHandler] = set()
        self._strangers_s: dict[RequestHandler, float] = {}
        self._runner: web.AppRunner | None = None

    @asynccontextmanager
    async def serving(self, address: Address, tls: ssl.SSLContext | None = None) -> AsyncIterator[Address]:
        """Serve at `address` while the body runs; gives the address in use. Raises ChannelError if it cannot be had."""
        self._runner = web.AppRunner(
            self._application(), access_log=None, logger=_silent_logger(), shutdown_timeout=CLOSE_S,
            keepalive_timeout=2 * self._limits.handshake_s, lingering_time=0.0,
        )  # fmt: skip
        await self._runner.setup()
        sweeper = None
        try:
            listener = await self._listen_at(address, tls)
            sweeper = asyncio.create_task(self._sweep_now_and_then())
            try:
                yield Address(*listener.sockets[0].getsockname()[:2])
            finally:
                listener.close()
        finally:
            if sweeper is not None:
                sweeper.cancel()
            for connection in self._connections:
                connection.go_away()
            await self._runner.cleanup()
            self._runner = None

    @property
    def connections(self) -> int:
        """Open ones, of members and of others."""
        return len(self._open())

    def sweep(self) -> None:
        """Put out whose time is over or who gave no sign of life for too long, and ask the others for one."""
        now_s, unix_s = self._clock.now_s(), self._unix.now_s()
        for connection in tuple(self._connections):
            if now_s - connection.heard_s > self._limits.idle_s:
                connection.abort(Reason.IDLE)
            elif unix_s >= connection.expires_s:
                connection.close(Reason.EXPIRED_TOKEN)
            else:
                connection.ping()
        self._meet_strangers(now_s)

    def _meet_strangers(self, now_s: float) -> None:
        """Cut connections that have not made a request in time; aiohttp alone would, but not count them."""
        open_ = self._open()
        self._greeted &= open_
        self._strangers_s = {
            stranger: self._strangers_s.get(stranger, now_s) for stranger in open_ - self._greeted
        }
        for stranger, since_s in self._strangers_s.items():
            if now_s - since_s > self._limits.handshake_s:
                self._greeted.add(stranger)  # so that it is counted once
                self._refuse(Reason.HANDSHAKE_TIMEOUT)
                stranger.force_close()

    # --- pages ----------------------------------------------------------------------------------------------------

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._guard], client_max_size=1024)
        application.router.add_get("/ws/{room}", self._enter)
        application.router.add_get("/health", self._health)
        application.router.add_get("/metrics", self._metrics)
        return application

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Whatever is wrong is counted and answered by one line of JSON; no connection is kept for more requests."""
        self._greeted.add(request.protocol)
        try:
            response = await handler(request)
        except web.HTTPException as error:
            reason = Reason.NOT_FOUND if error.status == 404 else Reason.BAD_REQUEST
            response = self._refusal(reason, request, error.status)
        except RefusedError as error:
            response = self._refusal(error.reason, request, error.reason.http_status)
        except Exception as error:
            self._log_failure(error)
            response = self._refusal(Reason.INTERNAL, request, Reason.INTERNAL.http_status)
        if not response.prepared:
            response.force_close()
        return response

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response(health(self.stats, self.rooms))

    async def _metrics(self, _: web.Request) -> web.Response:
        found = prometheus_text(self.stats, self.rooms)
        if found is None:
            return web.Response(status=501, text="not installed: pip install prometheus-client\n")
        text, content_type = found
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def _enter(self, request: web.Request) -> web.WebSocketResponse:
        """One member's stay, from its request to the end of its connection."""
        entrant = self._admission.admit(request)
        room = entrant.room
        websocket = web.WebSocketResponse(
            timeout=CLOSE_S, autoping=False, compress=True, max_msg_size=self._limits.max_message_bytes
        )
        session = request.query.get("session") or new_identity()
        if not websocket.can_prepare(request).ok or not IDENTITY.fullmatch(session):
            raise RefusedError(Reason.BAD_REQUEST)
        now_s, unix_s = self._clock.now_s(), self._unix.now_s()
        connection = Connection(websocket, request, self._limits, now_s, entrant.expires_s)
        member = Member(entrant.id, entrant.role, session, connection)
        ice = [server.for_member(entrant.id, unix_s) for server in self._ice]
        self.rooms.join(room, member, ice)
        self._connections.add(connection)
        writer = None
        try:
            await websocket.prepare(request)
            writer = asyncio.create_task(connection.write())
            address = self._admission.address(request)
            self._log.info("joined", room=room, member=member.id, role=member.role, address=address)
            await self._listen(room, member, connection)
        except ConnectionError:
            pass
        except Exception as error:
            self._log_failure(error)
            connection.close(Reason.INTERNAL)
        finally:
            self.rooms.leave(room, member)
            self._connections.discard(connection)
            self._count_ending(connection, room, member)
            if writer is not None:
                await connection.finish(writer)
        return websocket

    def _refusal(self, reason: Reason, request: web.Request, status: int) -> web.Response:
        self._refuse(reason)
        if reason is not Reason.ADDRESS_LIMITED:  # a flood must not fill the log
            address = self._admission.address(request)
            self._log.warning("refused", reason=reason.value, address=address)
        body = {"refused": reason.value, "message": reason.sentence}
        return web.json_response(body, status=status, headers={REFUSED_HEADER: reason.value})

    # --- a member's stay ------------------------------------------------------------------------------------------

    async def _listen(self, room: str, member: Member, connection: Connection) -> None:
        """Pass on what `member` says until it goes or is put out."""
        while connection.ended_for is None:
            message = await connection.websocket.receive()
            if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                connection.note(message)
                return
            now_s = connection.heard_s = self._clock.now_s()
            try:
                if not connection.pace.take(now_s):
                    raise RefusedError(Reason.TOO_FAST)
                self._take(message, room, member, connection)
            except RefusedError as error:
                self._refuse_message(error.reason, connection, now_s)

    def _take(self, message: WSMessage, room: str, member: Member, connection: Connection) -> None:
        if message.type is WSMsgType.TEXT:
            self.rooms.relay(room, member, parse_said(message.data))
        elif message.type is WSMsgType.PING:
            connection.pong(message.data)
        elif message.type is not WSMsgType.PONG:
            raise RefusedError(Reason.MALFORMED)

    def _refuse_message(self, reason: Reason, connection: Connection, now_s: float) -> None:
        self._refuse(reason)
        if connection.patience.take(now_s):
            connection.deliver(Refused(reason=reason, message=reason.sentence).text())
        else:
            connection.close(Reason.EXPELLED)

    def _count_ending(self, connection: Connection, room: str, member: Member) -> None:
        reason = connection.ended_for
        if reason is not None and reason is not Reason.REPLACED:  # `Rooms` counts those
            self._refuse(reason)
        why = "closed" if reason is None else reason.value
        self._log.info("left", room=room, member=member.id, role=member.role, reason=why)

    def _refuse(self, reason: Reason) -> None:
        self.stats.refused[reason] += 1

    # --- the rest -------------------------------------------------------------------------------------------------

    def _log_failure(self, error: Exception) -> None:
        """Type and place only: the text of an error may quote what somebody sent."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(place.filename)}:{place.lineno}"
        self._log.error("failed", error=type(error).__name__, where=where)

    def _open(self) -> set[RequestHandler]:
        server = self._runner.server if self._runner else None
        return set(server.connections) if server else set()

    async def _sweep_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(min(self._limits.idle_s, self._limits.handshake_s) / 4)
            self.sweep()

    async def _listen_at(self, address: Address, tls: ssl.SSLContext | None) -> asyncio.Server:
        assert self._runner is not None and self._runner.server is not None
        handshake_s = None if tls is None else self._limits.handshake_s
        try:
            return await asyncio.get_running_loop().create_server(
                self._runner.server,
                address.host or None,
                address.port,
                ssl=tls,
                ssl_handshake_timeout=handshake_s,
            )
        except socket.gaierror as error:
            raise ChannelError(
                f"cannot resolve `{address}`: {error.strerror}; check the host name"
            ) from error
        except OSError as error:
            text = os.strerror(error.errno) if error.errno else str(error)
            raise ChannelError(
                f"cannot listen on {address}: {text}; check the address, or choose another port"
            ) from error


def _silent_logger() -> logging.Logger:
    """For aiohttp, which would write what strangers send; what goes wrong is logged in `_guard`."""
    logger = logging.Logger("semcast.signalling.http")
    logger.addHandler(logging.NullHandler())
    return logger

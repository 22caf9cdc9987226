"""One far end: offer, answer, hold the connection, make a new one when it is lost.

    sender                                 receiver
    offer_sending ── offer (session n) ──> answer_receiving
                  <─ answer (session n) ──
                     ... connected: RTP, RTCP and a data channel for control messages ...
                  <─ renew (session n) ───  silent for too long, or failed: a new connection, since aiortc knows no
                  ── offer (session n+1) ─> ICE restart; both ends notice by themselves, `renew` only helps
                  <─ bye ────────────────>

Queues and totals belong to the `PeerLink` and outlive the connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.rtcconfiguration import RTCIceTransportPolicy

from channel.webrtc.link import MAX_CONTROL_BYTES, PeerLink
from channel.webrtc.payload import (
    ReceivingStream,
    SendingStream,
    check_aiortc,
    register_codec,
    without_extensions,
)
from channel.webrtc.settings import WebRtcConfig
from channel.webrtc.signaller import Message, Signal, Signaller, parse_signal
from channel.webrtc.stats import PathStats, PeerState
from common.errors import ChannelError

CONTROL_LABEL = "semcast-control"

_CHECK_S = 0.25
"""How often silence is looked for."""

_GOODBYE_S = 0.3
"""A closed connection waits so long for a goodbye, which takes another way."""

_CLOSE_S = 5.0
_BYE_S = 1.0
_MAX_BUFFERED_BYTES = 4 * MAX_CONTROL_BYTES


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a connection ended, and the offer that replaces it, if there is one."""

    reason: str
    offer: Signal | None = None


async def offer_sending(signaller: Signaller, link: PeerLink, config: WebRtcConfig) -> None:
    """Send what `link` is given to one far end, until that leaves or the task is cancelled.

    Raises ChannelError when no connection can be made, or none any more.
    """
    check_aiortc()
    mailbox = _Mailbox(signaller, link)
    failures = session = 0
    attempts = config.max_attempts
    async with _conversation(signaller, mailbox):
        while True:
            session += 1
            async with _connection(Connection(link, config, session), signaller) as connection:
                await connection.offer(signaller)
                ending = await connection.hold(mailbox)
            if mailbox.left or (connection.was_closed and mailbox.lost):
                return
            failures = 0 if connection.was_connected else failures + 1
            attempts = config.max_renewals if connection.was_connected else attempts
            if failures >= attempts or mailbox.lost:
                raise ChannelError(_given_up(link.name, failures, ending.reason))
            link.report(PeerState.LOST, ending.reason)


def _given_up(name: str, failures: int, reason: str) -> str:
    """failures : attempts in vain since a connection stood last"""
    if failures == 0:
        return f"the connection to {name} is lost, and nothing is left to agree on a new one with: {reason}"
    return f"no connection to {name} after {failures} attempt{'s' * (failures > 1)}: {reason}"


async def answer_receiving(signaller: Signaller, link: PeerLink, config: WebRtcConfig) -> None:
    """Take in the stream that the far end offers, until that leaves or the task is cancelled.

    Waits for the first offer as long as it takes. Raises ChannelError when the far end offers something else, or
    no new connection in time after one was lost.
    """
    check_aiortc()
    register_codec()
    mailbox = _Mailbox(signaller, link)
    async with _conversation(signaller, mailbox):
        offer = await mailbox.offer(None)
        while offer is not None:
            async with _connection(Connection(link, config, offer.session), signaller) as connection:
                await connection.answer(offer, signaller)
                ending = await connection.hold(mailbox)
            if mailbox.left or (connection.was_closed and mailbox.lost):
                return
            link.report(PeerState.LOST, ending.reason)
            offer = ending.offer
            if offer is None:
                with suppress(OSError):
                    await signaller.send(Signal("renew", connection.session).as_message())
                offer = await mailbox.offer(config.connect_timeout_s * config.max_renewals)
        if not mailbox.left:
            raise ChannelError(f"{link.name} offers no new connection: start it again")


class Connection:
    """One RTCPeerConnection, from its offer to its end."""

    def __init__(self, link: PeerLink, config: WebRtcConfig, session: int) -> None:
        self.session = session
        self.was_connected = self.was_closed = False
        self._link = link
        self._config = config
        self._began_s = link.clock.now_s()
        self._next_offer: Signal | None = None
        self._stream: SendingStream | ReceivingStream | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._peer = RTCPeerConnection(_configuration(config))
        link.connection = self
        self._peer.on("connectionstatechange", self._on_state)
        self._peer.on("datachannel", self._on_channel)

    async def offer(self, signaller: Signaller) -> None:
        """Offer our stream. Raises ChannelError when the far end cannot be told."""
        self._stream = SendingStream(self._peer, self._link, self._config.answer_nacks)
        channel = self._peer.createDataChannel(CONTROL_LABEL)
        channel.on("open", lambda: self._on_channel(channel))
        await self._peer.setLocalDescription(await self._peer.createOffer())
        await self._tell("offer", signaller)

    async def answer(self, offer: Signal, signaller: Signaller) -> None:
        """Accept the far end's stream. Raises ChannelError when it is none of ours, or cannot be told."""
        await self._set_remote(offer)
        stream = self._stream = ReceivingStream(self._peer, self._link)
        await self._peer.setLocalDescription(await self._peer.createAnswer())
        await self._tell("answer", signaller)
        self._start(self._send_reports(stream))

    async def hold(self, mailbox: _Mailbox) -> Ending:
        """Until the connection is lost or one end leaves."""
        while not self._ended.done():
            message = mailbox.pending()
            awaited: set[asyncio.Future[Any]] = {self._ended} if message is None else {self._ended, message}
            await asyncio.wait(awaited, timeout=_CHECK_S, return_when=asyncio.FIRST_COMPLETED)
            if message is not None and message.done() and (signal := mailbox.take()) is not None:
                await self._on_signal(signal)
            self._check_time()
        return Ending(self._ended.result(), self._next_offer)

    async def close(self) -> None:
        """End it; what takes too long is left behind.

        In a task of its own: aiortc may be closing already, and whoever is cancelled while waiting for that would cancel
        the future that aiortc means to set.
        """
        self._link.connection = None
        self._link.report(self._link.state, connected=False)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._peer.remove_all_listeners()
        closing = asyncio.create_task(self._peer.close())
        await asyncio.wait({closing}, timeout=_CLOSE_S)

    async def path_stats(self) -> PathStats:
        """As of now."""
        return PathStats() if self._stream is None else await self._stream.path_stats()

    async def request_refresh(self) -> None:
        """Send a PLI, where this end receives."""
        if isinstance(self._stream, ReceivingStream):
            await self._stream.send_pli()

    async def _tell(self, kind: Any, signaller: Signaller) -> None:
        description = without_extensions(self._peer.localDescription.sdp)
        try:
            await signaller.send(Signal(kind, self.session, description).as_message())
        except OSError as error:
            raise ChannelError(f"cannot reach {self._link.name} to set up the connection: {error}") from error

    async def _set_remote(self, signal: Signal) -> None:
        try:
            await self._peer.setRemoteDescription(RTCSessionDescription(signal.sdp, signal.kind))
        except Exception as error:  # aiortc's parser may raise anything
            self._link.drop("bad_signal")
            raise ChannelError(f"{self._link.name} sent an unusable {signal.kind}: {error}") from error

    async def _on_signal(self, signal: Signal) -> None:
        if signal.kind == "bye":
            self._end("the far end left")
        elif signal.kind == "offer":
            self._next_offer = signal
            self._end("the far end renews the connection")
        elif signal.session != self.session:
            self._link.drop("bad_signal")  # about a connection before this one
        elif signal.kind == "renew":
            self._end("the far end heard nothing any more")
        else:
            await self._set_remote(signal)

    def _check_time(self) -> None:
        link, config = self._link, self._config
        if not self.was_connected:
            if link.clock.now_s() - self._began_s > config.connect_timeout_s:
                self._end(f"no connection within {config.connect_timeout_s:g} s")
        elif link.silent_s > config.renew_after_s:
            self._end(f"nothing heard for {config.renew_after_s:g} s")
        elif link.silent_s > config.lost_after_s:
            reason = f"nothing heard for {config.lost_after_s:g} s"
            link.report(PeerState.LOST, reason, connected=link.connected)
        elif link.state is PeerState.LOST:
            link.report(PeerState.CONNECTED, "heard again", connected=link.connected)

    def _on_state(self) -> None:
        state = self._peer.connectionState
        if state == "connected":
            self.was_connected = True
            self._link.report(PeerState.CONNECTED, connected=True)
        elif state == "failed":
            self._end("the connection failed: no way through the network, or no answer")
        elif state == "closed":
            self.was_closed = True
            self._link.report(self._link.state, connected=False)
            asyncio.get_running_loop().call_later(_GOODBYE_S, self._end, "the far end closed the connection")

    def _end(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)

    def _on_channel(self, channel: RTCDataChannel) -> None:
        if channel.label != CONTROL_LABEL:
            return
        channel.on("message", self._link.deliver_control)
        self._start(self._send_control(channel))

    async def _send_control(self, channel: RTCDataChannel) -> None:
        if self._link.welcome is not None:
            channel.send(self._link.welcome)
        while channel.readyState == "open":
            text = await self._link.next_control()
            if channel.readyState != "open" or channel.bufferedAmount > _MAX_BUFFERED_BYTES:
                self._link.drop("control_full")
            else:
                channel.send(text)

    async def _send_reports(self, stream: ReceivingStream) -> None:
        while True:
            reports, _ = await self._link.next_poll()
            for report in reports:
                await stream.send_report(report)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Mailbox:
    """What comes from the signaller: sound messages, one at a time.

    lost : the signaller has failed
    left : the far end said goodbye
    """

    def __init__(self, signaller: Signaller, link: PeerLink) -> None:
        self._signaller = signaller
        self._link = link
        self._task: asyncio.Task[Message] | None = None
        self.lost = self.left = False

    def pending(self) -> asyncio.Task[Message] | None:
        """Done when there is a message to `take`; None when there will be none any more."""
        if self._task is None and not self.lost:
            self._task = asyncio.create_task(_receive(self._signaller))
        return self._task

    def take(self) -> Signal | None:
        """The message that `pending` brought, None for a bad one or none at all."""
        assert self._task is not None
        task, self._task = self._task, None
        try:
            signal = parse_signal(task.result())
        except OSError:
            self.lost = True
            return None
        if signal is None:
            self._link.drop("bad_signal")
        self.left = self.left or (signal is not None and signal.kind == "bye")
        return signal

    async def offer(self, timeout_s: float | None) -> Signal | None:
        """The next offer; None when the far end left, cannot be heard, or the time is over."""
        until_s = None if timeout_s is None else self._link.clock.now_s() + timeout_s
        while (task := self.pending()) is not None:
            rest_s = None if until_s is None else max(0.0, until_s - self._link.clock.now_s())
            await asyncio.wait({task}, timeout=rest_s)
            if not task.done():
                return None
            signal = self.take()
            if signal is not None and signal.kind == "offer":
                return signal
            if self.left:
                return None
        return None

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


async def _receive(signaller: Signaller) -> Message:
    return await signaller.receive()


@asynccontextmanager
async def _conversation(signaller: Signaller, mailbox: _Mailbox) -> AsyncIterator[None]:
    """Says goodbye where this end is the one to leave."""
    try:
        yield
    except BaseException:
        await _say_bye(signaller)
        raise
    finally:
        await mailbox.close()


@asynccontextmanager
async def _connection(connection: Connection, signaller: Signaller) -> AsyncIterator[Connection]:
    """Closes it in the end; where this end leaves, only after it has said so, or the far end would connect anew."""
    try:
        yield connection
    except BaseException:
        await _say_bye(signaller)
        raise
    finally:
        await connection.close()


async def _say_bye(signaller: Signaller) -> None:
    with suppress(OSError, TimeoutError):
        await asyncio.wait_for(signaller.send(Signal("bye").as_message()), _BYE_S)


def _configuration(config: WebRtcConfig) -> RTCConfiguration:
    """Always names its servers: aiortc's default asks a public one."""
    return RTCConfiguration(
        iceServers=[
            RTCIceServer(server.url, server.username, server.credential) for server in config.ice_servers
        ],
        iceTransportPolicy=RTCIceTransportPolicy.RELAY if config.relay_only else RTCIceTransportPolicy.ALL,
        bundlePolicy=RTCBundlePolicy.MAX_BUNDLE,
    )

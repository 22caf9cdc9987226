"""One far end: bounded queues between the program's thread and the event loop, and everything that is counted.

    program's thread                        event loop
    send, send_poll ──> outgoing ─────────> next_poll        newest win
    receive <────────── incoming <───────── deliver          newest win
    send_control ─────> control out ──────> next_control     in order, refused when full
    receive_control <── control in <─────── deliver_control  in order, refused when full

Nothing here ever waits for the far end, so that a slow or dead one holds up nobody.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

from channel.traffic import Traffic
from channel.webrtc.signaller import Message
from channel.webrtc.stats import LinkStats, PathStats, PeerEvent, PeerState
from common.clock import Clock
from common.datagram import MAX_DATAGRAM_BYTES
from common.errors import ChannelError
from common.queues import BoundedQueue, DropCounter, Mailbox
from common.types import Datagram

T = TypeVar("T")

MAX_CONTROL_BYTES = 16 * 1024
RTP_CLOCK_HZ = 90_000

_READS_PER_POLL = 256
_CONTROL_MESSAGES = 32
_EVENTS = 64
_STATS_S = 1.0


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A datagram on its way out.

    timestamp : of RTP, 90 kHz
    last : whether its poll ends with it
    """

    data: bytes
    timestamp: int
    last: bool


class Connected(Protocol):
    """A connection, as its link needs it; on the event loop only."""

    async def path_stats(self) -> PathStats: ...
    async def request_refresh(self) -> None: ...


class PeerLink:
    """One far end, as the program sees it; implements `common.ports.Transport`.

    name : for people and statistics
    loop : where the connection runs
    max_datagrams : bound of each queue
    on_arrival : called whenever something arrived or the state changed, on the loop's thread
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        max_datagrams: int,
        on_arrival: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.connection: Connected | None = None
        self._clock = clock
        self._loop = loop
        self._on_arrival = on_arrival
        self._outgoing = BoundedQueue[Outgoing](max_datagrams)
        self._incoming = BoundedQueue[Datagram](max_datagrams)
        self._control_out = BoundedQueue[str](_CONTROL_MESSAGES, "refuse")
        self._control_in = BoundedQueue[Message](_CONTROL_MESSAGES, "refuse")
        self._events = BoundedQueue[PeerEvent](_EVENTS)
        self._send_wake, self._control_wake = asyncio.Event(), asyncio.Event()
        self._arrived = threading.Event()
        self._refresh = Mailbox[bool]()
        self._state = PeerState.CONNECTING
        self._connected = False
        self._heard_s: float | None = None
        self._began_s, self._connect_s = clock.now_s(), 0.0
        self._welcome: str | None = None
        self._counts = Counter[str]()
        self._drops = DropCounter()
        self._drops_lock = threading.Lock()

    # --- the program's side, any thread ---------------------------------------------------------------------------

    @property
    def state(self) -> PeerState:
        """How it stands now."""
        return self._state

    @property
    def connected(self) -> bool:
        """Whether there is a connection to send on; it may be silent at the moment."""
        return self._connected

    @property
    def connect_s(self) -> float:
        """How long the first connection took, 0 before it stands."""
        return self._connect_s

    def send(self, datagram: bytes, now_s: float, traffic: Traffic = Traffic.FRAME) -> None:
        """Send now, or count a drop. All `traffic` is alike here. Raises ChannelError when it is too large."""
        self.send_poll((datagram,), now_s)

    def send_poll(self, datagrams: Sequence[bytes], now_s: float) -> None:
        """Send what left the packetiser together: the last one carries the RTP marker bit."""
        for datagram in datagrams:
            if not 0 < len(datagram) <= MAX_DATAGRAM_BYTES:
                raise ChannelError(f"datagram of {len(datagram)} bytes, 1 to {MAX_DATAGRAM_BYTES} allowed")
        if not self._connected:
            self.drop("not_connected", len(datagrams))
            return
        timestamp = int(now_s * RTP_CLOCK_HZ) % (1 << 32)
        for index, datagram in enumerate(datagrams):
            self._outgoing.put(Outgoing(datagram, timestamp, index == len(datagrams) - 1))
        self._wake(self._send_wake)

    def receive(self, now_s: float) -> list[Datagram]:
        """What has arrived, at most 256 datagrams a call, each with the time of its arrival."""
        self._arrived.clear()
        arrived: list[Datagram] = []
        while len(arrived) < _READS_PER_POLL and (datagram := self._incoming.get()) is not None:
            arrived.append(datagram)
        if len(arrived) == _READS_PER_POLL:
            self._arrived.set()
        return arrived

    def wait(self, timeout_s: float) -> None:
        """Until something arrived since the last `receive`, or the time is over."""
        self._arrived.wait(max(0.0, timeout_s))

    def take_refresh(self) -> bool:
        """Whether the far end needs a self-contained picture: it joined, or sent a PLI. True once for each."""
        return self._refresh.get() is not None

    def send_control(self, message: Message) -> bool:
        """Send a small JSON object reliably; False where the queue is full. Raises ChannelError when too large."""
        accepted = self._control_out.put(_as_json(message))
        self._wake(self._control_wake)
        if not accepted:
            self.drop("control_full")
        return accepted

    def receive_control(self) -> list[Message]:
        """The control messages that have arrived, in order."""
        return _drain(self._control_in)

    def set_welcome(self, message: Message) -> None:
        """The control message that opens every connection from now on: who joins late needs it first."""
        self._welcome = _as_json(message)

    def events(self) -> list[PeerEvent]:
        """Changes of state since the last call."""
        return _drain(self._events)

    def close(self) -> None:
        """Take and deliver nothing more. Closing twice is harmless."""
        self._connected = False
        for queue in (self._outgoing, self._incoming, self._control_out, self._control_in):
            queue.close()
        self._arrived.set()

    def stats(self) -> LinkStats:
        """As of now; not from the event loop, see `get_stats`."""
        with suppress(RuntimeError):  # no event loop runs in this thread
            if asyncio.get_running_loop() is self._loop:
                raise ChannelError("statistics on the event loop: await get_stats() instead")
        if self._loop.is_closed():
            return self._stats(PathStats())
        try:
            return asyncio.run_coroutine_threadsafe(self.get_stats(), self._loop).result(_STATS_S)
        except TimeoutError:  # the loop is busy
            return self._stats(PathStats())

    def request_refresh(self) -> None:
        """Ask the far end for a self-contained picture (PLI) before there is anything to report on."""
        if self._connected and not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._request_refresh(), self._loop)

    def drop(self, reason: str, count: int = 1) -> None:
        """Count a loss."""
        with self._drops_lock:
            self._drops.add(reason, count)

    # --- the connection's side, event loop only -------------------------------------------------------------------

    async def get_stats(self) -> LinkStats:
        """As of now."""
        return self._stats(PathStats() if self.connection is None else await self.connection.path_stats())

    @property
    def clock(self) -> Clock:
        """What arrival times are read from."""
        return self._clock

    @property
    def welcome(self) -> str | None:
        """JSON text of the first control message, None where there is none."""
        return self._welcome

    @property
    def silent_s(self) -> float:
        """How long the far end has said nothing; 0 before its first word on this connection."""
        return 0.0 if self._heard_s is None else self._clock.now_s() - self._heard_s

    def report(self, state: PeerState, reason: str = "", connected: bool = False) -> None:
        """Say how it stands.

        connected : whether there is a connection to send on
        """
        if connected and not self._connected:
            self._connect_s = self._connect_s or self._clock.now_s() - self._began_s
            self._heard_s = None
            self._refresh.put(True)
            self.drop("not_connected", len(_drain(self._outgoing)))  # meant for the connection before
        self._connected = connected
        if state is not self._state:
            self._events.put(PeerEvent(self.name, state, reason))
            self._state = state
            self._notify()

    async def next_poll(self) -> tuple[list[bytes], int]:
        """The datagrams of the next poll, and their RTP timestamp."""
        datagrams: list[bytes] = []
        while True:
            outgoing = await _next(self._outgoing, self._send_wake)
            datagrams.append(outgoing.data)
            if outgoing.last:
                self.count("packetsSent", len(datagrams))
                self.count("bytesSent", sum(map(len, datagrams)))
                self.count("framesSent")
                return datagrams, outgoing.timestamp

    async def next_control(self) -> str:
        """The next control message to send."""
        return await _next(self._control_out, self._control_wake)

    def heard(self) -> None:
        """Anything at all came from the far end."""
        self._heard_s = self._clock.now_s()

    def deliver(self, data: bytes, ends_poll: bool) -> None:
        """A datagram arrived."""
        self.heard()
        if not 0 < len(data) <= MAX_DATAGRAM_BYTES:
            self.drop("damaged")
            return
        self._incoming.put(Datagram(data, self._clock.now_s()))
        self.count("packetsReceived")
        self.count("bytesReceived", len(data))
        self.count("framesReceived", int(ends_poll))
        self._notify()

    def deliver_control(self, text: object) -> None:
        """A control message arrived."""
        message = _from_json(text)
        if message is None:
            self.drop("control_damaged")
        elif not self._control_in.put(message):
            self.drop("control_full")
        self._notify()

    def want_refresh(self) -> None:
        """A PLI arrived."""
        self.count("pliCount")
        self._refresh.put(True)
        self._notify()

    def count(self, what: str, by: int = 1) -> None:
        """One of the totals of `LinkStats`."""
        self._counts[what] += by

    def _stats(self, path: PathStats) -> LinkStats:
        with self._drops_lock:
            drops = dict(self._drops.snapshot())
        drops["send_full"] = dict(self._outgoing.drops).get("full", 0)
        drops["receive_full"] = dict(self._incoming.drops).get("full", 0)
        totals = {name: self._counts[name] for name in _COUNTED}
        kept = tuple(sorted((reason, count) for reason, count in drops.items() if count))
        return LinkStats(state=self._state, path=path, drops=kept, **totals)

    async def _request_refresh(self) -> None:
        if self.connection is not None:
            await self.connection.request_refresh()

    def _notify(self) -> None:
        self._arrived.set()
        self._on_arrival()

    def _wake(self, event: asyncio.Event) -> None:
        with suppress(RuntimeError):  # the loop is closed, and so is the link
            self._loop.call_soon_threadsafe(event.set)


_COUNTED = (
    "packetsSent", "bytesSent", "framesSent", "packetsReceived", "bytesReceived", "framesReceived",
    "retransmittedPacketsSent", "nackCount", "pliCount",
)  # fmt: skip


async def _next(queue: BoundedQueue[T], wake: asyncio.Event) -> T:
    while (item := queue.get()) is None:
        wake.clear()
        await wake.wait()
    return item


def _drain(queue: BoundedQueue[T]) -> list[T]:
    items: list[T] = []
    while (item := queue.get()) is not None:
        items.append(item)
    return items


def _as_json(message: Message) -> str:
    text = json.dumps(dict(message), separators=(",", ":"))
    if len(text) > MAX_CONTROL_BYTES:  # ASCII: characters are bytes
        raise ChannelError(f"control message of {len(text)} bytes, at most {MAX_CONTROL_BYTES} allowed")
    return text


def _from_json(text: object) -> Message | None:
    """The JSON object in `text`, None for anything else."""
    if not isinstance(text, str) or len(text) > MAX_CONTROL_BYTES:
        return None
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, Mapping) else None

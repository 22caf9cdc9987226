"""Two ends of a live link in one process, over 127.0.0.1 (which ICE leaves out by itself)."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import aioice.ice
import pytest

from channel.webrtc.link import PeerLink
from channel.webrtc.settings import WebRtcConfig
from channel.webrtc.signaller import Message
from channel.webrtc.stats import PeerEvent, PeerState
from channel.webrtc.transport import WebRtcTransport
from common.clock import SystemClock
from common.errors import ChannelError
from common.types import Datagram

PATIENCE_S = 20.0
"""After so long a test gives up; none waits for time to pass."""


class MemorySignaller:
    """One end of a conversation in memory; the ends may be on different event loops."""

    def __init__(self) -> None:
        self.far: MemorySignaller | None = None
        self.broken = False
        self.seen: list[Message] = []
        self._inbox: deque[Message] = deque(maxlen=16)
        self._waiting: Callable[[], object] | None = None
        self._lock = threading.Lock()

    async def send(self, message: Message) -> None:
        if self.broken or self.far is None:
            raise ChannelError("the conversation is over")
        self.far.put(message)

    async def receive(self) -> Message:
        loop = asyncio.get_running_loop()
        while True:
            arrived = asyncio.Event()
            with self._lock:
                if self._inbox:
                    return self._inbox.popleft()
                if self.broken:
                    raise ChannelError("the conversation is over")
                self._waiting = lambda arrived=arrived: loop.call_soon_threadsafe(arrived.set)
            await arrived.wait()

    def put(self, message: Message) -> None:
        """What the far end says; tests say more with it."""
        with self._lock:
            self.seen.append(message)
            self._inbox.append(message)
        self._wake()

    def cut(self) -> None:
        """The conversation breaks off, in both directions."""
        for end in (self, self.far):
            assert end is not None
            end.broken = True
            end._wake()

    def _wake(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, None
        if waiting is not None:
            with suppress(RuntimeError):  # the far end's event loop is closed
                waiting()


def conversation() -> tuple[MemorySignaller, MemorySignaller]:
    here, there = MemorySignaller(), MemorySignaller()
    here.far, there.far = there, here
    return here, there


def on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offer 127.0.0.1 as the machine's only address."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


@dataclass
class Pair:
    """A sender and a receiver, each on its own event loop."""

    sender: WebRtcTransport
    receiver: WebRtcTransport
    outlet: PeerLink
    inlet: PeerLink
    signallers: tuple[MemorySignaller, MemorySignaller]
    events: list[PeerEvent] = field(default_factory=list)

    def deliver(self, count: int) -> list[Datagram]:
        """The next `count` datagrams that reach the receiver."""
        return collect(self.receiver, count)

    def reports(self, count: int) -> list[Datagram]:
        """The next `count` datagrams that reach the sender."""
        return collect(self.sender, count)


@contextmanager
def pair(config: WebRtcConfig | None = None, connect: bool = True) -> Iterator[Pair]:
    """Both ends, connected unless told otherwise."""
    clock = SystemClock()
    sender, receiver = WebRtcTransport(clock, config), WebRtcTransport(clock, config)
    try:
        here, there = conversation()
        ends = Pair(sender, receiver, sender.offer(here), receiver.answer(there), (here, there))
        if connect:
            until_connected(ends.outlet, ends.inlet)
        yield ends
    finally:
        receiver.close()
        sender.close()


def collect(transport: WebRtcTransport | PeerLink, count: int) -> list[Datagram]:
    """At least `count` datagrams that reach `transport`."""
    arrived: list[Datagram] = []
    until(lambda: arrived.extend(transport.receive(0.0)) or len(arrived) >= count, transport.wait)
    return arrived


def until_connected(*links: PeerLink) -> None:
    for link in links:
        until_state(link, PeerState.CONNECTED)


def until_state(link: PeerLink, state: PeerState) -> None:
    until(lambda: link.state is state)


def until(condition: Callable[[], object], wait: Callable[[float], object] | None = None) -> None:
    """Look again after each `wait`, which ends early where there is something to look at."""
    clock = SystemClock()
    end_s = clock.now_s() + PATIENCE_S
    wait = wait or threading.Event().wait
    while not condition():
        assert clock.now_s() < end_s, "waited in vain"
        wait(0.01)

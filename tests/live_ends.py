"""Links without a network, and far ends that take what is sent: for tests of the live ends in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.live.outlets import Outlet
from channel.packetise import PacketiserConfig
from channel.webrtc.link import PeerLink
from common.clock import Clock, VirtualClock
from common.datagram import pack_feedback
from common.types import Datagram, Feedback
from receiver.chain import SceneDecoder
from receiver.reassembly import Reassembler


@dataclass
class FakeLink:
    """Keeps what is sent; delivers what tests put into `inbox`. Waiting moves the clock."""

    name: str = "far"
    connected: bool = True
    refresh: bool = False
    controllable: bool = True
    connect_s: float = 0.0
    clock: VirtualClock | None = None
    sent: list[bytes] = field(default_factory=list)
    inbox: list[Datagram] = field(default_factory=list)
    said: list[dict[str, Any]] = field(default_factory=list)
    heard: list[dict[str, Any]] = field(default_factory=list)

    def send_poll(self, datagrams: Sequence[bytes], now_s: float) -> None:
        if self.connected:
            self.sent += datagrams

    def receive(self, now_s: float) -> list[Datagram]:
        due = [datagram for datagram in self.inbox if datagram.arrival_s <= now_s]
        self.inbox = [datagram for datagram in self.inbox if datagram.arrival_s > now_s]
        return due

    def wait(self, timeout_s: float) -> None:
        if self.clock is not None:
            self.clock.advance_to(self.clock.now_s() + timeout_s)

    def take_refresh(self) -> bool:
        wanted, self.refresh = self.refresh, False
        return wanted

    def send_control(self, message: dict[str, Any]) -> bool:
        if self.controllable:
            self.said.append(message)
        return self.controllable

    def receive_control(self) -> list[dict[str, Any]]:
        heard, self.heard = self.heard, []
        return heard

    def report(self, now_s: float, **fields: Any) -> None:
        """What the far end says of the newest datagram that it was sent, unless told otherwise."""
        fields = {"highest_seq": len(self.sent) - 1, "received_bps": 48_000.0, **fields}
        self.inbox.append(Datagram(pack_feedback(Feedback(0, **fields)), now_s))

    def units(self) -> list[bytes]:
        """What has been sent, put together."""
        reassembler = Reassembler()
        return [unit.data for data in self.sent for unit in reassembler.push(Datagram(data, 0.0))]


def outlet_to(link: FakeLink, limit_bps: float = 100_000.0) -> Outlet:
    return Outlet.to(link, PacketiserConfig(), limit_bps)


@dataclass
class FakeFarEnd:
    """Takes what its link is sent, and reports on it."""

    link: FakeLink
    reassembler: Reassembler = field(default_factory=Reassembler)
    decoder: SceneDecoder = field(default_factory=SceneDecoder)
    taken: int = 0

    def take(self, now_s: float) -> None:
        """Everything that was sent since the last call arrives now."""
        arrived, self.taken = self.link.sent[self.taken :], len(self.link.sent)
        for data in arrived:
            for unit in self.reassembler.push(Datagram(data, now_s)):
                self.decoder.push(unit.data, now_s)

    def answer(self, now_s: float) -> None:
        """A report, as a live receiver makes it."""
        state = self.decoder.state
        slot = -1 if state is None else state.slot
        report = self.reassembler.report(now_s, slot, self.decoder.anchor_ids)
        self.link.inbox.append(Datagram(pack_feedback(report), now_s))


def peer_link(name: str = "far", clock: Clock | None = None) -> PeerLink:
    """A real link whose event loop has ended: states and queues work, and nothing leaves."""
    loop = asyncio.new_event_loop()
    loop.close()
    return PeerLink(name, clock or VirtualClock(), loop, 512)

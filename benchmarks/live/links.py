"""The two kinds of link that a live end can stand on, and one that makes either of them worse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from channel.simulated import SimulatedChannel
from channel.spec import ChannelSpec, CleanSpec, PacketSpec
from channel.udp import Address, UdpTransport
from channel.webrtc.link import PeerLink
from common.errors import ConfigError
from common.types import Datagram


class UdpLink:
    """A `channel.udp.UdpTransport` with what a `PeerLink` has besides: there is no connection, and no control channel."""

    def __init__(self, local: Address, remote: Address | None = None) -> None:
        self._transport = UdpTransport(local, remote)
        self.name = str(remote or "sender")

    @property
    def connect_s(self) -> float:
        """0: there is no connection to make."""
        return 0.0

    @property
    def local(self) -> Address:
        """The address in use."""
        return self._transport.local

    @property
    def connected(self) -> bool:
        """Whether there is an address to send to."""
        return self._transport.remote is not None

    def send_poll(self, datagrams: Sequence[bytes], now_s: float) -> None:
        """Send each, or count a drop."""
        for datagram in datagrams:
            self._transport.send(datagram, now_s)

    def receive(self, now_s: float) -> list[Datagram]:
        """What has arrived."""
        return self._transport.receive(now_s)

    def wait(self, timeout_s: float) -> None:
        """Until a datagram arrives, or the time is over."""
        self._transport.wait(timeout_s)

    def take_refresh(self) -> bool:
        """Never: only reports ask for one."""
        return False

    def send_control(self, message: dict[str, Any]) -> bool:
        """There is no way to send it."""
        return False

    def receive_control(self) -> list[dict[str, Any]]:
        """Nothing."""
        return []

    def close(self) -> None:
        """Give the port back."""
        self._transport.close()


ReceivingLink = PeerLink | UdpLink


class Impaired:
    """Makes what arrives worse: simulated on top of whatever the link does itself, and changeable while it runs.

    Raises ConfigError for a channel that is no packet channel.
    """

    def __init__(self, spec: ChannelSpec, seed: int) -> None:
        if not isinstance(spec, PacketSpec | CleanSpec):
            raise ConfigError(
                "a live receiver can only be made worse by a packet channel: packet:loss=0.05,..."
            )
        self.spec = spec if isinstance(spec, PacketSpec) else PacketSpec()
        self._seed, self._changes = seed, 0
        self._channel = self._open()

    def change(self, name: str, value: float) -> None:
        """Set one of `PacketSpec`'s settings; what is on its way through the old ones is lost."""
        self.spec = self.spec.model_copy(update={name: value})
        self._changes += 1
        self._channel = self._open()

    def through(self, arrived: Sequence[Datagram], now_s: float) -> list[Datagram]:
        """What of this, and of what came before, has now arrived."""
        if self._channel is None:
            return list(arrived)
        for datagram in arrived:
            self._channel.send(datagram.data, datagram.arrival_s)
        return self._channel.receive(now_s)

    def _open(self) -> SimulatedChannel | None:
        harmless = self.spec == PacketSpec()
        return None if harmless else SimulatedChannel(self.spec, self._seed + self._changes)

"""Datagrams over a real UDP socket, IPv4 or IPv6, without ever blocking."""

from __future__ import annotations

import errno
import select
import socket
from dataclasses import dataclass
from typing import cast

from common.datagram import MAX_DATAGRAM_BYTES
from common.errors import ChannelError, ConfigError, UsageError
from common.queues import DropCounter, Drops
from common.types import Datagram

SCHEME = "udp://"
_READS_PER_POLL = 256
_SOCKET_BUFFER_BYTES = 1 << 20
_NOT_NOW = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS, errno.ECONNREFUSED, errno.EINTR)
"""The socket is full, or the peer is not listening yet: the datagram is lost, the link is not."""


@dataclass(frozen=True, slots=True)
class Address:
    """Host name or address, and port; `host` may be empty for every local interface."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read `HOST:PORT`, `:PORT` or `[IPV6]:PORT`. Raises ConfigError."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise ConfigError(f"`{text}` is not an address: write HOST:PORT, or [IPV6]:PORT")
    bracketed = host.startswith("[") and host.endswith("]")
    if not bracketed and (":" in host or "[" in host):
        raise ConfigError(f"`{text}` is ambiguous: write HOST:PORT, or [IPV6]:PORT")
    return Address(host[1:-1] if bracketed else host, int(port))


def parse_udp_url(url: str) -> Address:
    """Read `udp://HOST:PORT`, where to send. Raises UsageError, ConfigError."""
    if not url.startswith(SCHEME):
        raise UsageError(f"cannot send to {url!r}: write {SCHEME}HOST:PORT")
    address = parse_address(url.removeprefix(SCHEME))
    if not address.host or not address.port:
        raise UsageError(f"cannot send to {url!r}: it needs a host and a port, {SCHEME}HOST:PORT")
    return address


@dataclass(frozen=True, slots=True)
class UdpStats:
    """Totals since the start.

    drops : by reason: "no_peer" (nobody to send to yet), "socket_full", "stranger" (not from the peer),
            "oversize" (larger than a datagram of ours)
    """

    sent: int
    sent_bytes: int
    received: int
    received_bytes: int
    drops: Drops


class UdpTransport:
    """One end of a link over UDP; implements `common.ports.Transport`.

    local : where to listen; port 0 takes any free port
    remote : the other end, or None to learn it from the first datagram that arrives
    relearn_after_s : a learnt peer that was silent for so long may be replaced by a new one

    Raises ChannelError when the address cannot be used.
    """

    def __init__(self, local: Address, remote: Address | None = None, relearn_after_s: float = 5.0) -> None:
        self._learns = remote is None
        self._relearn_after_s = relearn_after_s
        self._heard_s = float("-inf")
        family: int = socket.AF_UNSPEC
        if remote is not None and not local.host:
            family, _ = _resolve(remote, family)
        family, local_name = _resolve(local, family, passive=True)
        self._peer = None if remote is None else _resolve(remote, family)[1]
        self._socket = _open_socket(family, local_name, local)
        self._sent = self._sent_bytes = self._received = self._received_bytes = 0
        self._drops = DropCounter()

    @property
    def local(self) -> Address:
        """The address in use, with the port that was taken."""
        host, port = self._socket.getsockname()[:2]
        return Address(host, port)

    @property
    def remote(self) -> Address | None:
        """The other end, None while unknown."""
        return None if self._peer is None else Address(*self._peer[:2])

    def send(self, datagram: bytes, now_s: float) -> None:
        """Send now, or count a drop. Raises ChannelError when the peer cannot be reached at all."""
        if len(datagram) > MAX_DATAGRAM_BYTES:
            raise ChannelError(f"datagram of {len(datagram)} bytes, at most {MAX_DATAGRAM_BYTES} allowed")
        if self._peer is None:
            self._drops.add("no_peer")
            return
        try:
            self._socket.sendto(datagram, self._peer)
        except OSError as error:
            if error.errno not in _NOT_NOW:
                raise ChannelError(f"cannot send to {self.remote}: {error.strerror or error}") from error
            self._drops.add("socket_full")
            return
        self._sent += 1
        self._sent_bytes += len(datagram)

    def receive(self, now_s: float) -> list[Datagram]:
        """What has arrived, at most 256 datagrams a call; their arrival time is `now_s`."""
        arrived = []
        for _ in range(_READS_PER_POLL):
            try:
                data, sender = self._socket.recvfrom(MAX_DATAGRAM_BYTES + 1)
            except OSError as error:
                if error.errno in _NOT_NOW:
                    break
                raise ChannelError(f"cannot receive on {self.local}: {error.strerror or error}") from error
            if self._accept(data, sender, now_s):
                arrived.append(Datagram(data, now_s))
        self._received += len(arrived)
        self._received_bytes += sum(len(datagram.data) for datagram in arrived)
        return arrived

    def wait(self, timeout_s: float) -> None:
        """Until a datagram arrives, or the time is over."""
        select.select([self._socket], [], [], max(0.0, timeout_s))

    def close(self) -> None:
        """Give the port back. Closing twice is harmless."""
        self._socket.close()

    @property
    def stats(self) -> UdpStats:
        """Totals so far."""
        return UdpStats(
            self._sent, self._sent_bytes, self._received, self._received_bytes, self._drops.snapshot()
        )

    def _accept(self, data: bytes, sender: _SocketName, now_s: float) -> bool:
        if len(data) > MAX_DATAGRAM_BYTES:
            self._drops.add("oversize")
            return False
        if self._learns and now_s - self._heard_s > self._relearn_after_s:
            self._peer = sender
        if self._peer is None or sender[:2] != self._peer[:2]:
            self._drops.add("stranger")
            return False
        self._heard_s = now_s
        return True


_SocketName = tuple[str, int] | tuple[str, int, int, int]


def _resolve(address: Address, family: int, passive: bool = False) -> tuple[int, _SocketName]:
    """(address family, socket name) of `address`."""
    flags = socket.AI_PASSIVE if passive else 0
    try:
        found = socket.getaddrinfo(address.host or None, address.port, family, socket.SOCK_DGRAM, 0, flags)
    except (socket.gaierror, UnicodeError) as error:
        raise ChannelError(f"cannot resolve `{address}`: {error}; check the host name") from error
    resolved_family, _, _, _, name = found[0]
    return resolved_family, cast(_SocketName, name)


def _open_socket(family: int, name: _SocketName, address: Address) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER_BYTES)
        sock.bind(name)
    except OSError as error:
        sock.close()
        hint = "choose another port" if error.errno == errno.EADDRINUSE else "check address and rights"
        raise ChannelError(f"cannot listen on {address}: {error.strerror or error}; {hint}") from error
    return sock

"""Real sockets on the loopback address."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from channel.udp import Address, UdpTransport, parse_address, parse_udp_url
from common.errors import ChannelError, ConfigError, UsageError
from common.types import Datagram

_HERE = Address("127.0.0.1", 0)


def _receive(transport: UdpTransport, now_s: float = 1.0) -> list[Datagram]:
    """What arrives once the kernel has delivered it."""
    transport.wait(5)
    return transport.receive(now_s)


@pytest.fixture
def listener() -> Iterator[UdpTransport]:
    with closing(UdpTransport(_HERE)) as transport:
        yield transport


def test_there_and_back(listener: UdpTransport) -> None:
    with closing(UdpTransport(_HERE, listener.local)) as caller:
        caller.send(b"picture", 0.0)
        assert _receive(listener, 1.5) == [Datagram(b"picture", 1.5)]
        assert listener.remote == caller.local
        listener.send(b"report", 1.5)
        assert _receive(caller, 1.6) == [Datagram(b"report", 1.6)]
        assert (caller.stats.sent, caller.stats.received_bytes) == (1, 6)


def test_ipv6() -> None:
    try:
        listener = UdpTransport(Address("::1", 0))
    except ChannelError as error:
        pytest.skip(f"no IPv6 on this machine: {error}")
    with closing(listener), closing(UdpTransport(Address("", 0), listener.local)) as caller:
        caller.send(b"six", 0.0)
        assert [d.data for d in _receive(listener)] == [b"six"]


def test_nothing_there_does_not_block(listener: UdpTransport) -> None:
    assert listener.receive(0.0) == []
    listener.wait(0.0)
    listener.wait(-1.0)
    listener.send(b"to nobody", 0.0)
    assert listener.stats.drops == (("no_peer", 1),)


def test_a_silent_port_is_not_an_error() -> None:
    with closing(UdpTransport(_HERE)) as gone:
        address = gone.local
    with closing(UdpTransport(_HERE, address)) as caller:
        for _ in range(3):
            caller.send(b"anyone?", 0.0)
        assert caller.receive(0.0) == []


def test_strangers_and_large_datagrams_are_ignored(listener: UdpTransport) -> None:
    with closing(UdpTransport(_HERE, listener.local)) as caller, closing(_raw()) as stranger:
        caller.send(b"first", 0.0)
        assert len(_receive(listener, 0.0)) == 1
        stranger.sendto(b"intruder", ("127.0.0.1", listener.local.port))
        assert _receive(listener, 1.0) == []
        stranger.sendto(bytes(3000), ("127.0.0.1", listener.local.port))
        assert _receive(listener, 2.0) == []
        assert listener.stats.drops == (("oversize", 1), ("stranger", 1))


def test_a_restarted_caller_is_taken_after_a_silence(listener: UdpTransport) -> None:
    for now_s, expected in ((0.0, 1), (4.0, 0), (6.0, 1)):
        with closing(UdpTransport(_HERE, listener.local)) as caller:
            caller.send(b"hello", now_s)
            assert len(_receive(listener, now_s)) == expected


def test_reads_are_bounded(listener: UdpTransport) -> None:
    with closing(UdpTransport(_HERE, listener.local)) as caller:
        for _ in range(300):
            caller.send(b"x", 0.0)
    assert len(_receive(listener)) == 256
    assert len(_receive(listener)) == 44


def test_port_in_use(listener: UdpTransport) -> None:
    with pytest.raises(ChannelError, match=f"cannot listen on 127.0.0.1:{listener.local.port}.*another port"):
        UdpTransport(listener.local)


def test_unusable_addresses() -> None:
    with pytest.raises(ChannelError, match="cannot resolve"):
        UdpTransport(_HERE, Address("no such host", 9))
    with pytest.raises(ChannelError, match=r"cannot listen on 203\.0\.113\.1:0"):
        UdpTransport(Address("203.0.113.1", 0))
    with closing(UdpTransport(_HERE, Address("255.255.255.255", 9))) as caller:
        with pytest.raises(ChannelError, match="1201"):
            caller.send(bytes(1201), 0.0)
        with pytest.raises(ChannelError, match=r"cannot send to 255\.255\.255\.255:9"):
            caller.send(b"x", 0.0)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:5000", Address("127.0.0.1", 5000)),
        (":5000", Address("", 5000)),
        ("[::1]:0", Address("::1", 0)),
        ("example.org:65535", Address("example.org", 65535)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text", ["", "host", "host:", "host:x", "host:65536", "::1:5000", "[::1]", "host:-1"]
)
def test_bad_addresses(text: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        parse_address(text)


@pytest.mark.parametrize(
    ("url", "address"),
    [("udp://127.0.0.1:5004", Address("127.0.0.1", 5004)), ("udp://[::1]:9", Address("::1", 9))],
)
def test_urls(url: str, address: Address) -> None:
    assert parse_udp_url(url) == address


@pytest.mark.parametrize(
    "url", ["127.0.0.1:5004", "tcp://127.0.0.1:5004", "udp://127.0.0.1", "udp://:5004", "udp://a:0"]
)
def test_bad_urls(url: str) -> None:
    with pytest.raises(UsageError):
        parse_udp_url(url)


def _raw() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

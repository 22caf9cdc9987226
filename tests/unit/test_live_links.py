"""What a live receiver makes of its link: plain UDP as a link, and a link made worse while it runs."""

from __future__ import annotations

from contextlib import closing

import pytest

from benchmarks.live.links import Impaired, UdpLink
from channel.spec import parse_channel
from channel.udp import Address
from common.errors import ConfigError
from common.types import Datagram

ANYWHERE = Address("127.0.0.1", 0)


def numbered(count: int, at_s: float = 0.0) -> list[Datagram]:
    return [Datagram(number.to_bytes(2, "big"), at_s) for number in range(count)]


@pytest.mark.parametrize("spec", ["clean", "packet:", "packet:loss=0"])
def test_a_clean_link_is_left_as_it_is(spec: str) -> None:
    arrived = numbered(50, 3.0)
    assert Impaired(parse_channel(spec), 1).through(arrived, 3.0) == arrived


def test_it_loses_and_delays() -> None:
    impaired = Impaired(parse_channel("packet:loss=0.5,delay_ms=40"), 1)
    assert impaired.through(numbered(200, 1.0), 1.0) == []
    assert impaired.through([], 1.039) == []
    arrived = impaired.through([], 1.041)
    assert 70 < len(arrived) < 130 and {datagram.arrival_s for datagram in arrived} == {1.04}
    again = Impaired(parse_channel("packet:loss=0.5,delay_ms=40"), 1)
    again.through(numbered(200, 1.0), 1.0)
    assert again.through([], 2.0) == arrived


def test_it_can_be_changed_while_it_runs_and_back() -> None:
    impaired = Impaired(parse_channel("clean"), 1)
    impaired.change("loss", 0.5)
    lost = [len(impaired.through(numbered(200), 0.0))]
    impaired.change("delay_ms", 100.0)
    assert impaired.through(numbered(5), 0.0) == [] and impaired.spec.loss == 0.5
    impaired.change("delay_ms", 0.0)
    lost.append(len(impaired.through(numbered(200), 1.0)))
    assert all(70 < count < 130 for count in lost) and lost[0] != lost[1], "other losses"
    impaired.change("rate_kbps", 8.0)  # 30 bytes with their headers take 30 ms
    impaired.change("loss", 0.0)
    assert [len(impaired.through(numbered(3, 2.0), 2.0)), len(impaired.through([], 2.05))] == [0, 1]
    impaired.change("rate_kbps", 4000.0)
    assert len(impaired.through(numbered(3, 3.0), 3.001)) == 3


@pytest.mark.parametrize("spec", ["analog:snr_db=7", "awgn:snr_db=7"])
def test_only_a_packet_channel_can_be_laid_over_a_link(spec: str) -> None:
    with pytest.raises(ConfigError, match="packet:loss"):
        Impaired(parse_channel(spec), 1)


def test_plain_udp_as_a_link() -> None:
    with closing(UdpLink(ANYWHERE)) as inlet, closing(UdpLink(ANYWHERE, inlet.local)) as outlet:
        assert (outlet.connected, inlet.connected) == (True, False)
        assert (outlet.name, inlet.name) == (str(inlet.local), "sender")
        inlet.send_poll([b"nobody to send to"], 0.0)
        outlet.send_poll([b"one", b"two"], 0.0)
        inlet.wait(20.0)
        arrived = inlet.receive(1.0)
        while len(arrived) < 2:
            inlet.wait(20.0)
            arrived += inlet.receive(1.0)
        assert arrived == [Datagram(b"one", 1.0), Datagram(b"two", 1.0)] and inlet.connected
        inlet.send_poll([b"answer"], 0.0)
        outlet.wait(20.0)
        assert outlet.receive(2.0) == [Datagram(b"answer", 2.0)]
        assert (
            not outlet.take_refresh() and not outlet.send_control({"a": 1}) and inlet.receive_control() == []
        )

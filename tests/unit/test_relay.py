"""The relay: what a way does to packets in virtual time, and that the thread moves them between two descriptors."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.live import hosts
from benchmarks.live.relay import SAMPLE_S, Relay, Way, packet_link
from common.errors import ChannelError, ConfigError

SIZE = 250
PATIENCE_S = 30.0


def packet(number: int, size: int = SIZE) -> bytes:
    """Begins as an IPv4 header does."""
    return b"\x45" + number.to_bytes(4, "big") + bytes(size - 5)


def number_of(data: bytes) -> int:
    return int.from_bytes(data[1:5], "big")


def carry(way: Way, from_ms: int, to_ms: int, every_ms: int) -> dict[int, int]:
    """Send packet number t at each time t ms that is a multiple of `every_ms`; arrival in ms of those that arrive."""
    arrived = {}
    for now_ms in range(from_ms, to_ms):
        if now_ms % every_ms == 0:
            way.push(packet(now_ms), now_ms / 1000)
        way.sample(now_ms / 1000)
        arrived.update({number_of(data): now_ms for data in way.pull(now_ms / 1000 + 1e-9)})
    return arrived


def test_a_packet_counts_with_its_headers_and_nothing_more() -> None:
    way = Way(packet_link("packet:rate_kbps=100,delay_ms=25"), 1)
    assert way.wake_s(0.0) is None
    way.push(packet(1), 0.0)
    assert way.wake_s(0.0) == pytest.approx(0.045)  # 250 bytes in 20 ms
    assert way.pull(0.0449) == []
    assert way.pull(0.0460) == [packet(1)]
    stats = way.stats
    assert (stats.link.sent_bytes, stats.link.delivered_bytes) == (SIZE, SIZE)
    assert stats.late_s == stats.most_late_s == pytest.approx(0.001)
    way.push(packet(2, 1500), 1.0)
    assert way.pull(2.0) == [packet(2, 1500)]


def test_the_rate_falls_at_once_and_the_queue_says_so() -> None:
    """50 kbit/s: half of 100 kbit/s, twice as much as 24 kbit/s and a bit."""
    way = Way(packet_link("packet:rate_kbps=100,queue_ms=500"), 1)
    arrived = carry(way, 0, 1000, 40)
    way.change(packet_link("packet:rate_kbps=24,queue_ms=500"), 1.0)
    arrived |= carry(way, 1000, 4000, 40)
    assert [arrived[number] - number for number in range(0, 960, 40)] == [20] * 24
    assert max(arrived[number] - number for number in arrived) in range(560, 590)  # 500 waiting, 83 crossing
    assert way.stats.most_queue_s(to_s=1.0) == pytest.approx(0.020)
    assert 0.50 < way.stats.most_queue_s(from_s=3.0) < 0.584
    assert dict(way.stats.link.drops)["queue"] == pytest.approx((50_000 - 24_000) / 2000 * 3 - 6, abs=2)
    way.change(packet_link("packet:rate_kbps=100,queue_ms=500"), 4.0)
    later = carry(way, 4000, 5000, 40)
    assert later[4600] == 4620


def test_an_outage_begins_now_and_ends() -> None:
    way = Way(packet_link("packet:delay_ms=25"), 1)
    arrived = carry(way, 0, 1000, 20)
    way.cut(2.0, 1.0)
    arrived |= carry(way, 1000, 4000, 20)
    sent = set(range(0, 3960, 20))
    assert sent - set(arrived) == set(range(1000, 3000, 20))
    assert way.stats.link.drops == (("outage", 100),)
    way.cut(0.09, 4.0)
    assert set(range(4000, 4500, 20)) - set(carry(way, 4000, 4600, 20)) == set(range(4000, 4100, 20))


def test_a_clean_link_can_be_cut_too() -> None:
    way = Way(packet_link("clean"), 1)
    way.cut(0.5, 0.0)
    assert sorted(carry(way, 0, 1000, 100)) == [500, 600, 700, 800, 900]


def test_what_is_lost_depends_on_the_seed() -> None:
    def fate(seed: int) -> list[int]:
        return sorted(carry(Way(packet_link("packet:loss=0.3,burst=3"), seed), 0, 2000, 2))

    assert fate(4) == fate(4) != fate(5)
    assert 1000 - len(fate(4)) == pytest.approx(300, abs=60)


def test_other_protocols_do_not_cross() -> None:
    way = Way(packet_link("clean"), 1)
    way.push(b"\x60" + bytes(40), 0.0)
    way.push(b"", 0.0)
    assert way.pull(1.0) == []
    assert way.stats.strange == 2 and way.stats.link.sent == 0


def test_the_record_keeps_the_longest_wait_of_each_interval_and_is_bounded() -> None:
    way = Way(packet_link("packet:rate_kbps=20,queue_ms=60000"), 1)  # 100 ms each
    for now_s in (0.01, 0.02, 0.03):
        way.push(packet(0), now_s)
    way.sample(0.049)
    way.sample(0.31)
    (first_s, first_queue_s), (second_s, second_queue_s) = way.stats.queue
    assert (first_s, second_s) == pytest.approx((SAMPLE_S, 7 * SAMPLE_S))
    assert (first_queue_s, second_queue_s) == pytest.approx((0.261, 0.0))
    for number in range(20_000):
        way.sample(1 + number * SAMPLE_S)
    assert len(way.stats.queue) == 12_000


def test_while_something_waits_the_way_wants_to_be_sampled() -> None:
    way = Way(packet_link("packet:rate_kbps=2,delay_ms=2000,queue_ms=5000"), 1)
    way.push(packet(0), 0.0)
    assert way.wake_s(0.5) == pytest.approx(0.5 + SAMPLE_S)
    assert way.wake_s(1.5) == pytest.approx(3.0)


@pytest.mark.parametrize("text", ["awgn:snr_db=3", "analog:snr_db=3"])
def test_a_relay_is_no_radio(text: str) -> None:
    with pytest.raises(ConfigError, match="a relay is a link"):
        packet_link(text)


@contextmanager
def relay(a: str, b: str) -> Iterator[tuple[Relay, socket.socket, socket.socket]]:
    """A relay, and the programs' side of its devices: sockets that keep the bounds of packets, as TUN devices do."""
    (outer_a, inner_a), (outer_b, inner_b) = (
        socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in "ab"
    )
    with outer_a, inner_a, outer_b, inner_b:
        for device in (inner_a, inner_b):
            device.setblocking(False)
        for program in (outer_a, outer_b):
            program.settimeout(PATIENCE_S)
        devices = {"a": inner_a.fileno(), "b": inner_b.fileno()}
        with Relay(devices, {"a": packet_link(a), "b": packet_link(b)}) as between:
            yield between, outer_a, outer_b


def test_packets_cross_both_ways() -> None:
    with relay("packet:delay_ms=2,rate_kbps=5000", "clean") as (between, a, b):
        for number in range(50):
            a.send(packet(number))
            assert b.recv(2000) == packet(number)
            b.send(packet(number, 30))
            assert a.recv(2000) == packet(number, 30)
        there, back = between.stats("a"), between.stats("b")
    assert (there.link.sent, there.link.delivered, there.link.delivered_bytes) == (50, 50, 50 * SIZE)
    assert (back.link.sent, back.link.delivered, back.link.delivered_bytes) == (50, 50, 1500)
    assert there.refused == back.refused == 0


def test_links_change_while_it_runs() -> None:
    with relay("packet:loss=1", "packet:delay_ms=60000") as (between, a, b):
        a.send(packet(0))
        b.send(packet(1))
        while between.stats("a").link.sent + between.stats("b").link.sent < 2:
            os.sched_yield()
        between.change("clean", "a")
        a.send(packet(2))
        assert number_of(b.recv(2000)) == 2
        between.cut(60)
        a.send(packet(3))
        while between.stats("a").link.sent < 3:
            os.sched_yield()
        between.change("clean")
        a.send(packet(4))
        assert number_of(b.recv(2000)) == 4
        assert between.stats("a").link.drops == (("loss", 1), ("outage", 1))
        assert between.stats("b").link.delivered == 0
        with pytest.raises(ConfigError, match="rate_kbps"):
            between.change("packet:rate_kpbs=24")


def test_a_device_that_fails_is_said_when_it_is_asked() -> None:
    between = Relay({"a": -1, "b": -1}, {"a": packet_link("clean"), "b": packet_link("clean")})
    with pytest.raises(ChannelError, match="the relay has failed"), between:
        pass
    between.close()


def test_hosts_need_a_tun_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hosts, "_TUN", tmp_path / "tun")
    with (
        pytest.raises(ChannelError, match=r"cannot make two hosts .*No such file.*root"),
        hosts.two_hosts("clean"),
    ):
        pass

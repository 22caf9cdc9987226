"""The simulated packet link: what it does on average, and that it does it again."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channel.simulated import SimulatedChannel, make_link
from channel.spec import ChannelSpec, CleanSpec, PacketSpec, TraceSpec, parse_channel
from common.errors import ChannelError, ConfigError
from common.types import Datagram
from tests.numbered import assert_polls_change_nothing

_FOREVER_S = 1e9


def _number(datagram: Datagram) -> int:
    return int.from_bytes(datagram.data[:4], "big")


def _message(number: int, size: int = 100) -> bytes:
    return number.to_bytes(4, "big") + bytes(size - 4)


def _run(
    spec: ChannelSpec, count: int, interval_s: float = 0.01, size: int = 100, seed: int = 1
) -> tuple[list[Datagram], SimulatedChannel]:
    channel = SimulatedChannel(spec, seed)
    for number in range(count):
        channel.send(_message(number, size), number * interval_s)
    return channel.receive(_FOREVER_S), channel


def _loss_runs(received: list[Datagram], count: int) -> list[int]:
    arrived = set(map(_number, received))
    flags = [number not in arrived for number in range(count)]
    return [len(list(run)) for lost, run in itertools.groupby(flags) if lost]


def test_clean_delivers_everything_at_once() -> None:
    received, channel = _run(CleanSpec(), 50)
    assert [_number(d) for d in received] == list(range(50))
    assert [d.arrival_s for d in received] == [n * 0.01 for n in range(50)]
    assert channel.stats.delivered_bytes == channel.stats.sent_bytes == 5000
    assert channel.stats.drops == ()


def test_independent_loss() -> None:
    received, channel = _run(PacketSpec(loss=0.1), 10_000)
    runs = _loss_runs(received, 10_000)
    assert sum(runs) == pytest.approx(1000, abs=100)
    assert np.mean(runs) == pytest.approx(1 / 0.9, abs=0.05)
    assert channel.stats.drops == (("loss", sum(runs)),)


@pytest.mark.parametrize(("loss", "burst"), [(0.05, 3.0), (0.2, 8.0), (0.5, 1.5)])
def test_loss_in_bursts(loss: float, burst: float) -> None:
    runs = _loss_runs(_run(PacketSpec(loss=loss, burst=burst), 20_000)[0], 20_000)
    assert sum(runs) / 20_000 == pytest.approx(loss, rel=0.12)
    assert np.mean(runs) == pytest.approx(burst, rel=0.1)


def test_delay_and_jitter_without_reordering() -> None:
    received, _ = _run(PacketSpec(delay_ms=40, jitter_ms=10), 4000, interval_s=0.05)
    delays_ms = np.array([(d.arrival_s - _number(d) * 0.05) * 1000 for d in received])
    assert 30 <= delays_ms.min() < 31
    assert 49 < delays_ms.max() <= 50
    assert delays_ms.mean() == pytest.approx(40, abs=0.5)
    close, _ = _run(PacketSpec(delay_ms=40, jitter_ms=30), 2000, interval_s=0.001)
    assert [_number(d) for d in close] == list(range(2000))


def test_reordering() -> None:
    received, channel = _run(PacketSpec(delay_ms=10, reorder=0.1), 5000, interval_s=0.005)
    assert channel.stats.reordered == pytest.approx(500, abs=75)
    newest = np.maximum.accumulate([_number(d) for d in received])
    overtaken = sum(_number(d) < n for d, n in zip(received, newest, strict=True))
    assert overtaken == pytest.approx(channel.stats.reordered, abs=3)  # nobody overtakes the last ones
    assert sorted(map(_number, received)) == list(range(5000))


def test_duplication() -> None:
    received, channel = _run(PacketSpec(duplicate=0.2), 5000)
    assert channel.stats.duplicated == len(received) - 5000
    assert channel.stats.duplicated == pytest.approx(1000, abs=100)
    assert set(map(_number, received)) == set(range(5000))


def test_corruption() -> None:
    channel = SimulatedChannel(PacketSpec(corrupt=0.1), 1)
    for number in range(2000):
        channel.send(bytes(100), number * 0.01)
    damage = [sum(byte != 0 for byte in d.data) for d in channel.receive(_FOREVER_S)]
    assert len(damage) == 2000
    assert channel.stats.corrupted == pytest.approx(200, abs=45)
    assert abs(sum(count > 0 for count in damage) - channel.stats.corrupted) <= 2
    assert max(damage) <= 8


def test_rate_limit_counts_headers_and_drops_what_would_wait_too_long() -> None:
    """100 bytes and 28 of headers at 32 kbit/s take 32 ms; one every 16 ms is twice too much."""
    received, channel = _run(PacketSpec(rate_kbps=32, queue_ms=300), 1000, interval_s=0.016)
    assert len(received) == pytest.approx(500 + 300 / 32, abs=2)
    assert np.diff([d.arrival_s for d in received]) == pytest.approx(0.032)
    waits_s = [d.arrival_s - _number(d) * 0.016 for d in received]
    assert max(waits_s) <= 0.332 + 1e-9
    assert channel.stats.drops == (("queue", 1000 - len(received)),)


def test_below_the_rate_nothing_waits() -> None:
    received, _ = _run(PacketSpec(rate_kbps=32), 100, interval_s=0.04)
    assert [d.arrival_s - _number(d) * 0.04 for d in received] == pytest.approx([0.032] * 100)


def test_outages() -> None:
    received, channel = _run(parse_channel("packet:outage=2.0+0.5/7+1,delay_ms=100"), 1000)
    lost = set(range(1000)) - set(map(_number, received))
    assert lost == set(range(200, 250)) | set(range(700, 800))
    assert channel.stats.drops == (("outage", 150),)


def test_trace_serves_one_full_datagram_per_opportunity_and_repeats() -> None:
    spec = TraceSpec(file="", opportunities_ms=(10, 30, 100), queue_ms=10_000)
    received, _ = _run(spec, 8, interval_s=0.0, size=1200)
    assert [d.arrival_s for d in received] == pytest.approx([0.01, 0.03, 0.1, 0.11, 0.13, 0.2, 0.21, 0.23])


def test_trace_shares_an_opportunity_and_wastes_unused_ones() -> None:
    spec = TraceSpec(file="", opportunities_ms=(50, 100), queue_ms=10_000)
    channel = SimulatedChannel(spec, 1)
    for number in range(13):
        channel.send(_message(number, 72), 0.0)
    channel.send(_message(13, 72), 0.31)
    arrivals = [d.arrival_s for d in channel.receive(_FOREVER_S)]
    assert arrivals == pytest.approx([0.05] * 12 + [0.1] + [0.35])


def test_trace_queue_bound() -> None:
    spec = TraceSpec(file="", opportunities_ms=(100,), queue_ms=250)
    received, channel = _run(spec, 5, interval_s=0.0, size=1200)
    assert len(received) == 2
    assert channel.stats.drops == (("queue", 3),)


_ROUGH = PacketSpec(
    loss=0.1,
    burst=2,
    delay_ms=30,
    jitter_ms=20,
    reorder=0.1,
    duplicate=0.1,
    corrupt=0.1,
    rate_kbps=200,
    queue_ms=100,
)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 5), max_size=30), st.integers(0, 2**63))
def test_how_often_one_calls_changes_nothing(polls: list[float], seed: int) -> None:
    times = [0.02 * number for number in range(100)]
    assert_polls_change_nothing(SimulatedChannel(_ROUGH, seed), SimulatedChannel(_ROUGH, seed), times, polls)


def test_nothing_arrives_early() -> None:
    channel = SimulatedChannel(PacketSpec(delay_ms=40), 1)
    channel.send(b"hello", 1.0)
    assert channel.next_arrival_s() == pytest.approx(1.04)
    assert channel.receive(1.039) == []
    assert channel.receive(1.05) == [Datagram(b"hello", 1.04)]
    assert channel.next_arrival_s() is None


def test_both_ways_are_independent_and_repeatable() -> None:
    def fates(seed: int) -> list[list[int]]:
        link = make_link(PacketSpec(loss=0.5), seed)
        for channel in link:
            for number in range(200):
                channel.send(_message(number), number * 0.01)
        return [[_number(d) for d in channel.receive(_FOREVER_S)] for channel in link]

    assert fates(4) == fates(4)
    assert fates(4)[0] != fates(4)[1]
    assert fates(4)[0] != fates(5)[0]


def test_what_waits_leaves_at_the_new_rate() -> None:
    """100 bytes and 28 of headers take 10.24 ms at 100 kbit/s; the third is half out when the rate falls to a quarter."""
    channel = SimulatedChannel(PacketSpec(rate_kbps=100, delay_ms=50), 1)
    for number in range(4):
        channel.send(_message(number), 0.0)
    assert channel.queue_s(0.0) == pytest.approx(4 * 0.01024)
    now_s = 2.5 * 0.01024
    channel.change(PacketSpec(rate_kbps=25, delay_ms=50), now_s)
    assert channel.queue_s(now_s) == pytest.approx(1.5 * 0.04096)
    channel.send(_message(4), now_s)
    expected = [0.06024, 0.07048, *(0.05 + now_s + share * 0.04096 for share in (0.5, 1.5, 2.5))]
    received = channel.receive(_FOREVER_S)
    assert [_number(d) for d in received] == list(range(5))
    assert [d.arrival_s for d in received] == pytest.approx(expected)


def test_a_wider_link_empties_the_queue_sooner_and_a_free_one_at_once() -> None:
    for spec, each_s in ((PacketSpec(rate_kbps=102.4), 0.01), (CleanSpec(), 0.0)):
        channel = SimulatedChannel(PacketSpec(rate_kbps=10.24, queue_ms=1000), 1)
        for number in range(10):
            channel.send(_message(number), 0.0)
        channel.change(spec, 0.5)
        received = channel.receive(_FOREVER_S)
        assert [_number(d) for d in received] == list(range(10))
        arrivals = [0.1, 0.2, 0.3, 0.4, 0.5, *(0.5 + each_s * count for count in range(1, 6))]
        assert [d.arrival_s for d in received] == pytest.approx(arrivals)
        assert channel.queue_s(1.0) == 0.0


def test_a_change_keeps_the_order_of_what_the_jitter_moved() -> None:
    channel = SimulatedChannel(PacketSpec(rate_kbps=100, jitter_ms=60, delay_ms=60, queue_ms=10_000), 3)
    for number in range(100):
        channel.send(_message(number), 0.0)
        if number % 10 == 9:
            channel.change(PacketSpec(rate_kbps=20 + number * 7 % 400, delay_ms=number, queue_ms=10_000), 0.0)
    received = channel.receive(_FOREVER_S)
    assert [_number(d) for d in received] == list(range(100))


def test_an_outage_that_begins_now_takes_what_waits_and_spares_what_has_left() -> None:
    link = "packet:rate_kbps=10.24,delay_ms=500,queue_ms=1000"  # 0.1 s each
    channel = SimulatedChannel(parse_channel(link), 1)
    for number in range(4):
        channel.send(_message(number), 0.0)
    channel.change(parse_channel(f"{link},outage=0.25+0.1"), 0.25)
    assert [_number(d) for d in channel.receive(_FOREVER_S)] == [0, 1, 3]
    assert channel.stats.drops == (("outage", 1),)


def test_a_change_to_the_same_link_changes_nothing() -> None:
    changed, left_alone = SimulatedChannel(_ROUGH, 5), SimulatedChannel(_ROUGH, 5)
    for number in range(300):
        now_s = 0.007 * number
        for channel in (changed, left_alone):
            channel.send(_message(number), now_s)
        changed.change(_ROUGH, now_s)
    pairs = zip(changed.receive(_FOREVER_S), left_alone.receive(_FOREVER_S), strict=True)
    for one, other in pairs:
        assert one.data == other.data and one.arrival_s == pytest.approx(other.arrival_s)
    assert changed.stats == left_alone.stats


def test_a_trace_holds_its_own_changes() -> None:
    trace = TraceSpec(file="", opportunities_ms=(100,))
    channel = SimulatedChannel(trace, 1)
    assert channel.queue_s(0.0) == 0.0
    channel.send(_message(0), 0.02)
    assert channel.queue_s(0.02) == pytest.approx(0.08)
    for first, second in ((trace, CleanSpec()), (CleanSpec(), trace)):
        with pytest.raises(ConfigError, match="trace"):
            SimulatedChannel(first, 1).change(second, 0.0)


def test_packets_of_another_size_and_without_headers_of_their_own() -> None:
    channel = SimulatedChannel(PacketSpec(rate_kbps=12), 1, max_bytes=1500, overhead_bytes=0)
    channel.send(bytes(1500), 0.0)
    assert [d.arrival_s for d in channel.receive(_FOREVER_S)] == pytest.approx([1.0])
    with pytest.raises(ChannelError, match="at most 1500"):
        channel.send(bytes(1501), 1.0)


def test_misuse_is_refused() -> None:
    channel = SimulatedChannel(CleanSpec(), 0)
    with pytest.raises(ChannelError, match="1201"):
        channel.send(bytes(1201), 0.0)
    channel.send(b"x", 0.0)
    channel.close()
    assert channel.receive(1.0) == []
    with pytest.raises(ChannelError, match="closed"):
        channel.send(b"x", 0.0)

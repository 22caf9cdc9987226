"""The radio link as a whole: repeatability, budget, protection, repeats."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("sionna.phy", reason="needs the extra `radio`: pip install 'semcast[radio]'")

from channel.packetise import Packetiser, PacketiserConfig
from channel.radio.fading import uses_before
from channel.radio.link import RadioChannel
from channel.radio.mcs import mcs_named
from channel.radio.scheduler import MAX_QUEUED
from channel.radio.spec import AwgnSpec, RadioSpec, RayleighSpec, TdlSpec
from channel.simulated import make_link
from channel.spec import parse_channel
from channel.traffic import Traffic
from common.errors import ChannelError
from common.types import Datagram, EncodedUnit, UnitKind
from tests.numbered import LATER_S, assert_polls_change_nothing, message_of, number_of

_NARROW: dict[str, Any] = {"mcs": "qpsk-1/2", "protect_db": 0, "uses_per_s": 48_000, "harq": 0}
_FIXED = AwgnSpec(snr_db=30, **_NARROW)


def _run(
    spec: RadioSpec, count: int = 12, interval_s: float = 0.04, size: int = 60, seed: int = 1
) -> tuple[list[Datagram], RadioChannel]:
    channel = RadioChannel(spec, seed)
    for number in range(count):
        channel.send(message_of(number, size), number * interval_s)
    return channel.receive(LATER_S), channel


# --- the link -----------------------------------------------------------------------------------------------------


def test_everything_arrives_at_high_snr_in_time() -> None:
    received, channel = _run(AwgnSpec(snr_db=30))
    assert [number_of(d) for d in received] == list(range(12))
    assert [d.data for d in received] == [message_of(number) for number in range(12)]
    assert all(0.015 - 1e-9 <= d.arrival_s - number_of(d) * 0.04 <= 0.036 for d in received)
    stats = channel.stats
    assert (stats.sent, stats.delivered, stats.drops, stats.failed_blocks) == (12, 12, (), 0)
    assert stats.sent_bytes == stats.delivered_bytes == 720


def test_something_arrives_at_minus_five_decibels() -> None:
    received, channel = _run(AwgnSpec(snr_db=-5, uses_per_s=48_000), count=4, interval_s=0.2, size=30)
    assert len(received) >= 3
    assert {name for name, _, _ in channel.stats.blocks_by_mcs} == {"qpsk-1/10"}


def test_nothing_arrives_at_very_low_snr() -> None:
    received, channel = _run(AwgnSpec(snr_db=-15, mcs="qpsk-1/10", harq=1, queue_ms=5000))
    assert received == []
    assert channel.stats.failed_blocks == channel.stats.blocks > 0
    assert channel.stats.drops == (("radio", 12),)


def test_a_sender_that_knows_that_it_is_hopeless_waits() -> None:
    received, channel = _run(AwgnSpec(snr_db=-15))
    assert received == []
    assert channel.stats.blocks <= 4  # until the first report
    assert dict(channel.stats.drops)["queue"] >= 11


def _fading(kind: str) -> RadioSpec:
    if kind == "rayleigh":
        return RayleighSpec(snr_db=6, coherence_ms=10, **_NARROW)
    return TdlSpec(kind="tdl-a", snr_db=9, doppler_hz=50, **_NARROW)


# --- what failed is sent again ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rayleigh", "tdl"])
def test_repeats_bring_through_what_fades_take(kind: str) -> None:
    spec = _fading(kind).model_copy(update={"harq": 8})
    received, channel = _run(spec, 30)
    assert [number_of(d) for d in received] == list(range(30))  # in order, too
    assert channel.stats.failed_blocks > 0
    assert channel.stats.drops == ()
    assert not channel.busy


def test_copies_are_combined() -> None:
    """At 2.5 dB below the threshold a block alone always fails, two copies are 0.5 dB above it."""
    snr_db = mcs_named("qpsk-1/2").threshold_db(120) - 2.5
    once, twice = (AwgnSpec(snr_db=snr_db, **{**_NARROW, "harq": harq}) for harq in (0, 1))
    assert len(_run(once)[0]) <= 2
    received, channel = _run(twice)
    assert len(received) >= 10
    assert channel.stats.uses > 1.7 * _run(once)[1].stats.uses


def test_a_link_is_busy_until_the_last_copy() -> None:
    spec = AwgnSpec(snr_db=-15, **{**_NARROW, "harq": 2})
    channel = RadioChannel(spec, 1)
    channel.send(message_of(0, 20), 0.0)  # one block
    assert channel.busy
    channel.receive(0.02)
    assert channel.busy  # two copies to come
    assert channel.receive(1.0) == []
    assert not channel.busy
    assert channel.stats.blocks == 3


@pytest.mark.parametrize("kind", ["rayleigh", "tdl"])
def test_fading_loses_some(kind: str) -> None:
    received, channel = _run(_fading(kind), 30)
    assert 5 < len(received) < 30
    assert all(d.data == message_of(number_of(d)) for d in received)
    assert dict(channel.stats.drops)["radio"] == 30 - len(received)


def test_a_datagram_is_lost_when_any_of_its_blocks_is() -> None:
    spec = RayleighSpec(snr_db=8, coherence_ms=10, **_NARROW)
    short, long = (_run(spec, 25, 0.1, size)[0] for size in (50, 250))
    assert len(long) < len(short) < 25


_ROUGH = RayleighSpec(snr_db=8, coherence_ms=15, queue_ms=100, **_NARROW)


@settings(max_examples=4)
@given(st.lists(st.floats(0, 0.3), max_size=15), st.integers(0, 2**63))
def test_how_often_one_calls_changes_nothing(polls: list[float], seed: int) -> None:
    times = [0.013 * number for number in range(10)]
    assert_polls_change_nothing(RadioChannel(_ROUGH, seed), RadioChannel(_ROUGH, seed), times, polls)


def test_nothing_arrives_early() -> None:
    channel = RadioChannel(_FIXED.model_copy(update={"delay_ms": 40}), 1)
    channel.send(b"hello", 1.0)
    assert channel.receive(1.0499) == []
    assert channel.next_arrival_s() is None
    assert [(d.data, round(d.arrival_s, 6)) for d in channel.receive(1.05)] == [(b"hello", 1.05)]


@pytest.mark.parametrize("spec", [_FIXED, TdlSpec(kind="tdl-c", snr_db=40, **_NARROW)])
def test_the_budget_holds_in_every_window(spec: RadioSpec) -> None:
    """Twice as much is sent as fits; pilots count."""
    channel, spent = RadioChannel(spec, 1), [0]
    for number in range(40):
        channel.send(message_of(number, 120), number * 0.01)
        channel.receive(number * 0.01)
        spent.append(channel.stats.uses)
    channel.receive(LATER_S)
    budget = [uses_before(spec, interval) for interval in range(41)]
    used = np.array(spent)
    for width in (1, 5, 20):
        assert (used[width:] - used[:-width] <= budget[width]).all()
    assert used[-1] > 0.8 * budget[30]
    stats = channel.stats
    assert stats.uses <= stats.offered_uses
    assert sum(uses for _, uses in stats.uses_by_traffic) == stats.uses
    assert dict(stats.drops)["queue"] > 0
    assert stats.cbr(512 * 512) == pytest.approx(stats.uses / (3 * 512 * 512))


def test_layers_fall_in_the_order_of_their_protection() -> None:
    """Just below what frames need, keys and configuration still come through."""
    snr_db = mcs_named("16qam-1/2").threshold_db(120) - 2.0
    channel = RadioChannel(AwgnSpec(snr_db=snr_db, mcs="16qam-1/2", protect_db=4, harq=0), 1)
    kinds = [Traffic.KEY, Traffic.FRAME, Traffic.RESIDUAL]
    for number in range(30):
        channel.send(message_of(number, 40), number * 0.02, kinds[number % 3])
    arrived = Counter(kinds[number_of(d) % 3] for d in channel.receive(LATER_S))
    assert arrived[Traffic.KEY] == 10
    assert arrived[Traffic.FRAME] <= 3
    assert arrived[Traffic.RESIDUAL] <= 3
    spent = dict(channel.stats.uses_by_traffic)
    assert spent["key"] > spent["frame"]


def test_uses_are_limited_where_asked() -> None:
    free = _run(_FIXED)[1].stats
    received, channel = _run(_FIXED.model_copy(update={"limit_uses": free.uses // 2}))
    assert free.uses // 2 - 200 < channel.stats.uses <= free.uses // 2
    assert [number_of(d) for d in received] == list(range(len(received)))
    assert 4 <= len(received) <= 6


def test_adaptive_follows_the_channel() -> None:
    good, poor = (_run(AwgnSpec(snr_db=snr_db, report_noise_db=0))[1].stats for snr_db in (20, 4))
    schemes = [[name for name, _, _ in stats.blocks_by_mcs] for stats in (good, poor)]
    assert any("64qam" in name for name in schemes[0])
    assert not any("64qam" in name or "16qam" in name for name in schemes[1])
    assert good.uses < poor.uses
    assert good.failed_blocks == poor.failed_blocks == 0


def test_both_ways_are_independent_and_repeatable() -> None:
    def fates(seed: int) -> list[list[int]]:
        link = make_link(parse_channel("rayleigh:snr_db=6,mcs=qpsk-1/2,coherence_ms=10,harq=0"), seed)
        for channel in link:
            for number in range(12):
                channel.send(message_of(number, 50), number * 0.02)
        return [[number_of(d) for d in channel.receive(LATER_S)] for channel in link]

    assert fates(4) == fates(4)
    assert fates(4)[0] != fates(4)[1]


def test_misuse_is_refused() -> None:
    channel = RadioChannel(_FIXED, 0)
    for size in (0, 1201):
        with pytest.raises(ChannelError, match=str(size)):
            channel.send(bytes(size), 0.0)
    for number in range(MAX_QUEUED + 2):
        channel.send(message_of(number, 2), 0.0)
    assert channel.stats.drops == (("overflow", 2),)
    channel.close()
    assert channel.receive(LATER_S) == []
    with pytest.raises(ChannelError, match="closed"):
        channel.send(b"x", 0.0)


# --- what the packetiser says of its datagrams --------------------------------------------------------------------


def _unit(kind: UnitKind, slot: int, size: int, **flags: bool) -> EncodedUnit:
    return EncodedUnit(kind, slot, message_of(slot, size), **flags)


def test_datagrams_are_marked_by_the_most_demanding_thing_in_them() -> None:
    packetiser = Packetiser(PacketiserConfig(rate_bps=1e6, repair_ratio=0))

    def marks(*units: EncodedUnit, now_s: float) -> list[Traffic]:
        packetiser.push(units, now_s)
        return [traffic for _, traffic in packetiser.poll_with_traffic(now_s)]

    frame = _unit(UnitKind.FRAME, 1, 80)
    key = _unit(UnitKind.FRAME, 2, 80, key=True, protect=True)
    anchor = _unit(UnitKind.ANCHOR, 3, 80, key=True, protect=True)
    assert marks(_unit(UnitKind.CONFIG, 0, 30, protect=True), frame, now_s=0.0) == [Traffic.CONFIG]
    assert marks(frame, now_s=0.1) == [Traffic.FRAME]
    assert marks(key, now_s=0.2) == [Traffic.KEY]
    assert marks(frame, anchor, now_s=0.3) == [Traffic.KEY]
    assert marks(_unit(UnitKind.ANCHOR, 4, 80, key=True, protect=True), now_s=0.4) == [Traffic.ANCHOR]
    assert marks(_unit(UnitKind.RESIDUAL, 5, 80), now_s=0.5) == [Traffic.RESIDUAL]

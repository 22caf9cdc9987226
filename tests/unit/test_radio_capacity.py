"""What a sender can count on, and that a link carries it."""

from __future__ import annotations

import pytest

pytest.importorskip("sionna.phy", reason="needs the extra `radio`: pip install 'semcast[radio]'")

from channel.radio.capacity import TYPICAL_BYTES, interval_bytes, sustainable_bps
from channel.radio.link import RadioChannel
from channel.radio.mcs import MCS_TABLE, Mcs
from channel.radio.spec import AwgnSpec, RadioSpec, RayleighSpec, TdlSpec
from channel.traffic import Traffic

_NARROW = 48_000


def test_a_fixed_scheme_carries_its_bits_less_crc_and_headers() -> None:
    """480 uses of 16qam-1/2: 960 bits, of which 24 are a CRC and 32 a header, and one header more in 200 bytes."""
    spec = AwgnSpec(snr_db=0, mcs="16qam-1/2", uses_per_s=_NARROW)
    expected = (960 - 24 - 32) * 100 * 200 / 204
    assert 0.95 * expected < sustainable_bps(spec) < expected
    assert sustainable_bps(spec, 0.5) == pytest.approx(sustainable_bps(spec) / 2)


@pytest.mark.parametrize("mcs", MCS_TABLE, ids=lambda mcs: mcs.name)
def test_longer_intervals_carry_more(mcs: Mcs) -> None:
    carried = [interval_bytes(mcs, uses) for uses in (48, 480, 960, 30_000)]
    assert carried == sorted(carried)
    assert carried[-1] < 30_000 * mcs.bits_per_use / 8


def test_more_snr_carries_more() -> None:
    rates = [sustainable_bps(AwgnSpec(snr_db=snr_db, uses_per_s=_NARROW)) for snr_db in range(-5, 30)]
    assert rates == sorted(rates)
    assert rates[0] > 2000
    assert rates[-1] == pytest.approx(
        sustainable_bps(AwgnSpec(snr_db=30, mcs="64qam-5/6", uses_per_s=_NARROW)), rel=0.01
    )


_FADING = RayleighSpec(snr_db=10, uses_per_s=_NARROW)


@pytest.mark.parametrize("change", [{"pilots": 16}, {"report_delay_ms": 80}, {"report_noise_db": 4}])
def test_fading_pilots_and_old_or_wrong_reports_cost_rate(change: dict[str, float]) -> None:
    still = AwgnSpec(snr_db=10, uses_per_s=_NARROW)
    worse = sustainable_bps(_FADING.model_copy(update=change))
    assert worse < 0.97 * sustainable_bps(_FADING) < 0.97 * sustainable_bps(still)


def test_the_same_every_time() -> None:
    first = sustainable_bps(_FADING)
    sustainable_bps.cache_clear()
    assert sustainable_bps(_FADING) == first


@pytest.mark.parametrize(
    "spec",
    [
        AwgnSpec(snr_db=0, uses_per_s=_NARROW, queue_ms=2000),
        _FADING.model_copy(update={"queue_ms": 2000}),
        TdlSpec(kind="tdl-c", snr_db=15, doppler_hz=20, uses_per_s=_NARROW, queue_ms=2000),
        AwgnSpec(snr_db=4, mcs="qpsk-1/2", uses_per_s=_NARROW, queue_ms=2000),
    ],
    ids=["awgn", "rayleigh", "tdl", "fixed"],
)
def test_a_link_carries_that_rate(spec: RadioSpec) -> None:
    channel, spacing_s, seconds = (
        RadioChannel(spec, 1),
        TYPICAL_BYTES * 8 / (0.85 * sustainable_bps(spec)),
        4.0,
    )
    count = int(seconds / spacing_s)
    for number in range(count):
        channel.send(bytes(TYPICAL_BYTES), number * spacing_s, Traffic.FRAME)
    channel.receive(seconds)
    stats = channel.stats
    assert "queue" not in dict(stats.drops)
    waiting = count - stats.delivered - dict(stats.drops).get("radio", 0)
    assert waiting * spacing_s < 0.6

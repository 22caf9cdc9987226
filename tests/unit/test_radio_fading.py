"""The air: power, statistics, continuity, and what the receiver believes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("sionna.phy", reason="needs the extra `radio`: pip install 'semcast[radio]'")

from channel.radio.fading import Air, Dice, RayleighAir, effective_snr_db, open_air
from channel.radio.ofdm import SUBCARRIER_HZ, OfdmAir, TappedDelayLine
from channel.radio.spec import AwgnSpec, NoiseKnowledge, RadioSpec, RayleighSpec, TdlKind, TdlSpec

Reals = NDArray[np.float64]

AIRS: dict[str, RadioSpec] = {
    "awgn": AwgnSpec(snr_db=8),
    "rayleigh": RayleighSpec(snr_db=8, coherence_ms=7),
    "rayleigh with pilots": RayleighSpec(snr_db=8, coherence_ms=7, pilots=4, noise="estimated"),
    "tdl": TdlSpec(kind="tdl-b", snr_db=8),
}


def _qpsk(count: int, seed: int = 0) -> NDArray[np.complex64]:
    turns = np.random.default_rng(seed).integers(0, 4, count)
    return np.exp(1j * np.pi * (turns + 0.5) / 2).astype(np.complex64)


def _excess(air: Air, intervals: int) -> float:
    """Squared errors over what the receiver believes they are, mean over many intervals."""
    ratios = []
    for interval in range(0, 10 * intervals, 10):
        sent = _qpsk(air.data_uses(interval), interval)
        heard = air.carry(interval, sent)
        ratios.append(np.mean(np.abs(heard.symbols - sent) ** 2 / heard.noise))
    return float(np.mean(ratios))


@pytest.mark.parametrize("spec", AIRS.values(), ids=AIRS.keys())
def test_an_interval_depends_on_seed_and_number_alone(spec: RadioSpec) -> None:
    sent = _qpsk(open_air(spec, 1).data_uses(5))
    one, again, other = open_air(spec, 1), open_air(spec, 1), open_air(spec, 2)
    one.carry(0, sent)
    for number in (5, 6):
        assert np.array_equal(one.carry(number, sent).symbols, again.carry(number, sent).symbols)
    assert not np.array_equal(one.carry(5, sent).symbols, other.carry(5, sent).symbols)
    assert not np.array_equal(one.carry(5, sent).symbols, one.carry(6, sent).symbols)


@pytest.mark.parametrize("spec", AIRS.values(), ids=AIRS.keys())
@pytest.mark.parametrize("uses_per_s", [48_000, 33_333, 100_001])
def test_pilots_and_data_stay_within_the_budget(spec: RadioSpec, uses_per_s: float) -> None:
    air = open_air(spec.model_copy(update={"uses_per_s": uses_per_s}), 1)
    spent = np.cumsum([air.data_uses(number) + air.pilot_uses(number) for number in range(50)])
    assert (spent <= uses_per_s * 0.01 * np.arange(1, 51) + 1e-6).all()
    assert spent[-1] > 0.9 * uses_per_s * 0.5


@pytest.mark.parametrize(("pilots", "noise"), [(0, "known"), (2, "known"), (8, "known"), (8, "estimated")])
def test_rayleigh_receivers_know_how_wrong_they_are(pilots: int, noise: NoiseKnowledge) -> None:
    spec = RayleighSpec(snr_db=20, coherence_ms=10, pilots=pilots, noise=noise)
    heard = [RayleighAir(spec, Dice(4)).carry(n, _qpsk(470, n)) for n in range(200)]
    errors = np.array([np.mean(np.abs(h.symbols - _qpsk(470, n)) ** 2) for n, h in enumerate(heard)])
    believed = np.array([h.noise.mean() for h in heard])
    assert np.median(errors / believed) == pytest.approx(1, abs=0.15)


def test_rayleigh_gains_have_unit_mean_power_and_hold_for_their_block() -> None:
    air = RayleighAir(RayleighSpec(snr_db=60, coherence_ms=20), Dice(1))
    noise = np.array([air.carry(n, _qpsk(480)).noise[[0, -1]] for n in range(2000)])
    power = 1e-6 / noise
    assert np.array_equal(power[0::2], power[1::2])  # two intervals of 10 ms in every block
    assert np.array_equal(power[:, 0], power[:, 1])
    assert power[::2].mean() == pytest.approx(1, abs=0.1)
    assert np.mean(power[::2] < 0.1) == pytest.approx(1 - np.exp(-0.1), abs=0.03)


@pytest.mark.parametrize("kind", ["tdl-a", "tdl-b", "tdl-c"])
def test_tapped_delay_lines_have_unit_mean_power_and_their_delay_spread(kind: TdlKind) -> None:
    spec = TdlSpec(kind=kind, snr_db=10, delay_spread_ns=300)
    lines = [TappedDelayLine(spec, Dice(seed), 34) for seed in range(3)]
    weights, delays_ns = lines[0].powers, lines[0].delays_s * 1e9
    assert weights.sum() == pytest.approx(1)
    spread_ns = np.sqrt(weights @ delays_ns**2 - (weights @ delays_ns) ** 2)
    assert spread_ns == pytest.approx(300, rel=0.02)
    seconds = np.arange(0, 400, 0.37)
    power = np.mean([np.mean(np.abs(line.response(seconds)) ** 2) for line in lines])
    assert power == pytest.approx(1, abs=0.1)


def test_tapped_delay_lines_decorrelate_as_jakes_says() -> None:
    """J0(2 pi f t): 0.47 at 2 pi f t = 1.6, and -0.40 at its first minimum, 3.83 (Clarke 1968)."""
    spec = TdlSpec(kind="tdl-a", snr_db=10, doppler_hz=20)
    taps = [TappedDelayLine(spec, Dice(seed), 1) for seed in range(60)]
    times_s = np.array([0, 1.6, 3.83]) / (2 * np.pi * 20)
    seen = np.array([tap.response(start + times_s)[:, 0] for tap in taps for start in np.arange(0, 20, 0.5)])
    correlation = (seen[:, :1].conj() * seen).mean(axis=0).real
    assert correlation == pytest.approx([1, 0.455, -0.403], abs=0.1)


def test_neighbouring_subcarriers_fade_together_and_distant_ones_do_not() -> None:
    lines = [TappedDelayLine(TdlSpec(kind="tdl-c", snr_db=10), Dice(seed), 200) for seed in range(200)]
    seen = np.array([line.response(np.zeros(1))[0] for line in lines])
    correlation = (seen[:, :1].conj() * seen).mean(axis=0) / np.mean(np.abs(seen) ** 2)
    apart_hz = SUBCARRIER_HZ * np.arange(200)
    profile = np.exp(-2j * np.pi * apart_hz[:, None] * lines[0].delays_s) @ lines[0].powers
    assert np.abs(correlation - profile).max() < 0.3  # 200 draws
    assert np.abs(correlation[1] / correlation[0]) > 0.95
    assert np.abs(correlation[50:]).mean() < 0.5


@pytest.mark.parametrize("noise", ["known", "estimated"])
@pytest.mark.parametrize("snr_db", [0.0, 15.0])
def test_ofdm_receivers_know_how_wrong_they_are(snr_db: float, noise: NoiseKnowledge) -> None:
    air = open_air(TdlSpec(kind="tdl-a", snr_db=snr_db, noise=noise), 2)
    assert 0.6 < _excess(air, 30) < 1.15  # interpolation averages: it is better than sionna takes it to be


def test_a_still_ofdm_channel_without_noise_is_undone() -> None:
    air = OfdmAir(TdlSpec(kind="tdl-a", snr_db=60, doppler_hz=0, delay_spread_ns=30), Dice(1))
    sent = _qpsk(air.data_uses(0))
    assert np.abs(air.carry(3, sent).symbols - sent).max() < 0.05


def test_the_report_is_about_what_the_receiver_hears() -> None:
    air = open_air(TdlSpec(kind="tdl-b", snr_db=20), 2)
    numbers = range(0, 200, 10)
    heard = [effective_snr_db(1 / air.carry(n, _qpsk(air.data_uses(n))).noise.astype(float)) for n in numbers]
    reported = [air.snr_db(n) for n in numbers]
    assert np.abs(np.array(heard) - reported).mean() < 1.0
    assert np.ptp(reported) > 3


def test_effective_snr() -> None:
    assert effective_snr_db(np.full(5, 10.0)) == pytest.approx(10.0)
    mixed: Reals = np.array([0.1, 1000.0])
    assert -10 < effective_snr_db(mixed) < 30
    assert effective_snr_db(mixed) < 10 * np.log10(mixed.mean())


def test_a_library_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from channel.radio import library
    from channel.spec import check_channel
    from common.errors import ConfigError

    monkeypatch.setattr(library, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'semcast\[radio\]'"):
        check_channel("awgn:snr_db=3")
    with pytest.raises(ConfigError, match="sionna"):
        open_air(TdlSpec(kind="tdl-a", snr_db=3), 1)
    check_channel("packet:loss=0.1")

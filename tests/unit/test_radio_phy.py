"""Bits on the air and back, held against theory and published curves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import norm

pytest.importorskip("sionna.phy", reason="needs the extra `radio`: pip install 'semcast[radio]'")

from channel.radio.fading import Air, Dice, RayleighAir, open_air
from channel.radio.mcs import (
    MCS_TABLE,
    Mcs,
    block_bytes,
    block_uses,
    longest_block_uses,
    mcs_named,
)
from channel.radio.phy import BlockCode, Modem, block_code
from channel.radio.references import REFERENCES, TOLERANCE_DB, Reference
from channel.radio.spec import AwgnSpec, RayleighSpec
from channel.radio.thresholds import awgn, reference_failures


def _bits(count: int, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 2, (1, count)).astype(np.float32))


def _uncoded_ber(air: Air, intervals: int) -> float:
    """Share of wrong bits of QPSK after hard decisions on what the receiver hears."""
    modem, wrong, total = Modem(2), 0, 0
    for interval in range(intervals):
        bits = _bits(2 * air.data_uses(interval), interval)
        heard = air.carry(interval, modem.symbols(bits)[0])
        decided = modem.logits(heard.symbols[None], heard.noise[None]) > 0
        wrong += int((decided != (bits > 0)).sum())
        total += bits.numel()
    return wrong / total


@pytest.mark.parametrize("bits_per_symbol", [2, 4, 6])
def test_qam_is_gray_and_has_unit_power(bits_per_symbol: int) -> None:
    labels = np.arange(2**bits_per_symbol)
    bits = (labels[:, None] >> np.arange(bits_per_symbol)[::-1]) & 1
    points = Modem(bits_per_symbol).symbols(torch.from_numpy(bits.astype(np.float32)))[:, 0]
    assert np.mean(np.abs(points) ** 2) == pytest.approx(1, abs=1e-6)
    distance = np.abs(points[:, None] - points)
    nearest = np.isclose(distance, distance[distance > 1e-3].min(), rtol=1e-3)
    changed = np.abs(bits[:, None] - bits).sum(axis=2)
    assert set(changed[nearest]) == {1}


@pytest.mark.parametrize("snr_db", [0.0, 4.0, 7.0])
def test_uncoded_qpsk_in_white_noise(snr_db: float) -> None:
    """Q(sqrt(2 Eb/N0)), Eb/N0 half of Es/N0 (Proakis, Salehi: Digital Communications)."""
    air = open_air(AwgnSpec(snr_db=snr_db, uses_per_s=1e6, tti_ms=100), 3)
    theory = norm.sf(np.sqrt(10 ** (snr_db / 10)))
    assert _uncoded_ber(air, 4) == pytest.approx(theory, rel=0.05)


@pytest.mark.parametrize("snr_db", [3.0, 8.0, 13.0])
def test_uncoded_qpsk_in_rayleigh_fading(snr_db: float) -> None:
    """(1 - sqrt(g / (1 + g))) / 2 with g the mean Eb/N0 (Proakis, Salehi)."""
    spec = RayleighSpec(snr_db=snr_db, uses_per_s=20_000, tti_ms=100, coherence_ms=1)
    gamma = 10 ** (snr_db / 10) / 2
    theory = (1 - np.sqrt(gamma / (1 + gamma))) / 2
    assert _uncoded_ber(RayleighAir(spec, Dice(5)), 60) == pytest.approx(theory, rel=0.08)


def _offset_db(reference: Reference, snr_db: float, blocks: int) -> float:
    """How much more SNR this coder needs than the reference, from the errors in so many blocks."""
    failures = reference_failures(reference.k, reference.n, np.random.default_rng(7))(snr_db, blocks)
    return snr_db - reference.snr_db(failures / blocks)


@pytest.mark.parametrize(
    ("reference", "snr_db", "blocks"),
    [(REFERENCES[0], 3.0, 1000), (REFERENCES[1], 1.25, 100), (REFERENCES[2], 1.0, 10)],
    ids=["20/40", "512/1024", "6144/12288"],
)
def test_block_error_rate_is_that_of_published_5g_ldpc(
    reference: Reference, snr_db: float, blocks: int
) -> None:
    """AFF3CT's 5G LDPC references (channel.radio.references), 20 flooding iterations of sum-product.

    Here at a point of the waterfall where few blocks say much; `python -m channel.radio.thresholds` does it at 0.01.
    """
    assert abs(_offset_db(reference, snr_db, blocks)) <= TOLERANCE_DB


@pytest.mark.parametrize("mcs", MCS_TABLE, ids=lambda mcs: mcs.name)
def test_blocks_come_through_well_above_the_threshold(mcs: Mcs) -> None:
    generator = np.random.default_rng(2)
    shortest = block_uses(mcs, 2)
    for uses in (shortest, shortest + 213):
        code = block_code(mcs, uses)
        assert code.payload_bytes == block_bytes(mcs, uses)
        payloads = [generator.bytes(code.payload_bytes) for _ in range(3)]
        symbols = code.encode(payloads)
        assert symbols.shape == (3, uses)
        heard = awgn(symbols, mcs.threshold_db(uses) + 2.5, generator)
        assert code.decode(*heard) == payloads


def test_blocks_in_too_much_noise_are_erasures() -> None:
    code, generator = block_code(mcs_named("qpsk-1/2"), 120), np.random.default_rng(2)
    payloads = [generator.bytes(code.payload_bytes) for _ in range(40)]
    assert code.decode(*awgn(code.encode(payloads), -8.0, generator)) == [None] * 40


def test_good_and_bad_blocks_of_a_batch_keep_their_places() -> None:
    code, generator = block_code(mcs_named("qpsk-1/2"), 120), np.random.default_rng(2)
    payloads = [generator.bytes(code.payload_bytes) for _ in range(6)]
    symbols, noise = awgn(code.encode(payloads), 8.0, generator)
    symbols[1::2] = symbols[1::2, ::-1]
    assert code.decode(symbols, noise) == [
        payload if index % 2 == 0 else None for index, payload in enumerate(payloads)
    ]


def test_a_block_at_its_threshold_fails_about_as_often_as_measured() -> None:
    mcs, generator = mcs_named("qpsk-1/2"), np.random.default_rng(3)
    code = block_code(mcs, 120)
    payloads = [generator.bytes(code.payload_bytes) for _ in range(300)]
    decoded = code.decode(*awgn(code.encode(payloads), mcs.threshold_db(120, "1e-1"), generator))
    assert decoded.count(None) == pytest.approx(30, abs=16)  # three standard deviations
    assert all(got in (None, sent) for got, sent in zip(decoded, payloads, strict=True))


def test_the_same_symbols_decode_the_same_alone_and_together() -> None:
    code, generator = block_code(mcs_named("16qam-1/2"), 120), np.random.default_rng(4)
    payloads = [generator.bytes(code.payload_bytes) for _ in range(10)]
    symbols, noise = awgn(code.encode(payloads), mcs_named("16qam-1/2").threshold_db(120, "1e-1"), generator)
    alone = [code.decode(symbols[[row]], noise[[row]])[0] for row in range(10)]
    assert code.decode(symbols, noise) == alone


def test_the_most_robust_scheme_sends_its_coded_bits_twice() -> None:
    symbols = block_code(mcs_named("qpsk-1/10"), 480).encode([bytes(range(9))])[0]
    assert np.array_equal(symbols[:240], symbols[240:])
    single = block_code(mcs_named("qpsk-1/5"), 240).encode([bytes(range(9))])[0]
    assert np.array_equal(symbols[:240], single)


@pytest.mark.parametrize("uses", [441, 455, 479, 1923])
def test_any_length_of_a_low_rate_has_a_code(uses: int) -> None:
    """Whole bytes lower the rate, which the code has none of below 1/5: the rest is repetition."""
    for mcs in MCS_TABLE[:2]:
        payload = bytes(block_bytes(mcs, uses))
        code, generator = BlockCode(mcs, uses), np.random.default_rng(5)
        assert code.decode(*awgn(code.encode([payload]), mcs.threshold_db(uses) + 2.5, generator)) == [
            payload
        ]


def test_lengths_without_a_code_are_refused() -> None:
    mcs = mcs_named("qpsk-1/3")
    for uses in (24, longest_block_uses(mcs) + 1):
        with pytest.raises(ValueError, match="no qpsk-1/3 block"):
            BlockCode(mcs, uses)
    longest: NDArray[np.complex64] = BlockCode(mcs, longest_block_uses(mcs)).encode(
        [bytes(block_bytes(mcs, longest_block_uses(mcs)))]
    )
    assert longest.shape == (1, longest_block_uses(mcs))

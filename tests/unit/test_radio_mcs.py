"""Modulation and coding schemes: what was measured, and the choice among them. Needs no sionna."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from channel.radio.mcs import (
    MCS_TABLE,
    REFERENCE_USES,
    Mcs,
    McsPolicy,
    block_bytes,
    block_uses,
    choose_mcs,
    longest_block_uses,
    mcs_named,
)
from channel.traffic import Traffic

snrs = st.floats(-20, 40)
margins = st.floats(0, 6)
lengths = st.integers(24, 5000)


def test_faster_schemes_need_more() -> None:
    for slow, fast in pairwise(MCS_TABLE):
        assert slow.bits_per_use < fast.bits_per_use
        for uses in (60, 120, 240, 480, 2000):
            assert slow.threshold_db(uses) < fast.threshold_db(uses)


@pytest.mark.parametrize("mcs", MCS_TABLE, ids=lambda mcs: mcs.name)
def test_longer_blocks_and_more_errors_need_less(mcs: Mcs) -> None:
    needed = [mcs.threshold_db(uses) for uses in (120, 170, 240, 340, 480)]
    assert needed == sorted(needed, reverse=True)
    assert mcs.threshold_db(480, "1e-1") < mcs.threshold_db(480, "1e-2")
    assert mcs.threshold_db(10) == mcs.threshold_db(120)
    capacity_db = 10 * np.log10(2 ** float(mcs.bits_per_use) - 1)
    assert 0.5 < mcs.threshold_db(480) - capacity_db < 3.5


def _normal_approximation_db(uses: int, rate: float, bler: float) -> float:
    """Es/N0 that the best code for QPSK would need: Polyanskiy, Poor, Verdú, IEEE Trans. IT 2010, eq. (296)."""
    points, weights = np.polynomial.hermite_e.hermegauss(64)
    weights = weights / weights.sum()
    bits, snr_grid = 2 * uses, np.linspace(-12, 8, 401)
    rates = []
    for snr_db in snr_grid:
        snr = 10 ** (snr_db / 10)  # of a bit: one real dimension of half the energy in half the noise
        information = 1 - np.log2(1 + np.exp(-2 * snr - 2 * np.sqrt(snr) * points))
        mean = weights @ information
        spread = np.sqrt(weights @ (information - mean) ** 2 / bits)
        rates.append(mean - spread * norm.isf(bler) + np.log2(bits) / (2 * bits))
    return float(np.interp(rate, rates, snr_grid))


@pytest.mark.parametrize(
    ("name", "uses"),
    [
        ("qpsk-1/10", 480),
        ("qpsk-1/10", 1920),
        ("qpsk-1/5", 240),
        ("qpsk-1/5", 960),
        *((name, uses) for name in ("qpsk-1/3", "qpsk-1/2", "qpsk-3/4") for uses in (120, 480)),
    ],
)
def test_the_code_is_as_good_as_its_length_allows(name: str, uses: int) -> None:
    """Short 5G LDPC codes are some tenths of a decibel to one and a half above the normal approximation.

    Repetition costs a tenth or two more.
    """
    mcs = next(mcs for mcs in MCS_TABLE if mcs.name == name)
    best_db = _normal_approximation_db(uses, float(mcs.code_rate), 1e-2)
    assert 0.1 < mcs.threshold_db(uses) - best_db < 1.7


@given(st.sampled_from(MCS_TABLE), st.integers(1, 400))
def test_the_shortest_block_for_a_size(mcs: Mcs, size_bytes: int) -> None:
    uses = block_uses(mcs, size_bytes)
    assert block_bytes(mcs, uses - 1) < size_bytes <= block_bytes(mcs, uses)
    assert uses <= longest_block_uses(mcs)


def test_the_most_robust_scheme_carries_something_at_minus_five_decibels() -> None:
    assert MCS_TABLE[0].threshold_db(480) < -5
    assert block_bytes(MCS_TABLE[0], 480) == 9


@given(snrs, snrs, lengths)
def test_more_snr_never_means_a_slower_scheme(one_db: float, other_db: float, uses: int) -> None:
    low, high = (choose_mcs(snr_db, lambda _: uses) for snr_db in sorted((one_db, other_db)))
    assert low.bits_per_use <= high.bits_per_use


@given(snrs, margins, margins, lengths, st.sampled_from(Traffic))
def test_never_above_the_margin(
    report_db: float, margin_db: float, protect_db: float, uses: int, traffic: Traffic
) -> None:
    """What is used was reported to work, with the margin; residuals alone may use up half the protection of it."""
    mcs = McsPolicy(None, margin_db, protect_db).choose(traffic, report_db, lambda _: uses)
    allowance_db = protect_db / 2 if traffic is Traffic.RESIDUAL else 0.0
    assert mcs is MCS_TABLE[0] or mcs.threshold_db(uses) <= report_db - margin_db + allowance_db + 1e-9


@given(snrs, margins, margins, lengths, st.sampled_from((None, *MCS_TABLE)))
def test_protection_has_an_order(
    report_db: float, margin_db: float, protect_db: float, uses: int, fixed: Mcs | None
) -> None:
    policy = McsPolicy(fixed, margin_db, protect_db)
    speed = {t: policy.choose(t, report_db, lambda _: uses).bits_per_use for t in Traffic}
    assert speed[Traffic.CONFIG] == speed[Traffic.KEY] == speed[Traffic.ANCHOR]
    assert speed[Traffic.KEY] <= speed[Traffic.FRAME] <= speed[Traffic.RESIDUAL]


@given(margins, snrs, st.sampled_from(MCS_TABLE))
def test_a_fixed_scheme_is_that_of_frames(protect_db: float, report_db: float, fixed: Mcs) -> None:
    policy = McsPolicy(fixed, margin_db=1.0, protect_db=protect_db)
    assert policy.choose(Traffic.FRAME, report_db, lambda _: 100) is fixed
    if protect_db == 0:
        assert {policy.choose(t, report_db, lambda _: 100) for t in Traffic} == {fixed}


def test_protection_really_differs() -> None:
    policy = McsPolicy(mcs_named("16qam-1/2"), margin_db=1.0, protect_db=3.0)
    names = [policy.choose(t, None, lambda _: 100).name for t in (Traffic.KEY, Traffic.FRAME)]
    assert names == ["qpsk-1/2", "16qam-1/2"]


def test_before_the_first_report_the_most_robust_scheme_is_used() -> None:
    assert McsPolicy(None, 1.0, 2.0).choose(Traffic.FRAME, None, lambda _: REFERENCE_USES) is MCS_TABLE[0]

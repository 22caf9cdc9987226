"""The channel of the analog layer: noise of the stated size, fading with the stated spread, erasures."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from channel.analog import awgn, erase, lose_packets, noise_variance, rayleigh
from common.errors import ChannelError

COUNT = 40_000


def some_symbols(power: float = 1.0) -> NDArray[np.complex64]:
    """QPSK, so that every symbol has the same power."""
    generator = np.random.default_rng(1)
    signs = generator.choice([-1.0, 1.0], (2, COUNT))
    return ((signs[0] + 1j * signs[1]) * np.sqrt(power / 2)).astype(np.complex64)


def error_of(received: NDArray[np.complex64], sent: NDArray[np.complex64]) -> NDArray[np.float64]:
    """Squared error by real dimension, [2, k]."""
    difference = received.astype(np.complex128) - sent
    return np.stack([difference.real, difference.imag]) ** 2


def test_the_snr_is_that_of_a_complex_symbol() -> None:
    assert noise_variance(0.0) == pytest.approx(0.5)
    assert noise_variance(10.0) == pytest.approx(0.05)


@pytest.mark.parametrize("snr_db", [-3.0, 10.0, 25.0])
def test_white_noise_has_the_stated_variance_in_each_dimension(snr_db: float) -> None:
    sent = some_symbols()
    received = awgn(sent, snr_db, np.random.default_rng(2))
    assert received.symbols.dtype == np.complex64
    assert set(received.noise) == {noise_variance(snr_db)}
    found = error_of(received.symbols, sent).mean(axis=1)
    assert found == pytest.approx(noise_variance(snr_db), rel=0.03)


def test_fading_keeps_its_power_and_states_the_noise_it_leaves() -> None:
    sent = some_symbols()
    received = rayleigh(sent, 10.0, 4, np.random.default_rng(3))
    gain = noise_variance(10.0) / received.noise
    assert gain.mean() == pytest.approx(1.0, rel=0.05)
    assert np.mean(gain < 0.1) == pytest.approx(1 - np.exp(-0.1), rel=0.1)  # an exponential distribution
    whitened = error_of(received.symbols, sent) / received.noise
    assert whitened.mean() == pytest.approx(1.0, rel=0.03)


def test_fading_stays_over_a_block_and_changes_with_the_next() -> None:
    received = rayleigh(some_symbols()[:1001], 10.0, 100, np.random.default_rng(4))
    blocks = [set(received.noise[first : first + 100]) for first in range(0, 1001, 100)]
    assert all(len(block) == 1 for block in blocks)
    assert len(set.union(*blocks)) == 11


def test_the_same_seed_gives_the_same_symbols() -> None:
    first, second = (rayleigh(some_symbols(), 5.0, 10, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(first.symbols, second.symbols)
    assert np.array_equal(first.noise, second.noise)


def test_whole_packets_are_lost_with_the_stated_frequency() -> None:
    received = lose_packets(
        awgn(some_symbols(), 10.0, np.random.default_rng(6)), 16, 0.1, np.random.default_rng(7)
    )
    lost = np.isinf(received.noise)
    assert np.array_equal(received.symbols == 0, lost)
    assert lost.mean() == pytest.approx(0.1, rel=0.15)
    packets = lost.reshape(-1, 16)
    assert np.array_equal(packets.any(axis=1), packets.all(axis=1))


def test_a_short_last_packet_can_be_lost() -> None:
    received = lose_packets(
        awgn(some_symbols()[:10], 10.0, np.random.default_rng(8)), 4, 1.0, np.random.default_rng(9)
    )
    assert np.isinf(received.noise).all()


def test_erasing_leaves_the_rest_alone() -> None:
    received = awgn(some_symbols(), 10.0, np.random.default_rng(10))
    lost = np.arange(COUNT) % 3 == 0
    erased = erase(received, lost)
    assert np.array_equal(erased.symbols[~lost], received.symbols[~lost])
    assert np.array_equal(erased.noise[~lost], received.noise[~lost])


def test_more_than_unit_power_is_refused() -> None:
    with pytest.raises(ChannelError, match="unit mean power"):
        awgn(some_symbols(power=1.1), 10.0, np.random.default_rng(11))
    with pytest.raises(ChannelError, match="unit mean power"):
        awgn(np.full(4, np.nan, np.complex64), 10.0, np.random.default_rng(11))


def test_impossible_lengths_are_refused() -> None:
    with pytest.raises(ChannelError, match="at least one symbol"):
        rayleigh(some_symbols(), 10.0, 0, np.random.default_rng(12))
    with pytest.raises(ChannelError, match="at least one symbol"):
        lose_packets(awgn(some_symbols(), 1.0, np.random.default_rng(13)), 0, 0.1, np.random.default_rng(14))


def test_no_symbols_are_no_error() -> None:
    empty = np.zeros(0, np.complex64)
    assert rayleigh(empty, 10.0, 5, np.random.default_rng(15)).symbols.size == 0

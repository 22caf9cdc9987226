"""Complex symbols through noise, fading and losses, for the analog layer (`common.softcast`).

Baseband with the receiver's front end included: a transmission gives the symbols after equalisation by the known
channel, and the noise variance that each then has. Symbols have unit mean power; the SNR is Es/N0, so that the noise
has the variance 1 / (2 SNR) in each real dimension (shared conventions of the NTSCC and SwinJSCC code).
Pure functions of their arguments: the same generator state gives the same symbols.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import ChannelError

Symbols = NDArray[np.complex64]

POWER_TOLERANCE = 0.01
"""Part by which the mean power of a group may be above one; single symbols may have any."""


@dataclass(frozen=True, slots=True, eq=False)
class ReceivedSymbols:
    """Symbols as the receiver has them.

    symbols : [k] complex64 after equalisation, zero where lost
    noise : [k] float64, noise variance per real dimension, infinite where lost
    """

    symbols: Symbols
    noise: NDArray[np.float64]


def noise_variance(snr_db: float) -> float:
    """Noise variance per real dimension beside symbols of unit mean power."""
    return float(0.5 * 10.0 ** (-snr_db / 10.0))


def awgn(symbols: Symbols, snr_db: float, generator: np.random.Generator) -> ReceivedSymbols:
    """White Gaussian noise. ChannelError where the symbols have more than unit mean power."""
    return _transmit(symbols, snr_db, np.ones(symbols.size, np.complex128), generator)


def rayleigh(
    symbols: Symbols, snr_db: float, coherence: int, generator: np.random.Generator
) -> ReceivedSymbols:
    """Rayleigh block fading, its gain known to the receiver, and white Gaussian noise.

    snr_db : mean over the fading, whose gain has unit mean power
    coherence : symbols over which the gain stays as it is, at least 1
    Raises ChannelError where the symbols have more than unit mean power.
    """
    if coherence < 1:
        raise ChannelError(f"fading stays for at least one symbol, not for {coherence}")
    gain = _complex_normal(-(-symbols.size // coherence), generator) / np.sqrt(2)
    return _transmit(symbols, snr_db, np.repeat(gain, coherence)[: symbols.size], generator)


def lose_packets(
    received: ReceivedSymbols, packet_symbols: int, loss: float, generator: np.random.Generator
) -> ReceivedSymbols:
    """Erase packets of `packet_symbols` consecutive symbols, each with the probability `loss`."""
    if packet_symbols < 1:
        raise ChannelError(f"a packet holds at least one symbol, not {packet_symbols}")
    packets = -(-received.symbols.size // packet_symbols)
    return erase(received, np.repeat(generator.random(packets) < loss, packet_symbols)[: received.noise.size])


def erase(received: ReceivedSymbols, lost: NDArray[np.bool_]) -> ReceivedSymbols:
    """Take away the symbols marked in `lost`, bool [k]."""
    symbols = np.where(lost, np.complex64(0), received.symbols)
    return ReceivedSymbols(symbols, np.where(lost, np.inf, received.noise))


def _transmit(
    symbols: Symbols, snr_db: float, gain: NDArray[np.complex128], generator: np.random.Generator
) -> ReceivedSymbols:
    """Gain, noise, and zero-forcing by the gain."""
    power = float(np.mean(np.abs(symbols) ** 2)) if symbols.size else 0.0
    if not power <= 1 + POWER_TOLERANCE:
        raise ChannelError(f"symbols of mean power {power:.3g}: scale them to unit mean power")
    variance = noise_variance(snr_db)
    noise = np.sqrt(variance) * _complex_normal(symbols.size, generator)
    equalised = symbols + noise / gain
    return ReceivedSymbols(equalised.astype(np.complex64), variance / np.abs(gain) ** 2)


def _complex_normal(count: int, generator: np.random.Generator) -> NDArray[np.complex128]:
    """Circular, with variance one in each real dimension."""
    real, imaginary = generator.standard_normal((2, count))
    return real + 1j * imaginary

"""The air between two radios, one transmission interval at a time.

    symbols of interval k -> fading, noise -> estimation, equalisation -> estimates and what noise is left in each

Interval k draws its random numbers from Philox generators at counter k (as in `channel.simulated`), so that
what happens in it depends on seed and k alone. Symbols and fading have unit mean power: SNR is mean Es/N0.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from channel.radio.phy import Symbols, Variances
from channel.radio.spec import AwgnSpec, RadioSpec, RayleighSpec

Gains = NDArray[np.complex128]


class Stream(IntEnum):
    """Independent sources of random numbers in one channel."""

    NOISE = 0
    FADING = 1
    REPORT = 2
    PILOTS = 3


class Dice:
    """Random numbers of a seed, by stream and counter."""

    def __init__(self, seed: int) -> None:
        self._key = np.random.SeedSequence(seed).generate_state(2, np.uint64)

    def generator(self, stream: Stream, counter: int) -> np.random.Generator:
        """The generator of one event; the same every time."""
        return np.random.Generator(np.random.Philox(key=self._key, counter=[0, 0, stream, counter]))

    def gaussian(self, stream: Stream, counter: int, count: int) -> Gains:
        """[count] circular Gaussian numbers of unit mean power."""
        pairs = self.generator(stream, counter).standard_normal((count, 2))
        return (pairs[:, 0] + 1j * pairs[:, 1]) / np.sqrt(2)


@dataclass(frozen=True, slots=True)
class Heard:
    """What a receiver makes of an interval.

    symbols : [n] complex64, estimates of the symbols sent, without bias
    noise : [n] float32, variance of the error in each, as the receiver believes
    """

    symbols: Symbols
    noise: Variances


class Air(Protocol):
    """One way of a radio channel."""

    def data_uses(self, interval: int) -> int:
        """Channel uses of an interval that can carry data."""

    def pilot_uses(self, interval: int) -> int:
        """Channel uses that an interval spends on pilots if anything is sent in it."""

    def snr_db(self, interval: int) -> float:
        """The SNR of a channel without fading that has the capacity of this interval."""

    def carry(self, interval: int, symbols: Symbols) -> Heard:
        """Transmit [data_uses] complex64 symbols."""


def uses_before(spec: RadioSpec, interval: int) -> int:
    """Channel uses of all intervals before this one."""
    return int(spec.uses_per_s * spec.tti_ms / 1000 * interval + 1e-6)


def budget_uses(spec: RadioSpec, interval: int) -> int:
    """Channel uses of an interval: whole ones, so that no sum of them exceeds the rate by more than one."""
    return uses_before(spec, interval + 1) - uses_before(spec, interval)


def effective_snr_db(snr: NDArray[np.float64]) -> float:
    """The constant SNR with the same mean capacity as these linear ones, dB."""
    return float(10 * np.log10(np.exp2(np.log2(1 + snr).mean()) - 1 + 1e-12))


class AwgnAir:
    """White noise; the receiver knows its variance."""

    def __init__(self, spec: AwgnSpec, dice: Dice) -> None:
        self._spec = spec
        self._dice = dice
        self._noise = 10 ** (-spec.snr_db / 10)

    def data_uses(self, interval: int) -> int:
        return budget_uses(self._spec, interval)

    def pilot_uses(self, interval: int) -> int:
        return 0

    def snr_db(self, interval: int) -> float:
        return self._spec.snr_db

    def carry(self, interval: int, symbols: Symbols) -> Heard:
        noise = np.sqrt(self._noise) * self._dice.gaussian(Stream.NOISE, interval, len(symbols))
        return Heard(
            (symbols + noise).astype(np.complex64), np.full(len(symbols), self._noise, dtype=np.float32)
        )


class RayleighAir:
    """One coefficient per block of coherence; an interval may see several, and a block several intervals.

    With pilots, the receiver averages them to estimate the coefficient (least squares); without, it knows it.
    """

    def __init__(self, spec: RayleighSpec, dice: Dice) -> None:
        self._spec = spec
        self._dice = dice
        self._noise = 10 ** (-spec.snr_db / 10)

    def data_uses(self, interval: int) -> int:
        return max(0, budget_uses(self._spec, interval) - self.pilot_uses(interval))

    def pilot_uses(self, interval: int) -> int:
        return self._spec.pilots * len(np.unique(self._blocks(interval, budget_uses(self._spec, interval))))

    def snr_db(self, interval: int) -> float:
        blocks = self._blocks(interval, max(1, self.data_uses(interval)))
        share = 1 + 1 / self._spec.pilots if self._spec.pilots else 1.0
        return effective_snr_db(np.abs(self._gains(blocks)) ** 2 / (self._noise * share))

    def carry(self, interval: int, symbols: Symbols) -> Heard:
        blocks = self._blocks(interval, len(symbols))
        noise = np.sqrt(self._noise) * self._dice.gaussian(Stream.NOISE, interval, len(symbols))
        received = self._gains(blocks) * symbols + noise
        gains, variance = self._estimate(interval, blocks)
        power = np.maximum(np.abs(gains) ** 2, 1e-9)
        return Heard(
            (received * np.conj(gains) / power).astype(np.complex64), (variance / power).astype(np.float32)
        )

    def _blocks(self, interval: int, uses: int) -> NDArray[np.int64]:
        """[uses] number of the block of coherence that each use falls into."""
        position = interval + np.arange(uses) / uses
        return np.floor(position * self._spec.tti_ms / self._spec.coherence_ms + 1e-9).astype(np.int64)

    def _gains(self, blocks: NDArray[np.int64]) -> Gains:
        numbers, where = np.unique(blocks, return_inverse=True)
        gains = [self._dice.gaussian(Stream.FADING, int(number), 1)[0] for number in numbers]
        return np.array(gains)[where]

    def _estimate(self, interval: int, blocks: NDArray[np.int64]) -> tuple[Gains, NDArray[np.float64]]:
        """What the receiver believes of every use: its gain, and the variance of noise and estimation error."""
        count = self._spec.pilots
        if count == 0:
            return self._gains(blocks), np.full(len(blocks), self._noise)
        numbers, where = np.unique(blocks, return_inverse=True)
        pilot_noise = self._dice.gaussian(Stream.PILOTS, interval, len(numbers) * count)
        pilots = self._gains(numbers)[:, None] + np.sqrt(self._noise) * pilot_noise.reshape(-1, count)
        noise = self._noise
        if self._spec.noise == "estimated":
            noise = float(np.sum(pilots.var(axis=1)) * count / (count - 1) / len(numbers))
        return pilots.mean(axis=1)[where], np.full(len(blocks), noise * (1 + 1 / count))


def open_air(spec: RadioSpec, seed: int) -> Air:
    """The air of a specification. Raises ConfigError where sionna is missing."""
    dice = Dice(seed)
    if isinstance(spec, AwgnSpec):
        return AwgnAir(spec, dice)
    if isinstance(spec, RayleighSpec):
        return RayleighAir(spec, dice)
    from channel.radio.ofdm import OfdmAir

    return OfdmAir(spec, dice)

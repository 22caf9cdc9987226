"""3GPP tapped delay lines under OFDM: pilots, channel estimation, equalisation.

    data, pilots -> slot of 14 symbols x subcarriers -> tapped delay line, noise
                 -> least-squares estimates at the pilots -> linear interpolation -> LMMSE equalisation

Every transmission interval has one slot (30 kHz: half a millisecond) on neighbouring subcarriers; what its
budget does not fill with whole symbols stays unused. Symbols 2 and 11 have a pilot on every second subcarrier
(a demodulation reference signal of type 1, TS 38.211). The cyclic prefix outlasts every delay.

The taps fade as sionna's own TDL (sum of sinusoids: Xiao, Zheng, Beaulieu, IEEE TWC 2006) with its delays and
powers; that one draws an unrelated channel at each call, from a generator of the whole process, while ours
goes on from interval to interval.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from channel.radio.fading import Dice, Gains, Heard, Stream, effective_snr_db
from channel.radio.library import DEVICE, sionna_phy
from channel.radio.phy import Symbols
from channel.radio.spec import TdlSpec

SYMBOLS = 14
SUBCARRIER_HZ = 30e3
PILOT_SYMBOLS = (2, 11)
PILOT_SPACING = 2

_SYMBOL_S = 1 / SUBCARRIER_HZ * 15 / SYMBOLS
"""With its cyclic prefix: 14 in half a millisecond."""
_SINUSOIDS = 20
_CARRIER_HZ = 3.5e9
"""sionna wants one to turn speeds into Doppler shifts, which we are given."""


class TappedDelayLine:
    """The channel's response over time and frequency.

    delays_s, powers : of each tap; powers add up to 1
    """

    def __init__(self, spec: TdlSpec, dice: Dice, subcarriers: int) -> None:
        profile = sionna_phy("channel.tr38901").TDL(
            spec.kind[-1].upper(), spec.delay_spread_ns * 1e-9, _CARRIER_HZ, device=DEVICE
        )
        self.delays_s: NDArray[np.float64] = profile.delays.numpy().astype(np.float64)
        self.powers: NDArray[np.float64] = profile.mean_powers.numpy().astype(np.float64)
        frequencies = (np.arange(subcarriers) - subcarriers // 2) * SUBCARRIER_HZ
        self._rotation = np.exp(-2j * np.pi * self.delays_s[:, None] * frequencies)
        generator = dice.generator(Stream.FADING, 0)
        angles, phases = generator.uniform(-np.pi, np.pi, (2, len(self.powers), _SINUSOIDS))
        arrival = (2 * np.pi * np.arange(_SINUSOIDS) + angles) / _SINUSOIDS
        self._shift_hz = spec.doppler_hz * np.cos(arrival)
        self._phases = phases

    def response(self, times_s: NDArray[np.float64]) -> Gains:
        """[T, subcarriers] at the given times."""
        argument = 2 * np.pi * self._shift_hz * times_s[:, None, None] + self._phases
        taps = np.exp(1j * argument).sum(axis=2) * np.sqrt(self.powers / _SINUSOIDS)
        response: Gains = taps @ self._rotation
        return response


class OfdmAir:
    """One slot of OFDM per transmission interval."""

    def __init__(self, spec: TdlSpec, dice: Dice) -> None:
        self._spec = spec
        self._dice = dice
        self._noise = 10 ** (-spec.snr_db / 10)
        self._subcarriers = int(spec.uses_per_s * spec.tti_ms / 1000) // SYMBOLS
        self._line = TappedDelayLine(spec, dice, self._subcarriers)
        ofdm, mimo = sionna_phy("ofdm"), sionna_phy("mimo")
        mask = np.zeros((1, 1, SYMBOLS, self._subcarriers), np.int32)
        mask[..., PILOT_SYMBOLS, ::PILOT_SPACING] = 1
        shape = (len(PILOT_SYMBOLS), len(range(0, self._subcarriers, PILOT_SPACING)))
        turns = dice.generator(Stream.PILOTS, 0).integers(0, 4, shape)
        self._pilots = np.exp(1j * np.pi * (turns + 0.5) / 2).astype(np.complex64)
        pattern = ofdm.PilotPattern(mask, self._pilots.reshape(1, 1, -1), device=DEVICE)
        grid = ofdm.ResourceGrid(
            SYMBOLS, self._subcarriers, SUBCARRIER_HZ, pilot_pattern=pattern, device=DEVICE
        )
        self._map = ofdm.ResourceGridMapper(grid, device=DEVICE)
        self._estimate = ofdm.LSChannelEstimator(grid, interpolation_type="lin", device=DEVICE)
        streams = mimo.StreamManagement(np.ones((1, 1)), 1)
        self._equalise = ofdm.LMMSEEqualizer(grid, streams, device=DEVICE)
        self._data_uses = int(grid.num_data_symbols)

    def data_uses(self, interval: int) -> int:
        return self._data_uses

    def pilot_uses(self, interval: int) -> int:
        return self._pilots.size

    def snr_db(self, interval: int) -> float:
        power = np.abs(self._line.response(self._times_s(interval))) ** 2
        return effective_snr_db(power / (2 * self._noise))  # an estimate is as noisy as a symbol

    @torch.no_grad()
    def carry(self, interval: int, symbols: Symbols) -> Heard:
        sent = self._map(torch.from_numpy(symbols).reshape(1, 1, 1, -1)).numpy()
        noise = self._dice.gaussian(Stream.NOISE, interval, SYMBOLS * self._subcarriers)
        response = self._line.response(self._times_s(interval))
        heard = response * sent + np.sqrt(self._noise) * noise.reshape(response.shape)
        received = torch.from_numpy(heard.astype(np.complex64))
        variance = torch.tensor(self._noise_variance(heard[0, 0, 0]), dtype=torch.float32)
        gains, error = self._estimate(received, variance)
        estimates, left = self._equalise(received, gains, error, variance)
        return Heard(estimates.reshape(-1).numpy(), left.reshape(-1).numpy())

    def _times_s(self, interval: int) -> NDArray[np.float64]:
        return interval * self._spec.tti_ms / 1000 + np.arange(SYMBOLS, dtype=np.float64) * _SYMBOL_S

    def _noise_variance(self, received: Gains) -> float:
        """As known; or from how much the pilots of a symbol differ from the middle of their neighbours."""
        if self._spec.noise == "known":
            return self._noise
        pilots = received[PILOT_SYMBOLS, ::PILOT_SPACING] * np.conj(self._pilots)
        bends = pilots[:, :-2] - 2 * pilots[:, 1:-1] + pilots[:, 2:]
        return float(np.mean(np.abs(bends) ** 2) / 6)

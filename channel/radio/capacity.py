"""The rate that a sender can count on over a radio channel, from the channel's specification alone.

    SNR at the time of the report + the report's error -> McsPolicy -> scheme -> bytes of an interval
    SNR when it is used -> whether the blocks get through                     -> mean over time and errors

The mean of the rates of the states of a fading channel is its ergodic rate with adaptive modulation (Goldsmith,
Chua: Variable-Rate Variable-Power MQAM for Fading Channels, IEEE Trans. Commun. 1997), here with the measured
schemes of `mcs.py`, an old report and its error. Assumed: there is always enough to send to fill an interval,
datagrams have `TYPICAL_BYTES`, and a block gets through when its SNR is at least the scheme's threshold for a
block error rate of 0.1. One that does not has used up its interval: whether it is sent again or given up, the
sender can count on no more.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from channel.radio.fading import Air, open_air
from channel.radio.mcs import Mcs, McsPolicy, block_bytes, mcs_named
from channel.radio.scheduler import fit_uses
from channel.radio.segments import HEADER_BYTES
from channel.radio.spec import AwgnSpec, RadioSpec
from channel.traffic import Traffic

Reals = NDArray[np.float64]

TYPICAL_BYTES = 200
"""Size of a datagram with frames."""

_SAFETY = 0.97
_SEEDS = range(4)
_SAMPLES = 256
_SPACING_S = 0.13
"""Between the intervals looked at: about the time in which slow fading changes."""
_SMALLEST_STEP_DB = 0.1
"""Of a report: in which steps the choice of a scheme is looked up."""
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(9)


@lru_cache(maxsize=64)
def sustainable_bps(spec: RadioSpec, share: float = 1.0) -> float:
    """Mean payload, bit/s of datagrams, that ordinary frames (Traffic.FRAME) can count on; a little too low.

    share : what part of it to count on, 0..1; the rest is left to other traffic

    With a fixed scheme this is what it carries, whatever gets through. With `adaptive` it is the mean over fading
    and errors of reports of what gets through: in deep fades nothing does. Slow fading makes queues, which this
    mean knows nothing of. Deterministic. Raises ConfigError where sionna is missing and needed.
    """
    if spec.mcs == "adaptive":
        payload_bytes = _mean_adaptive_bytes(spec)
    else:
        payload_bytes = interval_bytes(mcs_named(spec.mcs), _data_uses(open_air(spec, _SEEDS[0])))
    return _SAFETY * share * 8 * payload_bytes * 1000 / spec.tti_ms


def interval_bytes(mcs: Mcs, uses: int) -> float:
    """Payload that blocks of one scheme carry in `uses` channel uses, without CRC and segment headers."""
    total = 0.0
    while length := fit_uses(mcs, block_bytes(mcs, uses) + 1, uses):
        room = block_bytes(mcs, length) - HEADER_BYTES  # one datagram goes on from the block before
        total += room * TYPICAL_BYTES / (TYPICAL_BYTES + HEADER_BYTES)
        uses -= length
    return total


def _data_uses(air: Air) -> int:
    return int(np.mean([air.data_uses(interval) for interval in range(64)]))


def _mean_adaptive_bytes(spec: RadioSpec) -> float:
    """Mean payload of an interval."""
    reported, actual = _snr_pairs(spec)
    reports = np.round((reported[:, None] + spec.report_noise_db * _NODES) / _SMALLEST_STEP_DB)
    steps, where = np.unique(reports, return_inverse=True)
    uses = _data_uses(open_air(spec, _SEEDS[0]))
    schemes = [_scheme(spec, step * _SMALLEST_STEP_DB, uses) for step in steps.tolist()]
    payload = np.array([interval_bytes(mcs, uses) for mcs in schemes])[where].reshape(reports.shape)
    needed = np.array([mcs.threshold_db(uses, "1e-1") for mcs in schemes])[where].reshape(reports.shape)
    arrived = np.where(actual[:, None] >= needed, payload, 0.0)
    return float(np.mean(arrived @ _WEIGHTS) / _WEIGHTS.sum())


def _scheme(spec: RadioSpec, report_db: float, uses: int) -> Mcs:
    """What frames are sent with when the report says so and they fill the interval."""
    policy = McsPolicy(None, spec.margin_db, spec.protect_db)
    return policy.choose(Traffic.FRAME, report_db, lambda mcs: max(1, fit_uses(mcs, uses, uses)))


def _snr_pairs(spec: RadioSpec) -> tuple[Reals, Reals]:
    """SNR, dB, of intervals that reports are about, and of those in which the reports are used."""
    if isinstance(spec, AwgnSpec):
        return np.array([spec.snr_db]), np.array([spec.snr_db])
    spacing = max(1, round(_SPACING_S * 1000 / spec.tti_ms))
    pairs = [
        (air.snr_db(interval), air.snr_db(interval + spec.report_age))
        for air in (open_air(spec, seed) for seed in _SEEDS)
        for interval in range(0, _SAMPLES * spacing, spacing)
    ]
    reported, actual = np.array(pairs).T
    return reported, actual

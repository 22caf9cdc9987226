"""Modulation and coding schemes: what each carries, the SNR it needs, and which one to use.

    reported SNR - margin - offset of the traffic  >=  threshold   ->   the fastest such scheme

The thresholds are measured, not assumed: `python -m channel.radio.thresholds` sends blocks through this very
coder over AWGN and writes `thresholds.json`. SNR is Es/N0 in dB, one "use" is one complex channel symbol.

Below rate 1/5, the lowest of base graph 2, the coded bits are sent again, as 5G's rate matching does once its
circular buffer is used up (TS 38.212, 5.4.2.1).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from importlib.resources import files
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np

from channel.traffic import Traffic

McsName = Literal[
    "qpsk-1/10",
    "qpsk-1/5",
    "qpsk-1/3",
    "qpsk-1/2",
    "qpsk-3/4",
    "16qam-1/2",
    "16qam-2/3",
    "16qam-3/4",
    "64qam-2/3",
    "64qam-3/4",
    "64qam-5/6",
]
MCS_NAMES: tuple[McsName, ...] = get_args(McsName)
_BITS_PER_SYMBOL = {"qpsk": 2, "16qam": 4, "64qam": 6}

CRC_BITS = 24
_MAX_BITS = 8448
_MAX_BITS_SMALL_GRAPH = 3840
"""Largest information blocks of the two base graphs; the larger graph has no rate below 1/3, which the
rounding down of whole bytes would give `qpsk-1/3`."""

THRESHOLDS_FILE = "thresholds.json"
REFERENCE_USES = 480
"""Block length at which schemes are compared where the length of a block does not matter."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """The SNR that blocks of `uses` channel uses need for block error rates of 0.1 and 0.01, dB."""

    uses: int
    snr_db_at_1e1: float
    snr_db_at_1e2: float


@dataclass(frozen=True, slots=True)
class Mcs:
    """One scheme.

    bits_per_symbol : of its QAM
    code_rate : information bits in a bit sent; CRC bits count as information
    thresholds : measured over AWGN, by rising block length; none for a scheme that is yet to be measured
    """

    name: McsName
    bits_per_symbol: int
    code_rate: Fraction
    thresholds: tuple[Threshold, ...]

    @property
    def bits_per_use(self) -> Fraction:
        """Information bits in one channel use."""
        return self.bits_per_symbol * self.code_rate

    def threshold_db(self, uses: int, bler: Literal["1e-1", "1e-2"] = "1e-2") -> float:
        """SNR at which blocks of `uses` channel uses fail with probability `bler`.

        Between the measured lengths linear in 1/sqrt(length), as the gap to capacity is (Polyanskiy, Poor, Verdú
        2010); constant beyond them.
        """
        rows = self.thresholds[::-1]
        needed = [row.snr_db_at_1e1 if bler == "1e-1" else row.snr_db_at_1e2 for row in rows]
        return float(np.interp(uses**-0.5, [row.uses**-0.5 for row in rows], needed))


def _load_table() -> tuple[Mcs, ...]:
    text = files("channel.radio").joinpath(THRESHOLDS_FILE).read_text(encoding="utf-8")
    measured = json.loads(text)["thresholds"]
    return tuple(_mcs(name, measured.get(name, [])) for name in MCS_NAMES)


def _mcs(name: McsName, rows: list[Mapping[str, float]]) -> Mcs:
    modulation, _, rate = name.partition("-")
    thresholds = tuple(Threshold(int(row["uses"]), row["bler_1e-1"], row["bler_1e-2"]) for row in rows)
    return Mcs(name, _BITS_PER_SYMBOL[modulation], Fraction(rate), thresholds)


MCS_TABLE: tuple[Mcs, ...] = _load_table()
"""All schemes, slowest and most robust first."""


def mcs_named(name: McsName) -> Mcs:
    """The scheme of that name."""
    return MCS_TABLE[MCS_NAMES.index(name)]


def block_bytes(mcs: Mcs, uses: int) -> int:
    """Bytes that one block of `uses` channel uses carries, without its CRC; may be below zero."""
    bits = uses * mcs.bits_per_symbol * mcs.code_rate.numerator // mcs.code_rate.denominator
    return (bits - CRC_BITS) // 8


def block_uses(mcs: Mcs, size_bytes: int) -> int:
    """Channel uses of the shortest block that carries so many bytes."""
    bits = 8 * size_bytes + CRC_BITS
    return -(-bits * mcs.code_rate.denominator // (mcs.code_rate.numerator * mcs.bits_per_symbol))


def longest_block_uses(mcs: Mcs) -> int:
    """Channel uses of the longest block that the code has for a scheme."""
    limit = _MAX_BITS if mcs.code_rate > 0.4 else _MAX_BITS_SMALL_GRAPH
    return limit * mcs.code_rate.denominator // (mcs.code_rate.numerator * mcs.bits_per_symbol)


def choose_mcs(target_db: float, uses_of: Callable[[Mcs], int]) -> Mcs:
    """The fastest scheme that needs at most `target_db` for a block error rate of 0.01.

    uses_of : how long the block would be with a given scheme
    The most robust scheme when even that needs more.
    """
    fitting = (mcs for mcs in reversed(MCS_TABLE) if mcs.threshold_db(uses_of(mcs)) <= target_db)
    return next(fitting, MCS_TABLE[0])


PROTECTION: Mapping[Traffic, float] = MappingProxyType(
    {Traffic.CONFIG: 1.0, Traffic.KEY: 1.0, Traffic.ANCHOR: 1.0, Traffic.FRAME: 0.0, Traffic.RESIDUAL: -0.5}
)
"""How much more robust than frames each kind of traffic is sent, in units of `protect_db`."""


@dataclass(frozen=True, slots=True)
class McsPolicy:
    """Which scheme a block is sent with.

    fixed : the scheme of ordinary frames, None to follow the reports of the receiver
    margin_db : how much above its threshold a scheme must be reported to be used (only without `fixed`)
    protect_db : how much more robust configuration, keys and anchors are sent than frames; residuals are
        sent half as much less robust; 0 for equal protection
    """

    fixed: Mcs | None
    margin_db: float
    protect_db: float

    def choose(self, traffic: Traffic, report_db: float | None, uses_of: Callable[[Mcs], int]) -> Mcs:
        """The scheme for `traffic` when the last report said `report_db` (None before the first one)."""
        offset_db = self.protect_db * PROTECTION[traffic]
        if self.fixed is not None:
            return choose_mcs(self.fixed.threshold_db(REFERENCE_USES) - offset_db, lambda _: REFERENCE_USES)
        if report_db is None:
            return MCS_TABLE[0]
        return choose_mcs(report_db - self.margin_db - offset_db, uses_of)

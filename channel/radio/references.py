"""Published block error rates of 5G LDPC codes, to hold this coder against.

AFF3CT error rate references (MIT), https://github.com/aff3ct/error_rate_references, folder
LDPC/AWGN/BPSK/BP_FLOODING/SPA, files LDPC_N40_K20, LDPC_N1024_K512 and LDPC_N12288_K6144 _flooding_SPA_i20_5G:
TS 38.212 codes, sum-product decoding, 20 flooding iterations, AFF3CT v4.4.0 (Cassagne et al., SoftwareX 2019).
BPSK at a given Eb/N0 and Gray QPSK at the same Eb/N0 give every bit the same noise; at rate 1/2 the QPSK
symbol's Es/N0 equals Eb/N0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TOLERANCE_DB = 0.3
"""How far from a reference this coder may be."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One code of `k` information and `n` coded bits.

    curve : (Eb/N0 in dB, frame error rate), rising in SNR
    """

    k: int
    n: int
    curve: tuple[tuple[float, float], ...]

    def snr_db(self, bler: float) -> float:
        """Eb/N0 at which the reference has this error rate, between two of its points."""
        snr_db, rate = zip(*reversed(self.curve), strict=True)
        return float(np.interp(np.log10(bler), np.log10(rate), snr_db))


REFERENCES = (
    Reference(20, 40, ((1, 4.70e-1), (2, 2.62e-1), (3, 9.85e-2), (4, 2.00e-2), (5, 4.07e-3), (6, 5.31e-4))),
    Reference(
        512,
        1024,
        (
            (0.75, 7.50e-1),
            (1, 4.77e-1),
            (1.25, 2.33e-1),
            (1.5, 6.23e-2),
            (1.75, 1.69e-2),
            (2, 2.80e-3),
            (2.25, 4.08e-4),
        ),
    ),
    Reference(
        6144,
        12288,
        ((0.8, 9.55e-1), (0.9, 7.97e-1), (1, 3.88e-1), (1.1, 1.34e-1), (1.2, 2.18e-2), (1.3, 1.88e-3)),
    ),
)

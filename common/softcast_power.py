"""Power, whitening and estimation of the analog layer (SoftCast: Jakubczak and Katabi, MobiCom 2011).

Coefficients are sorted by variance and written row by row into a matrix of 64 rows; a Hadamard matrix mixes each
column, and the rows are sent one after the other as pairs of reals:

    s = a λ^(-1/4) x           unit mean power per complex symbol over the group
    Y = H S                    64 x C; a lost packet takes the same row from many columns
    y = Y + n                  n of known variance, infinite where the packet is lost
    x^ = E[x | y]              linear MMSE, column by column

Every column holds strong and weak coefficients, and the weak ones, known to be small, pin down what a lost row
took from the strong ones. What is left over beyond the last whole row (under 64 reals, the weakest) goes unmixed.
Where there are more channel uses than coefficients the matrix is filled up with zeros: mixing then is a
tight frame, and the further uses carry the same coefficients again with their share of the power.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from common.softcast_layout import Floats

ROWS = 64
MIN_MIXED_NOISE = 1e-6
"""Noise variance taken as least where it differs within a column: keeps the inverse in range (60 dB)."""


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """Estimated coefficients, in the order of sending, float64 [n] each.

    values : linear MMSE estimates
    variance : their error variances
    """

    values: Floats
    variance: Floats


def _hadamard() -> Floats:
    """Sylvester's construction, orthonormal and symmetric, [ROWS, ROWS]."""
    matrix = np.ones((1, 1))
    while len(matrix) < ROWS:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix / np.sqrt(ROWS)


_MIX = _hadamard()
_XOR = np.arange(ROWS)[:, None] ^ np.arange(ROWS)


def send_order(levels: NDArray[np.integer], limit: int) -> NDArray[np.intp]:
    """Indices of the coefficients that are sent: largest level first, level 0 never, at most `limit`."""
    order = np.argsort(-levels.astype(np.int16), kind="stable")
    return order[: min(limit, int(np.count_nonzero(levels)))]


def mix(scaled: Floats, symbols: int) -> NDArray[np.complex64]:
    """Scaled coefficients (at most 2 * symbols, sorted) to exactly `symbols` complex symbols."""
    slots = np.zeros(2 * symbols)
    slots[: scaled.size] = scaled
    whole = slots.size // ROWS * ROWS
    slots[:whole] = (_MIX @ slots[:whole].reshape(ROWS, -1)).ravel()
    return (slots[0::2] + 1j * slots[1::2]).astype(np.complex64)


def estimate(received: NDArray[np.complex64], noise: Floats, power: Floats, gain: Floats) -> Estimate:
    """Linear MMSE estimates from what arrived.

    received : [k] complex symbols after equalisation; anything where the noise is infinite
    noise : [k] noise variance per real dimension, infinite for what was lost
    power, gain : [n] variance of each scaled coefficient (gain² λ) and its gain, in the order of sending
    """
    lost = ~np.isfinite(noise)
    clean = np.where(lost, 0, received)
    slots = np.column_stack([clean.real, clean.imag]).ravel().astype(np.float64)
    spread = np.repeat(np.where(lost, np.inf, noise), 2)
    prior = np.zeros(slots.size)
    prior[: power.size] = power
    whole = slots.size // ROWS * ROWS
    mixed = [part[:whole].reshape(ROWS, -1) for part in (slots, spread, prior)]
    head = _columns(*mixed) if whole else (np.zeros(0), np.zeros(0))
    tail = _wiener(slots[whole:], spread[whole:], prior[whole:])
    values, variance = (np.concatenate([a.ravel(), b])[: power.size] for a, b in zip(head, tail, strict=True))
    return Estimate(values / gain, variance / gain**2)


def _wiener(values: Floats, noise: Floats, prior: Floats) -> tuple[Floats, Floats]:
    """Estimates of independent values, each seen in noise of its own, and their error variances."""
    total = np.where(prior + noise > 0, prior + noise, 1.0)
    share = np.where(np.isfinite(noise), prior / total, 0.0)
    return share * values, prior * (1.0 - share)


def _columns(received: Floats, noise: Floats, prior: Floats) -> tuple[Floats, Floats]:
    """Estimates behind the mixing, [ROWS, C] each.

    Where a column saw one noise throughout, unmixing leaves independent values. The others need the inverse of a
    64x64 matrix for each different (noise, prior): sorting made priors alike along a row, and packets or fades
    make noise alike, so that runs of neighbouring columns share one.
    """
    even = (noise == noise[0]).all(axis=0)
    values, variance = _wiener(_MIX @ received, np.broadcast_to(noise[0], noise.shape), prior)
    weights = np.where(np.isfinite(noise), 1.0 / np.maximum(noise, MIN_MIXED_NOISE), 0.0)
    for first, last in _runs(noise, prior):
        if not even[first]:
            run = slice(first, last)
            values[:, run], spread = _solve(received[:, run], weights[:, first], prior[:, first])
            variance[:, run] = spread[:, None]
    return values, variance


def _runs(noise: Floats, prior: Floats) -> list[tuple[int, int]]:
    """Ranges of neighbouring columns that are alike in noise and prior."""
    changed = (noise[:, 1:] != noise[:, :-1]).any(axis=0) | (prior[:, 1:] != prior[:, :-1]).any(axis=0)
    starts = [0, *(np.flatnonzero(changed) + 1).tolist(), noise.shape[1]]
    return list(pairwise(starts))


def _solve(received: Floats, weights: Floats, prior: Floats) -> tuple[Floats, Floats]:
    """Estimates of columns that share noise and prior: (I + D½ H W H D½)^-1, its diagonal the error variances.

    H W H of a Hadamard matrix depends on the exclusive or of row and column alone: one transform of W gives it.
    """
    root = np.sqrt(prior)
    joint = (_MIX @ weights / np.sqrt(ROWS))[_XOR]
    inverse = np.linalg.inv(np.eye(ROWS) + root[:, None] * joint * root)
    values = root[:, None] * (inverse @ (root[:, None] * (_MIX @ (weights[:, None] * received))))
    return values, prior * inverse.diagonal()

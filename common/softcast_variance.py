"""How wrong the received pictures of an analog group are expected to be, sample by sample.

The error of a coefficient has two parts. Channel noise is independent of the picture; its variance in a sample is
the variance of the coefficients, weighted by the squares of the basis functions there. Signal that did not come
through (left out, or shrunk by the estimator) lies where the picture is busy, and is spread accordingly.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from common.softcast_layout import Floats, Planes, Shape, chunk_sums, edges, split, widths
from common.softcast_metadata import Metadata

_BUSY_SIDE = 9
_LEAST_BUSY = 1.0  # so that a flat region expects some error too


def sample_variance(
    metadata: Metadata, order: NDArray[np.intp], variance: Floats, prior: Floats, samples: Planes
) -> Planes:
    """Expected squared error of every sample, [T, H, W] of each plane.

    order : coefficients that were sent
    variance, prior : their error variances after and before reception, in the order of sending
    samples : the received planes, unrounded
    """
    unseen = np.divide(variance, prior, out=np.zeros_like(prior), where=prior > 0)
    noise, missing = (
        _scatter(part, order, metadata.shape) for part in (variance * (1 - unseen), variance * unseen)
    )
    maps = []
    for number, plane in enumerate(samples):
        energy = float(missing[number].sum()) + metadata.lost_energy(number)
        expected = _noise_map(noise[number]) + energy / plane.size * _busy(plane)
        maps.append(expected + np.minimum(expected, 1 / 12))
    y, u, v = maps
    return y, u, v


def _scatter(values: Floats, order: NDArray[np.intp], shape: Shape) -> Planes:
    everything = np.zeros(shape.coefficients)
    everything[order] = values
    return split(everything, shape)


@lru_cache(maxsize=32)
def band_weights(length: int) -> Floats:
    """Mean square of the basis functions of each band at each sample, [length, bands].

    φ_k(n)² = (1 + cos kθ) / N for k > 0 with θ = π (2n + 1) / N, and the sum of cosines has a closed form.
    """
    half = np.pi * (2 * np.arange(length) + 1)[:, None] / (2 * length)
    first, count = edges(length), widths(length)
    last = first + count
    cosines = (np.sin((2 * last - 1) * half) - np.sin((2 * first - 1) * half)) / (2 * np.sin(half))
    weights = (1 + cosines / count) / length
    weights[:, 0] = 1 / length
    weights.setflags(write=False)
    return weights


@lru_cache(maxsize=8)
def _time_weights(length: int) -> Floats:
    """Squares of the basis functions, [length, length]."""
    n, k = np.arange(length)[:, None], np.arange(length)
    return np.where(k == 0, 1, 1 + np.cos(np.pi * (2 * n + 1) * k / length)) / length


def _noise_map(variance: Floats) -> Floats:
    """Variance of the samples from that of the coefficients, [T, H, W]; alike within a chunk."""
    sums = chunk_sums(variance)
    pictures, height, width = variance.shape
    spread = np.einsum("nt,tij->nij", _time_weights(pictures), sums)
    return band_weights(height) @ spread @ band_weights(width).T


def _busy(plane: Floats) -> Floats:
    """How busy a picture is around each sample, mean 1 over the group, [T, H, W].

    The local variance to the power of 3/4: of the exponents tried on four clips the likeliest, at every rate.
    """
    side = (_BUSY_SIDE, _BUSY_SIDE)
    mean = np.stack([cv2.blur(picture, side) for picture in plane])
    square = np.stack([cv2.blur(picture**2, side) for picture in plane])
    busy = (np.maximum(square - mean**2, 0) + _LEAST_BUSY) ** 0.75
    return busy / busy.mean()

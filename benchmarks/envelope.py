"""Comparing systems at equal quality or equal rate.

    points -best_of_ladder-> Envelope -rate_at_quality | quality_at_rate | rate_gap | bd_rate-> figures

Each (codec, scale) is a curve through its own points; the envelope is the best curve at each rate, so it
is never drawn between points that no single encoder setting connects. Interpolation is monotone cubic
(pchip) over the logarithm of the rate, as in Bjontegaard's method. More quality is always better here: distances
are negated (`Quality.goodness`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from benchmarks.peers import RdPoint
from benchmarks.rd_quality import MeasureName, MetricName

BD_MIN_POINTS = 4
"""Fewer points do not make a Bjontegaard delta."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One encoder setting family: rates and qualities, both strictly ascending.

    name : such as "svt-av1 1/2"
    """

    name: str
    kbps: tuple[float, ...]
    quality: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Envelope:
    """The best of several curves at each rate."""

    metric: MetricName
    curves: tuple[Curve, ...]


@dataclass(frozen=True, slots=True)
class BdRate:
    """Bjontegaard delta rate.

    percent : mean rate difference at equal quality, negative is fewer bits; None where it is undefined
    overlap : shared part of the two quality ranges over their union, 0..1; of a band of rates, of what lies in it
    reason : why `percent` is None
    """

    percent: float | None
    overlap: float
    reason: str | None = None


def best_of_ladder(points: Iterable[RdPoint], metric: MetricName) -> Envelope:
    """Envelope of all (codec, scale) curves over the points that have the metric; ValueError if none has."""
    families: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for point in points:
        quality = point.quality.goodness(metric)
        if quality is not None:
            families[family_of(point)].append((point.kbps, quality))
    if not families:
        raise ValueError(f"no point has the metric {metric}")
    return Envelope(metric, tuple(curve_through(name, pairs) for name, pairs in families.items()))


def family_of(point: RdPoint) -> str:
    """Name of the curve that a point belongs to, such as "svt-av1 1/2"."""
    return f"{point.codec} 1/{point.scale}"


def curve_through(name: str, pairs: Iterable[tuple[float, float]]) -> Curve:
    """Curve through (kbps, quality) pairs; a pair that costs more without being better is left out."""
    kept: list[tuple[float, float]] = []
    for kbps, quality in sorted(pairs, key=lambda pair: (pair[0], -pair[1])):
        if not kept or quality > kept[-1][1]:
            kept.append((kbps, quality))
    return Curve(name, tuple(kbps for kbps, _ in kept), tuple(quality for _, quality in kept))


def rate_at_quality(envelope: Envelope, quality: float) -> float | None:
    """Fewest kbit/s that reach `quality`; None below what any curve starts at and above what any reaches."""
    if quality < min(curve.quality[0] for curve in envelope.curves):
        return None
    rates = [_curve_rate(curve, quality) for curve in envelope.curves if quality <= curve.quality[-1]]
    return min(rates, default=None)


def bits_at_quality(envelope: Envelope, quality: float, duration_s: float) -> float | None:
    """`rate_at_quality` as bits over a clip."""
    kbps = rate_at_quality(envelope, quality)
    return None if kbps is None else kbps * 1e3 * duration_s


def quality_at_rate(envelope: Envelope, kbps: float) -> float | None:
    """Best quality for at most `kbps`; None below the lowest rate at which any curve exists."""
    return max((_curve_quality(c, kbps) for c in envelope.curves if kbps >= c.kbps[0]), default=None)


def best_curve_at(envelope: Envelope, kbps: float) -> Curve | None:
    """The curve that `quality_at_rate` takes its figure from; None below the lowest rate at which any exists."""
    able = [curve for curve in envelope.curves if kbps >= curve.kbps[0]]
    return max(able, key=lambda curve: _curve_quality(curve, kbps), default=None)


def family_at(points: Sequence[RdPoint], kbps: float) -> list[RdPoint]:
    """The points of the curve that is best by PSNR at `kbps`, by rising rate; empty below the lowest rate of any."""
    curve = best_curve_at(best_of_ladder(points, "psnr_yuv"), kbps)
    family = [point for point in points if curve is not None and family_of(point) == curve.name]
    return sorted(family, key=lambda point: point.kbps)


def measure_at(points: Sequence[RdPoint], kbps: float, measure: MeasureName) -> float | None:
    """What the pictures of the codec that is best by PSNR at `kbps` measure there; None where there is none."""
    found = ((point.kbps, getattr(point.quality, measure)) for point in family_at(points, kbps))
    known = [(float(np.log(rate)), float(value)) for rate, value in found if value is not None]
    if not known:
        return None
    rates, values = zip(*known, strict=True)
    return float(np.interp(float(np.log(kbps)), rates, values))


def rate_gap(kbps: float, quality: float, envelope: Envelope) -> float | None:
    """Percent more bits than the envelope at equal quality; negative is fewer, None outside its range."""
    reference = rate_at_quality(envelope, quality)
    return None if reference is None else 100.0 * (kbps / reference - 1.0)


def envelope_points(envelope: Envelope) -> list[tuple[float, float]]:
    """The (kbps, quality) pairs that lie on the envelope, ascending."""
    pairs = [pair for curve in envelope.curves for pair in zip(curve.kbps, curve.quality, strict=True)]
    on_top = [(kbps, q) for kbps, q in pairs if q >= (quality_at_rate(envelope, kbps) or q) - 1e-9]
    best = curve_through("envelope", on_top)
    return list(zip(best.kbps, best.quality, strict=True))


def bd_rate(
    ours: Sequence[tuple[float, float]], envelope: Envelope, band: tuple[float, float] | None = None
) -> BdRate:
    """Bjontegaard delta rate of our (kbps, quality) pairs against the envelope (akima interpolation).

    band : lowest and highest rate that `ours` stand for; only bounds what of the envelope counts for the overlap,
        since the delta itself is taken where the qualities of both overlap
    """
    test = curve_through("ours", ours)
    anchor = curve_through("envelope", envelope_points(envelope))
    overlap = _overlap(_range_in(envelope, anchor, band), test.quality)
    if min(len(anchor.kbps), len(test.kbps)) < BD_MIN_POINTS:
        return BdRate(None, overlap, f"fewer than {BD_MIN_POINTS} points with rising quality")
    if _overlap(anchor.quality, test.quality) == 0.0:
        return BdRate(None, overlap, "the quality ranges do not overlap")
    from bjontegaard import bd_rate as bjontegaard_rate

    percent = bjontegaard_rate(
        anchor.kbps, anchor.quality, test.kbps, test.quality,
        method="akima", require_matching_points=False, min_overlap=0.0,
    )  # fmt: skip
    return BdRate(float(percent), overlap)


def _range_in(envelope: Envelope, anchor: Curve, band: tuple[float, float] | None) -> tuple[float, float]:
    """Lowest and highest quality of the envelope, in a band of rates; nothing (a point) where it starts above that."""
    lowest, highest = anchor.quality[0], anchor.quality[-1]
    if band is None:
        return lowest, highest
    at_low, at_high = (quality_at_rate(envelope, kbps) for kbps in band)
    return lowest if at_low is None else at_low, lowest if at_high is None else at_high


def _curve_rate(curve: Curve, quality: float) -> float:
    """kbit/s for at least `quality`, which must not exceed the curve's best."""
    if quality <= curve.quality[0]:
        return curve.kbps[0]
    return float(np.exp(_pchip(curve.quality, np.log(curve.kbps), quality)))


def _curve_quality(curve: Curve, kbps: float) -> float:
    """Quality for at most `kbps`, which must not be below the curve's lowest."""
    if kbps >= curve.kbps[-1]:
        return curve.quality[-1]
    return _pchip(np.log(curve.kbps), curve.quality, float(np.log(kbps)))


def _pchip(x: ArrayLike, y: ArrayLike, at: float) -> float:
    from scipy.interpolate import PchipInterpolator

    return float(PchipInterpolator(x, y)(at))


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    shared = min(a[-1], b[-1]) - max(a[0], b[0])
    union = max(a[-1], b[-1]) - min(a[0], b[0])
    return max(0.0, shared) / union if union > 0.0 else 0.0

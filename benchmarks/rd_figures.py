"""From what was measured to figures.

ClipRuns -compare-> ClipReport -summarise, mean_systems-> means over the clips
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from statistics import fmean, median

from benchmarks.envelope import (
    BD_MIN_POINTS,
    Envelope,
    bd_rate,
    best_of_ladder,
    family_of,
    measure_at,
    quality_at_rate,
    rate_gap,
)
from benchmarks.peers import SVT_AV1, RdPoint
from benchmarks.rd_clip import ClipFacts
from benchmarks.rd_model import (
    BEST,
    LOW_BAND_KBPS,
    OURS,
    RATE_TOLERANCE_PERCENT,
    RESULT_KEYS,
    Band,
    ClipReport,
    ClipRuns,
    Delta,
    LevelRow,
    Mean,
    RateRow,
    Shot,
    System,
)
from benchmarks.rd_plan import Level
from benchmarks.rd_quality import METRICS, MetricName, Quality
from benchmarks.rd_runs import OurPoint

Envelopes = Mapping[tuple[str, MetricName], Envelope]


def references(ladder: Sequence[RdPoint]) -> dict[str, list[RdPoint]]:
    """What to compare with, by name: SVT-AV1 where it ran, and all peers together where there are others."""
    alone = [point for point in ladder if point.codec == SVT_AV1.name]
    found = {SVT_AV1.name: alone} if alone else {}
    return found if len(alone) == len(ladder) else {**found, BEST: list(ladder)}


def compare(runs: ClipRuns) -> ClipReport:
    """Our points beside the ladder of the same clip."""
    envelopes = {
        (name, metric): best_of_ladder(points, metric)
        for name, points in references(runs.ladder).items()
        for metric in METRICS
        if any(point.quality.goodness(metric) is not None for point in points)
    }
    return ClipReport(
        name=runs.name, clip=runs.clip, systems=list(_systems(runs)),
        rates=[_rate_row(point, envelopes, runs.ladder) for point in runs.ours],
        bd_rates=list(_deltas(runs.ours, envelopes)),
        shots=[Shot(target_kbps=kbps, pictures=list(kept)) for kbps, kept in runs.pictures.items()],
    )  # fmt: skip


# --- curves -------------------------------------------------------------------------------------------------------


def _systems(runs: ClipRuns) -> Iterator[System]:
    for level in runs.ours[0].levels:
        rows = [(point.kbps, point.levels[level], {"target-kbps": point.target_kbps}) for point in runs.ours]
        yield _system(f"{OURS}{level}", f"Semcast, {_MADE_OF[level]}", rows, runs.clip)
    for name, family in groupby(runs.ladder, family_of):
        points = list(family)
        ladder = [(point.kbps, point.quality, {"crf": float(point.crf)}) for point in points]
        yield _system(name, _peer_description(points[0]), ladder, runs.clip)


def _peer_description(point: RdPoint) -> str:
    size = "full size" if point.scale == 1 else f"1/{point.scale} of width and height"
    return f"{point.codec} at {size}, real-time and low delay"


_MADE_OF: Mapping[Level, str] = {
    "guide": "the guide enlarged",
    "base": "the base picture",
    "sr": "the guide enlarged and improved by a plain super-resolution network",
    "output": "the decoder's picture",
}


def _system(
    name: str, description: str, rows: Sequence[tuple[float, Quality, dict[str, float]]], clip: ClipFacts
) -> System:
    pixels_per_s = clip.width * clip.height * clip.frames / clip.duration_s
    results: dict[str, list[float]] = {
        "bpp": [kbps * 1e3 / pixels_per_s for kbps, _, _ in rows],
        "kbps": [kbps for kbps, _, _ in rows],
    }
    for measure, key in RESULT_KEYS.items():
        values = [value for _, quality, _ in rows if (value := getattr(quality, measure)) is not None]
        if len(values) == len(rows):
            results[key] = values
    for key in rows[0][2]:
        results[key] = [extra[key] for _, _, extra in rows]
    return System(name=name, description=description, results=results)


def mean_systems(clips: Sequence[ClipReport]) -> list[System]:
    """Every system that all clips have, each point in the mean over the clips, with the measures that all have."""
    by_name = [{system.name: system for system in clip.systems} for clip in clips]
    names = (name for name in by_name[0] if all(name in systems for systems in by_name))
    return [_mean_system([systems[name] for systems in by_name]) for name in names]


def _mean_system(of_clips: Sequence[System]) -> System:
    first = of_clips[0]
    keys = (key for key in first.results if all(key in system.results for system in of_clips))
    results = {
        key: [fmean(point) for point in zip(*(system.results[key] for system in of_clips), strict=True)]
        for key in keys
    }
    clips = f"{len(of_clips)} {'clip' if len(of_clips) == 1 else 'clips'}"
    return System(name=first.name, description=f"{first.description}; mean of {clips}", results=results)


# --- gaps ---------------------------------------------------------------------------------------------------------


def _rate_row(point: OurPoint, envelopes: Envelopes, ladder: Sequence[RdPoint]) -> RateRow:
    names = dict.fromkeys(name for name, _ in envelopes)
    steadiest = measure_at(ladder, point.kbps, "warping_error")
    return RateRow(
        target_kbps=point.target_kbps, kbps=point.kbps, ratio=point.kbps / point.target_kbps,
        excuse=_excuse(point, ladder),
        in_ladder=[n for n in names if quality_at_rate(envelopes[n, "psnr_yuv"], point.kbps) is not None],
        levels=[LevelRow(level=level, quality=quality, gaps=_gaps(point.kbps, quality, envelopes),
                         unsteadiness_percent=_percent_above(quality.warping_error, steadiest))
                for level, quality in point.levels.items()],
        uncertainty=point.uncertainty, safety=point.safety,
    )  # fmt: skip


def _percent_above(value: float | None, reference: float | None) -> float | None:
    return None if value is None or not reference else 100 * (value / reference - 1)


def _gaps(kbps: float, quality: Quality, envelopes: Envelopes) -> dict[str, dict[MetricName, float | None]]:
    gaps: dict[str, dict[MetricName, float | None]] = {}
    for (name, metric), envelope in envelopes.items():
        value = quality.goodness(metric)
        gaps.setdefault(name, {})[metric] = None if value is None else _gap(kbps, value, envelope)
    return gaps


def _gap(kbps: float, quality: float, envelope: Envelope) -> float | None:
    """As `rate_gap`; a quality below all that the ladder has is taken as its lowest, so the gap is at least this.

    Otherwise a picture that is worse than the ladder's worst at more bits would not count as behind.
    """
    lowest = min(curve.quality[0] for curve in envelope.curves)
    if quality < lowest and quality_at_rate(envelope, kbps) is not None:
        return rate_gap(kbps, lowest, envelope)
    return rate_gap(kbps, quality, envelope)


def _excuse(point: OurPoint, ladder: Sequence[RdPoint]) -> str | None:
    """Whether the content forbids the rate: no codec gets so low, or the pictures are better than any codec's best."""
    ratio = point.kbps / point.target_kbps
    if ratio > 1 and point.target_kbps < min(rung.kbps for rung in ladder):
        return "below the lowest rate of any peer"
    finest = max(quality.psnr_yuv for quality in point.levels.values())
    if ratio < 1 and finest >= max(rung.quality.psnr_yuv for rung in ladder):
        return "better than the best of any peer"
    return None


def _deltas(ours: Sequence[OurPoint], envelopes: Envelopes) -> Iterator[Delta]:
    """Over all rates, and over the low ones where there are enough of them that are really low."""
    lowest, highest = LOW_BAND_KBPS
    most = (1 + RATE_TOLERANCE_PERCENT / 100) * highest
    low = [point for point in ours if lowest <= point.target_kbps <= highest and point.kbps <= most]
    for level in ours[0].levels:
        for key, envelope in envelopes.items():
            yield from _delta(ours, level, key, "all", envelope)
            if len(low) >= BD_MIN_POINTS:
                yield from _delta(low, level, key, "low", envelope)


def _delta(
    ours: Sequence[OurPoint], level: Level, key: tuple[str, MetricName], band: Band, envelope: Envelope
) -> Iterator[Delta]:
    against, metric = key
    qualities = [(point.kbps, point.levels[level].goodness(metric)) for point in ours]
    pairs = [(kbps, quality) for kbps, quality in qualities if quality is not None]
    if len(pairs) == len(ours):
        found = bd_rate(pairs, envelope, LOW_BAND_KBPS if band == "low" else None)
        yield Delta(level=level, against=against, metric=metric, band=band, **asdict(found))


# --- all clips ----------------------------------------------------------------------------------------------------

Seen = tuple[float, str]
"""A figure and what it was seen on."""

Key = tuple[Level, str, MetricName, Band, float | None]
"""Level, reference, metric, band, and target of a gap at one rate."""


def summarise(clips: Sequence[ClipReport]) -> list[Mean]:
    """BD-rates, then gaps at each rate, over the clips."""
    gathered: dict[Key, list[Seen]] = {}
    for clip in clips:
        for key, percent in (*_clip_deltas(clip), *_clip_gaps(clip)):
            if percent is not None:
                gathered.setdefault(key, []).append((percent, clip.name))
    return [_mean(key, seen) for key, seen in gathered.items()]


def _clip_deltas(clip: ClipReport) -> Iterator[tuple[Key, float | None]]:
    for delta in clip.bd_rates:
        yield (delta.level, delta.against, delta.metric, delta.band, None), delta.percent


def _clip_gaps(clip: ClipReport) -> Iterator[tuple[Key, float | None]]:
    for rate in clip.rates:
        for row in rate.levels:
            for against, gaps in row.gaps.items():
                for metric, percent in gaps.items():
                    yield (row.level, against, metric, "all", rate.target_kbps), percent


def _mean(key: Key, seen: Sequence[Seen]) -> Mean:
    level, against, metric, band, target_kbps = key
    percents = [percent for percent, _ in seen]
    worst = max(seen)
    return Mean(
        level=level, against=against, metric=metric, target_kbps=target_kbps, band=band, clips=len(seen),
        mean_percent=fmean(percents), median_percent=median(percents), worst_percent=worst[0], worst_clip=worst[1],
    )  # fmt: skip

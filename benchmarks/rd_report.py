"""`rd.json`, `rd.csv` and the tables of `semcast bench rd`: our system beside the best-of-ladder codecs.

    ClipRuns -compare-> ClipReport -summarise-> Summary, Requirements -> RdReport

A gap is the percentage of bits that we need more than the ladder for equal quality (benchmarks/envelope.py): against
SVT-AV1 alone, which our guide is made with, and against the best of all peers.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Literal, get_args

from pydantic import ConfigDict, Field, JsonValue
from rich.console import Console

from benchmarks.envelope import (
    Envelope,
    MetricName,
    bd_rate,
    best_of_ladder,
    family_of,
    quality_at_rate,
    rate_gap,
)
from benchmarks.peers import SVT_AV1, RdPoint
from benchmarks.rd_plan import Level
from benchmarks.rd_runs import ClipFacts, KeptPicture, OurPoint, Quality
from benchmarks.report import Model, write_text
from benchmarks.tables import Cells, Requirement, requirement_table, rich_table, worst_at_most

SCHEMA_NAME: Literal["semcast.rd/1"] = "semcast.rd/1"

METRICS: tuple[MetricName, ...] = get_args(MetricName)
FIDELITY: tuple[MetricName, ...] = ("psnr_yuv", "ms_ssim")
"""The metrics that requirements are about."""
METRIC_LABELS: Mapping[MetricName, str] = {"psnr_yuv": "PSNR", "ms_ssim": "MS-SSIM", "vmaf": "VMAF"}
RESULT_KEYS: Mapping[MetricName, str] = {"psnr_yuv": "psnr", "ms_ssim": "ms-ssim", "vmaf": "vmaf"}

BEST = "best"
"""What the best of all peers is called where figures name their reference."""

RATE_TOLERANCE_PERCENT = 10.0
HIGH_RATE_KBPS, HIGH_RATE_GAP_PERCENT = 100.0, 3.0
LOW_RATE_KBPS, LOW_RATE_GAP_PERCENT = 24.0, 8.0
"""How far the base picture may be behind SVT-AV1's ladder: from the first rate up, and at the second."""

ABSENT = "-"
_DIGITS: Mapping[MetricName, int] = {"psnr_yuv": 2, "ms_ssim": 4, "vmaf": 1}


@dataclass(frozen=True, slots=True)
class ClipRuns:
    """All that was measured on one clip. ours : by rising target; pictures : by target in kbit/s"""

    name: str
    clip: ClipFacts
    ours: tuple[OurPoint, ...]
    ladder: tuple[RdPoint, ...]
    pictures: Mapping[float, tuple[KeptPicture, ...]]


class System(Model):
    """One curve, as CompressAI writes it; the lists are equally long."""

    name: str
    results: dict[str, list[float]]


class LevelRow(Model):
    """Our pictures of one level at one rate.

    gaps : reference -> metric -> percent more bits than the reference at equal quality; None outside its range
    """

    level: Level
    quality: Quality
    gaps: dict[str, dict[MetricName, float | None]]


class RateRow(Model):
    """One rate of our system.

    ratio : rate over target
    excuse : why another rate than the target is the content's doing, None where it is not or need not be
    in_ladder : references that exist at this rate
    """

    target_kbps: float
    kbps: float
    ratio: float
    excuse: str | None
    in_ladder: list[str]
    levels: list[LevelRow]


class Delta(Model):
    """Bjontegaard delta rate of one level against one reference, percent, with the overlap of the qualities 0..1."""

    level: Level
    against: str
    metric: MetricName
    percent: float | None
    overlap: float
    reason: str | None


class Shot(Model):
    """Pictures of one instant at one rate, the source first."""

    target_kbps: float
    pictures: list[KeptPicture]


class ClipReport(Model):
    """One clip."""

    name: str
    clip: ClipFacts
    systems: list[System]
    rates: list[RateRow]
    bd_rates: list[Delta]
    shots: list[Shot]


class Mean(Model):
    """One figure over the clips for which it exists.

    target_kbps : of a gap at one rate; None for a BD-rate
    worst_clip : where the figure is largest
    """

    level: Level
    against: str
    metric: MetricName
    target_kbps: float | None
    clips: int
    mean_percent: float
    median_percent: float
    worst_percent: float
    worst_clip: str


class RdReport(Model):
    """`rd.json`, and the last line of the output."""

    model_config = ConfigDict(
        title="Semcast rate and distortion", serialize_by_alias=True, validate_by_name=True
    )

    schema_name: Literal["semcast.rd/1"] = Field(default=SCHEMA_NAME, alias="schema")
    plan: dict[str, JsonValue]
    config: dict[str, JsonValue]
    versions: dict[str, str]
    requirements: list[Requirement]
    summary: list[Mean]
    clips: list[ClipReport]


# --- one clip -----------------------------------------------------------------------------------------------------


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
        if any(getattr(point, metric) is not None for point in points)
    }
    return ClipReport(
        name=runs.name, clip=runs.clip, systems=list(_systems(runs)),
        rates=[_rate_row(point, envelopes, runs.ladder) for point in runs.ours],
        bd_rates=[_delta(runs.ours, level, *key, envelope) for level in _levels(runs.ours)
                  for key, envelope in envelopes.items()
                  if all(getattr(point.levels[level], key[1]) is not None for point in runs.ours)],
        shots=[Shot(target_kbps=kbps, pictures=list(kept)) for kbps, kept in runs.pictures.items()],
    )  # fmt: skip


def _levels(ours: Sequence[OurPoint]) -> list[Level]:
    return list(ours[0].levels)


def _systems(runs: ClipRuns) -> Iterator[System]:
    clip = runs.clip
    pixels_per_s = clip.width * clip.height * clip.frames / clip.duration_s
    for level in _levels(runs.ours):
        rows = [(point.kbps, point.levels[level], {"target-kbps": point.target_kbps}) for point in runs.ours]
        yield _system(f"semcast {level}", rows, pixels_per_s)
    for name, points in groupby(runs.ladder, family_of):
        rows = [(p.kbps, Quality(psnr_yuv=p.psnr_yuv, ms_ssim=p.ms_ssim, vmaf=p.vmaf), {"crf": float(p.crf)})
                for p in points]  # fmt: skip
        yield _system(name, rows, pixels_per_s)


def _system(
    name: str, rows: Sequence[tuple[float, Quality, dict[str, float]]], pixels_per_s: float
) -> System:
    results: dict[str, list[float]] = {
        "bpp": [kbps * 1e3 / pixels_per_s for kbps, _, _ in rows],
        "kbps": [kbps for kbps, _, _ in rows],
    }
    for metric in METRICS:
        values = [value for _, quality, _ in rows if (value := getattr(quality, metric)) is not None]
        if len(values) == len(rows):
            results[RESULT_KEYS[metric]] = values
    for key in rows[0][2]:
        results[key] = [extra[key] for _, _, extra in rows]
    return System(name=name, results=results)


Envelopes = Mapping[tuple[str, MetricName], Envelope]


def _rate_row(point: OurPoint, envelopes: Envelopes, ladder: Sequence[RdPoint]) -> RateRow:
    names = dict.fromkeys(name for name, _ in envelopes)
    return RateRow(
        target_kbps=point.target_kbps, kbps=point.kbps, ratio=point.kbps / point.target_kbps,
        excuse=_excuse(point, ladder),
        in_ladder=[n for n in names if quality_at_rate(envelopes[n, "psnr_yuv"], point.kbps) is not None],
        levels=[LevelRow(level=level, quality=quality, gaps=_gaps(point.kbps, quality, envelopes))
                for level, quality in point.levels.items()],
    )  # fmt: skip


def _gaps(kbps: float, quality: Quality, envelopes: Envelopes) -> dict[str, dict[MetricName, float | None]]:
    gaps: dict[str, dict[MetricName, float | None]] = {}
    for (name, metric), envelope in envelopes.items():
        value = getattr(quality, metric)
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
    if ratio < 1 and finest >= max(rung.psnr_yuv for rung in ladder):
        return "better than the best of any peer"
    return None


def _delta(
    ours: Sequence[OurPoint], level: Level, against: str, metric: MetricName, envelope: Envelope
) -> Delta:
    pairs = [(point.kbps, getattr(point.levels[level], metric)) for point in ours]
    return Delta(level=level, against=against, metric=metric, **asdict(bd_rate(pairs, envelope)))


# --- all clips ----------------------------------------------------------------------------------------------------


Seen = tuple[float, str]
"""A figure and what it was seen on."""


def summarise(clips: Sequence[ClipReport]) -> list[Mean]:
    """BD-rates, then gaps at each rate, over the clips."""
    gathered: dict[tuple[Level, str, MetricName, float | None], list[Seen]] = {}
    for clip in clips:
        for key, percent in (*_clip_deltas(clip), *_clip_gaps(clip)):
            if percent is not None:
                gathered.setdefault(key, []).append((percent, clip.name))
    return [_mean(key, seen) for key, seen in gathered.items()]


Figure = tuple[tuple[Level, str, MetricName, float | None], float | None]


def _clip_deltas(clip: ClipReport) -> Iterator[Figure]:
    for delta in clip.bd_rates:
        yield (delta.level, delta.against, delta.metric, None), delta.percent


def _clip_gaps(clip: ClipReport) -> Iterator[Figure]:
    for rate in clip.rates:
        for row in rate.levels:
            for against, gaps in row.gaps.items():
                for metric, percent in gaps.items():
                    yield (row.level, against, metric, rate.target_kbps), percent


def _mean(key: tuple[Level, str, MetricName, float | None], seen: Sequence[Seen]) -> Mean:
    level, against, metric, target_kbps = key
    percents = [percent for percent, _ in seen]
    worst = max(seen)
    return Mean(
        level=level, against=against, metric=metric, target_kbps=target_kbps, clips=len(seen),
        mean_percent=fmean(percents), median_percent=median(percents), worst_percent=worst[0], worst_clip=worst[1],
    )  # fmt: skip


def requirements(clips: Sequence[ClipReport]) -> list[Requirement]:
    """The targets of the project for 512x512 beside the worst that was seen."""
    found = [worst_at_most("rate away from its target, %", RATE_TOLERANCE_PERCENT, _rate_errors(clips))]
    for metric in FIDELITY:
        name = f"least rise of {METRIC_LABELS[metric]} of the base picture with rate"
        found.append(_rising(name, _rises(clips, metric)))
    for name, target, concerned in (
        (f"from {HIGH_RATE_KBPS:g} kbit/s", HIGH_RATE_GAP_PERCENT, lambda kbps: kbps >= HIGH_RATE_KBPS),
        (f"at {LOW_RATE_KBPS:g} kbit/s", LOW_RATE_GAP_PERCENT, lambda kbps: kbps == LOW_RATE_KBPS),
    ):
        for metric in FIDELITY:
            title = f"base behind {SVT_AV1.name} {name} at equal {METRIC_LABELS[metric]}, % of bits"
            found.append(worst_at_most(title, target, _behind(clips, metric, concerned)))
    return found


def _base_of(rate: RateRow) -> LevelRow | None:
    return next((row for row in rate.levels if row.level == "base"), None)


def _rate_errors(clips: Iterable[ClipReport]) -> Iterator[Seen]:
    for clip in clips:
        for rate in clip.rates:
            if rate.excuse is None:
                yield 100 * abs(rate.ratio - 1), _place(clip, rate)


def _rises(clips: Iterable[ClipReport], metric: MetricName) -> Iterator[Seen]:
    """Quality gained from one rate to the next; where hardly more was spent, none is expected."""
    for clip in clips:
        for lower, higher in pairwise(clip.rates):
            low, high = _base_of(lower), _base_of(higher)
            if low and high and higher.kbps > 1.01 * lower.kbps:
                rise = getattr(high.quality, metric) - getattr(low.quality, metric)
                yield rise, _place(clip, higher)


def _behind(
    clips: Iterable[ClipReport], metric: MetricName, concerned: Callable[[float], bool]
) -> Iterator[Seen]:
    for clip in clips:
        for rate in clip.rates:
            row = _base_of(rate)
            if row is None or not concerned(rate.target_kbps) or SVT_AV1.name not in rate.in_ladder:
                continue
            percent = row.gaps[SVT_AV1.name][metric]
            if percent is not None:
                yield percent, _place(clip, rate)


def _place(clip: ClipReport, rate: RateRow) -> str:
    return f"{clip.name} {rate.target_kbps:g}k"


def _rising(name: str, seen: Iterable[Seen]) -> Requirement:
    """A least value above 0; there is no ratio to 0."""
    least = min(seen, default=None)
    if least is None:
        return Requirement(name=name, target=0.0, measured=None, ratio=None, met=None)
    return Requirement(name=name, target=0.0, measured=least[0], ratio=None, met=least[0] > 0, where=least[1])


# --- output -------------------------------------------------------------------------------------------------------


def write_rd(report: RdReport, out: Path) -> None:
    """Write `out`/rd.json and `out`/rd.csv; raises SinkError where that is impossible."""
    write_text(report.model_dump_json(indent=2) + "\n", out / "rd.json")
    write_text(csv_text(report), out / "rd.csv")


def csv_text(report: RdReport) -> str:
    """One line for each point of each system."""
    columns = ["clip", "system", "target-kbps", "crf", "kbps", "bpp", *RESULT_KEYS.values()]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for clip in report.clips:
        for system in clip.systems:
            for index in range(len(system.results["kbps"])):
                values = (system.results.get(column) for column in columns[2:])
                cells = ("" if value is None else f"{value[index]:.6g}" for value in values)
                writer.writerow([clip.name, system.name, *cells])
    return text.getvalue()


def print_rd(report: RdReport) -> None:
    """The tables for people, then the document as one line."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    for table in tables(report):
        console.print(rich_table(table))
    print(report.model_dump_json())


def tables(report: RdReport) -> list[Cells]:
    """Every clip, its BD-rates, the means over the clips, the requirements."""
    found = [table for clip in report.clips for table in (rate_table(clip), bd_table(clip))]
    return [*found, *summary_tables(report.summary), requirement_table(report.requirements)]


def rate_table(clip: ClipReport) -> Cells:
    """Every rate and level of ours, and the gaps to the ladder."""
    against = list(clip.rates[0].levels[0].gaps)
    heads = [f"vs {name}\n{METRIC_LABELS[metric]}, %" for name in against for metric in FIDELITY]
    rows = []
    for rate in clip.rates:
        for row in rate.levels:
            gaps = [_signed(row.gaps[name].get(metric)) for name in against for metric in FIDELITY]
            quality = (_value(getattr(row.quality, metric), metric) for metric in METRICS)
            reached = (f"{rate.target_kbps:g}", f"{rate.kbps:.1f}", f"{rate.ratio:.3f}")
            rows.append((*reached, row.level, *quality, *gaps))
    facts = clip.clip
    size = f"{facts.width}x{facts.height} at {facts.fps:.4g} fps"
    title = f"{clip.name}: {facts.frames} frames, {size}, {facts.duration_s:.2f} s"
    head = ("target", "kbit/s", "ratio", "picture", *METRIC_LABELS.values(), *heads)
    return Cells(title, head, tuple(rows))


def bd_table(clip: ClipReport) -> Cells:
    """BD-rate of each level, with the overlap of the quality ranges."""
    rows = []
    for (level, against), deltas in groupby(clip.bd_rates, lambda delta: (delta.level, delta.against)):
        found = {delta.metric: _delta_text(delta) for delta in deltas}
        rows.append((level, against, *(found.get(metric, ABSENT) for metric in METRICS)))
    head = ("picture", "against", *METRIC_LABELS.values())
    return Cells(f"{clip.name}: BD-rate, % of bits (overlap of the qualities)", head, tuple(rows))


def summary_tables(summary: Sequence[Mean]) -> Iterator[Cells]:
    """Means over the clips: of the BD-rates, and of the gaps at each rate."""
    deltas = [mean for mean in summary if mean.target_kbps is None]
    head = ("picture", "against", "at equal", "clips", "mean", "median", "worst", "on")
    if deltas:
        yield Cells("BD-rate over the clips, % of bits", head, tuple(map(_mean_cells, deltas)))
    gaps = {
        (mean.level, mean.against, mean.metric, mean.target_kbps): mean
        for mean in summary
        if mean.target_kbps is not None and mean.metric in FIDELITY
    }
    rates = sorted({kbps for *_, kbps in gaps if kbps is not None})
    rows = tuple(
        (level, against, METRIC_LABELS[metric], *(_gap_text(gaps.get((level, against, metric, r))) for r in rates))
        for level, against, metric in dict.fromkeys((mean.level, mean.against, mean.metric) for mean in gaps.values())
    )  # fmt: skip
    title = "Gap at each rate in kbit/s over the clips, % of bits: mean / worst"
    yield Cells(title, ("picture", "against", "at equal", *(f"{kbps:g}" for kbps in rates)), rows)


def _gap_text(mean: Mean | None) -> str:
    return ABSENT if mean is None else f"{_signed(mean.mean_percent)} / {_signed(mean.worst_percent)}"


def _mean_cells(mean: Mean) -> tuple[str, ...]:
    figures = (_signed(p) for p in (mean.mean_percent, mean.median_percent, mean.worst_percent))
    return mean.level, mean.against, METRIC_LABELS[mean.metric], str(mean.clips), *figures, mean.worst_clip


def _delta_text(delta: Delta) -> str:
    if delta.percent is None:
        return f"{ABSENT} ({delta.reason})"
    return f"{_signed(delta.percent)} ({delta.overlap:.2f})"


def _value(value: float | None, metric: MetricName) -> str:
    return ABSENT if value is None else f"{value:.{_DIGITS[metric]}f}"


def _signed(percent: float | None) -> str:
    return ABSENT if percent is None else f"{percent:+.1f}"

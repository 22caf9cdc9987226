"""The figures of `semcast bench rd` as tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from benchmarks.rd_model import LOW_BAND_KBPS, Band, ClipReport, Delta, Mean, RdReport
from benchmarks.rd_quality import LABELS, MEASURES, METRICS, OPTIONAL, MeasureName, MetricName
from benchmarks.rd_requirements import FIDELITY
from benchmarks.tables import Cells, requirement_table

ABSENT = "-"
_DIGITS: Mapping[MeasureName, int] = {
    "psnr_yuv": 2, "ms_ssim": 4, "vmaf": 1, "feature_distance": 4, "lpips": 4, "dists": 4, "warping_error": 2,
}  # fmt: skip
BANDS: Mapping[Band, str] = {"all": "all", "low": "{:g}-{:g} kbit/s".format(*LOW_BAND_KBPS)}


def tables(report: RdReport) -> list[Cells]:
    """Every clip, its BD-rates, the means over the clips, the requirements."""
    found = [
        table
        for clip in report.clips
        for table in (rate_table(clip), bd_table(clip), doubt_table(clip))
        if table.rows
    ]
    return [*found, *summary_tables(report.summary), requirement_table(report.requirements)]


def rate_table(clip: ClipReport) -> Cells:
    """Every rate and level of ours, and the gaps to the ladder."""
    qualities = [row.quality for rate in clip.rates for row in rate.levels]
    shown = [
        measure for measure in MEASURES
        if measure not in OPTIONAL or any(getattr(quality, measure) is not None for quality in qualities)
    ]  # fmt: skip
    against = list(clip.rates[0].levels[0].gaps)
    heads = [f"vs {name}\n{LABELS[metric]}, %" for name in against for metric in FIDELITY]
    rows = []
    for rate in clip.rates:
        for row in rate.levels:
            gaps = [_signed(row.gaps[name].get(metric)) for name in against for metric in FIDELITY]
            values = (_value(getattr(row.quality, measure), measure) for measure in shown)
            reached = (f"{rate.target_kbps:g}", f"{rate.kbps:.1f}", f"{rate.ratio:.3f}")
            rows.append((*reached, row.level, *values, *gaps))
    facts = clip.clip
    size = f"{facts.width}x{facts.height} at {facts.fps:.4g} fps"
    title = f"{clip.name}: {facts.frames} frames, {size}, {facts.duration_s:.2f} s"
    names = (LABELS[measure].replace(" ", "\n") for measure in shown)
    return Cells(title, ("target", "kbit/s", "ratio", "picture", *names, *heads), tuple(rows))


def doubt_table(clip: ClipReport) -> Cells:
    """How well the output says where it is wrong, and what of it was taken back; no rows without an output."""
    rows = []
    for rate in clip.rates:
        found, safety = rate.uncertainty, rate.safety
        if found is None or found.coverage90 is None or found.ause is None or not found.ause_constant:
            continue
        rows.append((
            f"{rate.target_kbps:g}", f"{found.steps:.2f}", f"{100 * found.coverage90:.1f} %",
            f"{found.ause:.3f}", f"{found.ause / found.ause_constant:.2f}",
            ABSENT if safety is None else f"{100 * safety.mean:.2f} %",
        ))  # fmt: skip
    head = ("target", "expected error, steps", "inside 90 %", "AUSE", "over that of no map", "taken back")
    return Cells(f"{clip.name}: what the output says of itself", head, tuple(rows))


def bd_table(clip: ClipReport) -> Cells:
    """BD-rate of each level, with the overlap of the quality ranges."""
    shown = _metrics(delta.metric for delta in clip.bd_rates)
    by_row: dict[tuple[str, str, Band], dict[MetricName, str]] = {}
    for delta in clip.bd_rates:
        row = by_row.setdefault((delta.level, delta.against, delta.band), {})
        row[delta.metric] = _delta_text(delta)
    rows = (
        (level, against, BANDS[band], *(found.get(metric, ABSENT) for metric in shown))
        for (level, against, band), found in by_row.items()
    )
    head = ("picture", "against", "rates", *(LABELS[metric] for metric in shown))
    return Cells(f"{clip.name}: BD-rate, % of bits (overlap of the qualities)", head, tuple(rows))


def summary_tables(summary: Sequence[Mean]) -> Iterator[Cells]:
    """Means over the clips: of the BD-rates, and of the gaps at each rate."""
    deltas = [mean for mean in summary if mean.target_kbps is None]
    head = ("picture", "against", "rates", "at equal", "clips", "mean", "median", "worst", "on")
    if deltas:
        yield Cells("BD-rate over the clips, % of bits", head, tuple(map(_mean_cells, deltas)))
    gaps = {
        (mean.level, mean.against, mean.metric, mean.target_kbps): mean
        for mean in summary
        if mean.target_kbps is not None and mean.metric in FIDELITY
    }
    rates = sorted({kbps for *_, kbps in gaps if kbps is not None})
    rows = tuple(
        (level, against, LABELS[metric], *(_gap_text(gaps.get((level, against, metric, r))) for r in rates))
        for level, against, metric in dict.fromkeys((mean.level, mean.against, mean.metric) for mean in gaps.values())
    )  # fmt: skip
    title = "Gap at each rate in kbit/s over the clips, % of bits: mean / worst"
    yield Cells(title, ("picture", "against", "at equal", *(f"{kbps:g}" for kbps in rates)), rows)


def _metrics(seen: Iterable[MetricName]) -> list[MetricName]:
    found = set(seen)
    return [metric for metric in METRICS if metric not in OPTIONAL or metric in found]


def _gap_text(mean: Mean | None) -> str:
    return ABSENT if mean is None else f"{_signed(mean.mean_percent)} / {_signed(mean.worst_percent)}"


def _mean_cells(mean: Mean) -> tuple[str, ...]:
    figures = (_signed(p) for p in (mean.mean_percent, mean.median_percent, mean.worst_percent))
    what = (mean.level, mean.against, BANDS[mean.band], LABELS[mean.metric])
    return *what, str(mean.clips), *figures, mean.worst_clip


def _delta_text(delta: Delta) -> str:
    if delta.percent is None:
        return f"{ABSENT} ({delta.reason})"
    return f"{_signed(delta.percent)} ({delta.overlap:.2f})"


def _value(value: float | None, measure: MeasureName) -> str:
    return ABSENT if value is None else f"{value:.{_DIGITS[measure]}f}"


def _signed(percent: float | None) -> str:
    return ABSENT if percent is None else f"{percent:+.1f}"

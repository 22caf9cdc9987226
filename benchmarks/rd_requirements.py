"""The targets of the project beside what was seen.

The worst that was seen counts, but for the BD-rates of the output: of those the mean over the clips does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

from benchmarks.peers import SVT_AV1
from benchmarks.rd_figures import Seen
from benchmarks.rd_model import (
    BEST,
    LOW_BAND_KBPS,
    RATE_TOLERANCE_PERCENT,
    ClipReport,
    LevelRow,
    Mean,
    RateRow,
)
from benchmarks.rd_plan import Level
from benchmarks.rd_quality import LABELS, MetricName
from benchmarks.tables import Requirement, worst_at_most

FIDELITY: tuple[MetricName, ...] = ("psnr_yuv", "ms_ssim")
"""The metrics that requirements of the base picture are about."""

HIGH_RATE_KBPS, HIGH_RATE_GAP_PERCENT = 100.0, 3.0
LOW_RATE_KBPS, LOW_RATE_GAP_PERCENT = 24.0, 8.0
"""How far the base picture may be behind SVT-AV1's ladder: from the first rate up, and at the second."""

OUTPUT_BD_PERCENT: tuple[tuple[MetricName, float], ...] = (("ms_ssim", -5.0), ("vmaf", -10.0))
"""BD-rates that the output is to reach against the best of all peers over the low rates."""
UNSTEADINESS_PERCENT = 15.0
"""How far the warping error of the output may be above that of the best peer at the same rate."""


def requirements(clips: Sequence[ClipReport], summary: Sequence[Mean]) -> list[Requirement]:
    """The targets for 512x512 beside what was seen; those of the output where that is among the levels."""
    found = [worst_at_most("rate away from its target, %", RATE_TOLERANCE_PERCENT, _rate_errors(clips))]
    for metric in FIDELITY:
        name = f"least rise of {LABELS[metric]} of the base picture with rate"
        found.append(_rising(name, _rises(clips, metric)))
    for name, target, concerned in (
        (f"from {HIGH_RATE_KBPS:g} kbit/s", HIGH_RATE_GAP_PERCENT, lambda kbps: kbps >= HIGH_RATE_KBPS),
        (f"at {LOW_RATE_KBPS:g} kbit/s", LOW_RATE_GAP_PERCENT, lambda kbps: kbps == LOW_RATE_KBPS),
    ):
        for metric in FIDELITY:
            title = f"base behind {SVT_AV1.name} {name} at equal {LABELS[metric]}, % of bits"
            found.append(worst_at_most(title, target, _behind(clips, metric, concerned)))
    return [*found, *_of_output(clips, summary)]


def _of_output(clips: Sequence[ClipReport], summary: Sequence[Mean]) -> Iterator[Requirement]:
    if not any(row.level == "output" for clip in clips for rate in clip.rates for row in rate.levels):
        return
    if any(delta.band == "low" for clip in clips for delta in clip.bd_rates):
        for metric, target in OUTPUT_BD_PERCENT:
            yield _bd_at_most(metric, target, clips, summary)
    name = "warping error of the output above the best peer's at the same rate, %"
    yield worst_at_most(name, UNSTEADINESS_PERCENT, _unsteadiness(clips))


def _bd_at_most(
    metric: MetricName, target: float, clips: Sequence[ClipReport], summary: Sequence[Mean]
) -> Requirement:
    """A BD-rate, which may be below 0: there is no ratio to its target."""
    against = BEST if any(mean.against == BEST for mean in summary) else SVT_AV1.name
    lowest, highest = LOW_BAND_KBPS
    name = f"BD-rate of the output by {LABELS[metric]}, {lowest:g}-{highest:g} kbit/s, against {against}, %"
    key = ("output", against, metric, "low")
    mean = next((m for m in summary if (m.level, m.against, m.metric, m.band) == key), None)
    if mean is None:
        return Requirement(name=name, target=target, measured=None, ratio=None, met=None)
    value, where = mean.mean_percent, f"mean of {mean.clips} of {len(clips)}"
    return Requirement(name=name, target=target, measured=value, ratio=None, met=value <= target, where=where)


def _of_level(rate: RateRow, level: Level) -> LevelRow | None:
    return next((row for row in rate.levels if row.level == level), None)


def _rate_errors(clips: Iterable[ClipReport]) -> Iterator[Seen]:
    for clip in clips:
        for rate in clip.rates:
            if rate.excuse is None:
                yield 100 * abs(rate.ratio - 1), _place(clip, rate)


def _rises(clips: Iterable[ClipReport], metric: MetricName) -> Iterator[Seen]:
    """Quality gained from one rate to the next; where hardly more was spent, none is expected."""
    for clip in clips:
        for lower, higher in pairwise(clip.rates):
            low, high = _of_level(lower, "base"), _of_level(higher, "base")
            if low and high and higher.kbps > 1.01 * lower.kbps:
                rise = getattr(high.quality, metric) - getattr(low.quality, metric)
                yield rise, _place(clip, higher)


def _behind(
    clips: Iterable[ClipReport], metric: MetricName, concerned: Callable[[float], bool]
) -> Iterator[Seen]:
    for clip in clips:
        for rate in clip.rates:
            row = _of_level(rate, "base")
            if row is None or not concerned(rate.target_kbps) or SVT_AV1.name not in rate.in_ladder:
                continue
            percent = row.gaps[SVT_AV1.name][metric]
            if percent is not None:
                yield percent, _place(clip, rate)


def _unsteadiness(clips: Iterable[ClipReport]) -> Iterator[Seen]:
    for clip in clips:
        for rate in clip.rates:
            row = _of_level(rate, "output")
            if row is not None and row.unsteadiness_percent is not None:
                yield row.unsteadiness_percent, _place(clip, rate)


def _place(clip: ClipReport, rate: RateRow) -> str:
    return f"{clip.name} {rate.target_kbps:g}k"


def _rising(name: str, seen: Iterable[Seen]) -> Requirement:
    """A least value above 0; there is no ratio to 0."""
    least = min(seen, default=None)
    if least is None:
        return Requirement(name=name, target=0.0, measured=None, ratio=None, met=None)
    return Requirement(name=name, target=0.0, measured=least[0], ratio=None, met=least[0] > 0, where=least[1])

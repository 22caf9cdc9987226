"""From runs to lines: means over clips, bands over seeds, the best scheme at each value, and what was to be reached.

rows -> by (channel, system, scheme) -> Series;  the best of the schemes of a codec, and of all codecs -> envelopes
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np

from benchmarks.rd_quality import DISTANCES, LABELS, MEASURES, MeasureName
from benchmarks.snr_model import (
    ENVELOPE,
    FREEZE,
    ChannelReport,
    Figure,
    Mean,
    Row,
    Series,
    SeriesPoint,
)
from benchmarks.snr_plan import OURS, SnrPlan, codec_named
from benchmarks.tables import Requirement, at_least, at_most, worst_at_most
from channel.radio.mcs import MCS_NAMES

FIGURES: tuple[Figure, ...] = (*MEASURES, FREEZE)
LESS_IS_BETTER = frozenset({*DISTANCES, "warping_error", FREEZE})

PEER_THRESHOLD = 0.95
"""Share of its MS-SSIM at the best value that a fixed scheme must give to be above its threshold."""
BELOW_DB = 5.0
SMOOTH_RANGE_DB = (-3.0, 20.0)
COMPARED_RANGE_DB = (0.0, 20.0)

_COMPARED: tuple[Figure, ...] = ("feature_distance", "ms_ssim")
_SMOOTH: tuple[tuple[MeasureName, float], ...] = (("psnr_yuv", 1.2), ("ms_ssim", 0.05))

Sample = tuple[str, int]
"""(clip, seed)."""
Values = dict[Sample, float]


def figure_of(row: Row, figure: Figure) -> float | None:
    """A figure of one run."""
    if figure == FREEZE:
        return row.point.freeze_ratio
    value: float | None = getattr(row.point.quality, figure)
    return value


# --- lines --------------------------------------------------------------------------------------------------------


def lines(rows: Sequence[Row]) -> list[Series]:
    """All lines of a channel: ours, each codec with each scheme and at its best, and the best of all codecs."""
    found: list[Series] = []
    peers: list[Row] = []
    for system in dict.fromkeys(row.system for row in rows):
        own = [row for row in rows if row.system == system]
        if codec_named(system) is None:
            found.append(_best(system, own))
            continue
        schemes = list(dict.fromkeys(_scheme(row) for row in own))
        for scheme in schemes:
            name = f"{system} {scheme}".strip()
            found.append(_best(name, [row for row in own if _scheme(row) == scheme]))
        if len(schemes) > 1:
            found.append(_best(f"{system} envelope", own))
        peers += own
    return [*found, _best(ENVELOPE, peers)] if peers else found


def _scheme(row: Row) -> str:
    """The scheme of a peer, whatever the distance of its keys."""
    return row.variant.partition(" ")[0]


def _best(name: str, rows: Sequence[Row]) -> Series:
    """For each clip, value and measure the best variant by its mean over the seeds."""
    points = []
    for value, here in _by_value(rows):
        figures = {f: _mean(values) for f in FIGURES if (values := _best_values(here, f))}
        points.append(_point(value, here, figures))
    return Series(system=name, points=points)


def _by_value(rows: Sequence[Row]) -> Iterator[tuple[float, list[Row]]]:
    for value in sorted({row.value for row in rows}):
        yield value, [row for row in rows if row.value == value]


def _best_values(rows: Sequence[Row], figure: Figure) -> Values:
    sign = -1 if figure in LESS_IS_BETTER else 1
    variants: dict[tuple[str, str, str], Values] = defaultdict(dict)
    for row in rows:
        value = figure_of(row, figure)
        if value is not None:
            variants[row.clip, row.system, row.variant][row.clip, row.seed] = value
    best: dict[str, Values] = {}
    for (clip, _, _), values in variants.items():
        if clip not in best or sign * _middle(values) > sign * _middle(best[clip]):
            best[clip] = values
    return {sample: value for values in best.values() for sample, value in values.items()}


def _middle(values: Mapping[Sample, float]) -> float:
    return float(np.mean([*values.values()]))


def _mean(values: Values) -> Mean:
    seeds: dict[int, list[float]] = defaultdict(list)
    for (_, seed), value in values.items():
        seeds[seed].append(value)
    means = np.array([np.mean(own) for own in seeds.values()])
    mean = float(means.mean())
    if len(means) < 2:
        return Mean(mean=mean)
    from scipy.stats import t

    half = float(t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means)))
    return Mean(mean=mean, low=mean - half, high=mean + half)


def _point(value: float, rows: Sequence[Row], figures: dict[Figure, Mean]) -> SeriesPoint:
    def mean(known: list[float]) -> float | None:
        return float(np.mean(known)) if known else None

    return SeriesPoint(
        value=value, runs=len(rows), figures=figures,
        kbps=mean([row.point.kbps for row in rows if row.point.kbps is not None]),
        cbr=mean([row.point.cbr for row in rows if row.point.cbr is not None]),
    )  # fmt: skip


# --- what was to be reached ---------------------------------------------------------------------------------------


def requirements(plan: SnrPlan, channels: Sequence[ChannelReport]) -> list[Requirement]:
    """The targets that these channels can tell about."""
    radio = [channel for channel in channels if channel.axis == "snr_db"]
    found = [part for channel in radio for part in _below_threshold(channel)]
    for system in (name for name in OURS if name in plan.systems):
        for figure, limit in _SMOOTH:
            name = f"{system}: {LABELS[figure]} lost for 1 dB of SNR"
            found.append(worst_at_most(name, limit, _falls(radio, system, figure)))
    return [*found, *_against_envelope(radio)]


def _below_threshold(channel: ChannelReport) -> Iterator[Requirement]:
    ours, scheme = channel.named("semcast"), _best_fixed(channel)
    threshold = None if scheme is None else _threshold(scheme)
    if ours is None or scheme is None or threshold is None:
        return
    at = threshold - BELOW_DB
    clean = ours.points[-1].figures["ms_ssim"].mean
    where = f"{channel.name} at {at:g} dB ({scheme.system} needs {threshold:g})"
    share, frozen = _at(ours, "ms_ssim", at), _at(ours, FREEZE, at)
    name = "semcast, 5 dB below the threshold of the best fixed scheme: "
    yield at_least(f"{name}MS-SSIM over its clean value", 0.75, share and share / clean, where)
    yield at_most(f"{name}freeze ratio", 0.05, frozen, where)


def _best_fixed(channel: ChannelReport) -> Series | None:
    """The fixed scheme of a peer with the best picture where the channel is good."""
    fixed = [s for s in channel.series if s.system.partition(" ")[2] in MCS_NAMES]
    return max(fixed, key=lambda series: series.points[-1].figures["ms_ssim"].mean, default=None)


def _threshold(series: Series) -> float | None:
    """The lowest value from which on the picture is nearly what it is at the best one."""
    floor = PEER_THRESHOLD * series.points[-1].figures["ms_ssim"].mean
    good = None
    for point in reversed(series.points):
        if point.figures["ms_ssim"].mean < floor:
            break
        good = point.value
    return good


def _at(series: Series, figure: Figure, value: float) -> float | None:
    """Between two values linear; None outside."""
    values = [point.value for point in series.points]
    if not values[0] <= value <= values[-1]:
        return None
    return float(np.interp(value, values, [point.figures[figure].mean for point in series.points]))


def _falls(channels: Sequence[ChannelReport], system: str, figure: Figure) -> Iterator[tuple[float, str]]:
    """What is lost from each value to the next lower one, for 1 dB."""
    low, high = SMOOTH_RANGE_DB
    for channel in channels:
        series = channel.named(system)
        points = [p for p in series.points if low <= p.value <= high] if series else []
        for worse, better in pairwise(points):
            fall = better.figures[figure].mean - worse.figures[figure].mean
            step_db = better.value - worse.value
            yield fall / step_db, f"{channel.name}, {better.value:g} to {worse.value:g} dB"


def _against_envelope(channels: Sequence[ChannelReport]) -> Iterator[Requirement]:
    low, high = COMPARED_RANGE_DB
    gaps: dict[str, list[float]] = defaultdict(list)
    names = []
    for channel in channels:
        ours, peers = channel.named("semcast"), channel.named(ENVELOPE)
        if ours is None or peers is None or not channel.spec.startswith(("awgn", "rayleigh")):
            continue
        names.append(channel.name)
        theirs = {point.value: point for point in peers.points}
        for point in ours.points:
            if low <= point.value <= high and point.value in theirs:
                for figure in _COMPARED:
                    gaps[f"ours {figure}"].append(point.figures[figure].mean)
                    gaps[f"theirs {figure}"].append(theirs[point.value].figures[figure].mean)
    if not gaps:
        return
    mean = {name: float(np.mean(values)) for name, values in gaps.items()}
    where = f"{' and '.join(names)}, {low:g} to {high:g} dB, against the best peer with its best scheme"
    ratio = mean["ours feature_distance"] / mean["theirs feature_distance"]
    yield at_most("semcast: feature distance over the peers' envelope", 0.7, ratio, where)
    difference = mean["ours ms_ssim"] / mean["theirs ms_ssim"]
    yield at_least("semcast: MS-SSIM over the peers' envelope", 1.0, difference, where)

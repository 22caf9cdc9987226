"""Plots against time: panels of `report.html`, what is doubted through an outage, and pictures against their deadline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.plots import PICTURE_COLOURS, STYLE, TEXT, Plot, colours_for, element
from benchmarks.timeline import PICTURES, Series, Timeline

RATE_WINDOW_S = 0.5
"""Rates are means over this much time: a single key picture is no rate."""

LAYER_COLOURS = {
    "guide": "#4f7fd6", "anchor": "#e0a030", "motion": "#3fa37c", "semantics": "#a673c9",
    "residual": "#dd6a5f", "config": "#7f8791", "overhead": "#a9b0b8",
}  # fmt: skip
LEVEL_COLOURS = {
    "hold": "#cf4b45", "guide": "#e0a030", "base": "#4f7fd6", "carry": "#7cc4d4",
    "bridge1": "#8fcfae", "bridge2": "#4fae86", "bridge4": "#23795a",
}  # fmt: skip
DOUBT_COLOURS = {
    "expected": "#a673c9", "made": "#e07b39", "expected without": "#c9b3d9", "made without": "#e9c4aa",
}  # fmt: skip
BAD, CUT = "#cf4b45", "#8a929c"

EVENT_ROWS = {
    "cut": ("cut", "|", CUT),
    "anchor": ("anchor", "^", LAYER_COLOURS["anchor"]),
    "refresh_request": ("refresh", "v", "#a673c9"),
    "loss": ("loss", ".", BAD),
    "concealment": ("concealed", "x", "#dd6a5f"),
    "digest_mismatch": ("mismatch", "D", BAD),
}
"""Event kind -> (label, marker, colour), in the order drawn."""

_LEFT, _RIGHT, _LABEL_AT = 0.08, 0.985, -0.052


def rate_plot(timeline: Timeline) -> Plot:
    """Stacked area of kbit/s by layer against the target."""
    used = {name: sizes for name, sizes in timeline.bytes_by_layer.items() if np.any(sizes)}
    layers = {name: _kbps(timeline, sizes) for name, sizes in used.items()}
    colours = colours_for(layers, LAYER_COLOURS)

    def draw(axes: Sequence[Axes]) -> None:
        if layers:
            axes[0].stackplot(timeline.pts_s, *layers.values(), colors=[colours[name] for name in layers])
        if timeline.target_kbps is not None:
            axes[0].axhline(timeline.target_kbps, color=TEXT, linewidth=1.1, linestyle=(0, (4, 3)))
        axes[0].set_ylim(bottom=0.0)
        axes[0].set_ylabel("kbit/s")

    return Plot(_svg(timeline, draw, (2.3,)), tuple(colours.items()))


def quality_plot(timeline: Timeline) -> Plot:
    """PSNR and MS-SSIM of guide, base and output, with anchors marked and freezes shaded."""
    measures = (("PSNR, dB", timeline.psnr_yuv), ("MS-SSIM", timeline.ms_ssim))

    def draw(axes: Sequence[Axes]) -> None:
        for axis, (label, series) in zip(axes, measures, strict=True):
            for name in (name for name in PICTURES if name in series):
                width = 1.8 if name == "output" else 1.2
                axis.plot(timeline.pts_s, series[name], color=PICTURE_COLOURS[name], linewidth=width)
            axis.set_ylabel(label)
            anchors_s = timeline.times_s("anchor")
            floor = axis.get_xaxis_transform()
            axis.plot(anchors_s, [0.04] * len(anchors_s), "^", color=LAYER_COLOURS["anchor"], transform=floor)

    legend = tuple((name, PICTURE_COLOURS[name]) for name in PICTURES if name in timeline.psnr_yuv)
    marks = (("anchor complete", LAYER_COLOURS["anchor"]),) if timeline.times_s("anchor") else ()
    return Plot(_svg(timeline, draw, (1.9, 1.9)), legend + marks)


def latency_plot(timeline: Timeline) -> Plot:
    """Capture-to-display time of each picture over bands of its percentiles, and which were beyond the budget.

    The budget itself is for the receiver's work alone, so it is no line here.
    """
    shown = timeline.latency_ms[np.isfinite(timeline.latency_ms)]
    late = np.zeros(len(timeline.pts_s), bool) if timeline.late is None else np.array(timeline.late)

    def draw(axes: Sequence[Axes]) -> None:
        axis = axes[0]
        low = 0.0
        for percent, opacity in ((50, 0.30), (95, 0.18), (99, 0.09)):
            high = float(np.percentile(shown, percent)) if shown.size else 0.0
            axis.axhspan(low, high, color="#4f7fd6", alpha=opacity, linewidth=0)
            right = axis.get_yaxis_transform()
            axis.text(0.997, high, f"p{percent}", transform=right, ha="right", va="top", fontsize=7.5)
            low = high
        axis.plot(timeline.pts_s, timeline.latency_ms, ".", color="#4f7fd6", markersize=3)
        axis.plot(timeline.pts_s[late], timeline.latency_ms[late], "o", color=BAD, markersize=4)
        axis.set_ylim(bottom=0.0)
        axis.set_ylabel("latency, ms")

    marks = () if timeline.late is None else (("beyond the budget", BAD),)
    return Plot(_svg(timeline, draw, (2.0,)), (("picture", "#4f7fd6"), *marks))


def level_plot(timeline: Timeline) -> Plot:
    """The level of the ladder that painted each picture, over the events."""
    order = [name for name in LEVEL_COLOURS if name in timeline.level]
    order += sorted(set(timeline.level) - set(order))
    colours = colours_for(order, LEVEL_COLOURS)
    rows = [kind for kind in EVENT_ROWS if timeline.times_s(kind)]

    def draw(axes: Sequence[Axes]) -> None:
        strip, *below = axes
        for name, start_s, duration_s in _runs(timeline):
            strip.broken_barh([(start_s, duration_s)], (0.0, 1.0), facecolors=colours[name], linewidth=0)
        strip.set_ylim(0.0, 1.0)
        strip.set_yticks([0.5], ["level"])
        strip.grid(False)
        strip.spines[:].set_visible(False)
        strip.tick_params(length=0)
        for axis in below:
            for row, kind in enumerate(rows):
                _, marker, colour = EVENT_ROWS[kind]
                times_s = timeline.times_s(kind)
                axis.plot(times_s, [row] * len(times_s), marker, color=colour, markersize=6)
            axis.set_ylim(len(rows) - 0.5, -0.5)
            axis.set_yticks(range(len(rows)), [EVENT_ROWS[kind][0] for kind in rows])
            axis.tick_params(axis="y", length=0)

    heights = (0.35, 0.22 * len(rows) + 0.1) if rows else (0.35,)
    return Plot(_svg(timeline, draw, heights), tuple(colours.items()))


def uncertainty_plot(timeline: Timeline) -> Plot:
    """Mean uncertainty of each picture; an empty drawing where there is no map."""
    if timeline.uncertainty is None:
        return Plot("")
    values = timeline.uncertainty

    def draw(axes: Sequence[Axes]) -> None:
        axes[0].fill_between(timeline.pts_s, values, color="#a673c9", alpha=0.35, linewidth=0)
        axes[0].plot(timeline.pts_s, values, color="#a673c9", linewidth=1.2)
        axes[0].set_ylim(bottom=0.0)
        axes[0].set_ylabel("mean, sample steps")

    return Plot(_svg(timeline, draw, (1.3,)))


def doubt_plot(curves: Mapping[str, Sequence[tuple[float, float]]], shaded_s: tuple[float, float]) -> Plot:
    """(time, sample steps) of each curve; what happens between two times is shaded."""
    colours = colours_for(list(curves), DOUBT_COLOURS)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 2.4), layout="constrained")
        axis = figure.subplots()
        axis.axvspan(*shaded_s, color=BAD, alpha=0.18, linewidth=0)
        for name, points in curves.items():
            axis.plot(*zip(*points, strict=True), color=colours[name], linewidth=1.3)
        axis.set_ylim(bottom=0.0)
        axis.set_ylabel("sample steps")
        axis.set_xlabel("time, s")
        return Plot(element(figure), tuple(colours.items()))


@dataclass(frozen=True, slots=True)
class Painting:
    """One picture, for `deadline_plot`. uncertainty : sample steps, None where unknown; loaded : others took cores"""

    at_s: float
    level: str
    spent_ms: float
    late: bool
    uncertainty: float | None
    loaded: bool
    cut: bool


def deadline_plot(pictures: Sequence[Painting], budget_ms: float) -> Plot:
    """Level, time against the deadline, expected error and events of each picture; the time under load is shaded."""
    at_s = np.array([one.at_s for one in pictures])
    order = [name for name in LEVEL_COLOURS if any(one.level == name for one in pictures)]
    frame_s = float(np.median(np.diff(at_s))) if len(pictures) > 1 else 0.04

    def draw(axes: Sequence[Axes]) -> None:
        levels, spent, doubt, events = axes
        for place, name in enumerate(order):
            bars = [(one.at_s, frame_s) for one in pictures if one.level == name]
            levels.broken_barh(bars, (place, 0.9), facecolors=LEVEL_COLOURS[name], linewidth=0)
        levels.set_yticks([place + 0.45 for place in range(len(order))], order)
        late = np.array([one.late for one in pictures])
        spent_ms = np.array([one.spent_ms for one in pictures])
        spent.plot(at_s, spent_ms, ".", color="#4f7fd6", markersize=2.5)
        spent.plot(at_s[late], spent_ms[late], "o", color=BAD, markersize=4)
        spent.axhline(budget_ms, color=BAD, linewidth=1.1, linestyle=(0, (4, 3)))
        spent.set_ylim(0.0, max(1.6 * budget_ms, float(np.percentile(spent_ms, 99.5))))
        spent.set_ylabel("spent, ms")
        steps = [np.nan if one.uncertainty is None else one.uncertainty for one in pictures]
        doubt.plot(at_s, steps, color="#a673c9", linewidth=1.2)
        doubt.set_ylim(bottom=0.0)
        doubt.set_ylabel("expected error")
        cuts_s = [one.at_s for one in pictures if one.cut]
        events.plot(at_s[late], [1] * int(late.sum()), "x", color=BAD, markersize=5)
        events.plot(cuts_s, [0] * len(cuts_s), "|", color=CUT, markersize=8)
        events.set_yticks([0, 1], ["cut", "late"])
        events.set_ylim(-0.5, 1.5)
        for first, last in _loaded_spans(pictures):
            for axis in axes:
                axis.axvspan(first, last + frame_s, color=TEXT, alpha=0.07, linewidth=0)

    heights = (0.25 * len(order) + 0.1, 1.8, 1.2, 0.6)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.4, sum(heights) + 0.9), layout="constrained")
        grid = {"height_ratios": heights}
        axes: list[Axes] = list(figure.subplots(4, 1, sharex=True, gridspec_kw=grid))
        draw(axes)
        axes[-1].set_xlabel("time, s")
        axes[-1].set_xlim(float(at_s[0]), float(at_s[-1]) + frame_s)
        legend = (*((name, LEVEL_COLOURS[name]) for name in order), ("late picture", BAD))
        return Plot(element(figure), legend)


def _loaded_spans(pictures: Sequence[Painting]) -> list[tuple[float, float]]:
    """First and last time of each stretch under load."""
    spans = []
    for loaded, members in groupby(pictures, key=lambda one: one.loaded):
        times_s = [one.at_s for one in members]
        if loaded:
            spans.append((times_s[0], times_s[-1]))
    return spans


def _svg(timeline: Timeline, draw: Callable[[Sequence[Axes]], None], heights: Sequence[float]) -> str:
    """Panels of `heights` inches above one another on one time axis, with cuts and freezes behind them."""
    margin = 0.55
    with matplotlib.rc_context(STYLE):
        height = sum(heights) + margin
        figure = Figure(figsize=(10.4, height))
        grid = {"height_ratios": heights, "hspace": 0.14}
        panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, gridspec_kw=grid)
        axes: list[Axes] = list(panels[:, 0])
        figure.subplots_adjust(left=_LEFT, right=_RIGHT, top=1.0 - 0.1 / height, bottom=0.42 / height)
        draw(axes)
        for axis in axes:
            _mark_time(timeline, axis)
            axis.yaxis.set_label_coords(_LABEL_AT, 0.5)
        for axis in axes[:-1]:
            axis.tick_params(axis="x", length=0)
        axes[-1].set_xlabel("time, s")
        return element(figure)


def _mark_time(timeline: Timeline, axis: Axes) -> None:
    axis.set_xlim(float(timeline.pts_s[0]), float(timeline.pts_s[-1]) + timeline.frame_s)
    for cut_s in timeline.times_s("cut"):
        axis.axvline(cut_s, color=CUT, linewidth=1.0, linestyle=(0, (1, 1.5)))
    for freeze in timeline.freezes:
        axis.axvspan(freeze.start_s, freeze.start_s + freeze.duration_s, color=BAD, alpha=0.18, linewidth=0)


def _kbps(timeline: Timeline, sizes: NDArray[np.int64]) -> Series:
    """Rate over a window centred on each slot; at the ends over the part of it that exists."""
    pts_s = timeline.pts_s
    first = np.searchsorted(pts_s, pts_s - RATE_WINDOW_S / 2)
    last = np.searchsorted(pts_s, pts_s + RATE_WINDOW_S / 2, side="right")
    sums = np.concatenate([[0.0], np.cumsum(sizes)])
    return np.asarray((sums[last] - sums[first]) * 8e-3 / ((last - first) * timeline.frame_s), np.float64)


def _runs(timeline: Timeline) -> list[tuple[str, float, float]]:
    """(level, start, duration) of each stretch of slots painted at one level."""
    ends_s = np.append(timeline.pts_s[1:], timeline.pts_s[-1] + timeline.frame_s)
    runs = []
    slot = 0
    for name, members in groupby(timeline.level):
        count = len(list(members))
        start_s = float(timeline.pts_s[slot])
        runs.append((name, start_s, float(ends_s[slot + count - 1]) - start_s))
        slot += count
    return runs

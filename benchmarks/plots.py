"""The plots of reports, as SVG that takes its text colour from the page: curves, and what all plots are drawn with.

Matplotlib draws text and grid in two placeholder colours, which are then replaced by CSS variables: so one
drawing serves light and dark pages. Legends are made in HTML from `Plot.legend`. Plots against time: plots_time.py.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PICTURE_COLOURS = {"guide": "#8a929c", "base": "#4f7fd6", "output": "#e07b39", "sr": "#3fa37c"}
SYSTEM_COLOURS = {
    "semcast": "#e07b39", "semcast-analog": "#3fa37c", "softcast": "#a673c9", "peers, envelope": "#8a929c",
    "svt-av1 envelope": "#4f7fd6", "x265 envelope": "#3aa6b9", "x264 envelope": "#b88a5a", "svt-av1": "#4f7fd6",
    "x265": "#3aa6b9", "x264": "#b88a5a",
}  # fmt: skip
SPARE_COLOURS = ("#a673c9", "#3aa6b9", "#b88a5a", "#c95f9b", "#6f8f3d")

TEXT, GRID = "#010203", "#010204"
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "semcast",
    "font.size": 9.0,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": GRID,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
}
RD_COLUMNS = 3
"""Panels of quality against rate beside each other."""

_LEGEND = 24.0
"""Height of the legend of a drawing of its own."""


@dataclass(frozen=True, slots=True)
class Plot:
    """svg : an `<svg>` element; legend : (name, CSS colour) in reading order"""

    svg: str
    legend: tuple[tuple[str, str], ...] = ()


def standalone(plot: Plot) -> str:
    """A drawing as a file of its own, for documents: dark on white, its legend above."""
    found = re.search(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', plot.svg)
    assert found is not None
    width, height = map(float, found.groups())
    entries, at = [], 8.0
    for name, colour in plot.legend:
        entries.append(f'<rect x="{at:g}" y="7" width="10" height="10" fill="{colour}"/>')
        entries.append(f'<text x="{at + 14:g}" y="16" font-size="11">{escape(name)}</text>')
        at += 30 + 6.2 * len(name)
    inner = plot.svg.replace("<svg", f'<svg y="{_LEGEND:g}" height="{height:g}" width="{width:g}"', 1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height + _LEGEND:g}"'
        ' style="color:#333333;background:#ffffff;--line:#dddddd" font-family="sans-serif" fill="#333333">'
        f"{''.join(entries)}{inner}</svg>\n"
    )


def rd_plot(panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]) -> Plot:
    """Quality against rate, `RD_COLUMNS` panels in a row.

    panels : label of the quality axis -> name of the system -> (kbit/s, quality) pairs, by rising rate; those of
        `PICTURE_COLOURS` are ours and drawn with their points
    """
    names = list(dict.fromkeys(name for series in panels.values() for name in series))
    colours = colours_for(names, PICTURE_COLOURS)

    def draw(axis: Axes, label: str) -> None:
        for name, pairs in panels[label].items():
            style = "o-" if name in PICTURE_COLOURS else "-"
            axis.plot(*zip(*pairs, strict=True), style, color=colours[name], linewidth=1.3, markersize=3.5)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_xlabel("kbit/s")

    return Plot(_panels(list(panels), draw), tuple(colours.items()))


Band = tuple[float, float, float]
"""(x, low, high)."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A line with a band. thin : one of many that are less important, drawn without a name of its own"""

    name: str
    points: tuple[tuple[float, float], ...]
    band: tuple[Band, ...] = ()
    thin: bool = False


def channel_plot(panels: Mapping[str, Sequence[Curve]], x_label: str) -> Plot:
    """Quality against a setting of the channel, `RD_COLUMNS` panels in a row. panels : label of the y axis -> lines"""
    names = list(dict.fromkeys(curve.name for curves in panels.values() for curve in curves))
    colours = colours_for(names, SYSTEM_COLOURS)

    def draw(axis: Axes, label: str) -> None:
        for curve in panels[label]:
            _draw_curve(axis, curve, colours[curve.name])
        axis.set_xlabel(x_label)

    return Plot(_panels(list(panels), draw), tuple(colours.items()))


def _panels(labels: Sequence[str], draw: Callable[[Axes, str], None]) -> str:
    """Panels with these labels of their y axes, `RD_COLUMNS` in a row."""
    rows = -(-len(labels) // RD_COLUMNS)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 3.3 * rows), layout="constrained")
        axes = figure.subplots(rows, min(RD_COLUMNS, len(labels)), squeeze=False).ravel()
        for axis in axes[len(labels) :]:
            axis.set_axis_off()
        for axis, label in zip(axes, labels, strict=False):
            draw(axis, label)
            axis.set_ylabel(label)
        return element(figure)


def _draw_curve(axis: Axes, curve: Curve, colour: str) -> None:
    x, y = zip(*curve.points, strict=True)
    if curve.thin:
        axis.plot(x, y, color=colour, linewidth=0.7, alpha=0.6, linestyle=(0, (4, 2)))
        return
    axis.plot(x, y, "o-", color=colour, linewidth=1.5, markersize=2.8)
    if curve.band:
        at, low, high = zip(*curve.band, strict=True)
        axis.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)


def dot_plot(points: Sequence[tuple[str, str, float]], unit: str, target: float) -> Plot:
    """One dot for each (series, category, value), categories side by side, and the target as a dashed line."""
    categories = list(dict.fromkeys(category for _, category, _ in points))
    names = list(dict.fromkeys(name for name, _, _ in points))
    colours = dict(zip(names, (SPARE_COLOURS * len(names))[: len(names)], strict=True))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 2.6), layout="constrained")
        axis = figure.subplots()
        for index, name in enumerate(names):
            shift = (index + 0.5) / len(names) - 0.5
            pairs = [(categories.index(c) + 0.6 * shift, value) for n, c, value in points if n == name]
            axis.plot(*zip(*pairs, strict=True), "o", color=colours[name], markersize=4.5)
        axis.axhline(target, color=TEXT, linewidth=1.1, linestyle=(0, (4, 3)))
        axis.set_xticks(range(len(categories)), categories, rotation=25, ha="right")
        axis.set_ylim(bottom=0.0)
        axis.set_ylabel(unit)
        return Plot(element(figure), tuple(colours.items()))


def element(figure: Figure) -> str:
    """The `<svg>` element of a drawing."""
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _for_page(out.getvalue())


def _for_page(svg: str) -> str:
    """Only the element, as wide as the page lets it be, in the page's font and colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\s(width|height)="[0-9.]+pt"', "", svg, count=2)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font: ([0-9.]+px) [^;\"]*", r"font-size: \1", svg)
    return svg.replace(TEXT, "currentColor").replace(GRID, "var(--line)")


def colours_for(names: Mapping[str, object] | Sequence[str], known: Mapping[str, str]) -> dict[str, str]:
    """A colour for each name; names nobody foresaw share the spare ones."""
    unknown = [name for name in names if name not in known]
    spare = {name: SPARE_COLOURS[i % len(SPARE_COLOURS)] for i, name in enumerate(unknown)}
    return {name: known.get(name) or spare[name] for name in names}

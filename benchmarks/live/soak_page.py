"""The soak as a page: slopes with their intervals, and every figure over time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.html import page, section
from benchmarks.live.slopes import Slope
from benchmarks.live.soak import KINDS, Sample, SoakPlan, series
from benchmarks.plots import Curve, channel_plot
from benchmarks.tables import Cells, html_table


def write_page(
    plan: SoakPlan, samples: Sequence[Sample], slopes: Sequence[Slope], figures: Mapping[str, Any], out: Path
) -> Path:
    """`soak.html` in `out`."""
    table = html_table(slope_table(slopes))
    plot = channel_plot(_panels(samples), "time, min")
    verdict = (
        f"{figures['flat']} of {len(slopes)} figures are flat; "
        f"growing: {', '.join(figures['grows']) or 'none'}; unclear: {', '.join(figures['unclear']) or 'none'}"
    )
    facts = (
        f"{plan.receivers} receivers, {plan.size}, {plan.bitrate}, {figures['watched_s'] / 60:.0f} minutes"
    )
    how = (
        "Growth an hour by Theil-Sen over the medians of each minute after the warm-up, with its 95 % interval; where "
        "the link was the same again after a period, between minutes in one phase of it. "
        "Flat: the whole interval is at most the bound; grows: all of it is above."
    )
    rows = tuple((f"{s.at_s:.0f}", s.link, f"{s.cut_s:.2f}" if s.cut_s else "") for s in plan.spells)
    spells = html_table(Cells("", ("from, s", "link", "cut, s"), rows))
    legend = ", ".join(f'<span style="color:{colour}">{name}</span>' for name, colour in plot.legend)
    parts = [section("Slopes", how, table), section("Over time", "", f"<p>{legend}</p>{plot.svg}")]
    parts.append(section("The link", "What it was, each way.", spells))
    path = out / "soak.html"
    path.write_text(page("Soak", facts, verdict, (), parts), encoding="utf-8")
    return path


def slope_table(slopes: Sequence[Slope]) -> Cells:
    """One row for each figure of each program."""
    head = ("program", "figure", "median", "first", "last", "an hour", "95 % interval", "bound", "verdict")
    return Cells("Slopes", head, tuple(_row(slope) for slope in slopes))


def _row(slope: Slope) -> tuple[str, ...]:
    name = f"{slope.figure}, {slope.unit}" if slope.unit else slope.figure
    ends = (f"{slope.median:.4g}", f"{slope.first:.4g}", f"{slope.last:.4g}")
    if slope.per_hour is None:
        return (slope.program, name, *ends, "-", "too short", f"{slope.bound:g}", slope.verdict)
    interval = f"{slope.low:+.3g} to {slope.high:+.3g}"
    return (
        slope.program, name, *ends, f"{slope.per_hour:+.3g}", interval, f"{slope.bound:g}", slope.verdict,
    )  # fmt: skip


def _panels(samples: Sequence[Sample]) -> dict[str, list[Curve]]:
    """A panel for each figure, a line for each program that has it."""
    panels = {}
    for figure, kind in KINDS.items():
        curves = list(_curves(samples, figure))
        if curves:
            panels[f"{figure}, {kind.unit}" if kind.unit else figure] = curves
    return panels


def _curves(samples: Sequence[Sample], figure: str) -> Iterator[Curve]:
    for program in dict.fromkeys(sample.program for sample in samples):
        found = series(samples, program, figure)
        if found.values:
            yield Curve(
                program,
                tuple((at_s / 60, value) for at_s, value in zip(found.at_s, found.values, strict=True)),
            )

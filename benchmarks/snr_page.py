"""`snr.html`: the cliff figures, freezes, and pictures at chosen values, as one self-contained page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from benchmarks.html import Card, conditions_section, figure, page, plot_section, section
from benchmarks.plots import Band, Curve, Plot, channel_plot, standalone
from benchmarks.rd_page import pixels
from benchmarks.report import write_text
from benchmarks.snr_figures import FIGURES
from benchmarks.snr_model import ENVELOPE, ChannelReport, Figure, Series, Shot, SnrReport
from benchmarks.snr_report import AXES, FIGURE_LABELS, channel_tables, main_systems
from benchmarks.tables import html_table, requirement_table, verdict_of


def write_snr_page(report: SnrReport, out: Path) -> Path:
    """Write `out`/snr.html and `out`/figures; raises SinkError where that is impossible."""
    for channel in report.channels:
        name = re.sub(r"\W+", "-", channel.name.lower())
        write_text(standalone(_plot(channel)), out / "figures" / f"{name}.svg")
    return write_text(render_snr(report, out), out / "snr.html")


def render_snr(report: SnrReport, out: Path) -> str:
    """The whole page; `out` is where the kept pictures are."""
    clips = sorted({row.clip for row in report.rows})
    facts = f"{len(report.rows)} runs on {len(clips)} {'clip' if len(clips) == 1 else 'clips'}: {', '.join(clips)}"
    return page(
        "Semcast over bad channels",
        facts,
        verdict_of(report.requirements),
        _cards(report),
        _sections(report, out),
    )


def _cards(report: SnrReport) -> Iterator[Card]:
    measured = [item for item in report.requirements if item.met is not None]
    met = sum(item.met is True for item in measured)
    yield Card(f"{met} of {len(measured)}", "", "requirements met", "good" if met == len(measured) else "bad")


def _sections(report: SnrReport, out: Path) -> Iterator[str]:
    yield section(
        "Requirements", "The worst that was seen.", html_table(requirement_table(report.requirements))
    )
    for number, channel in enumerate(report.channels):
        yield plot_section(channel.name, _note(channel), _plot(channel))
        tables = "".join(f"<h3>{cells.title}</h3>{html_table(cells)}" for cells in channel_tables(channel))
        yield section(f"{channel.name} in figures", "Means over clips and seeds.", tables)
        if channel.shots:
            note = "One picture at three quarters of the clip; of a peer the scheme that is best there."
            shots = "".join(
                _shot(f"{number}-{i}", shot, channel, out) for i, shot in enumerate(channel.shots)
            )
            yield section(f"{channel.name}: pictures", note, shots)
    yield conditions_section(
        {"plan": report.plan, "configuration": report.config, "versions": report.versions}
    )


def _note(channel: ChannelReport) -> str:
    return f"{channel.spec}. Bands: 95 % confidence over the seeds. Thin lines: single schemes of the peers."


def _plot(channel: ChannelReport) -> Plot:
    panels = {
        FIGURE_LABELS[f]: curves for f in FIGURES if f != "warping_error" and (curves := _curves(channel, f))
    }
    return channel_plot(panels, AXES[channel.axis])


def _curves(channel: ChannelReport, figure: Figure) -> list[Curve]:
    main = main_systems(channel)
    codecs = {name.partition(" ")[0] for name in main if name.endswith("envelope") and name != ENVELOPE}
    shown = [
        s for s in channel.series if not (s.system.endswith(" adaptive") and s.system.split()[0] in codecs)
    ]
    return [curve for series in shown if (curve := _curve(series, figure, series.system in main)).points]


def _curve(series: Series, figure: Figure, main: bool) -> Curve:
    known = [(point.value, point.figures[figure]) for point in series.points if figure in point.figures]
    points = tuple((value, found.mean) for value, found in known)
    bands: tuple[Band, ...] = tuple(
        (value, found.low, found.high)
        for value, found in known
        if found.low is not None and found.high is not None
    )
    return Curve(
        series.system if main else series.system.partition(" ")[0] + " envelope", points, bands, thin=not main
    )


def _shot(anchor: str, shot: Shot, channel: ChannelReport, out: Path) -> str:
    figures = (
        figure(
            f"s{anchor}-{i}",
            kept.name,
            "" if kept.psnr_yuv is None else f"{kept.psnr_yuv:.1f} dB",
            pixels(out / kept.file),
        )
        for i, kept in enumerate(shot.pictures)
    )
    title = f"<h3>{shot.clip}<span>{AXES[channel.axis]} {shot.value:g}</span></h3>"
    return f'<div class="shot">{title}<div class="row">{"".join(figures)}</div></div>'

"""`rd.html`: the curves, the figures, and pictures at equal rate, as one self-contained page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np

from benchmarks import plots
from benchmarks.envelope import MetricName, best_of_ladder, envelope_points
from benchmarks.html import Card, conditions_section, figure, page, plot_section, section
from benchmarks.rd_report import (
    BEST,
    METRIC_LABELS,
    METRICS,
    ClipReport,
    ClipRuns,
    RdReport,
    Shot,
    bd_table,
    rate_table,
    summary_tables,
)
from benchmarks.rd_runs import KeptPicture
from benchmarks.report import write_text
from benchmarks.tables import html_table, requirement_table


def write_rd_page(report: RdReport, runs: Iterable[ClipRuns], out: Path) -> Path:
    """Write `out`/rd.html; raises SinkError where that is impossible."""
    return write_text(render_rd(report, runs, out), out / "rd.html")


def render_rd(report: RdReport, runs: Iterable[ClipRuns], out: Path) -> str:
    """The whole page; `out` is where the kept pictures are."""
    clips = len(report.clips)
    facts = f"{clips} {'clip' if clips == 1 else 'clips'}, against {', '.join(_peers(report))}"
    return page(
        "Semcast at equal rate", facts, _verdict(report), _cards(report), _sections(report, runs, out)
    )


def _peers(report: RdReport) -> list[str]:
    systems = {system.name for clip in report.clips for system in clip.systems}
    return sorted({name.rpartition(" ")[0] for name in systems if not name.startswith("semcast ")})


def _verdict(report: RdReport) -> str:
    missed = [item.name for item in report.requirements if item.met is False]
    if not missed:
        return "Every requirement that this run could measure is met."
    return f"Not met: {'; '.join(missed)}."


def _cards(report: RdReport) -> Iterator[Card]:
    measured = [item for item in report.requirements if item.met is not None]
    met = sum(item.met is True for item in measured)
    yield Card(f"{met} of {len(measured)}", "", "requirements met", "good" if met == len(measured) else "bad")
    for mean in report.summary:
        if mean.level == "base" and mean.target_kbps is None:
            label = f"BD-rate of the base picture by {METRIC_LABELS[mean.metric]} against {mean.against}"
            yield Card(f"{mean.mean_percent:+.1f}", "%", f"{label}, mean of {mean.clips}")


def _sections(report: RdReport, runs: Iterable[ClipRuns], out: Path) -> Iterator[str]:
    yield section(
        "Requirements", "The worst that was seen.", html_table(requirement_table(report.requirements))
    )
    note = "Percent of bits that Semcast needs more than the peer for equal quality; negative is fewer."
    for cells in summary_tables(report.summary):
        yield section(cells.title, note, html_table(cells))
    for number, (clip, of) in enumerate(zip(report.clips, runs, strict=True)):
        note = "Peers: the best of full, half and quarter size at each rate."
        yield plot_section(clip.name, note, plots.rd_plot(_panels(of)))
        figures = html_table(rate_table(clip)) + html_table(bd_table(clip))
        yield section(f"{clip.name} in figures", f"{rate_table(clip).title}. BD-rate below.", figures)
        if clip.shots:
            yield _shots(number, clip, out)
    parts = {"plan": report.plan, "configuration": report.config, "versions": report.versions}
    yield conditions_section(parts)


def _panels(runs: ClipRuns) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Label of the quality -> system -> its curve; a metric that was not measured has no panel."""
    panels = {METRIC_LABELS[metric]: _curves(runs, metric) for metric in METRICS}
    return {label: curves for label, curves in panels.items() if curves}


def _curves(runs: ClipRuns, metric: MetricName) -> dict[str, list[tuple[float, float]]]:
    curves: dict[str, list[tuple[float, float]]] = {}
    for level in runs.ours[0].levels:
        pairs = [(point.kbps, getattr(point.levels[level], metric)) for point in runs.ours]
        curves[level] = [pair for pair in pairs if pair[1] is not None]
    for codec, points in groupby(sorted(runs.ladder, key=lambda p: p.codec), lambda p: p.codec):
        measured = [point for point in points if getattr(point, metric) is not None]
        curves[codec] = envelope_points(best_of_ladder(measured, metric)) if measured else []
    return {name: pairs for name, pairs in curves.items() if pairs}


def _shots(number: int, clip: ClipReport, out: Path) -> str:
    note = (
        f"A frame of {clip.name} on which our PSNR is its median. The peer is the {BEST} at our rate by PSNR of the"
        " whole clip. Click to enlarge."
    )
    return section("Pictures at equal rate", note, "".join(_shot(number, shot, out) for shot in clip.shots))


def _shot(number: int, shot: Shot, out: Path) -> str:
    anchor = f"c{number}-{shot.target_kbps:g}".replace(".", "-")
    figures = (
        figure(f"{anchor}-{i}", kept.name, _caption(kept), _pixels(out / kept.file))
        for i, kept in enumerate(shot.pictures)
    )
    title = f"<h3>{shot.target_kbps:g} kbit/s<span>frame {shot.pictures[0].slot}</span></h3>"
    return f'<div class="shot">{title}<div class="row">{"".join(figures)}</div></div>'


def _caption(kept: KeptPicture) -> str:
    if kept.kbps is None or kept.psnr_yuv is None:
        return ""
    return f"{kept.kbps:.1f} kbit/s, {kept.psnr_yuv:.1f} dB"


def _pixels(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None:
    """[H, W, 3] R'G'B', None for a picture that is gone."""
    image = cv2.imread(str(path))
    return None if image is None else np.asarray(image[..., ::-1], np.uint8)

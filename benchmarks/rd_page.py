"""`rd.html`: the curves, the figures, and pictures at equal rate, as one self-contained page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np

from benchmarks import plots
from benchmarks.envelope import Envelope, curve_through, envelope_points
from benchmarks.html import Card, conditions_section, figure, page, plot_section, section
from benchmarks.rd_model import BEST, OURS, RESULT_KEYS, ClipReport, RdReport, Shot, System
from benchmarks.rd_quality import DISTANCES, LABELS, MEASURES, MeasureName, MetricName
from benchmarks.rd_runs import KeptPicture
from benchmarks.rd_tables import bd_table, doubt_table, rate_table, summary_tables
from benchmarks.report import write_text
from benchmarks.tables import html_table, requirement_table, verdict_of

Pairs = list[tuple[float, float]]
"""(kbit/s, quality), by rising rate."""

_UNITS: Mapping[MeasureName, str] = {"psnr_yuv": ", dB", "warping_error": " (source: 1)"}


def write_rd_page(report: RdReport, out: Path) -> Path:
    """Write `out`/rd.html; raises SinkError where that is impossible."""
    return write_text(render_rd(report, out), out / "rd.html")


def render_rd(report: RdReport, out: Path) -> str:
    """The whole page; `out` is where the kept pictures are."""
    clips = len(report.clips)
    facts = f"{clips} {'clip' if clips == 1 else 'clips'}, against {', '.join(_peers(report))}"
    return page(
        "Semcast at equal rate",
        facts,
        verdict_of(report.requirements),
        _cards(report),
        _sections(report, out),
    )


def _peers(report: RdReport) -> list[str]:
    systems = {system.name for clip in report.clips for system in clip.systems}
    return sorted({name.rpartition(" ")[0] for name in systems if not name.startswith(OURS)})


def _cards(report: RdReport) -> Iterator[Card]:
    measured = [item for item in report.requirements if item.met is not None]
    met = sum(item.met is True for item in measured)
    yield Card(f"{met} of {len(measured)}", "", "requirements met", "good" if met == len(measured) else "bad")
    measured_levels = {mean.level for mean in report.summary}
    best = "output" if "output" in measured_levels else "base"
    what = "output" if best == "output" else "base picture"
    for mean in report.summary:
        if mean.level == best and mean.target_kbps is None and mean.band == "all":
            label = f"BD-rate of the {what} by {LABELS[mean.metric]} against {mean.against}"
            yield Card(f"{mean.mean_percent:+.1f}", "%", f"{label}, mean of {mean.clips}")


def _sections(report: RdReport, out: Path) -> Iterator[str]:
    note = "The worst that was seen; of a BD-rate the mean over the clips."
    yield section("Requirements", note, html_table(requirement_table(report.requirements)))
    note = "Percent of bits that Semcast needs more than the peer for equal quality; negative is fewer."
    for cells in summary_tables(report.summary):
        yield section(cells.title, note, html_table(cells))
    note = (
        "Peers: the best of full, half and quarter size at each rate, for the warping error the best by PSNR."
    )
    if len(report.clips) > 1:
        title = f"Mean of {len(report.clips)} clips"
        yield plot_section(title, f"{note} Each point is a mean.", plots.rd_plot(_panels(report.systems)))
    for number, clip in enumerate(report.clips):
        yield plot_section(clip.name, note, plots.rd_plot(_panels(clip.systems)))
        found = (rate_table(clip), bd_table(clip), doubt_table(clip))
        figures = "".join(html_table(table) for table in found if table.rows)
        yield section(f"{clip.name} in figures", f"{rate_table(clip).title}. BD-rate below.", figures)
        if clip.shots:
            yield _shots(number, clip, out)
    parts = {
        "plan": report.plan, "configuration": report.config, "networks": report.networks, "versions": report.versions,
    }  # fmt: skip
    yield conditions_section({name: part for name, part in parts.items() if part})


# --- curves -------------------------------------------------------------------------------------------------------


def _panels(systems: Sequence[System]) -> dict[str, dict[str, Pairs]]:
    """Label of the quality -> system -> its curve; a measure that nobody has is no panel."""
    panels = {
        f"{LABELS[measure]}{_UNITS.get(measure, '')}": _curves(systems, measure) for measure in MEASURES
    }
    return {label: curves for label, curves in panels.items() if curves}


def _curves(systems: Sequence[System], measure: MeasureName) -> dict[str, Pairs]:
    """Ours as they are, of the peers the best of each codec's sizes."""
    known = [system for system in systems if RESULT_KEYS[measure] in system.results]
    ours = [system for system in known if system.name.startswith(OURS)]
    curves = {system.name.removeprefix(OURS): _pairs(system, measure) for system in ours}
    peers = (system for system in known if system not in ours)
    for codec, families in groupby(peers, lambda system: system.name.rpartition(" ")[0]):
        curves[codec] = _best(list(families), measure)
    return curves


def _best(families: Sequence[System], measure: MeasureName) -> Pairs:
    if measure != "warping_error":
        sign = -1 if measure in DISTANCES else 1
        return [(kbps, sign * good) for kbps, good in _envelope(families, measure, sign)]
    # Less is not better by itself (a blur is steady): the points that are best by PSNR are shown.
    best = set(_envelope(families, "psnr_yuv"))
    points = (
        (*psnr, error)
        for family in families
        for psnr, (_, error) in zip(_pairs(family, "psnr_yuv"), _pairs(family, measure), strict=True)
    )
    return sorted((kbps, error) for kbps, psnr, error in points if (kbps, psnr) in best)


def _envelope(families: Sequence[System], metric: MetricName, sign: int = 1) -> Pairs:
    curves = (
        curve_through(family.name, [(kbps, sign * value) for kbps, value in _pairs(family, metric)])
        for family in families
    )
    return envelope_points(Envelope(metric, tuple(curves)))


def _pairs(system: System, measure: MeasureName) -> Pairs:
    return list(zip(system.results["kbps"], system.results[RESULT_KEYS[measure]], strict=True))


# --- pictures -----------------------------------------------------------------------------------------------------


def _shots(number: int, clip: ClipReport, out: Path) -> str:
    note = (
        f"A frame of {clip.name} on which our PSNR is its median. The peer is the {BEST} at our rate by PSNR of the"
        " whole clip. Click to enlarge."
    )
    return section("Pictures at equal rate", note, "".join(_shot(number, shot, out) for shot in clip.shots))


def _shot(number: int, shot: Shot, out: Path) -> str:
    anchor = f"c{number}-{shot.target_kbps:g}".replace(".", "-")
    figures = (
        figure(f"{anchor}-{i}", kept.name, _caption(kept), pixels(out / kept.file))
        for i, kept in enumerate(shot.pictures)
    )
    title = f"<h3>{shot.target_kbps:g} kbit/s<span>frame {shot.pictures[0].slot}</span></h3>"
    return f'<div class="shot">{title}<div class="row">{"".join(figures)}</div></div>'


def _caption(kept: KeptPicture) -> str:
    if kept.kbps is None or kept.psnr_yuv is None:
        return ""
    return f"{kept.kbps:.1f} kbit/s, {kept.psnr_yuv:.1f} dB"


def pixels(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None:
    """[H, W, 3] R'G'B', None for a picture that is gone."""
    image = cv2.imread(str(path))
    return None if image is None else np.asarray(image[..., ::-1], np.uint8)

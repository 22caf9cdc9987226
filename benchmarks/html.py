"""`report.html`: one run of the link as a page that a person would like to read.

One self-contained file: inline style, SVG plots and JPEG pictures, no script, nothing loaded from anywhere.

    Report + Timeline -> key figures, plots, pictures, tables -> report_template.html -> report.html
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray

from benchmarks import plots_time
from benchmarks.plots import Plot
from benchmarks.report import METRICS, PictureQuality, Report, write_text
from benchmarks.tables import framed_table
from benchmarks.timeline import Snapshot, Timeline
from common.colour import picture_to_rgb
from common.quality import psnr_yuv
from common.types import Colour, Picture

TEMPLATE_PATH = Path(__file__).with_name("report_template.html")

JPEG_QUALITY = 88
MAX_PICTURE_SIDE = 720
"""Larger pictures are shrunk, so that the page stays a few megabytes."""

_ABSENT = "-"
_BETTER = {  # metric -> column head
    "psnr_yuv": "PSNR, dB ↑", "ms_ssim": "MS-SSIM ↑", "vmaf": "VMAF ↑",
    "lpips": "LPIPS ↓", "dists": "DISTS ↓",
    "feature_distance": "feature distance ↓", "label_miou": "label mIoU ↑",
    "warping_error_ratio": "warping error", "flicker": "flicker ↓",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Card:
    """One key figure. mood : "good", "bad" or "" """

    value: str
    unit: str
    label: str
    mood: str = ""


def write_html(report: Report, timeline: Timeline, directory: Path) -> Path:
    """Write `report.html` into `directory`, made if need be; raises SinkError where that is impossible."""
    return write_text(render(report, timeline), directory / "report.html")


def page(title: str, facts: str, verdict: str, cards: Iterable[Card], sections: Iterable[str]) -> str:
    """A whole page in the common look; `facts` and `verdict` are text, `sections` are HTML."""
    return Template(TEMPLATE_PATH.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        facts=escape(facts),
        verdict=escape(verdict),
        cards="\n".join(map(_card, cards)),
        sections="\n".join(sections),
    )


def render(report: Report, timeline: Timeline) -> str:
    """The whole page."""
    source = report.source
    facts = (
        f"{source.frames} frames, {source.width}x{source.height} at {source.fps:.4g} fps, "
        f"{source.duration_s:.1f} s"
    )
    return page(
        "Semcast link report",
        facts,
        _verdict(report),
        _key_figures(report, timeline),
        _sections(report, timeline),
    )


def _verdict(report: Report) -> str:
    """The run in two or three plain sentences."""
    rate, quality, freezes = report.rate, report.quality, report.freezes
    gains = [
        f"{abs(gain):.2f} dB {'below' if gain < 0 else 'above'} the {name}"
        for name, other in (("base picture", quality.base), ("guide", quality.guide))
        if (gain := _difference(quality.output.psnr_yuv, other.psnr_yuv)) is not None
    ]
    outcome = f"; the output is {' and '.join(gains)}." if gains else "."
    said = [f"{rate.kbps_payload:.1f} kbit/s carried this clip{outcome}"]
    if freezes.count:
        times = "once" if freezes.count == 1 else f"{freezes.count} times"
        said.append(f"The picture froze {times}, at most for {freezes.longest_s:.2f} s.")
    else:
        said.append("The picture never froze.")
    if report.digest_mismatches:
        said.append(f"State digests that did not match: {report.digest_mismatches}.")
    return " ".join(said)


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _key_figures(report: Report, timeline: Timeline) -> Iterable[Card]:
    rate, output, deadline, freezes = report.rate, report.quality.output, report.deadline, report.freezes
    target = "" if timeline.target_kbps is None else f", target {timeline.target_kbps:.4g}"
    yield Card(f"{rate.kbps_payload:.1f}", "kbit/s", f"payload{target}")
    yield Card(f"{rate.kbps_onwire:.1f}", "kbit/s", "on the wire")
    for name, unit, label, digits in (("psnr_yuv", "dB", "PSNR 6:1:1", 2), ("ms_ssim", "", "MS-SSIM", 4),
                                      ("vmaf", "", "VMAF", 1)):  # fmt: skip
        value = getattr(output, name)
        yield Card(_ABSENT if value is None else f"{value:.{digits}f}", unit, f"{label} of the output")
    shown = timeline.latency_ms[np.isfinite(timeline.latency_ms)]
    if shown.size:
        yield Card(f"{np.percentile(shown, 95):.0f}", "ms", "capture to display, p95")
    if deadline.budget_ms is not None:
        mood = "bad" if deadline.miss_ratio > 0.01 else "good"
        yield Card(
            f"{100 * deadline.miss_ratio:.1f}", "%", f"beyond the budget of {deadline.budget_ms:g} ms", mood
        )
    mood = "bad" if freezes.count else "good"
    yield Card(str(freezes.count), "", f"freezes, {freezes.total_s:.2f} s in all", mood)
    mood = "bad" if report.digest_mismatches else "good"
    yield Card(str(report.digest_mismatches), "", "state mismatches", mood)
    if report.uncertainty.coverage90 is not None:
        yield Card(f"{100 * report.uncertainty.coverage90:.0f}", "%", "errors inside the 90 % interval")
    if report.uncertainty.ause is not None and report.uncertainty.ause_constant is not None:
        none = f"AUSE; {report.uncertainty.ause_constant:.3f} of a map that says nothing"
        yield Card(f"{report.uncertainty.ause:.3f}", "", none)
    if report.safety.pictures:
        yield Card(
            f"{100 * report.safety.mean:.2f}",
            "%",
            "of the decoder's cells contradicted the guide: base shown",
        )


def _sections(report: Report, timeline: Timeline) -> Iterable[str]:
    cuts = "Dotted lines are scene cuts, red bands are freezes, on every plot."
    yield plot_section(
        "Levels and events", f"What painted each picture. {cuts}", plots_time.level_plot(timeline)
    )
    note = f"Mean over {plots_time.RATE_WINDOW_S:g} s. The dashed line is the target."
    yield plot_section("Rate by layer", note, plots_time.rate_plot(timeline))
    note = "The guide alone, the deterministic base picture, and what was shown."
    yield plot_section("Quality", note, plots_time.quality_plot(timeline))
    note = "Each dot is a picture, capture to display; the budget is for the receiver's work alone."
    yield plot_section("Latency", note, plots_time.latency_plot(timeline))
    if timeline.uncertainty is not None:
        note = "How wrong the receiver says that its pictures may be, in sample steps of luma; held pictures grow older."
        yield plot_section("Uncertainty", note, plots_time.uncertainty_plot(timeline))
    if timeline.snapshots:
        yield _picture_section(timeline)
    yield _quality_section(report)
    yield _latency_section(report)
    yield conditions_section(
        {"configuration": report.config, "channel": report.channel, "versions": report.versions}
    )


def _card(card: Card) -> str:
    unit = f" <small>{escape(card.unit)}</small>" if card.unit else ""
    value = f"<b>{escape(card.value)}{unit}</b><span>{escape(card.label)}</span>"
    return f'<div class="card {card.mood}">{value}</div>'


def section(title: str, note: str, body: str) -> str:
    """One part of a page; `body` is HTML."""
    return f'<section><h2>{escape(title)}</h2><p class="note">{escape(note)}</p>{body}</section>'


def plot_section(title: str, note: str, plot: Plot) -> str:
    """A plot under its legend."""
    chips = "".join(
        f'<span><i style="background:{colour}"></i>{escape(name)}</span>' for name, colour in plot.legend
    )
    return section(title, note, f'<div class="legend">{chips}</div>{plot.svg}')


def _picture_section(timeline: Timeline) -> str:
    rows = "".join(_shot(i, shot, timeline.colour) for i, shot in enumerate(timeline.snapshots))
    note = "Click to enlarge, click again to close. Bright parts of the uncertainty are least trusted."
    return section("Pictures", note, rows)


def _shot(index: int, shot: Snapshot, colour: Colour) -> str:
    """One row: source, guide, base, output and uncertainty at one instant."""
    figures = [figure(f"p{index}-source", "source", "", picture_to_rgb(shot.source, colour))]
    for name, picture in (("guide", shot.guide), ("base", shot.base), ("output", shot.output)):
        if picture is None:
            figures.append(figure("", name, "", None))
        else:
            caption = f"{psnr_yuv(shot.source, picture):.1f} dB"
            figures.append(figure(f"p{index}-{name}", name, caption, picture_to_rgb(picture, colour)))
    if shot.uncertainty is None:
        figures.append(figure("", "uncertainty", "", None))
    else:
        caption = f"mean {float(shot.uncertainty.mean()):.2f}"
        heat = _heat_map(shot.uncertainty, shot.output)
        figures.append(figure(f"p{index}-uncertainty", "uncertainty", caption, heat))
    title = f"{shot.pts_s:.2f} s<span>{escape(', '.join(filter(None, (shot.title, shot.level))))}</span>"
    return f'<div class="shot"><h3>{title}</h3><div class="row">{"".join(figures)}</div></div>'


def figure(anchor: str, name: str, caption: str, rgb: NDArray[np.uint8] | None) -> str:
    """One picture [H, W, 3] R'G'B' under its name; a click on it enlarges it.

    anchor : unique in the page
    """
    label = f"<figcaption><b>{escape(name)}</b>{escape(caption)}</figcaption>"
    if rgb is None:
        return f'<figure><div class="none">none</div>{label}</figure>'
    image = f'<a href="#{anchor}"><img alt="{escape(name)}" src="data:image/jpeg;base64,{_jpeg(rgb)}"></a>'
    return f'<figure id="{anchor}">{image}{label}<a class="close" href="#_" aria-label="close"></a></figure>'


def _heat_map(uncertainty: NDArray[np.float32], output: Picture) -> NDArray[np.uint8]:
    """[H, W, 3] R'G'B': the map in a perceptually even scale over the dimmed output."""
    size = (output.width, output.height)
    enlarged = cv2.resize(uncertainty.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    heat = matplotlib.colormaps["inferno"](np.clip(enlarged, 0.0, 1.0))[..., :3]
    return np.asarray((0.8 * heat + 0.2 * output.y[..., None] / 255.0) * 255.0, np.uint8)


def _jpeg(rgb: NDArray[np.uint8]) -> str:
    """Base64 of a JPEG with full-resolution chroma, at most `MAX_PICTURE_SIDE` on the longer side."""
    shrink = MAX_PICTURE_SIDE / max(rgb.shape[:2])
    if shrink < 1.0:
        rgb = np.asarray(cv2.resize(rgb, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA), np.uint8)
    settings = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
                cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]  # fmt: skip
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(rgb[..., ::-1]), settings)
    return base64.b64encode(data.tobytes()).decode()


def _quality_section(report: Report) -> str:
    pictures = {name: getattr(report.quality, name) for name in ("guide", "base", "output")}
    measured = [m for m in METRICS if any(getattr(q, m) is not None for q in pictures.values())]
    rows = (f"<td>{name}</td>{_figures(q, measured)}" for name, q in pictures.items())
    absent = {m: report.quality.output.reasons[m] for m in METRICS if m not in measured}
    reasons = "".join(
        f"<li>{_BETTER[m].rstrip(' ↑↓')}: {escape(reason)}</li>" for m, reason in absent.items()
    )
    table = framed_table(("", *(_BETTER[metric] for metric in measured)), rows)
    note = "Means over all pictures. Warping error is relative to the source's own: 1 is as steady."
    return section("Quality in figures", note, f'{table}<ul class="reasons">{reasons}</ul>')


def _figures(quality: PictureQuality, metrics: Iterable[str]) -> str:
    values = (getattr(quality, metric) for metric in metrics)
    return "".join(f"<td>{_ABSENT if value is None else format(value, '.4g')}</td>" for value in values)


def _latency_section(report: Report) -> str:
    longest_ms = max((stage.p99_ms for stage in report.latency.values()), default=0.0) or 1.0
    rows = []
    for name, stage in report.latency.items():
        cells = (stage.p50_ms, stage.p95_ms, stage.p99_ms, stage.max_ms)
        figures = "".join(f"<td>{value:.2f}</td>" for value in cells)
        bars = "".join(f'<i style="width:{100 * value / longest_ms:.1f}%"></i>' for value in cells[:3])
        track = f'<td class="wide"><div class="track">{bars}</div></td>'
        rows.append(f"<td>{escape(name)}</td>{figures}{track}")
    table = framed_table(("stage", "p50", "p95", "p99", "max", ""), rows)
    return section("Stages", "Milliseconds. The bars reach to p50, p95 and p99.", table)


def conditions_section(parts: Mapping[str, object]) -> str:
    """What a figure depends on, by name, folded away."""
    body = "".join(
        f"<details><summary>{name}</summary><pre>{escape(json.dumps(part, indent=2))}</pre></details>"
        for name, part in parts.items()
    )
    return section("Conditions", "A figure counts only with these.", body)

"""`ablation.json`, its tables and its page: what each idea of the decoder is worth, beside what it should be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ConfigDict, Field, JsonValue

from benchmarks.ablation_rows import FOUR_FROM_NOISE, FOUR_STEPS, REFERENCE, REUSE, Row
from benchmarks.ablation_runs import Painted
from benchmarks.html import Card, conditions_section, page, section
from benchmarks.rd_clip import ClipFacts
from benchmarks.rd_quality import LABELS, MeasureName
from benchmarks.report import Model, write_text
from benchmarks.tables import (
    Cells,
    Requirement,
    at_most,
    html_table,
    print_tables,
    requirement_table,
    verdict_of,
)

SCHEMA_NAME: Literal["semcast.ablation/1"] = "semcast.ablation/1"

PSNR_LOSS_DB, REUSE_PERCENT, REUSE_SHARE = 0.5, 3.0, 1 / 3
"""Targets: of four steps against one; and of reuse against four steps from noise, in feature distance and in calls."""

DEFINITIONS = (
    "Every row differs from the reference in its settings alone. Rows that change nothing at the sender are painted from"
    " the very bytes of the reference; of the others the rate is shown.",
    "In brackets: the row minus the reference. Feature distance and warping error are better when they are less;"
    " warping error is over the source's own.",
    "Feature distance is taken in the shipped label network, an offline stand-in for LPIPS and DISTS, with which it may"
    " disagree.",
    "Time: median of one picture from its composition on; all rows take turns on the same pictures, so compare the"
    " ratios.",
    "Calls: of the network, a picture. Within: part of the 8x8 cells whose error is within the 90 % interval that the"
    " decoder states; 90 % is ideal. AUSE: area under the sparsification error of its maps, in brackets over that of a"
    " map that says nothing. Taken back: part of the cells where it contradicted the guide, so that the base picture is"
    " shown.",
    "Same bytes: the setting of the sender changed nothing on that clip, so that the row says nothing of it.",
)

_COLUMNS: Mapping[MeasureName, int] = {
    "psnr_yuv": 2, "ms_ssim": 4, "feature_distance": 4, "vmaf": 1, "warping_error": 3,
}  # fmt: skip
"""Measures shown, with their digits."""
ABSENT = "-"
_DOUBT = ("within", "AUSE", "taken back")


class ClipAblation(Model):
    """One clip. rows : the reference first"""

    name: str
    clip: ClipFacts
    rows: tuple[Painted, ...]


class MeanRow(Model):
    """One row over the clips.

    kbps, change (the row minus the reference, by measure), calls, time_ratio, coverage90, ause, ause_constant,
        taken_back : means over the clips that have them
    same_bytes : clips on which a setting of the sender changed nothing
    """

    name: str
    set: tuple[str, ...]
    kbps: float
    change: dict[MeasureName, float]
    feature_percent: float | None
    calls: float | None
    time_ratio: float | None
    coverage90: float | None
    ause: float | None
    ause_constant: float | None
    taken_back: float | None
    same_bytes: int


class AblationReport(Model):
    """`ablation.json`, and the last line of the output. config : of the reference"""

    model_config = ConfigDict(title="Semcast ablation", serialize_by_alias=True, validate_by_name=True)

    schema_name: Literal["semcast.ablation/1"] = Field(default=SCHEMA_NAME, alias="schema")
    config: dict[str, JsonValue]
    versions: dict[str, str]
    definitions: tuple[str, ...] = DEFINITIONS
    requirements: list[Requirement]
    means: list[MeanRow]
    clips: list[ClipAblation]


# --- figures ------------------------------------------------------------------------------------------------------


def difference(row: Painted, reference: Painted, measure: MeasureName) -> float | None:
    """The row minus the reference."""
    ours, theirs = getattr(row.quality, measure), getattr(reference.quality, measure)
    return None if ours is None or theirs is None else ours - theirs


def means(clips: Sequence[ClipAblation]) -> list[MeanRow]:
    """Every row over the clips."""
    return [_mean_row(clips, row.name) for row in clips[0].rows]


def _mean_row(clips: Sequence[ClipAblation], name: str) -> MeanRow:
    pairs = [(_row(clip, name), _row(clip, REFERENCE.name)) for clip in clips]

    def over(found: Callable[[Painted], float | None]) -> float | None:
        return _mean([found(row) for row, _ in pairs])

    change = {measure: _mean([difference(*pair, measure) for pair in pairs]) for measure in _COLUMNS}
    return MeanRow(
        name=name, set=pairs[0][0].set, kbps=float(np.mean([row.kbps for row, _ in pairs])),
        change={measure: value for measure, value in change.items() if value is not None},
        feature_percent=percent_more(clips, name, REFERENCE.name), calls=over(lambda row: row.calls),
        time_ratio=over(lambda row: row.time_ratio), coverage90=over(lambda row: row.coverage90),
        ause=over(lambda row: row.ause), ause_constant=over(lambda row: row.ause_constant),
        taken_back=over(lambda row: row.taken_back),
        same_bytes=sum(_sent_alike(*pair) for pair in pairs),
    )  # fmt: skip


def _sent_alike(row: Painted, reference: Painted) -> bool:
    """Whether its setting of the sender changed no byte."""
    return bool(Row(row.name, row.set).sent_with) and row.stream == reference.stream


def percent_more(clips: Sequence[ClipAblation], name: str, than: str) -> float | None:
    """Mean over the clips of how much more feature distance one row has than another."""
    return _mean([_percent(_row(clip, name), _row(clip, than)) for clip in clips])


def _percent(row: Painted, other: Painted) -> float | None:
    ours, theirs = row.quality.feature_distance, other.quality.feature_distance
    return None if ours is None or not theirs else 100 * (ours / theirs - 1)


def _row(clip: ClipAblation, name: str) -> Painted:
    return next(row for row in clip.rows if row.name == name)


def _mean(values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return float(np.mean(found)) if found else None


def requirements(clips: Sequence[ClipAblation]) -> list[Requirement]:
    """The targets beside what was seen, in the mean over the clips."""
    loss_db = _mean(
        [
            difference(_row(clip, REFERENCE.name), _row(clip, FOUR_STEPS.name), "psnr_yuv") for clip in clips
        ]
    )  # fmt: skip
    calls = [(_row(clip, REUSE.name).calls, _row(clip, FOUR_FROM_NOISE.name).calls) for clip in clips]
    shares = [ours / theirs if ours is not None and theirs else None for ours, theirs in calls]
    against = f"{REUSE.name} against {FOUR_FROM_NOISE.name}"
    return [
        _below_zero(
            "4 steps against 1: change of feature distance, %",
            percent_more(clips, FOUR_STEPS.name, REFERENCE.name),
        ),
        at_most("4 steps against 1: loss of PSNR, dB", PSNR_LOSS_DB, loss_db),
        at_most(
            f"{against}: more feature distance, %",
            REUSE_PERCENT,
            percent_more(clips, REUSE.name, FOUR_FROM_NOISE.name),
        ),
        at_most(f"{against}: share of network calls", REUSE_SHARE, _mean(shares)),
    ]


def _below_zero(name: str, measured: float | None) -> Requirement:
    """There is no ratio to 0."""
    met = None if measured is None else measured < 0
    return Requirement(name=name, target=0.0, measured=measured, ratio=None, met=met)


# --- output -------------------------------------------------------------------------------------------------------


def write_ablation(report: AblationReport, out: Path) -> Path:
    """Write `out`/ablation.json and ablation.html, which is returned; raises SinkError where that is impossible."""
    write_text(report.model_dump_json(indent=2) + "\n", out / "ablation.json")
    return write_text(render_ablation(report), out / "ablation.html")


def print_ablation(report: AblationReport) -> None:
    """The tables for people, then the document as one line."""
    print_tables(tables(report), report.model_dump_json(), width=160)


def tables(report: AblationReport) -> list[Cells]:
    """Every clip, the means over several, the requirements."""
    over = [mean_table(report)] if len(report.clips) > 1 else []
    return [*map(clip_table, report.clips), *over, requirement_table(report.requirements)]


def clip_table(clip: ClipAblation) -> Cells:
    """Every row of one clip, with the differences from the reference."""
    reference, facts = _row(clip, REFERENCE.name), clip.clip
    shown = [m for m in _COLUMNS if any(getattr(row.quality, m) is not None for row in clip.rows)]
    rows = (
        (
            row.name, _rate(row, reference), *(_cell(row, reference, m) for m in shown), *_cost(row),
            *_doubt(row),
        )
        for row in clip.rows
    )  # fmt: skip
    size = f"{facts.width}x{facts.height} at {facts.fps:.4g} fps"
    head = ("row", "kbit/s", *_heads(shown), "calls", "p50, ms", "ratio", *_DOUBT)
    return Cells(f"{clip.name}: {facts.frames} frames, {size}, {facts.duration_s:.2f} s", head, tuple(rows))


def mean_table(report: AblationReport) -> Cells:
    """Differences from the reference, over the clips."""
    shown = [m for m in _COLUMNS if any(m in row.change for row in report.means)]
    rows = tuple(
        (
            row.name, f"{row.kbps:.2f}", *(_signed(row.change.get(m), _COLUMNS[m]) for m in shown),
            _signed(row.feature_percent, 1), _number(row.calls, 2), _number(row.time_ratio, 2), *_doubt(row),
            str(row.same_bytes or ""),
        )
        for row in report.means
    )  # fmt: skip
    head = (
        "row",
        "kbit/s",
        *_heads(shown),
        "feature distance, %",
        "calls",
        "time ratio",
        *_DOUBT,
        "same bytes",
    )
    return Cells(f"The row minus the reference, mean over {len(report.clips)} clips", head, rows)


def _heads(shown: Sequence[MeasureName]) -> list[str]:
    return [LABELS[measure] for measure in shown]


def _cell(row: Painted, reference: Painted, measure: MeasureName) -> str:
    value, change, digits = (
        getattr(row.quality, measure),
        difference(row, reference, measure),
        _COLUMNS[measure],
    )
    if value is None:
        return ABSENT
    return f"{value:.{digits}f}" if row is reference else f"{value:.{digits}f} ({_signed(change, digits)})"


def _rate(row: Painted, reference: Painted) -> str:
    return f"{row.kbps:.2f}{', same bytes' if _sent_alike(row, reference) else ''}"


def _cost(row: Painted) -> tuple[str, str, str]:
    return _number(row.calls, 2), _number(row.p50_ms, 1), _number(row.time_ratio, 2)


def _doubt(row: Painted | MeanRow) -> tuple[str, str, str]:
    if row.coverage90 is None or row.ause is None or not row.ause_constant:
        return ABSENT, ABSENT, ABSENT
    taken = ABSENT if row.taken_back is None else f"{100 * row.taken_back:.2f} %"
    return f"{100 * row.coverage90:.1f} %", f"{row.ause:.3f} ({row.ause / row.ause_constant:.2f})", taken


def _number(value: float | None, digits: int) -> str:
    return ABSENT if value is None else f"{value:.{digits}f}"


def _signed(value: float | None, digits: int) -> str:
    return ABSENT if value is None else f"{value:+.{digits}f}"


def render_ablation(report: AblationReport) -> str:
    """The whole page."""
    clips = f"{len(report.clips)} {'clip' if len(report.clips) == 1 else 'clips'}"
    return page(
        "Semcast ablation",
        f"{clips}, {len(report.means)} rows",
        verdict_of(report.requirements),
        _cards(report),
        _sections(report),
    )


def _cards(report: AblationReport) -> Iterator[Card]:
    for item in report.requirements:
        if item.measured is not None:
            name, _, unit = item.name.rpartition(", ")
            label = f"{name or unit}, at most {item.target:.3g}"
            yield Card(f"{item.measured:.2f}", unit if name else "", label, "good" if item.met else "bad")


def _sections(report: AblationReport) -> Iterator[str]:
    yield section("Requirements", "Means over the clips.", html_table(requirement_table(report.requirements)))
    notes = [" ".join(report.definitions)] + [""] * len(report.clips)
    for note, table in zip(notes, reversed(tables(report)[:-1]), strict=False):
        yield section(table.title, note, html_table(table))
    sets: dict[str, JsonValue] = {row.name: list(row.set) for row in report.means if row.set}
    yield conditions_section(
        {
            "settings of the rows": sets,
            "settings of the reference": report.config,
            "versions": report.versions,
        }
    )

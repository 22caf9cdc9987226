"""`recovery.json`, its tables and its page: what `semcast bench recovery` measured, beside what it should be."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue
from rich.console import Console

from benchmarks import plots
from benchmarks.html import Card, conditions_section, page, plot_section, section
from benchmarks.report import Model, write_text
from benchmarks.tables import Cells, Requirement, html_table, requirement_table, rich_table, worst_at_most

SCHEMA_NAME: Literal["semcast.recovery/1"] = "semcast.recovery/1"

RECOGNISABLE_S, MISMATCH_S, FREEZE_S = 0.3, 0.8, 0.3
"""Targets: a new scene after its capture, both ends out of step, the picture standing still (outages apart)."""

DEFINITIONS = (
    "Times are those of the simulated link and of waiting: work takes no time here (`semcast bench latency` times it).",
    "Recognisable: the first picture shown of a new scene whose MS-SSIM to its own source is at least 80 % of the "
    "median over the 2 s after the cut, and which is closer to its source than to the last picture before the cut.",
    "Full detail: the first one within 0.5 dB of the median PSNR of the scene's first 4 s.",
    "Freeze: the longest time from one new picture shown to the next; counted where W3C webrtc-stats would.",
    "Mismatch: frames arrive that cannot be applied, since one before them is missing.",
    "Back: from the end of an outage to the first new picture.",
)

Seconds = Annotated[float, Field(ge=0.0)]


class CutRow(Model):
    """One scene cut, seconds since the capture of the new scene's first picture.

    cut_s : when it was captured
    recognisable_s, full_detail_s : None where the scene was over before
    """

    clip: str
    condition: str
    cut_s: Seconds
    scene_s: Seconds
    recognisable_s: Seconds | None
    full_detail_s: Seconds | None


class LossRow(Model):
    """One run over a link with losses.

    longest_freeze_s : longest time without a new picture; freezes : those that W3C webrtc-stats counts
    mismatch_s : longest time out of step
    back_s : after an outage, None where there was none or the picture never came back
    """

    clip: str
    condition: str
    seed: int
    kbps: Annotated[float, Field(ge=0.0)]
    longest_freeze_s: Seconds
    freezes: Annotated[int, Field(ge=0)]
    mismatch_s: Seconds
    back_s: Seconds | None


class RecoveryReport(Model):
    """`recovery.json`, and the last line of the output. conditions : name -> channel"""

    model_config = ConfigDict(title="Semcast recovery", serialize_by_alias=True, validate_by_name=True)

    schema_name: Literal["semcast.recovery/1"] = Field(default=SCHEMA_NAME, alias="schema")
    config: dict[str, JsonValue]
    versions: dict[str, str]
    definitions: tuple[str, ...] = DEFINITIONS
    conditions: dict[str, str]
    requirements: list[Requirement]
    cuts: list[CutRow]
    losses: list[LossRow]


def requirements(
    cuts: Sequence[CutRow], losses: Sequence[LossRow], outages: Sequence[str]
) -> list[Requirement]:
    """The worst of everything; `outages` names the conditions during which the picture cannot but freeze."""
    seen = [
        (row.scene_s if row.recognisable_s is None else row.recognisable_s, f"{row.clip} at {row.cut_s:.2f} s, "
         f"{row.condition}") for row in cuts
    ]  # fmt: skip
    freezes = [(row.longest_freeze_s, _place(row)) for row in losses if row.condition not in outages]
    return [
        worst_at_most("new scene recognisable, s after capture", RECOGNISABLE_S, seen),
        worst_at_most("ends out of step, s", MISMATCH_S, [(row.mismatch_s, _place(row)) for row in losses]),
        worst_at_most("freeze, s", FREEZE_S, freezes),
    ]


def _place(row: LossRow) -> str:
    return f"{row.clip}, {row.condition}, seed {row.seed}"


# --- output -------------------------------------------------------------------------------------------------------


def write_recovery(report: RecoveryReport, out: Path) -> None:
    """Write `out`/recovery.json and recovery.html; raises SinkError where that is impossible."""
    write_text(report.model_dump_json(indent=2) + "\n", out / "recovery.json")
    write_text(render_recovery(report), out / "recovery.html")


def print_recovery(report: RecoveryReport) -> None:
    """The tables for people, then the document as one line."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    for table in tables(report):
        console.print(rich_table(table))
    print(report.model_dump_json())


def tables(report: RecoveryReport) -> list[Cells]:
    """Cuts, losses, requirements; a table without rows is left out."""
    every = (cut_table(report.cuts), loss_table(report.losses), requirement_table(report.requirements))
    return [table for table in every if table.rows]


def cut_table(cuts: Sequence[CutRow]) -> Cells:
    """Every cut under every condition."""
    head = ("clip", "cut at, s", "channel", "recognisable after, s", "full detail after, s")
    rows = (
        (
            row.clip,
            f"{row.cut_s:.2f}",
            row.condition,
            _seconds(row.recognisable_s),
            _seconds(row.full_detail_s),
        )
        for row in cuts
    )
    return Cells("Scene cuts", head, tuple(rows))


def loss_table(losses: Sequence[LossRow]) -> Cells:
    """Every clip and condition, the worst over the seeds."""
    head = (
        "clip",
        "channel",
        "seeds",
        "kbit/s",
        "longest freeze, s",
        "freezes",
        "out of step, s",
        "back after, s",
    )
    rows = []
    for clip, condition in dict.fromkeys((row.clip, row.condition) for row in losses):
        runs = [row for row in losses if (row.clip, row.condition) == (clip, condition)]
        back_s = [row.back_s for row in runs if row.back_s is not None]
        worst = (max(row.longest_freeze_s for row in runs), max(row.mismatch_s for row in runs))
        kbps = sum(row.kbps for row in runs) / len(runs)
        rows.append(
            (clip, condition, str(len(runs)), f"{kbps:.1f}", f"{worst[0]:.3f}",
             str(sum(row.freezes for row in runs)), f"{worst[1]:.3f}", _seconds(max(back_s, default=None)))
        )  # fmt: skip
    return Cells("Losses, the worst of the seeds", head, tuple(rows))


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def render_recovery(report: RecoveryReport) -> str:
    """The whole page."""
    missed = [item.name for item in report.requirements if item.met is False]
    verdict = (
        f"Not met: {'; '.join(missed)}."
        if missed
        else "Every requirement that this run could measure is met."
    )
    clips = len({row.clip for row in report.cuts} | {row.clip for row in report.losses})
    facts = f"{clips} {'clip' if clips == 1 else 'clips'}, {len(report.conditions)} channels"
    return page("Semcast recovery", facts, verdict, _cards(report), _sections(report))


def _cards(report: RecoveryReport) -> Iterator[Card]:
    for item in report.requirements:
        if item.measured is not None:
            label = f"{item.name.rpartition(', ')[0]}, at most {item.target:g}"
            yield Card(f"{item.measured:.2f}", "s", label, "good" if item.met else "bad")


def _sections(report: RecoveryReport) -> Iterator[str]:
    note = " ".join(report.definitions)
    yield section("Requirements", note, html_table(requirement_table(report.requirements)))
    if report.losses:
        points = [(row.condition, row.clip, row.longest_freeze_s) for row in report.losses]
        yield plot_section(
            "Longest freeze", "Each dot is a run; the dashed line is the target.",
            plots.dot_plot(points, "s", FREEZE_S),
        )  # fmt: skip
    for table in tables(report)[:-1]:
        yield section(table.title, "", html_table(table))
    parts = {"channels": report.conditions, "configuration": report.config, "versions": report.versions}
    yield conditions_section(parts)

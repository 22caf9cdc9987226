"""`latency.json`: what `semcast bench latency` measured, beside what it should be."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue
from rich.console import Console
from rich.table import Table

from benchmarks.latency_load import LoadReport, load_table
from benchmarks.latency_page import load_page
from benchmarks.report import Model, write_text
from benchmarks.tables import Requirement, at_least, at_most, requirement_table, rich_table
from benchmarks.two_ends import TwoEnds

SCHEMA_NAME: Literal["semcast.latency/3"] = "semcast.latency/3"

SENDER_P95_MS, BASE_P95_MS, STEP_P95_MS = 25.0, 6.0, 35.0
"""What 512x512 must reach on one thread: a whole sender step, the base picture, one network call in bfloat16."""
WARPED_SENDER, WARPED_ADVANCE = "sender total, anchor in use", "decode and advance, anchor in use"
WARPED_BASE = "base picture, anchor warped"
"""The costly kinds; without an anchor, or with a guide at full size, there is next to nothing to do."""
REALTIME_FACTOR, PEAK_MEMORY_MIB = 0.98, 1536.0
"""Of two processes: pictures a second of the slower one over the source's, within 2 %, and memory of each."""

NotNegative = Annotated[float, Field(ge=0.0)]


class Row(Model):
    """One stage, milliseconds.

    level : of the ladder, None for what does not depend on it
    size : of the picture, WIDTHxHEIGHT; the clip's, or one of the built-in clip
    miss_ratio : share of samples above the frame interval (sender total) or the picture budget (full path);
        None where there is no such limit
    p50_calibrated : p50 over that of the calibration kernel
    """

    stage: str
    level: str | None
    size: str
    n: int
    p50_ms: NotNegative
    p95_ms: NotNegative
    p99_ms: NotNegative
    max_ms: NotNegative
    miss_ratio: Annotated[float, Field(ge=0.0, le=1.0)] | None
    p50_calibrated: NotNegative


class Throughput(Model):
    """Both ends in one process, one step a frame.

    painted_frames : those that the network painted; the rest the sender left out to keep its rate
    frames_per_s : of the painted ones; realtime_factor : that over the source's rate
    """

    frames: int
    painted_frames: int
    frames_per_s: NotNegative
    source_fps: NotNegative
    realtime_factor: NotNegative


class LatencyReport(Model):
    """`latency.json`, and the last line of the output.

    idle_stages : those that this clip at this rate never needed, and that no figure here includes
    load : under `--load`, what deadline control made of it
    """

    model_config = ConfigDict(title="Semcast latency", serialize_by_alias=True, validate_by_name=True)

    schema_name: Literal["semcast.latency/3"] = Field(default=SCHEMA_NAME, alias="schema")
    config: dict[str, JsonValue]
    versions: dict[str, str]
    source: str
    width: int
    height: int
    device: str
    calibration_p50_ms: NotNegative
    peak_memory_mib: NotNegative
    idle_stages: list[str]
    throughput: Throughput
    two_ends: TwoEnds | None
    load: LoadReport | None = None
    requirements: list[Requirement]
    rows: list[Row]


def requirements(rows: Sequence[Row], ends: TwoEnds | None) -> list[Requirement]:
    """The targets of the project beside what was measured; they hold for 512x512 on one thread of a free machine.

    ends : what two processes reached, None where that was not measured
    """
    p95_ms = {(row.stage, row.level): row.p95_ms for row in rows}
    return [
        at_most("sender total, p95 ms", SENDER_P95_MS, p95_ms["sender total", None]),
        at_most("base picture with an anchor, p95 ms", BASE_P95_MS, p95_ms.get((WARPED_BASE, None))),
        at_most("one step of the network, p95 ms", STEP_P95_MS, p95_ms["network alone", "bridge1"]),
        at_least("two processes, real-time factor", REALTIME_FACTOR, ends.realtime_factor if ends else None),
        at_most("sender, peak memory MiB", PEAK_MEMORY_MIB, ends.sender_peak_memory_mib if ends else None),
        at_most(
            "receiver, peak memory MiB", PEAK_MEMORY_MIB, ends.receiver_peak_memory_mib if ends else None
        ),
    ]


def write_latency(report: LatencyReport, out: Path) -> Path:
    """Write `out`/latency.json, and under load `out`/latency.html; raises SinkError where that is impossible."""
    if report.load is not None:
        write_text(
            load_page(report.load, report.source, report.config, report.versions), out / "latency.html"
        )
    return write_text(report.model_dump_json(indent=2) + "\n", out / "latency.json")


def print_latency(report: LatencyReport) -> None:
    """The tables for people, then the document as one line."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(_stage_table(report))
    console.print(rich_table(requirement_table(report.requirements)))
    through = report.throughput
    console.print(
        f"{through.painted_frames} of {through.frames} frames of {report.width}x{report.height} painted on "
        f"{report.device}: {through.frames_per_s:.1f} a second, {through.realtime_factor:.2f} times the source's "
        f"{through.source_fps:.4g}; calibration {report.calibration_p50_ms:.2f} ms; peak memory "
        f"{report.peak_memory_mib:.0f} MiB; stages that never ran: {', '.join(report.idle_stages) or 'none'}",
        markup=False, highlight=False,
    )  # fmt: skip
    if report.two_ends is not None:
        console.print(_ends_line(report.two_ends), markup=False, highlight=False)
    if report.load is not None:
        console.print(rich_table(load_table(report.load)))
        console.print(rich_table(requirement_table(report.load.requirements)))
    print(report.model_dump_json())


def _ends_line(ends: TwoEnds) -> str:
    return (
        f"two processes: sender {ends.sender_fps:.2f} and receiver {ends.receiver_fps:.2f} pictures a second of "
        f"{ends.source_fps:.4g}; of {ends.shown_frames} shown the network painted {ends.painted_frames}, "
        f"{ends.concealed_frames} repeat the one before, {ends.late_frames} came after their deadline; peak memory "
        f"{ends.sender_peak_memory_mib:.0f} and {ends.receiver_peak_memory_mib:.0f} MiB"
    )


def _stage_table(report: LatencyReport) -> Table:
    table = Table(
        "stage",
        "level",
        "size",
        "n",
        "p50",
        "p95",
        "p99",
        "max",
        "missed",
        "x calibration",
        title="Latency, ms",
        title_justify="left",
    )
    for row in report.rows:
        missed = "" if row.miss_ratio is None else f"{100 * row.miss_ratio:.1f} %"
        times = (f"{value:.2f}" for value in (row.p50_ms, row.p95_ms, row.p99_ms, row.max_ms))
        table.add_row(
            row.stage, row.level or "", row.size, str(row.n), *times, missed, f"{row.p50_calibrated:.2f}"
        )
    return table

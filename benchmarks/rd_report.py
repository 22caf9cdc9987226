"""What `semcast bench rd` writes besides its page: `rd.json`, `rd.csv`, `results/NAME.json`, and tables to read."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from benchmarks.rd_model import RESULT_KEYS, RdReport, System
from benchmarks.rd_tables import tables
from benchmarks.report import write_text
from benchmarks.tables import print_tables


def write_rd(report: RdReport, out: Path) -> None:
    """Write `out`/rd.json, `out`/rd.csv and `out`/results; raises SinkError where that is impossible."""
    write_text(report.model_dump_json(indent=2) + "\n", out / "rd.json")
    write_text(csv_text(report), out / "rd.csv")
    for system in report.systems:
        write_text(system.model_dump_json(indent=2) + "\n", out / "results" / f"{file_name(system)}.json")


def file_name(system: System) -> str:
    """Of a system's own file, such as "semcast-base" or "svt-av1-2" (at half size)."""
    return system.name.replace(" 1/", "-").replace(" ", "-")


def csv_text(report: RdReport) -> str:
    """One line for each point of each system; a measure that nobody has is no column."""
    systems = [(clip.name, system) for clip in report.clips for system in clip.systems]
    measured = [key for key in RESULT_KEYS.values() if any(key in system.results for _, system in systems)]
    columns = ["clip", "system", "target-kbps", "crf", "kbps", "bpp", *measured]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for clip, system in systems:
        for index in range(len(system.results["kbps"])):
            values = (system.results.get(column) for column in columns[2:])
            cells = ("" if value is None else f"{value[index]:.6g}" for value in values)
            writer.writerow([clip, system.name, *cells])
    return text.getvalue()


def print_rd(report: RdReport) -> None:
    """The tables for people, then the document as one line."""
    print_tables(tables(report), report.model_dump_json(), width=160)

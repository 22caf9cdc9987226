"""What `semcast bench snr` writes besides its page: `snr.json`, `snr.csv`, and tables to read."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from benchmarks.rd_quality import LABELS, MEASURES
from benchmarks.report import write_text
from benchmarks.snr_figures import FIGURES, figure_of
from benchmarks.snr_model import FREEZE, ChannelReport, Figure, SnrReport
from benchmarks.tables import Cells, print_tables, requirement_table

FIGURE_LABELS: dict[Figure, str] = {**{name: LABELS[name] for name in MEASURES}, FREEZE: "freeze ratio"}
AXES = {
    "snr_db": "SNR, dB", "loss": "loss", "burst": "mean burst of losses", "rate_kbps": "capacity, kbit/s",
    "delay_ms": "delay, ms",
}  # fmt: skip
_SHOWN: tuple[Figure, ...] = ("psnr_yuv", "ms_ssim", "feature_distance", FREEZE)
_TABLE_VALUES = 12


def write_snr(report: SnrReport, out: Path) -> None:
    """Write `out`/snr.json and `out`/snr.csv; raises SinkError where that is impossible."""
    write_text(report.model_dump_json(indent=1) + "\n", out / "snr.json")
    write_text(csv_text(report), out / "snr.csv")


def csv_text(report: SnrReport) -> str:
    """One line for each run; a measure that nobody has is no column."""
    figures = [f for f in FIGURES if any(figure_of(row, f) is not None for row in report.rows)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["channel", "value", "clip", "seed", "system", "variant", "kbps", "cbr", "longest_freeze_s", *figures]
    )
    for row in report.rows:
        point = row.point
        numbers = (point.kbps, point.cbr, point.longest_freeze_s, *(figure_of(row, f) for f in figures))
        cells = ("" if number is None else f"{number:.6g}" for number in numbers)
        writer.writerow([row.channel, f"{row.value:g}", row.clip, row.seed, row.system, row.variant, *cells])
    return text.getvalue()


def channel_tables(channel: ChannelReport) -> list[Cells]:
    """For each figure one line for each of the systems that a reader compares."""
    values = [point.value for series in channel.series[:1] for point in series.points]
    values = values[:: max(1, -(-len(values) // _TABLE_VALUES))]
    found = []
    for figure in _SHOWN:
        rows = tuple(_row(channel, name, figure, values) for name in main_systems(channel))
        if any(cell for row in rows for cell in row[1:]):
            head = (AXES[channel.axis], *(f"{value:g}" for value in values))
            found.append(Cells(f"{channel.name}: {FIGURE_LABELS[figure]}", head, rows))
    return found


def main_systems(channel: ChannelReport) -> list[str]:
    """Lines without the single schemes of the peers."""
    names = [series.system for series in channel.series]
    return [
        name for name in names if " " not in name or name.endswith("envelope") or name.endswith("adaptive")
    ]


def _row(channel: ChannelReport, name: str, figure: Figure, values: Sequence[float]) -> tuple[str, ...]:
    series = channel.named(name)
    known = {p.value: p.figures[figure].mean for p in series.points if figure in p.figures} if series else {}
    digits = {"psnr_yuv": ".2f", FREEZE: ".3f"}.get(figure, ".4f")
    return (name, *(format(known[value], digits) if value in known else "" for value in values))


def print_snr(report: SnrReport) -> None:
    """The tables for people, then the document as one line; single runs are in the files."""
    channels = (cells for channel in report.channels for cells in channel_tables(channel))
    every = (*channels, requirement_table(report.requirements))
    print_tables(every, report.model_dump_json(exclude={"rows"}), width=200)

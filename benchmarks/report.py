"""`report.json`: what one run of the link did, as a document that a schema checks.

The models below are the contract; `report.schema.json` beside this file is generated from them
(`python -m benchmarks.report` writes it anew) and a test holds the two together. A change to what a field
means, or its removal, is a new number in `SCHEMA_NAME`.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal, Self, TextIO

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator
from rich.console import Console
from rich.table import Table

from common.errors import SinkError
from common.quality import Metric
from common.stats import FreezeSummary, Latency

SCHEMA_NAME: Literal["semcast.report/1"] = "semcast.report/1"
SCHEMA_PATH = Path(__file__).with_name("report.schema.json")

PACKAGES = ("semcast", "torch", "numpy", "av", "opencv-contrib-python-headless", "constriction", "raptorq")
"""What a report states the version of: everything that can change a figure."""

METRICS = (
    "psnr_yuv", "ms_ssim", "vmaf", "lpips", "dists", "feature_distance", "label_miou",
    "warping_error_ratio", "flicker",
)  # fmt: skip
"""Fields of `PictureQuality` that hold a figure or None."""

EventKind = Literal["cut", "anchor", "refresh_request", "concealment", "freeze", "loss", "digest_mismatch"]

Ratio = Annotated[float, Field(ge=0.0, le=1.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=0)]


class Model(BaseModel):
    """Frozen, no unknown fields, no NaN or infinity (JSON has neither)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Source(Model):
    """The input as coded."""

    frames: Count
    fps: NotNegative
    width: Count
    height: Count
    duration_s: NotNegative


class Rate(Model):
    """All bytes handed to the transport over the source's duration.

    kbps_onwire adds IP, UDP and transport headers; bytes_by_layer sums to the payload.
    """

    kbps_payload: NotNegative
    kbps_onwire: NotNegative
    bytes_by_layer: dict[str, Count]


class PictureQuality(Model):
    """Means over the pictures; None where a metric is not available, and then `reasons` says why."""

    psnr_yuv: float | None = None
    ms_ssim: float | None = None
    vmaf: float | None = None
    lpips: float | None = None
    dists: float | None = None
    feature_distance: float | None = None
    label_miou: float | None = None
    warping_error_ratio: float | None = None
    flicker: float | None = None
    reasons: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _absent_means_explained(self) -> Self:
        absent = {name for name in METRICS if getattr(self, name) is None}
        if absent != set(self.reasons):
            raise ValueError(f"reasons given for {sorted(self.reasons)}, but absent are {sorted(absent)}")
        return self

    @classmethod
    def of(cls, metrics: Mapping[str, Metric]) -> PictureQuality:
        """From metrics by name; those that are not in `metrics` are absent as "not measured"."""
        unknown = set(metrics) - set(METRICS)
        if unknown:
            raise ValueError(f"unknown metrics {sorted(unknown)}")
        every = {name: metrics.get(name, Metric(None, "not measured")) for name in METRICS}
        reasons = {name: m.reason or "not available" for name, m in every.items() if m.value is None}
        return cls.model_validate({**{name: m.value for name, m in every.items()}, "reasons": reasons})


class Quality(Model):
    """What was shown, what the deterministic base picture would have shown, and the guide alone."""

    output: PictureQuality
    base: PictureQuality
    guide: PictureQuality


class StageLatency(Model):
    """One stage, milliseconds."""

    p50_ms: NotNegative
    p95_ms: NotNegative
    p99_ms: NotNegative
    max_ms: NotNegative

    @classmethod
    def of(cls, latency: Latency) -> StageLatency:
        return cls.model_validate({key: value for key, value in asdict(latency).items() if key != "count"})


class Deadline(Model):
    """budget_ms is None where pictures have no deadline."""

    budget_ms: NotNegative | None
    miss_ratio: Ratio


class Event(Model):
    """Something that happened at one instant of the source's time."""

    pts_s: float
    kind: EventKind


class CellDoubt(Model):
    """How well maps tell the errors of the 8x8 cells.

    coverage90 : share of the errors inside the 90 % interval, ideally 0.9
    ause : area under the sparsification error, 0 where the map ranks the errors perfectly; ause_constant : of a map that
        is the same everywhere
    """

    coverage90: Ratio
    ause: float
    ause_constant: float
    cells: Count


class Uncertainty(Model):
    """None where there is no map. mean : 0..1 of what a map can hold; steps : the same in sample steps

    coverage90, ause, ause_constant : see CellDoubt, which levels has for each level of the ladder
    """

    mean: Ratio | None = None
    steps: NotNegative | None = None
    coverage90: Ratio | None = None
    ause: float | None = None
    ause_constant: float | None = None
    levels: dict[str, CellDoubt] = Field(default_factory=dict)


class Safety(Model):
    """Where the decoder contradicted the guide and the base picture was shown instead.

    pictures : with such a place; mean, most : share of a picture's cells
    """

    pictures: Count = 0
    mean: Ratio = 0.0
    most: Ratio = 0.0


class Freezes(Model):
    """As W3C webrtc-stats counts them."""

    count: Count = 0
    total_s: NotNegative = 0.0
    longest_s: NotNegative = 0.0

    @classmethod
    def of(cls, summary: FreezeSummary) -> Freezes:
        return cls.model_validate(asdict(summary))


class Report(Model):
    """The whole document.

    config : the effective configuration
    channel : the channel's own counters (sent, lost, duplicated ...)
    levels : pictures shown at each level of the ladder
    """

    model_config = ConfigDict(title="Semcast report", serialize_by_alias=True, validate_by_name=True)

    schema_name: Literal["semcast.report/1"] = Field(default=SCHEMA_NAME, alias="schema")
    config: dict[str, JsonValue]
    versions: dict[str, str]
    source: Source
    rate: Rate
    quality: Quality
    latency: dict[str, StageLatency]
    deadline: Deadline
    levels: dict[str, Count]
    events: list[Event]
    uncertainty: Uncertainty
    safety: Safety = Field(default_factory=Safety)
    freezes: Freezes
    digest_mismatches: Count
    channel: dict[str, JsonValue]


def versions() -> dict[str, str]:
    """Python and every package of `PACKAGES`, "absent" where one is not installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def schema_text() -> str:
    """The JSON schema of `Report` as it stands in `report.schema.json`."""
    schema = Report.model_json_schema(by_alias=True, mode="serialization")
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(schema, indent=2) + "\n"


def write_report(report: Report, directory: Path) -> Path:
    """Write `report.json` into `directory`, made if need be; raises SinkError where that is impossible."""
    return write_text(report.model_dump_json(indent=2) + "\n", directory / "report.json")


def write_text(text: str, path: Path) -> Path:
    """Write a file, and its folder if need be; an interruption leaves no half file. SinkError where it is impossible."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise SinkError(f"cannot write {path}: {error.strerror or error}; choose another --out") from error
    return path


def read_report(path: Path) -> Report:
    """Parse and check a report; raises pydantic's ValidationError (a ValueError) for one that is not."""
    return Report.model_validate_json(path.read_text())


def print_report(report: Report, stdout: TextIO | None = None) -> None:
    """The tables for people, then the document as one line, which is the last on standard output."""
    stream = sys.stdout if stdout is None else stdout
    console = Console(file=stream)
    for table in (_summary_table(report), _quality_table(report.quality), _latency_table(report)):
        console.print(table)
    stream.write(report.model_dump_json() + "\n")
    stream.flush()


def _summary_table(report: Report) -> Table:
    table = Table(title="Link", show_header=False, title_justify="left")
    source, rate, deadline, freezes = report.source, report.rate, report.deadline, report.freezes
    picture = f"{source.frames} frames, {source.width}x{source.height} at {source.fps:.4g} fps"
    table.add_row("source", f"{picture}, {source.duration_s:.2f} s")
    table.add_row("rate", f"{rate.kbps_payload:.1f} kbit/s, {rate.kbps_onwire:.1f} on the wire")
    table.add_row("layers", ", ".join(f"{name} {size} B" for name, size in rate.bytes_by_layer.items()))
    budget = "none" if deadline.budget_ms is None else f"{deadline.budget_ms:.0f} ms"
    table.add_row("deadline", f"budget {budget}, {100 * deadline.miss_ratio:.1f} % missed")
    table.add_row("levels", ", ".join(f"{name} {frames}" for name, frames in report.levels.items()))
    table.add_row("freezes", f"{freezes.count}, {freezes.total_s:.2f} s, longest {freezes.longest_s:.2f} s")
    table.add_row("digest mismatches", str(report.digest_mismatches))
    if report.uncertainty.steps is not None:
        table.add_row("uncertainty", _doubt_text(report.uncertainty))
        table.add_row("taken back", _safety_text(report.safety))
    return table


def _doubt_text(found: Uncertainty) -> str:
    if found.steps is None or found.coverage90 is None or found.ause is None:
        return "no map"
    inside = f"{100 * found.coverage90:.1f} % of the errors inside the 90 % interval"
    return (
        f"{found.steps:.2f} sample steps, {inside}, AUSE {found.ause:.3f} ({found.ause_constant:.3f} without)"
    )


def _safety_text(found: Safety) -> str:
    return f"{100 * found.mean:.2f} % of the cells, at most {100 * found.most:.1f} %, in {found.pictures} pictures"


def _quality_table(quality: Quality) -> Table:
    """A metric a row, so that it fits into a terminal; metrics that nobody could measure are left out."""
    pictures = ("guide", "base", "output")
    table = Table("metric", *pictures, title="Quality", title_justify="left")
    for metric in METRICS:
        figures = [getattr(getattr(quality, name), metric) for name in pictures]
        if any(value is not None for value in figures):
            table.add_row(metric, *("-" if value is None else f"{value:.4g}" for value in figures))
    return table


def _latency_table(report: Report) -> Table:
    table = Table("stage", "p50", "p95", "p99", "max", title="Latency, ms", title_justify="left")
    for stage, times in report.latency.items():
        row = (times.p50_ms, times.p95_ms, times.p99_ms, times.max_ms)
        table.add_row(stage, *(f"{value:.2f}" for value in row))
    return table


if __name__ == "__main__":
    SCHEMA_PATH.write_text(schema_text())

"""The latency bench times every stage and level, compares with its targets and leaves a document that reads back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from benchmarks import latency
from benchmarks.latency import measure_latency, run_latency
from benchmarks.latency_levels import timed
from benchmarks.latency_report import (
    WARPED_ADVANCE,
    WARPED_BASE,
    WARPED_SENDER,
    LatencyReport,
    Requirement,
    Row,
    requirements,
    write_latency,
)
from benchmarks.plans import parse_sizes
from benchmarks.two_ends import TwoEnds
from common.clock import VirtualClock
from common.config import Size, load_config
from common.errors import SinkError, SourceError, UsageError
from receiver.decoder.model import TinyBridge
from receiver.decoder.synth import LEVELS
from sender.sources import open_source

CONFIG = load_config(
    None, ["stream.size=64x64", "semantics.enabled=false", "receiver.device=cpu", "stream.bitrate_bps=64k"]
)


def network() -> TinyBridge:
    torch.manual_seed(0)
    return TinyBridge(widths=(16, 16, 16))


OTHER_SIZE = Size(80, 48)


@pytest.fixture(scope="module")
def report() -> LatencyReport:
    with open_source(None, (64, 64), seconds=0.6) as source:
        return measure_latency(source, CONFIG, network(), sizes=[Size(64, 64), OTHER_SIZE])


def test_every_level_has_a_row_for_the_full_path_and_every_bridge_one_for_the_network(
    report: LatencyReport,
) -> None:
    rows = {(row.stage, row.level): row for row in report.rows if row.size == "64x64"}
    assert {level for stage, level in rows if stage == "full path"} == set(LEVELS)
    assert {level for stage, level in rows if stage == "network alone"} == {"bridge1", "bridge2", "bridge4"}
    assert {"sender total", "sender: guide", "decode and advance", "base picture"} <= {
        stage for stage, _ in rows
    }


def test_every_level_is_timed_once_at_every_other_size(report: LatencyReport) -> None:
    full_path = [(row.level, row.size) for row in report.rows if row.stage == "full path"]
    assert full_path == [(level, size) for size in ("64x64", "80x48") for level in LEVELS]
    alone = {row.level for row in report.rows if (row.stage, row.size) == ("network alone", "80x48")}
    assert alone == {"bridge1", "bridge2", "bridge4"}
    assert {row.stage for row in report.rows if row.size == "80x48"} <= {
        "full path", "network alone", "network alone, openvino",
    }  # fmt: skip


def test_other_backends_that_run_here_are_timed_beside_the_chosen_one(report: LatencyReport) -> None:
    pytest.importorskip("openvino")
    other = [row for row in report.rows if row.stage == "network alone, openvino"]
    assert [(row.level, row.size) for row in other] == [("bridge1", "64x64"), ("bridge1", "80x48")]


def test_sizes_are_read_from_one_text() -> None:
    assert parse_sizes("256x256, 1280x720") == [Size(256, 256), Size(1280, 720)]
    assert parse_sizes("") == []
    with pytest.raises(UsageError, match="auto is none"):
        parse_sizes("256x256,auto")
    with pytest.raises(UsageError, match="WIDTHxHEIGHT"):
        parse_sizes("big")


def test_the_sender_is_timed_once_a_frame_without_the_warm_up(report: LatencyReport) -> None:
    (total,) = (row for row in report.rows if row.stage == "sender total")
    assert total.n == report.throughput.frames == 15
    assert 0 < total.p50_ms <= total.p95_ms <= total.p99_ms <= total.max_ms
    assert all(row.n >= 1 and row.p50_calibrated > 0 for row in report.rows)


def test_misses_are_counted_only_where_there_is_a_limit(report: LatencyReport) -> None:
    limited = {row.stage for row in report.rows if row.miss_ratio is not None}
    assert limited == {"sender total", "full path"}


def row(stage: str, level: str | None, p95_ms: float) -> Row:
    return Row(
        stage=stage,
        level=level,
        size="512x512",
        n=3,
        p50_ms=1,
        p95_ms=p95_ms,
        p99_ms=p95_ms,
        max_ms=p95_ms,
        miss_ratio=None,
        p50_calibrated=1,
    )


ENDS = TwoEnds(
    frames=9, source_fps=25, sender_fps=25, receiver_fps=24.5, realtime_factor=0.98, shown_frames=9,
    painted_frames=8, concealed_frames=1, late_frames=0, sender_peak_memory_mib=768, receiver_peak_memory_mib=3072,
)  # fmt: skip
ROWS = [row("sender total", None, 50), row("base picture", None, 0.1), row("network alone", "bridge1", 35)]


def test_requirements_are_ratios_to_their_targets() -> None:
    found = requirements([*ROWS, row(WARPED_BASE, None, 3)], ENDS)
    assert [(item.ratio, item.met) for item in found] == [
        (2.0, False),
        (0.5, True),
        (1.0, True),
        (1.0, True),
        (0.5, True),
        (2.0, False),
    ]
    assert [item.met for item in requirements(ROWS, None)[3:]] == [None, None, None]


def test_a_base_picture_without_an_anchor_does_not_pass_for_one_with() -> None:
    base = requirements(ROWS, ENDS)[1]
    assert base.measured is None and base.met is None


def test_an_anchor_is_always_put_to_use(report: LatencyReport) -> None:
    rows = {row.stage: row for row in report.rows if row.size == "64x64"}
    assert report.idle_stages == []
    assert rows[WARPED_BASE].n == rows[WARPED_ADVANCE].n == rows[WARPED_SENDER].n > 5
    assert report.requirements[1].measured == rows[WARPED_BASE].p95_ms


def test_stages_that_never_ran_are_named() -> None:
    with open_source(None, (64, 64), seconds=0.12) as source:  # over before an anchor can have arrived
        short = measure_latency(source, CONFIG, network())
    assert WARPED_BASE in short.idle_stages
    assert not {row.stage for row in short.rows} & set(short.idle_stages)


def test_time_on_the_device_belongs_to_the_work() -> None:
    clock = VirtualClock()
    assert timed(lambda: clock.advance_to(1.0), clock, lambda: clock.advance_to(3.0)) == 3000.0


def test_the_command_writes_a_document_that_reads_back_and_prints_it_last(
    tmp_path: Path, report: LatencyReport, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(latency, "load_model", lambda name: network())
    monkeypatch.setattr(latency, "measure_latency", lambda *_: report)
    monkeypatch.setattr(latency, "measure_ends", lambda *_: ENDS)
    run_latency(None, tmp_path / "new", CONFIG, 0.6)
    written = LatencyReport.model_validate_json((tmp_path / "new" / "latency.json").read_text())
    last = capsys.readouterr().out.splitlines()[-1]
    assert LatencyReport.model_validate_json(last) == written == report
    assert json.loads(last)["schema"] == "semcast.latency/3"


def test_the_document_has_no_fields_of_its_own() -> None:
    with pytest.raises(ValidationError):
        Requirement.model_validate(
            {"name": "a", "target": 1, "measured": 1, "ratio": 1, "met": True, "extra": 1}
        )


def test_what_cannot_be_measured_or_written_is_said(tmp_path: Path, report: LatencyReport) -> None:
    with open_source(None, (64, 64), seconds=0.04) as source, pytest.raises(SourceError, match="longer clip"):
        measure_latency(source, CONFIG, network())
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="--out"):
        write_latency(report, tmp_path / "file")

"""`semcast demo`: the whole link on one clip, with everything it leaves behind.

Writes to the output folder: received.mkv (lossless), side_by_side.mp4, link.sgv (what crossed), report.json, report.html.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress, TaskID

from benchmarks.analog_link import AnalogLink
from benchmarks.files import open_input, open_sender, stream_of
from benchmarks.honesty import Tally
from benchmarks.html import write_html
from benchmarks.link import WIRE_BYTES, Link, LinkResult, layer_totals
from benchmarks.measure import Instruments, Measured, measure, same_pictures
from benchmarks.report import (
    Deadline,
    Event,
    Freezes,
    Quality,
    Rate,
    Report,
    Source,
    StageLatency,
    print_report,
    versions,
    write_report,
)
from benchmarks.timeline import Snapshot, Timeline, choose_snapshots
from channel.analog_spec import AnalogSpec
from channel.spec import parse_channel
from common.clock import SystemClock
from common.colour import crop
from common.config import Config
from common.container import SgvWriter
from common.errors import SourceError
from common.files import made_folder
from common.labelnet import feature_distance, load_labelnet
from common.stats import FreezeSummary, StageTimer, find_freezes
from common.types import Colour, Frame, Picture
from common.units import StreamConfig
from receiver.painter import open_painter
from receiver.pipeline import ReceiverSession, Shown
from receiver.provenance import PaintedTally
from receiver.sinks import Ffv1Sink, Mp4Sink, SideBySideSink
from receiver.uncertainty import Map, score
from sender.labels import LabelAnalyzer
from sender.sources import VideoSource

MEASURED_FRAMES = 600
"""Pictures kept for the metrics that need whole clips; longer runs are measured on their first part."""

Series = NDArray[np.float64]


@dataclass(slots=True)
class Record:
    """What is kept of a run, one entry per frame slot."""

    source: list[Picture] = field(default_factory=list)
    output: list[Picture] = field(default_factory=list)
    base: list[Picture] = field(default_factory=list)
    guide: list[Picture] = field(default_factory=list)
    uncertainty: list[Map | None] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    levels: list[str] = field(default_factory=list)
    fresh_s: list[float] = field(default_factory=list)
    pts_s: list[float] = field(default_factory=list)
    late: list[bool] = field(default_factory=list)

    def add(self, frame: Frame, shown: Shown, shown_s: float) -> None:
        """Take note of one picture beside its source."""
        self.levels.append(shown.level)
        self.pts_s.append(frame.time_s)
        self.late.append(shown.late)
        if not shown.concealed:
            self.fresh_s.append(shown_s)
        if len(self.source) >= MEASURED_FRAMES:
            return
        size = (frame.picture.width, frame.picture.height)
        picture = shown.frame.picture
        held = self.base[-1] if self.base else picture, self.guide[-1] if self.guide else picture
        scene = shown.scene
        self.source.append(frame.picture)
        self.output.append(picture)
        self.base.append(crop(scene.base, *size) if scene else held[0])
        self.guide.append(crop(scene.guide, *size) if scene else held[1])
        self.uncertainty.append(shown.uncertainty)
        self.tally.add(shown.level, frame.picture, picture, shown.uncertainty, shown.taken_back)


def run_demo(source_name: str | None, out: Path, config: Config, seconds: float | None = None) -> Report:
    """Run the link on a source, write the results to `out`, print the report (the last line is JSON)."""
    made_folder(out)
    with open_input(source_name, config, seconds) as source:
        record, result, session, sender_timer, duration_s = _run(source, out, config)
        Console(stderr=True).print("measuring the pictures ...")
        report, timeline = _evaluate(source, config, record, result, session, sender_timer, duration_s)
    write_report(report, out)
    write_html(report, timeline, out)
    Console(stderr=True).print(f"see {out / 'report.html'} and {out / 'side_by_side.mp4'}")
    print_report(report)
    return report


def _run(
    source: VideoSource, out: Path, config: Config
) -> tuple[Record, LinkResult, ReceiverSession, StageTimer, float]:
    stream = stream_of(source, config)
    record = Record()
    tally = PaintedTally.of(config.receiver)
    args = (stream.frame_rate, stream.time_base, stream.colour, tally.marking)
    with (
        Ffv1Sink(out / "received.mkv", *args) as received,
        Mp4Sink(out / "side_by_side.mp4", *args) as mp4,
        SgvWriter(out / "link.sgv", tally.marking) as link_file,
        Progress(console=Console(stderr=True)) as bar,
    ):
        both, task = SideBySideSink(mp4), bar.add_task("link", total=source.frame_count)

        def on_shown(frame: Frame, shown: Shown, shown_s: float) -> None:
            tally.add(shown)
            received.show(Frame(shown.frame.picture, frame.pts, frame.time_base, frame.slot, frame.colour))
            both.show_pair(frame, shown.frame, "source", shown.level)
            record.add(frame, shown, shown_s)
            _advance(bar, task, frame)

        link = _open_link(source, stream, config, on_shown, link_file)
        result = link.run(source)
        bar.update(task, total=len(record.levels))  # a source may be shorter than it said
    link.sender.close()
    if not record.levels:
        raise SourceError(f"{source.name}: no picture came through the link; is the channel all loss?")
    duration_s = record.pts_s[-1] + float(1 / stream.frame_rate)
    return record, result, link.receiver, link.sender.timer, duration_s


def _open_link(
    source: VideoSource,
    stream: StreamConfig,
    config: Config,
    on_shown: Callable[[Frame, Shown, float], None],
    record: SgvWriter,
) -> Link | AnalogLink:
    """The link that the channel asks for."""
    painter = open_painter(config, stream.seed, (stream.coded_height, stream.coded_width))
    spec = parse_channel(config.channel.spec)
    if isinstance(spec, AnalogSpec):
        return AnalogLink(config, spec, stream, painter, on_shown, record)
    sender, receiver = open_sender(source, config), ReceiverSession(config.receiver, painter, SystemClock())
    return Link(config, sender, receiver, SystemClock(), lambda frame, step: None, on_shown, record)


def _advance(bar: Progress, task: TaskID, frame: Frame) -> None:
    bar.update(task, completed=frame.slot + 1)


# --- evaluation ---------------------------------------------------------------------------------------------------


def _evaluate(
    source: VideoSource,
    config: Config,
    record: Record,
    result: LinkResult,
    session: ReceiverSession,
    sender_timer: StageTimer,
    duration_s: float,
) -> tuple[Report, Timeline]:
    measured = _qualities(record, source.frame_rate)
    frame_s = float(1 / source.frame_rate)
    freezes = find_freezes(record.fresh_s, frame_s)
    events = [Event(pts_s=round(at, 4), kind=kind) for at, kind in result.events]
    events += [
        Event(pts_s=round(start, 4), kind="digest_mismatch") for start, _ in session.decoder.mismatches
    ]
    stages = {**sender_timer.summaries(), **session.timer.summaries()}
    report = Report(
        config=config.as_dict(), versions=versions(),
        source=Source(frames=len(record.levels), fps=float(source.frame_rate), width=source.width,
                      height=source.height, duration_s=duration_s),
        rate=Rate(kbps_payload=result.sent_bytes * 8 / duration_s / 1e3,
                  kbps_onwire=(result.sent_bytes + WIRE_BYTES * result.datagrams) * 8 / duration_s / 1e3,
                  bytes_by_layer=layer_totals(result)),
        quality=Quality(**{name: m.means for name, m in measured.items()}),
        latency={name: StageLatency.of(latency) for name, latency in stages.items()},
        deadline=Deadline(budget_ms=config.receiver.budget_ms, miss_ratio=sum(record.late) / len(record.levels)),
        levels=dict(Counter(record.levels)), events=sorted(events, key=lambda event: event.pts_s),
        uncertainty=record.tally.uncertainty(), safety=record.tally.safety(),
        freezes=Freezes.of(FreezeSummary.of(freezes)),
        digest_mismatches=len(session.decoder.mismatches), channel=_jsonable(result.channel),
    )  # fmt: skip
    return report, _timeline(report, record, result, measured, freezes, config, source.colour)


def _jsonable(values: dict[str, object]) -> dict[str, object]:
    return {name: dict(value) if isinstance(value, dict) else value for name, value in values.items()}


def _qualities(record: Record, frame_rate: Fraction) -> dict[str, Measured]:
    net, labels = load_labelnet(), LabelAnalyzer(margin=0)
    instruments = Instruments(
        label=labels.label, feature_distance=lambda a, b: feature_distance(a, b, net), stride=8
    )  # fmt: skip
    series = {"output": record.output, "base": record.base, "guide": record.guide}
    measured: dict[str, Measured] = {}
    for (
        name,
        pictures,
    ) in series.items():  # without anchor or decoder the series are the same: measure them once
        same = next((other for other in measured if same_pictures(series[other], pictures)), None)
        measured[name] = measured[same] if same else measure(record.source, pictures, frame_rate, instruments)
    return measured


def _scores(record: Record, count: int) -> Series | None:
    """Mean uncertainty of the first pictures in sample steps, NaN without a map; None where none has one."""
    found = [score(uncertainty) for uncertainty in record.uncertainty[:count]]
    series = np.array([np.nan if steps is None else steps for steps in found])
    return None if np.isnan(series).all() else series


def _timeline(
    report: Report,
    record: Record,
    result: LinkResult,
    measured: dict[str, Measured],
    freezes: Sequence[object],
    config: Config,
    colour: Colour,
) -> Timeline:
    count = min(len(record.source), len(result.layer_bytes))
    names = sorted({name for layers in result.layer_bytes for name in layers})
    pts_s = np.array(record.pts_s[:count])
    cuts = [event.pts_s for event in report.events if event.kind == "cut"]
    snapshots = []
    for slot, title in choose_snapshots(pts_s, cuts):
        sigma = record.uncertainty[slot]
        heat = None if sigma is None else (sigma / np.float32(255)).astype(np.float32)
        snapshots.append(
            Snapshot(float(pts_s[slot]), title, record.levels[slot], record.source[slot], record.output[slot],
                     record.guide[slot], record.base[slot], heat)
        )  # fmt: skip
    latency_ms = np.array([s * 1e3 for s in result.latency_s[:count]])
    return Timeline(
        pts_s, {n: np.array([layers.get(n, 0) for layers in result.layer_bytes[:count]]) for n in names},
        {name: m.psnr_yuv[:count] for name, m in measured.items()},
        {name: m.ms_ssim[:count] for name, m in measured.items()}, latency_ms, record.levels[:count],
        _scores(record, count), report.events, freezes,  # type: ignore[arg-type]
        config.stream.bitrate_bps / 1e3, record.late[:count], snapshots, colour,
    )  # fmt: skip

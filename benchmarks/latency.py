"""`semcast bench latency`: how long every stage of both ends takes, and every level of the ladder.

    two processes over UDP at the source's pace, one step a frame                 real time, memory
    warm-up link -> calibration -> whole link, clean channel, one step a frame    stages, frames per second
                                -> its scenes again, each level in turn           full path, network alone
                 -> once more with an anchor in use                base picture with an anchor
                 -> calibration
    the built-in clip at other sizes: each level in turn                          full path, network alone
    with --load: the same while other processes take cores, and what deadline control makes of it (latency_load.py)

Figures of a shared machine mean little by themselves, so a fixed piece of work, the calibration kernel, is timed in the
same run: compare `p50_calibrated` between machines, and milliseconds only within one.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from benchmarks.busy import CALM, Load, busy
from benchmarks.files import open_input, open_sender
from benchmarks.latency_levels import (
    FULL_PATH,
    WARM_UP_RUNS,
    Samples,
    SamplesByRow,
    Scene,
    open_ladder,
    scenes_at,
    timed,
)
from benchmarks.latency_load import measure_load
from benchmarks.latency_report import (
    WARPED_ADVANCE,
    WARPED_BASE,
    WARPED_SENDER,
    LatencyReport,
    Row,
    Throughput,
    print_latency,
    requirements,
    write_latency,
)
from benchmarks.link import Clip, Link
from benchmarks.report import versions
from benchmarks.two_ends import TwoEnds, measure_ends
from benchmarks.udp_ends import peak_memory_mib
from common.clock import Clock, SystemClock
from common.config import Config, Size
from common.errors import UsageError
from common.files import made_folder
from common.state import compose
from common.stats import Latency
from common.types import Feedback, Frame
from receiver.chain import SceneDecoder
from receiver.decoder.loading import load_model, pick_device
from receiver.decoder.model import TinyBridge
from receiver.decoder.synth import BridgeSynthesizer
from receiver.pipeline import ReceiverSession, Shown
from sender.anchors import AnchorOrder
from sender.pipeline import SenderSession, Step
from sender.sources import VideoSource

WARM_UP_FRAMES = 16
SCENES = 24
"""Scenes of the run on which each level is timed again."""
ANCHOR_SCALE = 2
"""Guide scale of the run with an anchor: the dearest at which one is used."""
CALIBRATION_RUNS = 10

STAGES = (
    "sender total", WARPED_SENDER, "sender: guide", "sender: motion", "sender: labels", "sender: anchor",
    "decode and advance", WARPED_ADVANCE, "base picture", WARPED_BASE,
)  # fmt: skip
"""What a run is expected to time, whatever the level."""


@dataclass(slots=True)
class Timings:
    """Samples by (stage, level), when the first frame left the sender and the last was shown, and scenes."""

    samples: SamplesByRow = field(default_factory=dict)
    first_sent_s: float | None = None
    last_shown_s: float = 0.0
    painted: int = 0
    scenes: list[Scene] = field(default_factory=list)


def run_latency(
    source_name: str | None,
    out: Path,
    config: Config,
    seconds: float,
    sizes: Sequence[Size] = (),
    load: Load = CALM,
) -> LatencyReport:
    """Measure, write `out`/latency.json and print tables and JSON.

    Raises WeightsError without the decoder's weights, UsageError for load on a GPU that does not paint.

    sizes : at which each level is timed, besides the clip's own
    load : all of it while other processes take this; then also what deadline control makes of that, and
        `out`/latency.html
    """
    if load.gpu and pick_device(config.receiver.device).type != "cuda":
        raise UsageError(
            "--load-gpu takes a CUDA device's time, and none paints here: leave it out, or see --load"
        )
    made_folder(out)
    network = load_model(config.receiver.decoder)
    with open_input(source_name, config, seconds) as source, busy(load) as others:
        others.set(True)
        _say("both ends, as two processes")
        ends = measure_ends(source_name, _sharing(_one_step(config)), seconds, float(source.frame_rate))
        report = measure_latency(source, config, network, ends, sizes)
    if load:
        _say(f"deadline control, {load} taken by other processes")
        with open_input(source_name, config, seconds) as source:
            report = report.model_copy(update={"load": measure_load(source, tuple(source), config, load)})
    write_latency(report, out)
    print_latency(report)
    return report


def _say(what: str) -> None:
    """What is measured from now on. No bar: its thread would be timed too."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"measuring {what} ...", markup=False)


def _sharing(config: Config) -> Config:
    """Both ends on one machine: the sender needs a core of its own, and threads that wait for it cost dearly."""
    receiver = config.receiver.model_copy(update={"threads": max(1, config.receiver.threads - 1)})
    return config.model_copy(update={"receiver": receiver})


def measure_latency(
    source: VideoSource,
    config: Config,
    network: TinyBridge,
    ends: TwoEnds | None = None,
    sizes: Sequence[Size] = (),
) -> LatencyReport:
    """Time both ends on every frame of `source`; `network` is moved to the configured device.

    ends : what two processes reached, for the report
    sizes : see `run_latency`
    """
    torch.set_num_threads(config.sender.threads)  # of one end alone: its requirements are for one thread
    clock = SystemClock()
    clip = Clip.of(source)
    _say(f"every stage and level at {source.width}x{source.height}")
    once = _clean(config)
    ladder = open_ladder(network, config, clock)
    run_link(Clip(clip.frames[:WARM_UP_FRAMES]), source, once, ladder.painter, clock)
    calibration = calibrate(clock)
    timings = run_link(clip, source, once, ladder.painter, clock)
    timings.samples.update(ladder.time(timings.scenes))
    time_anchored(timings, clip, source, once, clock)
    calibration += calibrate(clock)
    calibration_ms = Latency.of(calibration).p50_ms
    report = _report(source, len(clip.frames), config, timings, calibration_ms, ends)
    for size in sizes:
        if size != (source.width, source.height):
            _say(f"every level at {size.width}x{size.height}")
            samples = ladder.time(scenes_at(size, once))
            report.rows.extend(_rows(samples, size, config, source.frame_rate, calibration_ms))
    return report


def _clean(config: Config) -> Config:
    """The same settings over a clean channel, one step a frame and no deadline, so that every frame takes its time."""
    channel = config.channel.model_copy(update={"spec": "clean"})
    config = _one_step(config)
    receiver = config.receiver.model_copy(update={"budget_ms": None})
    return config.model_copy(update={"receiver": receiver, "channel": channel})


def _one_step(config: Config) -> Config:
    return config.model_copy(update={"receiver": config.receiver.model_copy(update={"steps": 1})})


def calibrate(clock: Clock) -> Samples:
    """Times of a fixed piece of work on one thread: convolutions in bfloat16, then integer passes over a picture."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 64, 64, 64, generator=generator).bfloat16().to(memory_format=torch.channels_last)
    kernel = torch.randn(64, 64, 3, 3, generator=generator).bfloat16().to(memory_format=torch.channels_last)
    picture = np.random.default_rng(0).integers(0, 256, (512, 512), np.uint8)

    def work() -> None:
        with torch.inference_mode():
            for _ in range(4):
                torch.nn.functional.conv2d(x, kernel, padding=1)
        for shift in range(1, 5):
            np.add(picture, np.roll(picture, shift, 1), dtype=np.int32) >> 1

    samples = [timed(work, clock) for _ in range(WARM_UP_RUNS + CALIBRATION_RUNS)]
    torch.set_num_threads(threads)
    return samples[WARM_UP_RUNS:]


# --- the link -----------------------------------------------------------------------------------------------------


def run_link(
    clip: Clip, source: VideoSource, config: Config, painter: BridgeSynthesizer, clock: Clock
) -> Timings:
    """Send `clip` over a clean link; both ends' own stage timers become rows."""
    sender: SenderSession = open_sender(source, config)
    painter.reset()
    decoder = SceneDecoder()
    receiver = ReceiverSession(config.receiver, painter, clock, decoder)
    timings = Timings()
    every = max(1, len(clip.frames) // SCENES)

    def on_sent(frame: Frame, step: Step) -> None:
        if timings.first_sent_s is None:
            timings.first_sent_s = clock.now_s()

    def on_shown(frame: Frame, shown: Shown, _: float) -> None:
        timings.last_shown_s = clock.now_s()
        timings.painted += shown.level == "bridge1"
        state = decoder.scene_at(shown.frame.slot)
        if state is not None and frame.slot % every == 0:
            timings.scenes.append(Scene.of(state, decoder.residual_of(state)))

    link = Link(config, sender, receiver, clock, on_sent, on_shown)
    try:
        link.run(clip)
    finally:
        sender.close()
    for name in sender.timer.summaries():
        timings.samples[_sender_stage(name), None] = list(sender.timer.samples_ms(name))
    for name in ("decode and advance", "base picture"):
        timings.samples[name, None] = list(receiver.timer.samples_ms(name))
    return timings


def _sender_stage(name: str) -> str:
    return name if name.startswith("sender") else f"sender: {name}"


# --- with an anchor ------------------------------------------------------------------------------------------------


def time_anchored(timings: Timings, clip: Clip, source: VideoSource, config: Config, clock: Clock) -> None:
    """Send `clip` again with an anchor in use throughout, whatever the policy thinks of it.

    Anchors arrive at once, so that even a short clip shows what they cost: nothing but bytes crosses, yet no link is
    simulated. Adds the rows of both ends that an anchor makes dearer.
    """
    sender = open_sender(source, _anchored(config))
    decoder, aside = SceneDecoder(), ThreadPoolExecutor(1)
    samples: dict[str, Samples] = {WARPED_SENDER: [], WARPED_ADVANCE: [], WARPED_BASE: []}
    try:
        for frame in clip:
            in_use = sender.state.anchor is not None
            sender.order = AnchorOrder(launch=not in_use and sender.anchors.flight is None)
            units = sender.step(frame).units
            advance_ms = sum(timed(partial(decoder.push, unit.data, frame.time_s), clock) for unit in units)
            sender.on_feedback(Feedback(0, anchors=decoder.anchor_ids))
            state = decoder.scene_at(frame.slot)
            if in_use and state is not None and state.anchor is not None:
                samples[WARPED_SENDER].append(sender.timer.samples_ms("sender total")[-1])
                samples[WARPED_ADVANCE].append(advance_ms)
                base = partial(compose, state, decoder.residual_of(state), aside)
                samples[WARPED_BASE].append(timed(base, clock))
    finally:
        sender.close()
        aside.shutdown()
    for name in ("motion", "anchor"):
        samples[_sender_stage(name)] = list(sender.timer.samples_ms(name))
    timings.samples.update({(name, None): found for name, found in samples.items() if found})


def _anchored(config: Config) -> Config:
    """Settings under which an anchor is used: a guide smaller than the picture."""
    guide = config.guide.model_copy(update={"scale": ANCHOR_SCALE})
    anchor = config.anchor.model_copy(update={"enabled": True})
    return config.model_copy(update={"guide": guide, "anchor": anchor})


# --- the result ---------------------------------------------------------------------------------------------------


def _report(
    source: VideoSource,
    frames: int,
    config: Config,
    timings: Timings,
    calibration_ms: float,
    ends: TwoEnds | None,
) -> LatencyReport:
    size = Size(source.width, source.height)
    rows = _rows(timings.samples, size, config, source.frame_rate, calibration_ms)
    assert timings.first_sent_s is not None
    frames_per_s = timings.painted / (timings.last_shown_s - timings.first_sent_s)
    fps = float(source.frame_rate)
    throughput = Throughput(
        frames=frames, painted_frames=timings.painted, frames_per_s=frames_per_s, source_fps=fps,
        realtime_factor=frames_per_s / fps,
    )  # fmt: skip
    idle = [stage for stage in STAGES if not timings.samples.get((stage, None))]
    return LatencyReport(
        config=config.as_dict(), versions=versions(), source=source.name, width=source.width, height=source.height,
        device=str(pick_device(config.receiver.device)), calibration_p50_ms=calibration_ms,
        peak_memory_mib=peak_memory_mib(), idle_stages=idle, throughput=throughput,
        two_ends=ends, requirements=requirements(rows, ends), rows=rows,
    )  # fmt: skip


def _rows(
    samples: SamplesByRow, size: Size, config: Config, frame_rate: Fraction, calibration_ms: float
) -> list[Row]:
    limits = {"sender total": float(1000 / frame_rate), FULL_PATH: config.receiver.budget_ms}
    return [
        _row(stage, level, size, found, limits.get(stage), calibration_ms)
        for (stage, level), found in samples.items()
    ]


def _row(
    stage: str, level: str | None, size: Size, samples: Samples, limit_ms: float | None, calibration_ms: float
) -> Row:
    of = Latency.of(samples)
    missed = None if limit_ms is None else sum(sample > limit_ms for sample in samples) / len(samples)
    return Row(
        stage=stage, level=level, size=str(size), n=of.count, p50_ms=of.p50_ms, p95_ms=of.p95_ms, p99_ms=of.p99_ms,
        max_ms=of.max_ms, miss_ratio=missed, p50_calibrated=of.p50_ms / calibration_ms,
    )  # fmt: skip

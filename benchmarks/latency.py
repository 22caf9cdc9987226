"""`semcast bench latency`: how long every stage of both ends takes, and every level of the ladder.

    two processes over UDP at the source's pace, one step a frame                 real time, memory
    warm-up link -> calibration -> whole link, clean channel, one step a frame    stages, frames per second
                                -> its scenes again, each level in turn           full path, network alone
                 -> once more with an anchor in use                base picture with an anchor
                 -> calibration

Figures of a shared machine mean little by themselves, so a fixed piece of work, the calibration kernel, is timed in the
same run: compare `p50_calibrated` between machines, and milliseconds only within one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.files import open_input, open_sender
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
from common.config import Config
from common.errors import SourceError
from common.residual import Residual
from common.state import SceneState, compose
from common.stats import Latency
from common.types import Feedback, Frame
from receiver.chain import SceneDecoder
from receiver.decoder.conditions import Conditions, FrameFacts, Observation, assemble, observe
from receiver.decoder.model import TinyBridge
from receiver.decoder.synth import LEVELS, BridgeSynthesizer, load_model, pick_device
from receiver.pipeline import ReceiverSession, Shown
from sender.anchors import AnchorOrder
from sender.pipeline import SenderSession, Step
from sender.sources import VideoSource

WARM_UP_FRAMES = 16
WARM_UP_RUNS = 2
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

Samples = list[float]
"""Milliseconds."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What the receiver knew when it painted one frame."""

    state: SceneState
    residual: Residual | None
    facts: FrameFacts


@dataclass(slots=True)
class Timings:
    """Samples by (stage, level), when the first frame left the sender and the last was shown, and scenes."""

    samples: dict[tuple[str, str | None], Samples] = field(default_factory=dict)
    first_sent_s: float | None = None
    last_shown_s: float = 0.0
    painted: int = 0
    scenes: list[Scene] = field(default_factory=list)


def run_latency(source_name: str | None, out: Path, config: Config, seconds: float) -> LatencyReport:
    """Measure, write `out`/latency.json and print tables and JSON. WeightsError without the decoder's weights."""
    network = load_model(config.receiver.decoder)
    with open_input(source_name, config, seconds) as source:
        ends = measure_ends(source_name, _sharing(_one_step(config)), seconds, float(source.frame_rate))
        report = measure_latency(source, config, network, ends)
    write_latency(report, out)
    print_latency(report)
    return report


def _sharing(config: Config) -> Config:
    """Both ends on one machine: the sender needs a core of its own, and threads that wait for it cost dearly."""
    receiver = config.receiver.model_copy(update={"threads": max(1, config.receiver.threads - 1)})
    return config.model_copy(update={"receiver": receiver})


def measure_latency(
    source: VideoSource, config: Config, network: TinyBridge, ends: TwoEnds | None = None
) -> LatencyReport:
    """Time both ends on every frame of `source`; `network` is moved to the configured device.

    ends : what two processes reached, for the report
    """
    torch.set_num_threads(config.sender.threads)  # of one end alone: its requirements are for one thread
    clock = SystemClock()
    clip = Clip(tuple(source))
    if len(clip.frames) < 2:
        raise SourceError(f"{source.name} holds {len(clip.frames)} pictures: name a longer clip")
    once = _clean(config)
    painter = BridgeSynthesizer(network, device=config.receiver.device, seed=config.stream.seed)
    run_link(Clip(clip.frames[:WARM_UP_FRAMES]), source, once, painter, clock)
    calibration = calibrate(clock)
    timings = run_link(clip, source, once, painter, clock)
    time_levels(timings, painter, network, pick_device(config.receiver.device), clock)
    time_anchored(timings, clip, source, once, clock)
    calibration += calibrate(clock)
    return _report(source, len(clip.frames), config, timings, Latency.of(calibration).p50_ms, ends)


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


def timed(work: Callable[[], object], clock: Clock, finish: Callable[[], object] = lambda: None) -> float:
    """Milliseconds that `work` takes; `finish` waits for the device and belongs to it."""
    began_s = clock.now_s()
    work()
    finish()
    return (clock.now_s() - began_s) * 1e3


# --- the link -----------------------------------------------------------------------------------------------------


def run_link(
    clip: Clip, source: VideoSource, config: Config, painter: BridgeSynthesizer, clock: Clock
) -> Timings:
    """Send `clip` over a clean link; both ends' own stage timers become rows."""
    sender: SenderSession = open_sender(source, config)
    painter.reset()
    receiver = ReceiverSession(config.receiver, painter, clock)
    timings = Timings()
    every = max(1, len(clip.frames) // SCENES)

    def on_sent(frame: Frame, step: Step) -> None:
        if timings.first_sent_s is None:
            timings.first_sent_s = clock.now_s()

    def on_shown(frame: Frame, shown: Shown, _: float) -> None:
        timings.last_shown_s = clock.now_s()
        timings.painted += shown.level == "bridge1"
        state = receiver.decoder.scene_at(shown.frame.slot)
        if state is not None and frame.slot % every == 0:
            timings.scenes.append(Scene(state, receiver.decoder.residual_of(state), _facts(state)))

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


def _facts(state: SceneState) -> FrameFacts:
    age_s = (state.slot - state.anchor.slot) / float(state.config.frame_rate) if state.anchor else 0.0
    return FrameFacts(state.slot, state.scale, 4 * state.quality, age_s)


# --- the ladder ---------------------------------------------------------------------------------------------------


def time_levels(
    timings: Timings, painter: BridgeSynthesizer, network: TinyBridge, device: torch.device, clock: Clock
) -> None:
    """Paint the kept scenes once more at each level, as the receiver does, and run the network by itself."""
    finish: Callable[[], object] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    scenes = [*[timings.scenes[0]] * WARM_UP_RUNS, *timings.scenes]
    for level in LEVELS:
        paints = (partial(_paint, painter, scene, level) for scene in scenes)
        timings.samples["full path", level] = [timed(paint, clock, finish) for paint in paints][WARM_UP_RUNS:]
    for steps in (1, 2, 4):
        calls = (partial(_call, network, _conditions(scene, device), steps) for scene in scenes)
        samples = [timed(call, clock, finish) for call in calls]
        timings.samples["network alone", f"bridge{steps}"] = samples[WARM_UP_RUNS:]


def _paint(painter: BridgeSynthesizer, scene: Scene, level: str) -> None:
    painter.render(compose(scene.state, scene.residual), scene.facts, level, lambda: False)


def _conditions(scene: Scene, device: torch.device) -> Conditions:
    seen = observe(compose(scene.state, scene.residual), scene.facts, None)
    return assemble(Observation(*(part.to(device) for part in seen)), torch.bfloat16)


@torch.inference_mode()
def _call(network: TinyBridge, conditions: Conditions, steps: int) -> None:
    embedded, z = network.embed(conditions), conditions.base
    for step in range(steps):
        network(z, z.new_full((1,), 1 - step / steps), conditions, embedded)


# --- with an anchor ------------------------------------------------------------------------------------------------


def time_anchored(timings: Timings, clip: Clip, source: VideoSource, config: Config, clock: Clock) -> None:
    """Send `clip` again with an anchor in use throughout, whatever the policy thinks of it.

    Anchors arrive at once, so that even a short clip shows what they cost: nothing but bytes crosses, yet no link is
    simulated. Adds the rows of both ends that an anchor makes dearer.
    """
    sender = open_sender(source, _anchored(config))
    decoder = SceneDecoder()
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
                base = partial(compose, state, decoder.residual_of(state))
                samples[WARPED_BASE].append(timed(base, clock))
    finally:
        sender.close()
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
    frame_ms, budget_ms = float(1000 / source.frame_rate), config.receiver.budget_ms
    limits: dict[str, float | None] = {"sender total": frame_ms, "full path": budget_ms}
    rows = [
        _row(stage, level, samples, limits.get(stage), calibration_ms)
        for (stage, level), samples in timings.samples.items()
    ]
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


def _row(
    stage: str, level: str | None, samples: Samples, limit_ms: float | None, calibration_ms: float
) -> Row:
    of = Latency.of(samples)
    missed = None if limit_ms is None else sum(sample > limit_ms for sample in samples) / len(samples)
    return Row(
        stage=stage, level=level, n=of.count, p50_ms=of.p50_ms, p95_ms=of.p95_ms, p99_ms=of.p99_ms, max_ms=of.max_ms,
        miss_ratio=missed, p50_calibrated=of.p50_ms / calibration_ms,
    )  # fmt: skip

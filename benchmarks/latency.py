"""`semcast bench latency`: how long every stage of both ends takes, and every level of the ladder.

    warm-up link -> calibration -> whole link, clean channel, one step a frame    stages, frames per second
                                -> its scenes again, each level in turn           full path, network alone
                 -> calibration

Figures of a shared machine mean little by themselves, so a fixed piece of work, the calibration kernel, is timed in the
same run: compare `p50_calibrated` between machines, and milliseconds only within one.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.files import open_input, open_sender
from benchmarks.latency_report import (
    WARPED_BASE,
    LatencyReport,
    Row,
    Throughput,
    print_latency,
    requirements,
    write_latency,
)
from benchmarks.link import Link
from benchmarks.report import versions
from common.clock import Clock, SystemClock
from common.config import Config
from common.errors import SourceError
from common.residual import Residual
from common.state import SceneState, compose
from common.stats import Latency
from common.types import Frame
from receiver.decoder.conditions import Conditions, FrameFacts, Observation, assemble, observe
from receiver.decoder.model import TinyBridge
from receiver.decoder.synth import LEVELS, BridgeSynthesizer, load_model, pick_device
from receiver.pipeline import ReceiverSession, Shown
from sender.pipeline import SenderSession, Step
from sender.sources import VideoSource

WARM_UP_FRAMES = 16
WARM_UP_RUNS = 2
SCENES = 24
"""Scenes of the run on which each level is timed again."""
CALIBRATION_RUNS = 10

STAGES = (
    "sender total", "sender: guide", "sender: motion", "sender: labels", "sender: anchor", "decode and advance",
    "base picture", WARPED_BASE,
)  # fmt: skip
"""What a run is expected to time, whatever the level."""

Samples = list[float]
"""Milliseconds."""


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames in memory, so that reading them is not timed; a `common.ports.FrameSource`."""

    frames: Sequence[Frame]

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)

    def close(self) -> None:
        """Nothing is held."""


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
        report = measure_latency(source, config, network)
    write_latency(report, out)
    print_latency(report)
    return report


def measure_latency(source: VideoSource, config: Config, network: TinyBridge) -> LatencyReport:
    """Time both ends on every frame of `source`; `network` is moved to the configured device."""
    torch.set_num_threads(config.receiver.threads)
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
    calibration += calibrate(clock)
    return _report(source, len(clip.frames), config, timings, Latency.of(calibration).p50_ms)


def _clean(config: Config) -> Config:
    """The same settings over a clean channel, one step a frame and no deadline, so that every frame takes its time."""
    receiver = config.receiver.model_copy(update={"steps": 1, "budget_ms": None})
    channel = config.channel.model_copy(update={"spec": "clean"})
    return config.model_copy(update={"receiver": receiver, "channel": channel})


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
    bases = [partial(compose, scene.state, scene.residual) for scene in scenes if _is_warped(scene)]
    if bases:
        timings.samples[WARPED_BASE, None] = [timed(base, clock) for base in bases]
    for steps in (1, 2, 4):
        calls = (partial(_call, network, _conditions(scene, device), steps) for scene in scenes)
        samples = [timed(call, clock, finish) for call in calls]
        timings.samples["network alone", f"bridge{steps}"] = samples[WARM_UP_RUNS:]


def _is_warped(scene: Scene) -> bool:
    return scene.state.anchor is not None and scene.state.scale > 1


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


# --- the result ---------------------------------------------------------------------------------------------------


def _report(
    source: VideoSource, frames: int, config: Config, timings: Timings, calibration_ms: float
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
        peak_memory_mib=_peak_memory_mib(), idle_stages=idle, throughput=throughput,
        requirements=requirements(rows, throughput), rows=rows,
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


def _peak_memory_mib() -> float:
    """Of this process so far; the clip that is held in memory is part of it."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)

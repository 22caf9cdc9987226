"""`semcast bench latency --load N --load-gpu SHARE`: what deadline control is worth while others take cores and GPU.

    clip --sender, once--> units --> one receiver for each policy, a picture every frame interval, on the real clock
                                        |-> level, time and doubt of every picture -> misses
                                        |-> pictures, judged when nothing is timed any more -> quality

The planner (`--steps auto`) meets the clip once on the calm machine, then again and again under load, then once calm
again; fixed levels run under load alone, for a limited time, as some take several times as long as they may. A fixed
level always gives the same pictures, so its quality is that of the whole clip, painted untimed.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from benchmarks.busy import CALM, Busy, Load, busy
from benchmarks.files import open_sender, stream_of
from benchmarks.link import PROBE_FRAMES
from benchmarks.rd_quality import Judge, Metrics, Quality
from benchmarks.report import Model
from benchmarks.tables import Cells, Requirement, at_least, at_most
from common.clock import Clock, SystemClock
from common.colour import crop
from common.config import Config
from common.stats import Latency
from common.types import Feedback, Frame
from receiver.budget import LevelPlanner
from receiver.chain import SceneDecoder
from receiver.painter import Painter, open_painter
from receiver.pipeline import ReceiverSession, Shown
from receiver.uncertainty import score
from sender.sources import VideoSource

PLANNER = "auto"
POLICIES: dict[str, int | str] = {PLANNER: "auto", "1 step": 1, "4 steps": 4, "base": 0}
"""Name -> `receiver.steps`."""
LOADED_PICTURES = 1000
"""Least number of pictures that the planner paints under load: one late one is a fifth of what is allowed."""
JUDGED_PLAYS = 3
"""Of how many times through the clip the planner's pictures are judged: they differ little, and it takes long."""
FIXED_S = 15.0
"""How long a fixed level is timed."""
PLANNER_MISSES, FIXED_MISSES = 0.5, 50.0
"""Percent of pictures after their deadline: at most for the planner, at least for four steps, or this load is none."""

NotNegative = Annotated[float, Field(ge=0.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Moment(Model):
    """One picture of the planner.

    at_s : from the beginning; spent_ms : on it
    uncertainty : mean error that the decoder expected, sample steps; None from levels that do not know theirs
    loaded : the other processes were busy; cut : the sender saw a new scene
    """

    at_s: NotNegative
    level: str
    spent_ms: NotNegative
    late: bool
    uncertainty: NotNegative | None
    loaded: bool
    cut: bool


class PolicyResult(Model):
    """One policy under load; of the planner also without, for comparison.

    pictures : timed; miss_ratio : of them after their deadline; longest_late_run : most in a row
    levels : share of pictures by level
    ms_ssim, feature_distance, vmaf, psnr_yuv, warping_error : mean quality of what it showed, None where not measured
    """

    name: str
    loaded: bool
    pictures: int
    miss_ratio: Share
    longest_late_run: int
    p50_ms: NotNegative
    p95_ms: NotNegative
    p99_ms: NotNegative
    max_ms: NotNegative
    levels: dict[str, Share]
    psnr_yuv: float | None = None
    ms_ssim: float | None = None
    feature_distance: float | None = None
    vmaf: float | None = None
    warping_error: float | None = None


class LoadReport(Model):
    """What load adds to `latency.json`.

    load : processes that took a core each; load_gpu : share of the GPU's time that another took
    timeline : of the planner
    """

    load: int = 0
    load_gpu: Share = 0.0
    budget_ms: float
    policies: tuple[PolicyResult, ...]
    requirements: tuple[Requirement, ...]
    timeline: tuple[Moment, ...]

    @property
    def taken(self) -> Load:
        """By other processes."""
        return Load(self.load, self.load_gpu)


class Sent(NamedTuple):
    """A frame as the sender made it. units : none where it was left out to keep the rate"""

    frame: Frame
    units: tuple[bytes, ...]
    cut: bool


@dataclass(slots=True)
class Bench:
    """What all policies share. planner : with all that it has learned, None before the first session"""

    sent: Sequence[Sent]
    config: Config
    frame_rate: Fraction
    painter: Painter
    clock: Clock
    sleep: Callable[[float], None] = time.sleep
    planner: LevelPlanner | None = None
    began_s: float = 0.0

    def session(self, steps: int | str) -> ReceiverSession:
        """A receiver at the beginning of the clip, as it would be after what went before."""
        settings = self.config.receiver.model_copy(update={"steps": steps})
        self.painter.reset(self.config.stream.seed)
        session = ReceiverSession(settings, self.painter, self.clock)
        if self.planner is None:
            self.planner = session.planner
        session.planner, session.costs = self.planner, self.planner.costs
        return session


@dataclass(slots=True)
class Play:
    """One time through the clip, or as far as the time allowed.

    shown : every picture painted, with the frame that it shows
    moments : likewise
    """

    shown: list[tuple[Sent, Shown]] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)


def play(bench: Bench, session: ReceiverSession, loaded: bool, until_s: float = float("inf")) -> Play:
    """Paint the clip at its pace, or as fast as that goes where it goes slower; until `until_s` by the clock."""
    result, begin_s = Play(), bench.clock.now_s()
    for number, sent in enumerate(bench.sent):
        due_s = begin_s + number / float(bench.frame_rate)
        for unit in sent.units:
            session.receive(unit, due_s)
        if not sent.units:
            continue
        bench.sleep(max(0.0, due_s - bench.clock.now_s()))
        now_s = bench.clock.now_s()
        if now_s > until_s:
            break
        shown = session.paint(sent.frame.slot)
        result.shown.append((sent, shown))
        result.moments.append(_moment(sent, shown, now_s - bench.began_s, loaded))
    return result


def _moment(sent: Sent, shown: Shown, at_s: float, loaded: bool) -> Moment:
    return Moment(
        at_s=at_s, level=shown.level, spent_ms=shown.spent_s * 1e3, late=shown.late, uncertainty=score(shown.uncertainty),
        loaded=loaded, cut=sent.cut,
    )  # fmt: skip


def measure_load(source: VideoSource, frames: Sequence[Frame], config: Config, load: Load) -> LoadReport:
    """Run all policies. `config.receiver.budget_ms` is the deadline, 42 ms where that is None."""
    budget_ms = config.receiver.budget_ms or 42.0
    config = config.model_copy(
        update={"receiver": config.receiver.model_copy(update={"budget_ms": budget_ms, "steps": "auto"})}
    )
    stream = stream_of(source, config)
    painter = open_painter(config, config.stream.seed, (stream.coded_height, stream.coded_width))
    bench = Bench(_sent(source, frames, config), config, source.frame_rate, painter, SystemClock())
    with busy(load) as others:
        calm, loaded, after = _planner(bench, others)
        others.set(True)
        fixed = {name: _fixed(bench, steps) for name, steps in POLICIES.items() if name != PLANNER}
    # From here on nothing is timed.
    judge = Judging(bench)
    results = [
        judge.result(PLANNER, False, [calm]),
        judge.result(PLANNER, True, loaded),
        *(judge.result(name, True, [timed], _whole(bench, POLICIES[name])) for name, timed in fixed.items()),
    ]
    moments = [moment for one in (calm, *loaded, after) for moment in one.moments]
    return LoadReport(
        load=load.cores, load_gpu=load.gpu, budget_ms=budget_ms, policies=tuple(results),
        requirements=tuple(requirements(results, load)), timeline=tuple(moments),
    )  # fmt: skip


def _sent(source: VideoSource, frames: Sequence[Frame], config: Config) -> list[Sent]:
    """The clip through the sender, everything arriving at once."""
    sender, decoder = open_sender(source, config), SceneDecoder()
    sent = []
    try:
        sender.probe(frames[:PROBE_FRAMES])
        for frame in frames:
            step = sender.step(frame)
            for unit in step.units:
                decoder.push(unit.data, frame.time_s)
            sender.on_feedback(Feedback(0, anchors=decoder.anchor_ids))
            sent.append(Sent(frame, tuple(unit.data for unit in step.units), "cut" in step.events))
    finally:
        sender.close()
    return sent


def _planner(bench: Bench, others: Busy) -> tuple[Play, list[Play], Play]:
    """The planner's plays: calm, under load, and calm again; what it has learned stays with it."""
    bench.began_s = bench.clock.now_s()
    calm = play(bench, bench.session("auto"), loaded=False)
    others.set(True)
    loaded: list[Play] = []
    while sum(len(one.moments) for one in loaded) < LOADED_PICTURES:
        loaded.append(play(bench, bench.session("auto"), loaded=True))
    others.set(False)
    return calm, loaded, play(bench, bench.session("auto"), loaded=False)


def _fixed(bench: Bench, steps: int | str) -> Play:
    """A fixed level under load, through the clip again and again until the time is over."""
    until_s, result = bench.clock.now_s() + FIXED_S, Play()
    while bench.clock.now_s() < until_s:
        once = play(bench, bench.session(steps), loaded=True, until_s=until_s)
        result.moments += once.moments
    return result


def _whole(bench: Bench, steps: int | str) -> Play:
    """The whole clip at a fixed level, as fast as it goes."""
    session, result = bench.session(steps), Play()
    for sent in bench.sent:
        for unit in sent.units:
            session.receive(unit, sent.frame.time_s)
        if sent.units:
            result.shown.append((sent, session.paint(sent.frame.slot)))
    return result


@dataclass(slots=True)
class Judging:
    """Measures the quality of plays. Loads what it takes when it is first needed."""

    bench: Bench
    judge: Judge | None = None

    def result(
        self, name: str, loaded: bool, timed: Sequence[Play], judged: Play | None = None
    ) -> PolicyResult:
        """timed : what was seen of the policy; judged : where its pictures are, None for some of `timed`"""
        moments = [moment for one in timed for moment in one.moments]
        several = [judged] if judged else timed[:: math.ceil(len(timed) / JUDGED_PLAYS)]
        qualities = [self._quality(one) for one in several]
        means = {
            measure: _mean([getattr(quality, measure) for quality in qualities])
            for measure in ("psnr_yuv", "ms_ssim", "feature_distance", "vmaf", "warping_error")
        }
        of = Latency.of([moment.spent_ms for moment in moments])
        late = [moment.late for moment in moments]
        levels = Counter(moment.level for moment in moments)
        return PolicyResult(
            name=name, loaded=loaded, pictures=len(moments), miss_ratio=sum(late) / len(late),
            longest_late_run=max((len(list(run)) for kind, run in groupby(late) if kind), default=0),
            p50_ms=of.p50_ms, p95_ms=of.p95_ms, p99_ms=of.p99_ms, max_ms=of.max_ms,
            levels={level: count / len(moments) for level, count in levels.most_common()}, **means,
        )  # fmt: skip

    def _quality(self, one: Play) -> Quality:
        pictures = [shown.frame.picture for _, shown in one.shown]
        if self.judge is None:  # all plays show the same frames
            size = pictures[0].width, pictures[0].height
            source = [crop(sent.frame.picture, *size) for sent, _ in one.shown]
            self.judge = Judge(source, self.bench.frame_rate, Metrics())
        return self.judge.quality(pictures)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


# --- what it should be ---------------------------------------------------------------------------------------------


def requirements(results: Sequence[PolicyResult], load: Load) -> list[Requirement]:
    """The planner against its targets and against the best fixed level that is in time as often.

    Four steps have to be late where cores are taken; a GPU may be fast enough for them with a part of its time.
    """
    under_load = {result.name: result for result in results if result.loaded}
    planner, four = under_load[PLANNER], under_load["4 steps"]
    found = [at_most("planner under load, pictures late, %", PLANNER_MISSES, 100 * planner.miss_ratio)]
    if load.cores:
        found.append(at_least("4 steps under load, pictures late, %", FIXED_MISSES, 100 * four.miss_ratio))
    in_time = [
        result
        for result in under_load.values()
        if result.name != PLANNER and 100 * result.miss_ratio <= PLANNER_MISSES
    ]
    sharp = [result for result in in_time if result.vmaf is not None]
    near = [result for result in in_time if result.feature_distance]
    if sharp:
        best = max(sharp, key=lambda result: result.vmaf or 0.0)
        name = "planner's VMAF, at least the best fixed level in time"
        found.append(at_least(name, best.vmaf or 0.0, planner.vmaf, best.name))
    if near:
        best = min(near, key=lambda result: result.feature_distance or 1.0)
        name = "planner's feature distance, at most the best fixed level in time"
        found.append(at_most(name, best.feature_distance or 1.0, planner.feature_distance, best.name))
    return found


def load_table(report: LoadReport) -> Cells:
    """One line for each policy."""
    head = (
        "policy", "taken by others", "pictures", "late, %", "in a row", "p50 / p95 / p99 / max, ms", "VMAF",
        "feature distance", "MS-SSIM", "PSNR, dB", "levels, %",
    )  # fmt: skip
    rows = tuple(_cells(result, report.taken) for result in report.policies)
    title = f"Deadline of {report.budget_ms:g} ms, {report.taken} taken by other processes"
    return Cells(title, head, rows)


def _cells(result: PolicyResult, load: Load) -> tuple[str, ...]:
    def shown(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    return (
        result.name, str(load if result.loaded else CALM), str(result.pictures), f"{100 * result.miss_ratio:.1f}",
        str(result.longest_late_run),
        " / ".join(f"{value:.1f}" for value in (result.p50_ms, result.p95_ms, result.p99_ms, result.max_ms)),
        shown(result.vmaf, 1), shown(result.feature_distance, 4), shown(result.ms_ssim, 4), shown(result.psnr_yuv, 2),
        ", ".join(f"{level} {100 * share:.0f}" for level, share in result.levels.items()),
    )  # fmt: skip

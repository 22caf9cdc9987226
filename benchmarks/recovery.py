"""`semcast bench recovery`: how soon the picture is back, after a scene cut and after losses, at several rates.

    clips x rates x conditions x seeds -> Link on virtual time -> Watched -> each cut: recognisable, full detail
                                                                  -> each run: freezes, mismatches, outages

What the words mean stands in `recovery_report.DEFINITIONS` and in every report. The source's cuts are those that the
sender's own detector sees; a scene shorter than `MIN_SCENE_S` is not judged.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from benchmarks.files import open_input, open_sender
from benchmarks.link import Clip, Link, LinkResult
from benchmarks.plans import Clip as NamedClip
from benchmarks.pool import as_done
from benchmarks.recovery_report import (
    CutRow,
    LossRow,
    RecoveryReport,
    print_recovery,
    requirements,
    write_recovery,
)
from benchmarks.report import versions
from channel.spec import PacketSpec, parse_channel
from common.clock import VirtualClock
from common.config import Config
from common.errors import SourceError
from common.files import made_folder
from common.quality import ms_ssim, psnr_plane, psnr_yuv
from common.stats import find_freezes
from common.types import Frame, Picture, UnitKind
from receiver.painter import open_painter
from receiver.pipeline import ReceiverSession, Shown
from sender.cuts import CutState, detect_cut
from sender.pipeline import Step
from sender.sources import VideoSource

MIN_SCENE_S = 0.5
RECOGNISABLE_SHARE, SOON_S = 0.8, 2.0
"""Of the median MS-SSIM over so long after the cut."""
FULL_DETAIL_DB, WHOLE_S = 0.5, 4.0
"""Below the median PSNR over so long after the cut."""
OUTAGE_AT_S = 2.0
RATES_BPS = (12_000.0, 24_000.0, 48_000.0, 96_000.0)
NARROW = 2.0
"""Capacity of the narrow link over the target rate: a key picture has to queue for it."""
_NARROW = "narrow"
_NARROW_SPEC = f"packet:delay_ms=40,rate_kbps={NARROW:g} times the target,queue_ms=2000"


@dataclass(frozen=True, slots=True)
class Condition:
    """One channel. cuts, losses : what is measured on it; random : every seed gives another run"""

    name: str
    spec: str
    cuts: bool = False
    losses: bool = False
    random: bool = False

    @property
    def outage_ends_s(self) -> tuple[float, ...]:
        """When its outages are over."""
        spec = parse_channel(self.spec)
        outages = spec.outage if isinstance(spec, PacketSpec) else ()
        return tuple(outage.start_s + outage.duration_s for outage in outages)


def conditions(bitrate_bps: float) -> tuple[Condition, ...]:
    """The channels of this measurement."""
    rough = "packet:loss=0.05,{}delay_ms=40,jitter_ms=10"
    return (
        Condition("delay", "packet:delay_ms=40", cuts=True),
        Condition(_NARROW, f"packet:delay_ms=40,rate_kbps={NARROW * bitrate_bps / 1e3:g},queue_ms=2000", cuts=True),
        Condition("burst loss", rough.format("burst=3,"), losses=True, random=True),
        Condition("random loss", rough.format(""), losses=True, random=True),
        Condition("outage 0.5 s", f"packet:delay_ms=40,outage={OUTAGE_AT_S}+0.5", losses=True),
        Condition("outage 2 s", f"packet:delay_ms=40,outage={OUTAGE_AT_S}+2", losses=True),
    )  # fmt: skip


# --- one run ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One picture as it was shown. fresh : not merely the one before it again"""

    frame: Frame
    picture: Picture
    shown_s: float
    fresh: bool


@dataclass(slots=True)
class Watched:
    """What one run showed, in order.

    mismatches : (start, end) of the times during which the receiver was out of step
    sent_bytes : all of them; anchor_bytes : those of anchors, as the sender made them
    events : how often the sender did what (`sender.pipeline.Step.events`)
    """

    seen: list[Seen] = field(default_factory=list)
    mismatches: list[tuple[float, float]] = field(default_factory=list)
    sent_bytes: int = 0
    anchor_bytes: int = 0
    events: Counter[str] = field(default_factory=Counter)

    @property
    def fresh_s(self) -> list[float]:
        """When new pictures were shown."""
        return [seen.shown_s for seen in self.seen if seen.fresh]


def over_link(
    clip: Clip,
    source: VideoSource,
    config: Config,
    on_shown: Callable[[Frame, Shown, float], None],
    on_sent: Callable[[Frame, Step], None] = lambda frame, step: None,
) -> tuple[LinkResult, ReceiverSession]:
    """Send `clip`, taken from `source`, over the configured channel on virtual time: work takes no time."""
    sender, clock, count = open_sender(source, config), VirtualClock(), 0
    stream, settings = sender.config, config.receiver
    size = (stream.coded_height, stream.coded_width)
    receiver = ReceiverSession(settings, open_painter(config, stream.seed, size), clock)

    def counted(frame: Frame, shown: Shown, shown_s: float) -> None:
        nonlocal count
        count += 1
        on_shown(frame, shown, shown_s)

    try:
        result = Link(config, sender, receiver, clock, on_sent, counted).run(clip)
    finally:
        sender.close()
    if not count:
        raise SourceError(f"{source.name}: no picture came through the link; is the clip too short?")
    return result, receiver


def watch(clip: Clip, source: VideoSource, config: Config) -> Watched:
    """What `over_link` shows."""
    watched = Watched()

    def on_sent(_: Frame, step: Step) -> None:
        watched.events.update(step.events)
        watched.anchor_bytes += sum(len(unit.data) for unit in step.units if unit.kind is UnitKind.ANCHOR)

    def on_shown(frame: Frame, shown: Shown, shown_s: float) -> None:
        watched.seen.append(Seen(frame, shown.frame.picture, shown_s, not shown.concealed))

    result, receiver = over_link(clip, source, config, on_shown, on_sent)
    end_s = watched.seen[-1].shown_s
    stalled_s = receiver.decoder.stalled_for_s(end_s)
    watched.mismatches = [
        *receiver.decoder.mismatches,
        *([(end_s - stalled_s, end_s)] if stalled_s > 0 else []),
    ]
    watched.sent_bytes = result.sent_bytes
    return watched


# --- cuts ---------------------------------------------------------------------------------------------------------


def scenes(clip: Clip) -> list[tuple[int, int]]:
    """(first, last + 1) of every scene that a cut begins, as indices of the clip."""
    state, cuts = CutState(), []
    for index, frame in enumerate(clip.frames):
        cut, state = detect_cut(state, frame.picture)
        cuts += [index] * cut
    return list(pairwise([*cuts, len(clip.frames)]))


def judge_cuts(name: str, rate_bps: float, condition: str, clip: Clip, watched: Watched) -> Iterator[CutRow]:
    """Every cut of the clip that begins a scene of some length."""
    for first, end in scenes(clip):
        began_s, over_s = clip.frames[first].time_s, clip.frames[end - 1].time_s
        if over_s - began_s < MIN_SCENE_S:
            continue
        scene = [seen for seen in watched.seen if began_s <= seen.frame.time_s <= over_s]
        after = (_recognisable(scene, clip.frames[first - 1].picture), _full_detail(scene))
        recognisable_s, full_detail_s = (None if seen is None else seen.shown_s - began_s for seen in after)
        yield CutRow(
            clip=name, rate_kbps=rate_bps / 1e3, condition=condition, cut_s=began_s, scene_s=over_s - began_s,
            recognisable_s=recognisable_s, full_detail_s=full_detail_s,
        )  # fmt: skip


def _recognisable(scene: Sequence[Seen], before: Picture) -> Seen | None:
    """The first picture that shows the new scene rather than the old one, nearly as well as those soon after it."""
    soon = _until(scene, SOON_S)
    likeness = np.array([ms_ssim(seen.frame.picture, seen.picture) for seen in soon])
    good = likeness >= RECOGNISABLE_SHARE * np.median(likeness)
    return _first(soon, good & [_shows(seen, before) for seen in soon])


def _shows(seen: Seen, before: Picture) -> bool:
    """Whether a picture is closer to its own source than to `before`."""
    return psnr_plane(seen.picture.y, seen.frame.picture.y) > psnr_plane(seen.picture.y, before.y)


def _full_detail(scene: Sequence[Seen]) -> Seen | None:
    whole = _until(scene, WHOLE_S)
    fidelity = np.array([psnr_yuv(seen.frame.picture, seen.picture) for seen in whole])
    return _first(whole, fidelity >= np.median(fidelity) - FULL_DETAIL_DB)


def _until(scene: Sequence[Seen], seconds: float) -> list[Seen]:
    return [seen for seen in scene if seen.frame.time_s - scene[0].frame.time_s <= seconds]


def _first(seen: Sequence[Seen], good: NDArray[np.bool_]) -> Seen | None:
    return seen[int(np.argmax(good))] if good.any() else None


# --- losses -------------------------------------------------------------------------------------------------------


def judge_losses(name: str, rate_bps: float, condition: Condition, seed: int, watched: Watched) -> LossRow:
    """Freezes, mismatches and what was spent on recovery in one run."""
    frames = [seen.frame for seen in watched.seen]
    frame_s = (frames[-1].time_s - frames[0].time_s) / max(1, len(frames) - 1)
    fresh_s, end_s = watched.fresh_s, watched.seen[-1].shown_s
    gaps_s = np.diff([*fresh_s, max(end_s, fresh_s[-1])])
    back_s = [_back_s(fresh_s, over_s) for over_s in condition.outage_ends_s]
    return LossRow(
        clip=name, rate_kbps=rate_bps / 1e3, condition=condition.name, seed=seed,
        keys=watched.events["key"], anchors=watched.events["anchor"],
        anchor_share=watched.anchor_bytes / max(1, watched.sent_bytes),
        kbps=watched.sent_bytes * 8e-3 / (frames[-1].time_s + frame_s),
        longest_freeze_s=float(gaps_s.max(initial=0.0)), freezes=len(find_freezes(fresh_s, frame_s, end_s)),
        mismatch_s=max((end - start for start, end in watched.mismatches), default=0.0),
        back_s=None if None in back_s else max((s for s in back_s if s is not None), default=None),
    )  # fmt: skip


def _back_s(fresh_s: Sequence[float], over_s: float) -> float | None:
    """From the end of an outage to the first new picture, None if none came."""
    return next((shown_s - over_s for shown_s in fresh_s if shown_s >= over_s), None)


# --- all of it ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Task:
    """One clip at the rate of `config`. path : None is the built-in clip; seeds : runs under random losses"""

    name: str
    path: str | None
    config: Config
    seconds: float | None
    seeds: int


Rows = tuple[list[CutRow], list[LossRow]]


def run_recovery(
    clips: Sequence[NamedClip],
    out: Path,
    config: Config,
    seconds: float | None = None,
    seeds: int = 3,
    rates_bps: Sequence[float] = RATES_BPS,
    jobs: int | None = None,
) -> RecoveryReport:
    """Measure on every clip, write recovery.json and recovery.html to `out`, print tables and JSON.

    seconds : of each clip; seeds : runs under random losses
    rates_bps : targets; jobs : processes at a time, None for one a core
    """
    made_folder(out)
    tasks = [
        Task(clip.name, clip.path, _at_rate(config, rate_bps), seconds, seeds)
        for rate_bps in rates_bps for clip in clips
    ]  # fmt: skip
    cuts: list[CutRow] = []
    losses: list[LossRow] = []
    with (
        Progress(console=Console(stderr=True)) as bar,
        closing(as_done(measure, tasks, jobs or os.cpu_count() or 1)) as done,
    ):
        for _, result in bar.track(done, total=len(tasks), description="clips and rates"):
            more_cuts, more_losses = result()
            cuts += more_cuts
            losses += more_losses
    every = {c.name: c for rate_bps in rates_bps for c in conditions(rate_bps)}
    cuts.sort(key=_order)
    losses.sort(key=_order)
    report = RecoveryReport(
        config=config.as_dict(), versions=versions(), rates_kbps=[rate_bps / 1e3 for rate_bps in rates_bps],
        conditions={c.name: c.spec if c.name != _NARROW else _NARROW_SPEC for c in every.values()},
        requirements=requirements(cuts, losses, [c.name for c in every.values() if c.outage_ends_s]),
        cuts=cuts, losses=losses,
    )  # fmt: skip
    write_recovery(report, out)
    print_recovery(report)
    return report


def _order(row: CutRow | LossRow) -> tuple[float, str]:
    return row.rate_kbps, row.clip


def measure(task: Task) -> Rows:
    """All runs of one clip at one rate, as far as the clip has anything to show for it."""
    rows: Rows = ([], [])
    with open_input(task.path, task.config, task.seconds) as source:
        clip = Clip.of(source)
        for condition in conditions(task.config.stream.bitrate_bps):
            _measure(task, clip, source, condition, rows)
    return rows


def _measure(task: Task, clip: Clip, source: VideoSource, condition: Condition, rows: Rows) -> None:
    if condition.cuts and not scenes(clip):
        return
    if any(clip.frames[-1].time_s < over_s + MIN_SCENE_S for over_s in condition.outage_ends_s):
        return
    first, rate_bps = task.config.stream.seed, task.config.stream.bitrate_bps
    for seed in range(first, first + (task.seeds if condition.random else 1)):
        watched = watch(clip, source, over_channel(task.config, condition.spec, seed))
        if condition.cuts:
            rows[0].extend(judge_cuts(task.name, rate_bps, condition.name, clip, watched))
        if condition.losses:
            rows[1].append(judge_losses(task.name, rate_bps, condition, seed, watched))


def _at_rate(config: Config, rate_bps: float) -> Config:
    stream = config.stream.model_copy(update={"bitrate_bps": rate_bps})
    return config.model_copy(update={"stream": stream})


def over_channel(config: Config, spec: str, seed: int) -> Config:
    """The settings with another channel and seed."""
    channel = config.channel.model_copy(update={"spec": spec})
    stream = config.stream.model_copy(update={"seed": seed})
    return config.model_copy(update={"channel": channel, "stream": stream})

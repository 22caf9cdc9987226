"""`semcast bench cuts`: whether new scenes are seen at both ends, and whether anything of the old one is left.

    clips -> their own cuts, as far as they are known -> sender's detector
    clips -> shots -> reels (joined with cuts, cross-fades, fades, flashes, whip pans, zooms)
        -> sender -> units -> receiver that gets them all        -> found, ghosts
                          -> one that loses every announcement   -> found, ghosts
           a sender that announces nothing -> receiver           -> found, ghosts

Each reel at each receiver is kept in a file below the results' folder, and the report is written anew after each: a bench
that was stopped has left what it had, and goes on from there.

Only bytes cross. Work takes no time; a report takes `REPORT_SLOTS` to come back. What the words mean stands in
`cuts_report.DEFINITIONS`, what the reels are made of in `scenes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmarks.cuts_report import (
    RECEIVERS,
    ClipRow,
    CutsReport,
    DetectorRow,
    GainPoint,
    GhostRow,
    ReceiverName,
    Watching,
    print_cuts,
    requirements,
    write_cuts,
)
from benchmarks.files import open_input
from benchmarks.kept import carry_out, code_hash, kept_result
from benchmarks.link import PROBE_FRAMES
from benchmarks.plans import Clip, find_clips
from benchmarks.rd_clip import hash_of
from benchmarks.rd_runs import OUR_CODE
from benchmarks.report import versions
from benchmarks.scenes import (
    KNOWN_EVENTS,
    NEW_SCENE,
    Event,
    Kind,
    Reel,
    Shot,
    draw_reels,
    shots_of,
)
from common.clock import VirtualClock
from common.colour import crop
from common.config import Config, ReceiverSettings
from common.deadline import CostModel
from common.errors import SourceError, UsageError
from common.ports import Analyzer
from common.quality import ms_ssim
from common.types import Colour, EncodedUnit, Feedback, Frame, Picture, UnitKind
from common.units import StreamConfig
from common.wire import is_key
from receiver.budget import Way
from receiver.painter import Painter, open_painter
from receiver.pipeline import ReceiverSession, Shown
from sender.cuts import LEAST_GAP, CutState, detect_cut
from sender.labels import BlankAnalyzer, LabelAnalyzer
from sender.pipeline import SenderSession, Step
from sender.rate import LINK, RateTarget

SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".y4m", ".m4v", ".ts", ".mpg", ".ogv")
"""Of what is taken for a clip in a folder."""

RATE = Fraction(24)
"""Pictures per second of a reel; those of its clips are taken one for one."""
SHOT_PICTURES, MOST_SHOTS = 48, 32
"""Of a shot, at most; shots, at most: they stay in memory."""
TAKES, TAKE_PICTURES = 8, (20, 50)
"""Of a reel; pictures of a take besides its effects."""
REPORT_SLOTS = 3
"""Pictures until a receiver's report has reached the sender."""
AT_SENDER, AT_RECEIVER = LEAST_GAP, 12
"""Pictures after an event, at the receiver after the first one shown, until which it counts as found."""
WATCHED = round(RATE)
"""Pictures after a cut, a second, that are compared with the guide."""
PAINTED_BEFORE = 8
"""Pictures before a cut from which on the decoder paints: what it remembers must be the old scene's. Elsewhere it is left
out, which saves half of the time."""


# --- judging ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """What one detector made of events, by kind: how many there were, how many it took for new scenes; and what it took
    for one without cause."""

    there: dict[Kind, int] = field(default_factory=dict)
    taken: dict[Kind, int] = field(default_factory=dict)
    false: int = 0

    def add(self, verdict: Verdict) -> None:
        """Count one clip."""
        for event, slot in verdict.events:
            self.there[event.kind] = self.there.get(event.kind, 0) + 1
            self.taken[event.kind] = self.taken.get(event.kind, 0) + (slot is not None)
        self.false += len(verdict.false)

    def row(self, detector: str) -> DetectorRow:
        """All of it, for the report."""
        return DetectorRow(detector=detector, there=self.there, taken=self.taken, false=self.false)


@dataclass(frozen=True, slots=True)
class Verdict:
    """events : each with the slot at which it was taken for a new scene, or None; false : slots without an event"""

    events: tuple[tuple[Event, int | None], ...]
    false: tuple[int, ...]


def judge(events: Sequence[Event], found: Sequence[int], slack: int, shown: Sequence[int] = ()) -> Verdict:
    """Match what was found to what happened, new scenes first; each finding is used up by one event.

    slack : slots after an event's last picture within which it counts; shown : slots that had pictures, none is all
    """
    left, judged = sorted(found), []
    for event in sorted(events, key=lambda event: (event.kind not in NEW_SCENE, event.first)):
        visible = next((slot for slot in shown if slot >= event.first), event.last)
        hit = next((slot for slot in left if event.first <= slot <= max(event.last, visible) + slack), None)
        if hit is not None:
            left.remove(hit)
        judged.append((event, hit))
    return Verdict(tuple(judged), tuple(left))


def found_by_sender(pictures: Sequence[Picture] | Reel) -> list[int]:
    """Slots at which the sender's detector sees a new scene."""
    state, cuts = CutState(), []
    for slot, picture in enumerate(pictures):
        cut, state = detect_cut(state, picture)
        cuts += [slot] * cut
    return cuts


# --- clips --------------------------------------------------------------------------------------------------------


def clips_in(folder: Path | None) -> list[Clip]:
    """The clips of a folder by name, without one the built-in clip; UsageError where there is none."""
    if folder is None:
        return find_clips([], Path())
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder: name one with clips, or none for the built-in clip")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise UsageError(f"no clip is in {folder}: name a folder with files such as *.mp4")
    return find_clips([str(path) for path in paths], Path())


def taken_apart(clip: Clip, config: Config, seconds: float | None) -> tuple[ClipRow, list[Shot]]:
    """What the sender's detector sees in a clip, and its scenes: between what is known to happen in it, else between what
    the detector sees."""
    with open_input(clip.path, config, seconds) as source:
        pictures, cuts = [frame.picture for frame in source], source.cut_slots
    found = found_by_sender(pictures)
    known = KNOWN_EVENTS.get(clip.name, None if cuts is None else tuple(map(_cut_at, cuts)))
    events = [
        event
        for event in (tuple(map(_cut_at, found)) if known is None else known)
        if event.last < len(pictures)
    ]
    verdict = judge(events, found, AT_SENDER)
    row = ClipRow(
        clip=clip.name, pictures=len(pictures), known=known is not None, new_scenes=len(events),
        found=sum(slot is not None for _, slot in verdict.events), false=list(verdict.false),
    )  # fmt: skip
    return row, shots_of(clip.name, pictures, events, SHOT_PICTURES)


def _cut_at(slot: int) -> Event:
    return Event("cut", slot, slot, slot)


def _chosen(shots: Sequence[Shot]) -> list[Shot]:
    """At most `MOST_SHOTS`, evenly over all of them."""
    places = np.linspace(0, len(shots) - 1, min(MOST_SHOTS, len(shots)))
    return [shots[round(place)] for place in places]


# --- one reel over the link ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Ends:
    """What every run shares. painter : is reset before each; costs : of the painter, learned once"""

    config: Config
    analyzer: Analyzer
    painter: Painter
    costs: CostModel[Way]


def open_ends(config: Config, size: tuple[int, int]) -> Ends:
    """size : (height, width) of the coded picture"""
    analyzer: Analyzer = (
        LabelAnalyzer(threads=config.sender.threads) if config.semantics.enabled else BlankAnalyzer()
    )
    return Ends(config, analyzer, open_painter(config, config.stream.seed, size), CostModel())


@dataclass(slots=True)
class Crossing:
    """One reel from a sender to one receiver, picture by picture. Iterate once.

    painted : slots of the pictures that the decoder paints, all others are base pictures
    announced : slots at which the sender announced a new scene
    """

    ends: Ends
    reel: Reel
    receiver_name: ReceiverName
    painted: frozenset[int]
    announced: list[int] = field(default_factory=list)
    _anchors: list[tuple[int, EncodedUnit]] = field(default_factory=list)
    _refresh_slot: int | None = None

    def __iter__(self) -> Iterator[tuple[Frame, Shown]]:
        frames = [Frame(picture, slot, 1 / RATE, slot) for slot, picture in enumerate(self.reel)]
        sender, receiver = self._sender(frames[0].picture), self._receiver()
        if self.receiver_name == "unannounced":
            sender.cuts = CutState(since=-len(frames))  # it always has announced one just before
        sender.probe(frames[:PROBE_FRAMES])
        try:
            for frame in frames:
                step = sender.step(frame)
                if "cut" in step.events:
                    self.announced.append(frame.slot)
                self._carry(frame.slot, step, receiver)
                self._report(frame.slot, sender, receiver)
                receiver.settings = self._settings(frame.slot)
                if receiver.decoder.config is not None:
                    yield frame, receiver.paint(frame.slot)
        finally:
            sender.close()

    def _sender(self, picture: Picture) -> SenderSession:
        config = self.ends.config
        stream = StreamConfig(
            0, picture.width, picture.height, RATE, 1 / RATE, Colour(), config.stream.seed, config.guide.codec
        )
        target = RateTarget(config.stream.bitrate_bps, float(RATE))
        return SenderSession(stream, config, self.ends.analyzer, target, LINK, len(self.reel))

    def _receiver(self) -> ReceiverSession:
        self.ends.painter.reset()
        return ReceiverSession(self._settings(0), self.ends.painter, VirtualClock(), costs=self.ends.costs)

    def _settings(self, slot: int) -> ReceiverSettings:
        settings = self.ends.config.receiver
        return settings.model_copy(
            update={"budget_ms": None, "steps": settings.steps if slot in self.painted else 0}
        )

    def _carry(self, slot: int, step: Step, receiver: ReceiverSession) -> None:
        """Deliver what the sender made, anchors at their share of the rate."""
        config = self.ends.config
        for unit in step.units:
            if unit.kind is UnitKind.ANCHOR:
                seconds = len(unit.data) * 8 / (config.stream.bitrate_bps * config.anchor.max_share)
                self._anchors.append((slot + round(seconds * RATE), unit))
            elif not self._is_lost(unit, step):
                receiver.receive(unit.data, slot / float(RATE))
        for due, unit in list(self._anchors):
            if slot >= due:
                receiver.receive(unit.data, slot / float(RATE))
                self._anchors.remove((due, unit))

    def _is_lost(self, unit: EncodedUnit, step: Step) -> bool:
        announces = unit.kind is UnitKind.FRAME and is_key(unit.data) and "cut" in step.events
        return announces and self.receiver_name == "lost"

    def _report(self, slot: int, sender: SenderSession, receiver: ReceiverSession) -> None:
        """Tell the sender what has arrived, and a little later what is wanted."""
        if receiver.refresh_wanted(slot / float(RATE)):
            self._refresh_slot = slot + REPORT_SLOTS
        refresh = self._refresh_slot is not None and slot >= self._refresh_slot
        sender.on_feedback(Feedback(0, anchors=receiver.decoder.anchor_ids, refresh=refresh))
        self._refresh_slot = None if refresh else self._refresh_slot


# --- what a receiver shows ----------------------------------------------------------------------------------------


def watch(crossing: Crossing) -> Watching:
    """Look at every picture; after cuts compare with the guide."""
    seen, cuts = Watching(announced=[], found=[], shown=[], gains={}), cuts_of(crossing.reel)
    for frame, shown in crossing:
        if shown.concealed or shown.scene is None:  # nothing came, of which the guide would show more
            continue
        seen.shown.append(frame.slot)
        if shown.new_scene:
            seen.found.append(frame.slot)
        cut = next((cut for cut in reversed(cuts) if cut.first <= frame.slot), None)
        if cut is not None and frame.slot < cut.first + WATCHED:
            gain = _gain(frame.picture, shown)
            seen.gains.setdefault(cut.first, []).append((frame.slot - cut.first, gain))
    return seen.model_copy(update={"announced": crossing.announced})


def cuts_of(reel: Reel) -> list[Event]:
    """The hard cuts."""
    return [event for event in reel.events if event.kind == "cut"]


def around(cuts: Sequence[Event]) -> frozenset[int]:
    """Slots of the pictures shortly before and after cuts."""
    return frozenset(slot for cut in cuts for slot in range(cut.first - PAINTED_BEFORE, cut.first + WATCHED))


def _gain(source: Picture, shown: Shown) -> float:
    """MS-SSIM of what is shown, over that of the guide alone."""
    assert shown.scene is not None
    guide = crop(shown.scene.guide, source.width, source.height)
    return ms_ssim(source, shown.frame.picture) - ms_ssim(source, guide)


def ghost_rows(name: ReceiverName, reel: Reel, seen: Watching) -> list[GhostRow]:
    """One for each cut after which the receiver showed something within the time that is watched."""
    rows = []
    for cut, pairs in seen.gains.items():
        gains = [gain for _, gain in pairs]
        rows.append(
            GhostRow(
                receiver=name, reel=reel.name, cut_s=cut / float(RATE), pictures=len(gains),
                worse=sum(gain < 0 for gain in gains), worst=min(gains), mean=float(np.mean(gains)),
            )
        )  # fmt: skip
    return rows


def gain_points(name: ReceiverName, watchings: Sequence[Watching]) -> list[GainPoint]:
    """Least, mean and greatest gain over all cuts, by the time since."""
    by_slot: dict[int, list[float]] = {}
    for seen in watchings:
        for since, gain in (pair for pairs in seen.gains.values() for pair in pairs):
            by_slot.setdefault(since, []).append(gain)
    return [
        GainPoint(
            receiver=name, after_s=since / float(RATE), least=min(gains), mean=float(np.mean(gains)), most=max(gains)
        )
        for since, gains in sorted(by_slot.items())
    ]  # fmt: skip


# --- all of it ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class ReelRun:
    """One reel at one receiver, whose result is kept."""

    ends: Ends
    reel: Reel
    receiver_name: ReceiverName

    @property
    def name(self) -> str:
        return f"{self.reel.name}.{self.receiver_name}"

    def key(self) -> str:
        """Of everything that the result depends on."""
        settings = (self.ends.config.as_dict(), WATCHED, PAINTED_BEFORE, REPORT_SLOTS)
        return hash_of([*settings, self.receiver_name, self.reel.stamp(), code_hash(*OUR_CODE)])

    def run(self, out: Path) -> Watching:
        """Send, receive and look."""
        return watch(Crossing(self.ends, self.reel, self.receiver_name, around(cuts_of(self.reel))))


def run_cuts(
    folder: Path | None, out: Path, config: Config, seconds: float | None = None, reels: int = 6
) -> CutsReport:
    """Measure, write cuts.json and cuts.html to `out`, print tables and JSON.

    folder : with clips, None is the built-in one; seconds : of each clip; reels : clips to join
    """
    if config.stream.size == "auto":
        raise UsageError("clips that are joined need one size: choose it with --size, such as 512x512")
    clips, shots, rows = clips_in(folder), list[Shot](), list[ClipRow]()
    with Progress(console=Console(stderr=True)) as bar:
        for clip in bar.track(clips, description="clips"):
            row, scenes = taken_apart(clip, config, seconds)
            rows.append(row)
            shots += scenes
        if len(shots) < 2:
            raise SourceError(
                "one scene cannot be joined to another: name a folder with more, or longer, clips"
            )
        drawn = draw_reels(_chosen(shots), config.stream.seed, reels, TAKES, TAKE_PICTURES)
        done = list[tuple[ReelRun, Watching]]()
        for run in bar.track(_runs(drawn, config), description="joined clips"):
            done.append((run, kept_result(run, out, Watching) or carry_out(run, out)))
            report = report_of(rows, done, config)
            write_cuts(report, out)
            bar.console.print(_said(*done[-1]))
    print_cuts(report)
    return report


def _runs(reels: Sequence[Reel], config: Config) -> list[ReelRun]:
    first = reels[0].takes[0].shot.pictures[0]
    ends = open_ends(config, (-(-first.height // 16) * 16, -(-first.width // 16) * 16))
    return [ReelRun(ends, reel, name) for reel in reels for name in RECEIVERS]


def _said(run: ReelRun, seen: Watching) -> str:
    """One run in a line."""
    gains = [gain for pairs in seen.gains.values() for _, gain in pairs]
    least = f"least gain {min(gains):+.4f}" if gains else "nothing shown after cuts"
    return f"{run.name}: {len(cuts_of(run.reel))} cuts, {len(seen.found)} new scenes seen, {least}"


def report_of(clips: list[ClipRow], done: Sequence[tuple[ReelRun, Watching]], config: Config) -> CutsReport:
    """Of all runs that are done."""
    sender, tallies = Tally(), {name: Tally() for name in RECEIVERS}
    ghosts: list[GhostRow] = []
    for run, seen in done:
        name, events = run.receiver_name, run.reel.events
        if name == "announced":
            sender.add(judge(events, seen.announced, AT_SENDER))
        tallies[name].add(judge(events, seen.found, AT_RECEIVER, seen.shown))
        ghosts += ghost_rows(name, run.reel, seen)
    detectors = [sender.row("sender"), *(tally.row(name) for name, tally in tallies.items())]
    reels = {run.reel.name: len(run.reel) for run, _ in done}
    gains = [
        point
        for name in RECEIVERS
        for point in gain_points(name, [seen for run, seen in done if run.receiver_name == name])
    ]
    return CutsReport(
        config=config.as_dict(), versions=versions(), reels=len(reels), pictures=sum(reels.values()),
        requirements=requirements(detectors, ghosts), clips=clips, detectors=detectors, ghosts=ghosts,
        gains=gains,
    )  # fmt: skip

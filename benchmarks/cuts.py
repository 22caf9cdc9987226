"""`semcast bench cuts`: whether new scenes are seen at both ends, and whether anything of the old one is left.

    clips -> their own cuts, as far as they are known -> sender's detector
    clips -> shots -> reels (joined with cuts, cross-fades, fades, flashes, whip pans, zooms)
        -> sender -> units -> receiver that gets them all        -> found, ghosts
                          -> one that loses every announcement   -> found, ghosts
           a sender that announces nothing -> receiver           -> found, ghosts

Each reel at each receiver is kept in a file below the results' folder, and the report is written anew after each: a bench
that was stopped has left what it had, and goes on from there.

What the words mean stands in `cuts_report.DEFINITIONS`, what the reels are made of in `scenes`, how one crosses the link
in `cuts_link`, what counts as found in `cuts_judge`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmarks.cuts_judge import Tally, judge
from benchmarks.cuts_link import (
    ANCHORED_BEFORE,
    PAINTED_BEFORE,
    RATE,
    REPORT_SLOTS,
    WATCHED,
    Crossing,
    Ends,
    around,
    cuts_of,
    open_ends,
    watch,
)
from benchmarks.cuts_report import (
    BLIND,
    RECEIVERS,
    ClipRow,
    CutsReport,
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
from benchmarks.plans import Clip, find_clips
from benchmarks.rd_clip import hash_of
from benchmarks.rd_runs import OUR_CODE
from benchmarks.report import versions
from benchmarks.scenes import KNOWN_EVENTS, Event, Reel, Shot, draw_reels, shots_of
from common.config import Config
from common.errors import SourceError, UsageError
from common.files import made_folder
from common.types import Picture
from sender.cuts import LEAST_GAP, CutState, detect_cut

SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".y4m", ".m4v", ".ts", ".mpg", ".ogv")
"""Of what is taken for a clip in a folder."""

SHOT_PICTURES, MOST_SHOTS = 48, 32
"""Of a shot, at most; shots, at most: they stay in memory."""
TAKES, TAKE_PICTURES = 8, (20, 50)
"""Of a reel; pictures of a take besides its effects."""
AT_SENDER, AT_RECEIVER = LEAST_GAP, 12
"""Pictures after an event until which it counts as found, see `cuts_judge.judge`."""


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


def found_by_sender(pictures: Sequence[Picture] | Reel) -> list[int]:
    """Slots at which the sender's detector sees a new scene."""
    state, cuts = CutState(), []
    for slot, picture in enumerate(pictures):
        cut, state = detect_cut(state, picture)
        cuts += [slot] * cut
    return cuts


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


# --- what is reported ---------------------------------------------------------------------------------------------


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
        settings = (self.ends.config.as_dict(), WATCHED, PAINTED_BEFORE, REPORT_SLOTS, list(ANCHORED_BEFORE))
        return hash_of([*settings, self.receiver_name, self.reel.stamp(), code_hash(*OUR_CODE)])

    def run(self, out: Path) -> Watching:
        """Send, receive and look."""
        return watch(Crossing(self.ends, self.reel, self.receiver_name, around(cuts_of(self.reel))))


def run_cuts(
    folder: Path | None,
    out: Path,
    config: Config,
    seconds: float | None = None,
    reels: int = 6,
    blind: bool = False,
) -> CutsReport:
    """Measure, write cuts.json and cuts.html to `out`, print tables and JSON.

    folder : with clips, None is the built-in one; seconds : of each clip; reels : clips to join
    blind : measure also a receiver that sees no new scenes
    """
    if config.stream.size == "auto":
        raise UsageError("clips that are joined need one size: choose it with --size, such as 512x512")
    made_folder(out)
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
        receivers = (*RECEIVERS, BLIND) if blind else RECEIVERS
        for run in bar.track(_runs(drawn, receivers, config), description="joined clips"):
            done.append((run, kept_result(run, out, Watching) or carry_out(run, out)))
            report = report_of(rows, done, config)
            write_cuts(report, out)
            bar.console.print(_said(*done[-1]))
    print_cuts(report)
    return report


def _runs(reels: Sequence[Reel], receivers: Sequence[ReceiverName], config: Config) -> list[ReelRun]:
    first = reels[0].takes[0].shot.pictures[0]
    ends = open_ends(config, (-(-first.height // 16) * 16, -(-first.width // 16) * 16))
    return [ReelRun(ends, reel, name) for reel in reels for name in receivers]


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
        if name != BLIND:
            tallies[name].add(judge(events, seen.found, AT_RECEIVER, seen.shown))
        ghosts += ghost_rows(name, run.reel, seen)
    detectors = [sender.row("sender"), *(tally.row(name) for name, tally in tallies.items())]
    reels = {run.reel.name: len(run.reel) for run, _ in done}
    gains = [
        point
        for name in (*RECEIVERS, BLIND)
        for point in gain_points(name, [seen for run, seen in done if run.receiver_name == name])
    ]
    return CutsReport(
        config=config.as_dict(), versions=versions(), reels=len(reels), pictures=sum(reels.values()),
        requirements=requirements(detectors, ghosts), clips=clips, detectors=detectors, ghosts=ghosts,
        gains=gains,
    )  # fmt: skip

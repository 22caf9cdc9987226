"""`cuts.json`, its tables and its page: what `semcast bench cuts` measured, beside what it should be."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue
from rich.console import Console

from benchmarks import plots
from benchmarks.html import Card, conditions_section, page, plot_section, section
from benchmarks.report import Model, write_text
from benchmarks.scenes import NEW_SCENE, SAME_SCENE, Kind
from benchmarks.tables import Cells, Requirement, at_least, at_most, html_table, requirement_table, rich_table

SCHEMA_NAME: Literal["semcast.cuts/1"] = "semcast.cuts/1"

ReceiverName = Literal["announced", "lost", "unannounced", "blind"]
RECEIVERS: tuple[ReceiverName, ...] = ("announced", "lost", "unannounced")
BLIND: ReceiverName = "blind"
"""The ablation: what the resets of `receiver/cuts.py` are worth."""

AT_SENDER, AT_RECEIVER = 0.98, 0.95
"""Recall and precision of hard cuts, at least."""
MOST_TAKEN = 0.05
"""Part of the flashes, and of the whip pans, that may be taken for new scenes."""
JUDGED: tuple[ReceiverName, ...] = ("lost", "unannounced")
"""Receivers that do without the sender's word."""

DEFINITIONS = (
    "Reels are joined from the scenes of the clips, with effects in some of them; the seed draws what comes when.",
    "Announced: the receiver gets every unit. Lost: it loses each key picture that announces a new scene, and gets "
    "another once it has asked. Unannounced: the sender codes as if it had seen no new scene. Blind: likewise, and the "
    "receiver sees none either, so that it lets go of nothing.",
    "Before each cut an anchor is taken that is there at once, so that there is something of the old scene to linger.",
    "Found: within 6 pictures after the event at the sender; at a receiver within 12 after the first picture that it "
    "shows once the event is over.",
    "Precision: hard cuts found, over those and all that was found without a new scene, flashes and pans included.",
    "Gain: MS-SSIM of the output less that of the guide alone, of each picture shown in the first second after a cut; "
    "below 0 something of the old scene, or something invented, did harm.",
    "Clips of which nobody has said what happens in them are taken apart where the sender's detector sees a new scene.",
)

Count = Annotated[int, Field(ge=0)]


class ClipRow(Model):
    """A clip as it is. known : what happens in it is known, and not only what the detector saw; false : slots"""

    clip: str
    pictures: Count
    known: bool
    new_scenes: Count
    found: Count
    false: list[int]


class Watching(Model):
    """What one receiver showed of one reel.

    announced : slots at which the sender announced a new scene; found : at which the receiver saw one; shown : pictures
    gains : slot of a cut -> (slots since, MS-SSIM of the output less that of the guide alone) of the pictures after it
    """

    announced: list[int]
    found: list[int]
    shown: list[int]
    gains: dict[int, list[tuple[int, float]]]


class DetectorRow(Model):
    """One detector on all reels. there, taken : events by kind, and those taken for new scenes; false : without cause"""

    detector: str
    there: dict[Kind, int]
    taken: dict[Kind, int]
    false: Count

    def share(self, kind: Kind) -> float | None:
        """Part of the events of a kind that were taken for new scenes, None without any."""
        there = self.there.get(kind, 0)
        return self.taken.get(kind, 0) / there if there else None

    @property
    def precision(self) -> float | None:
        """Of hard cuts; None where nothing was found."""
        right = self.taken.get("cut", 0)
        found = right + self.false + sum(self.taken.get(kind, 0) for kind in SAME_SCENE)
        return right / found if found else None


class GhostRow(Model):
    """The pictures after one cut. worse : how many are worse than the guide alone; worst, mean : gain"""

    receiver: ReceiverName
    reel: str
    cut_s: float
    pictures: Count
    worse: Count
    worst: float
    mean: float


class GainPoint(Model):
    """The gain over all cuts, so long after them."""

    receiver: ReceiverName
    after_s: float
    least: float
    mean: float
    most: float


class CutsReport(Model):
    """`cuts.json`, and the last line of the output. reels, pictures : joined clips, and all of their pictures"""

    model_config = ConfigDict(title="Semcast cuts", serialize_by_alias=True, validate_by_name=True)

    schema_name: Literal["semcast.cuts/1"] = Field(default=SCHEMA_NAME, alias="schema")
    config: dict[str, JsonValue]
    versions: dict[str, str]
    definitions: tuple[str, ...] = DEFINITIONS
    reels: Count
    pictures: Count
    requirements: list[Requirement]
    clips: list[ClipRow]
    detectors: list[DetectorRow]
    ghosts: list[GhostRow]
    gains: list[GainPoint]


def requirements(detectors: Sequence[DetectorRow], ghosts: Sequence[GhostRow]) -> list[Requirement]:
    """Hard cuts and what must not be taken for them, at each end; and no ghosts."""
    found: list[Requirement] = []
    for row in detectors:
        if row.detector != "sender" and row.detector not in JUDGED:
            continue
        target = AT_SENDER if row.detector == "sender" else AT_RECEIVER
        found += [
            at_least(f"{row.detector}: recall of cuts", target, row.share("cut")),
            at_least(f"{row.detector}: precision of cuts", target, row.precision),
            at_most(f"{row.detector}: flashes taken for cuts", MOST_TAKEN, row.share("flash")),
            at_most(f"{row.detector}: whip pans taken for cuts", MOST_TAKEN, row.share("whip")),
        ]
    return [*found, *(_no_ghosts(name, ghosts) for name in RECEIVERS)]


def _no_ghosts(name: ReceiverName, ghosts: Sequence[GhostRow]) -> Requirement:
    """At no picture after any cut is the output worse than the guide alone."""
    worst = min((row for row in ghosts if row.receiver == name), key=lambda row: row.worst, default=None)
    title = f"{name}: least gain over the guide after cuts, MS-SSIM"
    if worst is None:
        return at_least(title, 0.0, None)
    return Requirement(
        name=title, target=0.0, measured=worst.worst, ratio=None, met=worst.worst >= 0,
        where=f"{worst.reel} at {worst.cut_s:.2f} s",
    )  # fmt: skip


# --- output -------------------------------------------------------------------------------------------------------


def write_cuts(report: CutsReport, out: Path) -> None:
    """Write `out`/cuts.json and cuts.html; raises SinkError where that is impossible."""
    write_text(report.model_dump_json(indent=2) + "\n", out / "cuts.json")
    write_text(render_cuts(report), out / "cuts.html")


def print_cuts(report: CutsReport) -> None:
    """The tables for people, then the document as one line."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    for table in tables(report):
        console.print(rich_table(table))
    print(report.model_dump_json())


def tables(report: CutsReport) -> list[Cells]:
    """Clips, detectors, ghosts, requirements; a table without rows is left out."""
    every = (
        clip_table(report.clips), detector_table(report.detectors), ghost_table(report.ghosts),
        requirement_table(report.requirements),
    )  # fmt: skip
    return [table for table in every if table.rows]


def clip_table(clips: Sequence[ClipRow]) -> Cells:
    """What the sender sees in the clips as they are."""
    head = ("clip", "pictures", "new scenes", "found", "found without one")
    rows = (
        (
            row.clip, str(row.pictures), str(row.new_scenes) if row.known else "not known",
            str(row.found), ", ".join(map(str, row.false)) or "-",
        )
        for row in clips
    )  # fmt: skip
    return Cells("Clips as they are, at the sender", head, tuple(rows))


def detector_table(detectors: Sequence[DetectorRow]) -> Cells:
    """What was taken for a new scene, of each kind of event."""
    head = ("detector", "recall", "precision", *(f"{kind}" for kind in (*NEW_SCENE, *SAME_SCENE)), "false")
    rows = []
    for row in detectors:
        taken = (
            f"{row.taken.get(kind, 0)} of {row.there.get(kind, 0)}" for kind in (*NEW_SCENE, *SAME_SCENE)
        )
        rows.append((row.detector, _share(row.share("cut")), _share(row.precision), *taken, str(row.false)))
    return Cells("Taken for a new scene, in joined clips", head, tuple(rows))


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def ghost_table(ghosts: Sequence[GhostRow]) -> Cells:
    """The pictures after cuts, for each receiver."""
    head = ("receiver", "cuts", "pictures", "worse than the guide", "least gain", "mean gain")
    rows = []
    for name in (*RECEIVERS, BLIND):
        own = [row for row in ghosts if row.receiver == name]
        if own:
            pictures = sum(row.pictures for row in own)
            mean = sum(row.mean * row.pictures for row in own) / pictures
            rows.append(
                (name, str(len(own)), str(pictures), str(sum(row.worse for row in own)),
                 f"{min(row.worst for row in own):+.4f}", f"{mean:+.4f}")
            )  # fmt: skip
    return Cells("Output against the guide alone after cuts, MS-SSIM", head, tuple(rows))


def render_cuts(report: CutsReport) -> str:
    """The whole page."""
    missed = [item.name for item in report.requirements if item.met is False]
    verdict = (
        f"Not met: {'; '.join(missed)}."
        if missed
        else "Every requirement that this run could measure is met."
    )
    facts = f"{len(report.clips)} clips, joined to {report.reels} reels of {report.pictures} pictures in all"
    return page("Semcast cuts", facts, verdict, _cards(report), _sections(report))


def _cards(report: CutsReport) -> Iterator[Card]:
    for item in report.requirements:
        if item.measured is not None:
            yield Card(f"{item.measured:.3g}", "", item.name, "good" if item.met else "bad")


def _sections(report: CutsReport) -> Iterator[str]:
    note = " ".join(report.definitions)
    yield section("Requirements", note, html_table(requirement_table(report.requirements)))
    if report.gains:
        yield plot_section(
            "After a cut", "Mean over all cuts; the band reaches from the least to the greatest gain.",
            plots.channel_plot({"MS-SSIM over the guide's": _curves(report.gains)}, "time since the cut, s"),
        )  # fmt: skip
    for table in tables(report)[:-1]:
        yield section(table.title, "", html_table(table))
    yield conditions_section({"configuration": report.config, "versions": report.versions})


def _curves(gains: Sequence[GainPoint]) -> list[plots.Curve]:
    curves = []
    for name in (*RECEIVERS, BLIND):
        own = [point for point in gains if point.receiver == name]
        if own:
            mean = tuple((point.after_s, point.mean) for point in own)
            band = tuple((point.after_s, point.least, point.most) for point in own)
            curves.append(plots.Curve(name, mean, band))
    return curves

"""`recovery.json`, its tables and its page: what `semcast bench recovery` measured, beside what it should be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Annotated, Literal

import numpy as np
from pydantic import ConfigDict, Field, JsonValue

from benchmarks import plots
from benchmarks.html import Card, conditions_section, page, plot_section, section
from benchmarks.report import Model, write_text
from benchmarks.tables import (
    Cells,
    Requirement,
    html_table,
    print_tables,
    requirement_table,
    verdict_of,
    worst_at_most,
)

SCHEMA_NAME: Literal["semcast.recovery/2"] = "semcast.recovery/2"

RECOGNISABLE_S, MISMATCH_S, FREEZE_S = 0.3, 0.8, 0.3
"""Targets: a new scene after its capture, both ends out of step, the picture standing still (outages apart)."""

DEFINITIONS = (
    "Times are those of the simulated link and of waiting: work takes no time here (`semcast bench latency` times it).",
    "Recognisable: the first picture shown of a new scene whose MS-SSIM to its own source is at least 80 % of the "
    "median over the 2 s after the cut, and which is closer to its source than to the last picture before the cut.",
    "Full detail: the first one within 0.5 dB of the median PSNR of the scene's first 4 s.",
    "Freeze: the longest time from one new picture shown to the next; counted where W3C webrtc-stats would.",
    "Mismatch: frames arrive that cannot be applied, since one before them is missing.",
    "Back: from the end of an outage to the first new picture.",
)

Seconds = Annotated[float, Field(ge=0.0)]


class CutRow(Model):
    """One scene cut, seconds since the capture of the new scene's first picture.

    rate_kbps : the target
    cut_s : when it was captured
    recognisable_s, full_detail_s : None where the scene was over before
    """

    clip: str
    rate_kbps: Annotated[float, Field(gt=0.0)]
    condition: str
    cut_s: Seconds
    scene_s: Seconds
    recognisable_s: Seconds | None
    full_detail_s: Seconds | None


class LossRow(Model):
    """One run over a link with losses.

    rate_kbps : the target; kbps : all that was sent
    keys, anchors : how many were sent; anchor_share : part of the bytes that anchors took
    longest_freeze_s : longest time without a new picture; freezes : those that W3C webrtc-stats counts
    mismatch_s : longest time out of step
    back_s : after an outage, None where there was none or the picture never came back
    """

    clip: str
    rate_kbps: Annotated[float, Field(gt=0.0)]
    condition: str
    seed: int
    keys: Annotated[int, Field(ge=0)]
    anchors: Annotated[int, Field(ge=0)]
    anchor_share: Annotated[float, Field(ge=0.0)]
    kbps: Annotated[float, Field(ge=0.0)]
    longest_freeze_s: Seconds
    freezes: Annotated[int, Field(ge=0)]
    mismatch_s: Seconds
    back_s: Seconds | None


class RecoveryReport(Model):
    """`recovery.json`, and the last line of the output. conditions : name -> channel"""

    model_config = ConfigDict(title="Semcast recovery", serialize_by_alias=True, validate_by_name=True)

    schema_name: Literal["semcast.recovery/2"] = Field(default=SCHEMA_NAME, alias="schema")
    config: dict[str, JsonValue]
    versions: dict[str, str]
    definitions: tuple[str, ...] = DEFINITIONS
    rates_kbps: list[float]
    conditions: dict[str, str]
    requirements: list[Requirement]
    cuts: list[CutRow]
    losses: list[LossRow]


def requirements(
    cuts: Sequence[CutRow], losses: Sequence[LossRow], outages: Sequence[str]
) -> list[Requirement]:
    """The worst of everything at each rate; `outages` names the conditions during which the picture cannot but freeze."""
    found: list[Requirement] = []
    for rate_kbps in _rates(cuts, losses) or [0.0]:
        seen = [
            (row.scene_s if row.recognisable_s is None else row.recognisable_s, f"{row.clip} at {row.cut_s:.2f} s, "
             f"{row.condition}") for row in cuts if row.rate_kbps == rate_kbps
        ]  # fmt: skip
        runs = [row for row in losses if row.rate_kbps == rate_kbps]
        freezes = [(row.longest_freeze_s, _place(row)) for row in runs if row.condition not in outages]
        at = f"{rate_kbps:g} kbit/s: "
        found += [
            worst_at_most(at + "new scene recognisable, s after capture", RECOGNISABLE_S, seen),
            worst_at_most(at + "ends out of step, s", MISMATCH_S, [(row.mismatch_s, _place(row)) for row in runs]),
            worst_at_most(at + "freeze, s", FREEZE_S, freezes),
        ]  # fmt: skip
    return found


def _rates(cuts: Sequence[CutRow], losses: Sequence[LossRow]) -> list[float]:
    return sorted({row.rate_kbps for row in cuts} | {row.rate_kbps for row in losses})


def _place(row: LossRow) -> str:
    return f"{row.clip}, {row.condition}, seed {row.seed}"


# --- output -------------------------------------------------------------------------------------------------------


def write_recovery(report: RecoveryReport, out: Path) -> None:
    """Write `out`/recovery.json and recovery.html; raises SinkError where that is impossible."""
    write_text(report.model_dump_json(indent=2) + "\n", out / "recovery.json")
    write_text(render_recovery(report), out / "recovery.html")


def print_recovery(report: RecoveryReport) -> None:
    """The tables for people, then the document as one line."""
    print_tables(tables(report), report.model_dump_json(), width=120)


def tables(report: RecoveryReport) -> list[Cells]:
    """By rate, cuts, losses, requirements; a table without rows is left out."""
    every = (
        rate_table(report.cuts, report.losses), cut_table(report.cuts), loss_table(report.losses),
        requirement_table(report.requirements),
    )  # fmt: skip
    return [table for table in every if table.rows]


def rate_table(cuts: Sequence[CutRow], losses: Sequence[LossRow]) -> Cells:
    """What each rate gives: medians and worst cases over all clips, and what was spent."""
    head = (
        "kbit/s", "cuts", "recognisable after, s, median / worst", "full detail after, s, median",
        "back after outages, s, median / worst", "longest freeze without outage, s", "key pictures and anchors a run",
        "bytes for anchors",
    )  # fmt: skip
    rows = []
    for rate_kbps in _rates(cuts, losses):
        seen = [row for row in cuts if row.rate_kbps == rate_kbps]
        runs = [row for row in losses if row.rate_kbps == rate_kbps]
        freezes = [row.longest_freeze_s for row in runs if row.back_s is None]
        rows.append((
            f"{rate_kbps:g}", str(len(seen)), _spread(row.recognisable_s for row in seen),
            _spread(row.full_detail_s for row in seen).partition(" / ")[0], _spread(row.back_s for row in runs),
            _seconds(max(freezes, default=None)),
            f"{_mean(row.keys for row in runs):.1f} and {_mean(row.anchors for row in runs):.2f}",
            f"{_mean(row.anchor_share for row in runs):.1%}",
        ))  # fmt: skip
    return Cells("By rate, in figures", head, tuple(rows))


def _spread(values: Iterable[float | None]) -> str:
    """Median and largest of those that are known."""
    known = [value for value in values if value is not None]
    return f"{median(known):.3f} / {max(known):.3f}" if known else "-"


def _mean(values: Iterable[float]) -> float:
    every = list(values)
    return fmean(every) if every else 0.0


def cut_table(cuts: Sequence[CutRow]) -> Cells:
    """Every cut at every rate under every condition."""
    head = ("clip", "kbit/s", "cut at, s", "channel", "recognisable after, s", "full detail after, s")
    rows = tuple(
        (row.clip, f"{row.rate_kbps:g}", f"{row.cut_s:.2f}", row.condition, _seconds(row.recognisable_s),
         _seconds(row.full_detail_s))
        for row in cuts
    )  # fmt: skip
    return Cells("Scene cuts", head, rows)


def loss_table(losses: Sequence[LossRow]) -> Cells:
    """Every clip, rate and condition, the worst over the seeds."""
    head = (
        "clip", "kbit/s", "channel", "seeds", "kbit/s sent", "longest freeze, s", "freezes", "out of step, s",
        "back after, s", "keys", "anchors",
    )  # fmt: skip
    rows = []
    for key in dict.fromkeys((row.clip, row.rate_kbps, row.condition) for row in losses):
        runs = [row for row in losses if (row.clip, row.rate_kbps, row.condition) == key]
        back_s = [row.back_s for row in runs if row.back_s is not None]
        worst = (max(row.longest_freeze_s for row in runs), max(row.mismatch_s for row in runs))
        rows.append(
            (key[0], f"{key[1]:g}", key[2], str(len(runs)), f"{_mean(row.kbps for row in runs):.1f}",
             f"{worst[0]:.3f}", str(sum(row.freezes for row in runs)), f"{worst[1]:.3f}",
             _seconds(max(back_s, default=None)), str(max(row.keys for row in runs)),
             str(max(row.anchors for row in runs)))
        )  # fmt: skip
    return Cells("Losses, the worst of the seeds", head, tuple(rows))


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def render_recovery(report: RecoveryReport) -> str:
    """The whole page."""
    clips = len({row.clip for row in report.cuts} | {row.clip for row in report.losses})
    facts = f"{clips} {'clip' if clips == 1 else 'clips'}, {len(report.conditions)} channels"
    return page("Semcast recovery", facts, verdict_of(report.requirements), _cards(report), _sections(report))


def _curves(report: RecoveryReport) -> list[plots.Curve]:
    """Medians by rate with a band from the best to the worst tenth; what nothing was seen of is left out."""
    of: dict[str, list[tuple[float, float | None]]] = {
        "new scene recognisable": [(row.rate_kbps, row.recognisable_s) for row in report.cuts],
        "full detail": [(row.rate_kbps, row.full_detail_s) for row in report.cuts],
        "back after an outage": [(row.rate_kbps, row.back_s) for row in report.losses],
        "longest freeze": [(row.rate_kbps, row.longest_freeze_s) for row in report.losses if row.back_s is None],
    }  # fmt: skip
    return [curve for name, seen in of.items() if (curve := _curve(name, seen)).points]


def _curve(name: str, seen: Sequence[tuple[float, float | None]]) -> plots.Curve:
    by_rate: dict[float, list[float]] = {}
    for rate_kbps, value in seen:
        if value is not None:
            by_rate.setdefault(rate_kbps, []).append(value)
    tenths = {rate: np.quantile(values, (0.1, 0.5, 0.9)).tolist() for rate, values in sorted(by_rate.items())}
    points = tuple((rate, middle) for rate, (_, middle, _) in tenths.items())
    return plots.Curve(name, points, tuple((rate, low, high) for rate, (low, _, high) in tenths.items()))


def _cards(report: RecoveryReport) -> Iterator[Card]:
    for item in report.requirements:
        if item.measured is not None:
            label = f"{item.name.rpartition(', ')[0]}, at most {item.target:g}"
            yield Card(f"{item.measured:.2f}", "s", label, "good" if item.met else "bad")


def _sections(report: RecoveryReport) -> Iterator[str]:
    note = " ".join(report.definitions)
    yield section("Requirements", note, html_table(requirement_table(report.requirements)))
    curves = _curves(report)
    if len(report.rates_kbps) > 1 and curves:
        yield plot_section(
            "By rate", "Medians over all clips; the bands leave out the best tenth and the worst.",
            plots.channel_plot({"seconds": curves}, "target, kbit/s"),
        )  # fmt: skip
    if report.losses:
        points = [(row.condition, row.clip, row.longest_freeze_s) for row in report.losses]
        yield plot_section(
            "Longest freeze", "Each dot is a run; the dashed line is the target.",
            plots.dot_plot(points, "s", FREEZE_S),
        )  # fmt: skip
    for table in tables(report)[:-1]:
        yield section(table.title, "", html_table(table))
    parts = {"channels": report.conditions, "configuration": report.config, "versions": report.versions}
    yield conditions_section(parts)

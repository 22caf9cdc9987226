"""`uncertainty.json`, its tables and its page: how well the receiver says where and how far its pictures are wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field, JsonValue

from benchmarks import plots_time
from benchmarks.html import Card, conditions_section, page, plot_section, section
from benchmarks.report import Count, Model, NotNegative, Safety, Uncertainty, write_text
from benchmarks.tables import (
    Cells,
    Requirement,
    at_least,
    at_most,
    html_table,
    print_tables,
    requirement_table,
    verdict_of,
    worst_at_most,
)

SCHEMA_NAME: Literal["semcast.uncertainty/1"] = "semcast.uncertainty/1"

LEAST_COVERED, MOST_COVERED, AUSE_SHARE = 0.87, 0.93, 0.5
"""Targets: part of the errors within the interval that should hold nine of ten, AUSE over that of a constant map."""
RISE, BACK = 1.0, 1.25
"""Targets: expected error during an outage, and a second after it, over that of the same pictures without."""

DEFINITIONS = (
    "A cell is 8x8 samples; its error is the root mean square of the luma's, in sample steps, beside the source.",
    "Within: part of the errors that are within 1.645 times the deviation that the map states; 90 % is ideal.",
    "AUSE: area under the sparsification error: how much worse the errors are ranked by the map than by themselves, "
    "over their mean; 0 is perfect, and a map that says nothing has that of a random order.",
    "Taken back: part of the cells where the decoder contradicted the guide, so that the base picture is shown.",
    "Work takes no time here, so that no level is left out for lack of it.",
)


class Moment(Model):
    """One picture. expected, made : mean error over its cells that the map states, and that there is; sample steps"""

    at_s: float
    level: str
    expected: NotNegative
    made: NotNegative


class Run(Model):
    """One clip under one condition; `clip` is None for all of them together.

    pictures : shown; levels : how many of each; made : mean error of a cell, sample steps
    """

    clip: str | None
    condition: str
    pictures: Count
    levels: dict[str, Count]
    made: NotNegative
    uncertainty: Uncertainty
    safety: Safety


class Outage(Model):
    """What an outage does to the expected error of a clip.

    rise, back : during it, and from a second after it on, over that of the same frames without
    seen, without : picture by picture; not part of what is printed
    """

    clip: str
    rise: NotNegative
    back: NotNegative
    seen: list[Moment] = Field(default_factory=list)
    without: list[Moment] = Field(default_factory=list)


class UncertaintyReport(Model):
    """`uncertainty.json`, and, less the moments, the last line of the output. conditions : name -> channel"""

    model_config = ConfigDict(title="Semcast uncertainty", serialize_by_alias=True, validate_by_name=True)

    schema_name: Literal["semcast.uncertainty/1"] = Field(default=SCHEMA_NAME, alias="schema")
    config: dict[str, JsonValue]
    versions: dict[str, str]
    definitions: tuple[str, ...] = DEFINITIONS
    conditions: dict[str, str]
    outage_s: tuple[float, float]
    requirements: list[Requirement]
    together: list[Run]
    runs: list[Run]
    outages: list[Outage]


def requirements(together: Sequence[Run], outages: Sequence[Outage]) -> list[Requirement]:
    """Of all clips together, and of the clip where an outage shows least."""
    found: list[Requirement] = []
    for run in together:
        doubt, where = run.uncertainty, run.condition
        if doubt.coverage90 is None or doubt.ause is None or not doubt.ause_constant:
            continue
        found += [
            at_least(f"within, at least, {where}", LEAST_COVERED, doubt.coverage90),
            at_most(f"within, at most, {where}", MOST_COVERED, doubt.coverage90),
            at_most(f"AUSE over a constant map's, {where}", AUSE_SHARE, doubt.ause / doubt.ause_constant),
        ]
    least = min(((one.rise, one.clip) for one in outages), default=None)
    backs = [(one.back, one.clip) for one in outages]
    return [
        *found,
        at_least("expected error during an outage, times that without", RISE, *(least or (None,))),
        worst_at_most("a second after it", BACK, backs),
    ]


# --- output -------------------------------------------------------------------------------------------------------


def write_uncertainty(report: UncertaintyReport, out: Path) -> None:
    """Write `out`/uncertainty.json and uncertainty.html; raises SinkError where that is impossible."""
    write_text(report.model_dump_json(indent=2) + "\n", out / "uncertainty.json")
    write_text(render_uncertainty(report), out / "uncertainty.html")


def print_uncertainty(report: UncertaintyReport) -> None:
    """The tables for people, then the document as one line."""
    print_tables(
        tables(report),
        report.model_dump_json(exclude={"outages": {"__all__": {"seen", "without"}}}),
        width=120,
    )


def tables(report: UncertaintyReport) -> list[Cells]:
    """All clips, levels, each clip, outages, requirements; a table without rows is left out."""
    every = (
        run_table("All clips", report.together), level_table(report.together), run_table("Each clip", report.runs),
        outage_table(report.outages), requirement_table(report.requirements),
    )  # fmt: skip
    return [table for table in every if table.rows]


def run_table(title: str, runs: Sequence[Run]) -> Cells:
    """What maps say and what errors there are."""
    head = (
        "clip",
        "condition",
        "pictures",
        "expected",
        "made",
        "within",
        "AUSE",
        "of constant",
        "taken back",
    )
    rows = (
        (
            run.clip or "all", run.condition, str(run.pictures), _number(run.uncertainty.steps, 2),
            f"{run.made:.2f}", _percent(run.uncertainty.coverage90), _number(run.uncertainty.ause, 3),
            _number(run.uncertainty.ause_constant, 3), f"{100 * run.safety.mean:.3f} %",
        )
        for run in runs
    )  # fmt: skip
    return Cells(title, head, tuple(rows))


def level_table(runs: Sequence[Run]) -> Cells:
    """By level of the ladder."""
    head = ("condition", "level", "pictures", "within", "AUSE", "of constant")
    rows = (
        (
            run.condition, level, str(run.levels.get(level, 0)), _percent(found.coverage90),
            f"{found.ause:.3f}", f"{found.ause_constant:.3f}",
        )
        for run in runs
        for level, found in run.uncertainty.levels.items()
    )  # fmt: skip
    return Cells("Levels, all clips", head, tuple(rows))


def outage_table(outages: Sequence[Outage]) -> Cells:
    """Expected error over that of the same frames without an outage."""
    rows = ((one.clip, f"{one.rise:.2f}", f"{one.back:.2f}") for one in outages)
    return Cells(
        "Expected error, times that without an outage", ("clip", "during it", "a second after"), tuple(rows)
    )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def render_uncertainty(report: UncertaintyReport) -> str:
    """The whole page."""
    clips = len({run.clip for run in report.runs})
    facts = f"{clips} {'clip' if clips == 1 else 'clips'}, {len(report.conditions)} conditions"
    return page(
        "Semcast uncertainty", facts, verdict_of(report.requirements), _cards(report), _sections(report)
    )


def _cards(report: UncertaintyReport) -> Iterator[Card]:
    for run in report.together:
        doubt = run.uncertainty
        if doubt.coverage90 is not None:
            good = LEAST_COVERED <= doubt.coverage90 <= MOST_COVERED
            yield Card(
                f"{100 * doubt.coverage90:.1f}",
                "%",
                f"within 90 %, {run.condition}",
                "good" if good else "bad",
            )


def _sections(report: UncertaintyReport) -> Iterator[str]:
    note = " ".join(report.definitions)
    yield section("Requirements", note, html_table(requirement_table(report.requirements)))
    note = "Mean over the picture; the outage is shaded. Without: the same frames over a link without it."
    for one in report.outages:
        curves = {
            "expected": [(moment.at_s, moment.expected) for moment in one.seen],
            "made": [(moment.at_s, moment.made) for moment in one.seen],
            "expected without": [(moment.at_s, moment.expected) for moment in one.without],
            "made without": [(moment.at_s, moment.made) for moment in one.without],
        }
        yield plot_section(
            f"{one.clip}: errors expected and made", note, plots_time.doubt_plot(curves, report.outage_s)
        )
    for table in tables(report)[:-1]:
        yield section(table.title, "", html_table(table))
    parts = {"channels": report.conditions, "configuration": report.config, "versions": report.versions}
    yield conditions_section(parts)

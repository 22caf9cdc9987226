"""`latency.html`: what deadline control made of other processes' load, picture by picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benchmarks.html import Card, conditions_section, page, plot_section, section
from benchmarks.latency_load import PLANNER, LoadReport, PolicyResult, load_table
from benchmarks.plots_time import Painting, deadline_plot
from benchmarks.tables import html_table, requirement_table

NOTES = (
    "Time under load is shaded. Each dot is a picture: the time from the beginning of work on it to its end; the dashed"
    " line is the deadline. Expected error: mean over the picture, in sample steps, as the decoder states it."
)


def load_page(
    report: LoadReport, source: str, config: Mapping[str, object], versions: Mapping[str, str]
) -> str:
    """The whole page."""
    return page(
        "Semcast under load",
        f"{source}, a deadline of {report.budget_ms:g} ms, {report.taken} taken by other processes",
        _verdict(report),
        _cards(report),
        _sections(report, config, versions),
    )


def _planner(report: LoadReport) -> PolicyResult:
    return next(result for result in report.policies if result.name == PLANNER and result.loaded)


def _verdict(report: LoadReport) -> str:
    planner = _planner(report)
    others = [
        f"{result.name} {100 * result.miss_ratio:.1f} %"
        for result in report.policies
        if result.name != PLANNER
    ]
    return (
        f"Under load {100 * planner.miss_ratio:.1f} % of {planner.pictures} pictures came after their deadline; "
        f"at fixed levels: {', '.join(others)}."
    )


def _cards(report: LoadReport) -> Iterator[Card]:
    for result in report.policies:
        where = "under load" if result.loaded else "calm"
        mood = "bad" if 100 * result.miss_ratio > 0.5 else "good"
        yield Card(f"{100 * result.miss_ratio:.1f}", "%", f"late: {result.name}, {where}", mood)


def _sections(report: LoadReport, config: Mapping[str, object], versions: Mapping[str, str]) -> Iterator[str]:
    pictures = [Painting(**moment.model_dump()) for moment in report.timeline]
    yield plot_section("The planner, picture by picture", NOTES, deadline_plot(pictures, report.budget_ms))
    table = load_table(report)
    yield section("Policies", table.title, html_table(table))
    found = requirement_table(report.requirements)
    yield section(found.title, "As the project wants them.", html_table(found))
    yield conditions_section({"configuration": config, "versions": versions})

"""Tables and targets that several measurements share: as text, for the terminal and for a page."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from rich.console import Console
from rich.table import Table

from benchmarks.report import Model


@dataclass(frozen=True, slots=True)
class Cells:
    """A table as text; every row is as long as `head`."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Requirement(Model):
    """One target. ratio : measured over target; `met` where that is on the right side of 1.

    measured, ratio, met are None where the run did not give rise to what the target is about, ratio also where that is 0.
    where : what the measured value was seen on, where that is not the whole run
    """

    name: str
    target: float
    measured: float | None
    ratio: float | None
    met: bool | None
    where: str | None = None


def at_most(name: str, target: float, measured: float | None, where: str | None = None) -> Requirement:
    """A target that must not be exceeded."""
    if measured is None:
        return Requirement(name=name, target=target, measured=None, ratio=None, met=None)
    return Requirement(
        name=name,
        target=target,
        measured=measured,
        ratio=measured / target,
        met=measured <= target,
        where=where,
    )


def at_least(name: str, target: float, measured: float | None, where: str | None = None) -> Requirement:
    """A target that must be reached."""
    upper = at_most(name, target, measured, where)
    return upper if measured is None else upper.model_copy(update={"met": measured >= target})


def worst_at_most(name: str, target: float, seen: Iterable[tuple[float, str]]) -> Requirement:
    """`at_most` for the largest of (value, where it was seen); nothing seen is not measured."""
    worst = max(seen, default=None)
    return at_most(name, target, None) if worst is None else at_most(name, target, *worst)


def requirement_table(found: Sequence[Requirement]) -> Cells:
    """Name, target, measured, ratio, where, verdict."""
    rows = []
    for item in found:
        if item.measured is None:
            rows.append((item.name, f"{item.target:g}", "not measured", "", "", ""))
            continue
        ratio = "" if item.ratio is None else f"{item.ratio:.2f}"
        numbers = (f"{item.target:g}", f"{item.measured:.3g}", ratio)
        rows.append((item.name, *numbers, item.where or "", "pass" if item.met else "miss"))
    return Cells("Requirements", ("requirement", "target", "measured", "ratio", "on", ""), tuple(rows))


def verdict_of(found: Sequence[Requirement]) -> str:
    """A sentence: what was missed, and on what."""
    missed = [item.name + (f" ({item.where})" if item.where else "") for item in found if item.met is False]
    return (
        f"Not met: {'; '.join(missed)}."
        if missed
        else "Every requirement that this run could measure is met."
    )


def print_tables(tables: Iterable[Cells], document: str, width: int) -> None:
    """The tables for people, `width` characters where it is no terminal that says how wide it is; then the document as
    one line."""
    console = Console(width=None if sys.stdout.isatty() else width)
    for table in tables:
        console.print(rich_table(table))
    print(document)


def rich_table(cells: Cells) -> Table:
    """For the terminal."""
    table = Table(*cells.head, title=cells.title, title_justify="left")
    for row in cells.rows:
        table.add_row(*row)
    return table


def html_table(cells: Cells) -> str:
    """For a page; the title is left to the section around it."""
    return framed_table(
        cells.head, ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in cells.rows)
    )


def framed_table(head: Iterable[str], rows: Iterable[str]) -> str:
    """A table that scrolls by itself where a page has no room for it. rows : the cells of each as HTML"""
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    frame = '<div class="scroll"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'
    return frame.format(names, body)

"""What the gate says: a table for the terminal, Markdown for a pull request, JSON for programs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Console

from benchmarks.gate.baseline import shown
from benchmarks.gate.model import Finding, GateReport, Kind, Verdict
from benchmarks.report import write_text
from benchmarks.tables import Cells, rich_table

HEAD = ("row", "accepted", "now", "moved", "of tolerance", "")
ACCEPT = 'semcast gate --accept "what changed, and why"'
MOST_NEW = 8
"""Rows without a baseline that are listed one by one."""
_AMOUNTS = (Kind.BYTES, Kind.LAYER, Kind.SPEED)
_ORDER = (Verdict.GONE, Verdict.WORSE, Verdict.UNJUDGED, Verdict.NEW, Verdict.BETTER, Verdict.WITHIN)


def moved_cells(findings: Iterable[Finding]) -> Cells:
    """Every row that is not what it was, failures first, by how far they went; many new ones are one line."""
    moved = [finding for finding in findings if finding.verdict is not Verdict.SAME]
    new = [finding for finding in moved if finding.verdict is Verdict.NEW]
    if len(new) > MOST_NEW:
        moved = [finding for finding in moved if finding.verdict is not Verdict.NEW]
    moved.sort(key=lambda finding: (_ORDER.index(finding.verdict), -abs(finding.over or 0.0)))
    rows = [_cells(finding) for finding in moved]
    if len(new) > MOST_NEW:
        rows.append((f"{len(new)} rows", "-", "", "", "", Verdict.NEW))
    return Cells("What moved", HEAD, tuple(rows))


def _cells(finding: Finding) -> tuple[str, ...]:
    verdict = finding.verdict + (f": {finding.note}" if finding.note else "")
    over = "" if finding.over is None else f"{abs(finding.over):.1f}x"
    return finding.key, shown(finding.before), shown(finding.now), change(finding), over, verdict


def change(finding: Finding) -> str:
    """How far a figure moved: in its unit where it is a level, in percent where it is an amount."""
    before, now = finding.before, finding.now
    if isinstance(before, str) or isinstance(now, str) or before is None or now is None:
        return "" if before == now or None in (before, now) else "differs"
    if before > 0 and finding.kind in _AMOUNTS:
        return f"{100 * (now / before - 1):+.2f} %"
    return f"{now - before:+.4g}"


def summary(report: GateReport) -> str:
    """One line: how many rows, and what became of them."""
    counts = Counter(finding.verdict for finding in report.findings)
    listed = ", ".join(f"{counts[verdict]} {verdict.lower()}" for verdict in Verdict if counts[verdict])
    end = "passed" if report.passed else "accepted" if report.accepted else "FAILED"
    return f"{end}: {len(report.findings)} rows, {listed}; {report.seconds:.0f} s"


def markdown(report: GateReport) -> str:
    """For the summary of a pull request."""
    mark = "✅" if report.passed or report.accepted else "❌"
    lines = [f"## {mark} Regression gate {summary(report)}", ""]
    lines += [f"> {remark}" for remark in report.remarks]
    cells = moved_cells(report.findings)
    lines += ["", *markdown_table(cells)] if cells.rows else ["", "No row moved."]
    if not report.passed and not report.accepted:
        lines += ["", f"If this is on purpose: `{ACCEPT}` and commit `benchmarks/gate/baseline.json`."]
    of, versions = report.provenance, report.provenance.versions
    lines += ["", f"{of.processor}, {of.date}, commit {of.commit or 'unknown'}, "
              f"SVT-AV1 {versions.get('svt-av1')}, torch {versions.get('torch')}."]  # fmt: skip
    return "\n".join(lines) + "\n"


def markdown_table(cells: Cells) -> Sequence[str]:
    rows = [cells.head, ("---",) * len(cells.head), *cells.rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


def write_report(report: GateReport, out: Path) -> None:
    """gate.json and gate.md; SinkError where that is impossible."""
    write_text(report.model_dump_json(indent=1) + "\n", out / "gate.json")
    write_text(markdown(report), out / "gate.md")


def print_report(report: GateReport, accepted_in: Path | None, stdout: TextIO | None = None) -> None:
    """The table of what moved, what to do, and the document as one line, which is the last.

    accepted_in : the baseline that was written anew, None where nothing was accepted
    """
    stream = sys.stdout if stdout is None else stdout
    console = Console(file=stream, highlight=False, soft_wrap=True)
    cells = moved_cells(report.findings)
    if cells.rows:
        console.print(rich_table(cells))
    for remark in report.remarks:
        console.print(remark, markup=False)
    console.print(summary(report), markup=False)
    if accepted_in is not None:
        console.print(f"accepted: these figures are in {accepted_in} from now on", markup=False)
    elif not report.passed:
        console.print(f"if this is on purpose: {ACCEPT}", markup=False)
    stream.write(report.model_dump_json() + "\n")
    stream.flush()

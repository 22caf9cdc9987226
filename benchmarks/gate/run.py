"""`semcast gate`: measure, compare with the accepted figures, say what moved, fail on a regression.

    memory (a process of its own)
    cases, one by one               -> speed, alone -> judge -> table, gate.md, gate.json
    baseline.json                   ------------------^       with --accept: a new baseline.json

What exceeds its tolerance and is not exact (speed, memory) is measured again before it fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median_low

import torch
from rich.console import Console
from rich.progress import Progress

from benchmarks.gate import memory, speed
from benchmarks.gate.baseline import accepted, provenance_of, read_baseline, write_baseline
from benchmarks.gate.cases import Case, cases_of, run_case, stored_rows
from benchmarks.gate.judge import judge, machine_key, other_versions, passed
from benchmarks.gate.model import (
    TOLERANCES,
    Baseline,
    GateReport,
    Kind,
    Part,
    Provenance,
    Row,
    Tolerance,
)
from benchmarks.gate.report import print_report, write_report
from common.clock import Clock, SystemClock, UnixClock
from common.errors import UsageError
from common.files import made_folder

Advance = Callable[[str], object]
"""Told what comes next."""


def run_gate(
    clips: Path | None,
    out: Path,
    baseline_path: Path,
    reason: str | None,
    only: Sequence[Part],
    dates: Clock | None = None,
) -> bool:
    """Print tables and JSON, write gate.md and gate.json to `out`; True where nothing got worse or all was accepted.

    reason : accept these figures, for this reason; only : these parts, all where there is none
    dates : seconds since 1970
    """
    if reason is not None and not reason.strip():
        raise UsageError(
            '--accept needs a reason, which is kept with the figures: --accept "what changed, and why"'
        )
    parts, cases = list(only) or list(Part), cases_of(clips)
    before = read_baseline(baseline_path)
    if before is None and reason is None:
        raise UsageError(f'there is no baseline {baseline_path}: make one with --accept "first figures"')
    made_folder(out)
    clock, provenance = SystemClock(), provenance_of(dates or UnixClock())
    began_s = clock.now_s()
    rows = measure(parts, cases, before, machine_key(provenance), careful=reason is not None)
    findings = judge(before or _empty(provenance), rows, provenance, speed.KERNEL)
    if reason is not None:
        write_baseline(
            accepted(before, rows, findings, provenance, speed.KERNEL, reason.strip()), baseline_path
        )
    report = GateReport(
        passed=passed(findings), accepted=reason, seconds=round(clock.now_s() - began_s, 1), parts=parts,
        provenance=provenance, remarks=remarks(before, provenance), findings=findings,
    )  # fmt: skip
    write_report(report, out)
    print_report(report, baseline_path if reason is not None else None)
    return report.passed or reason is not None


def _empty(provenance: Provenance) -> Baseline:
    return Baseline(provenance=provenance, tolerances=TOLERANCES, rows={}, machines={}, history=[])


def remarks(before: Baseline | None, provenance: Provenance) -> list[str]:
    """What is to be known when reading the findings."""
    if before is None:
        return ["there was no baseline: nothing is compared"]
    machine = before.machines.get(machine_key(provenance))
    if machine is None:
        known = "; ".join(before.machines) or "none"
        return [
            f"the baseline does not know this processor ({machine_key(provenance)}; it knows {known}): "
            "digests that differ are not judged, and speed has nothing to be compared with"
        ]
    return [f"another version: {text}" for text in other_versions(machine.provenance, provenance)]


# --- measuring ----------------------------------------------------------------------------------------------------


def measure(
    parts: Sequence[Part], cases: Sequence[Case], before: Baseline | None, key: str, careful: bool
) -> list[Row]:
    """All rows of these parts.

    before, key : accepted figures, and what those of this processor go by: what exceeds them is measured again
    careful : measure speed as often as if it exceeded, and take the middle: what is going to be a baseline
    """
    torch.set_num_threads(1)
    machine = before.machines.get(key) if before else None
    usable = machine.rows if machine and machine.kernel == speed.KERNEL and not careful else {}
    tolerances = before.tolerances if before else TOLERANCES
    count = (len(cases) + 1) * (Part.CASES in parts) + 4 * (Part.SPEED in parts) + (Part.MEMORY in parts)
    with ExitStack() as stack, progress(count) as advance:
        watched = stack.enter_context(memory.started()) if Part.MEMORY in parts else None
        rows = case_rows(cases, advance) if Part.CASES in parts else []
        if watched is not None:  # before speed is measured, which wants the machine for itself
            advance("memory")
            found = memory.memory_rows(watched())
            exceeds = not careful and before is not None and exceeding(found, before.rows, tolerances)
            rows += milder(found, memory.memory_rows(_again())) if exceeds else found
        if Part.SPEED in parts:
            subjects = speed.open_subjects(speed.record())
            rows += [speed_row(subject, usable, tolerances, careful, advance) for subject in subjects]
    return rows


def _again() -> memory.Samples:
    with memory.started() as watched:
        return watched()


def case_rows(cases: Iterable[Case], advance: Advance = lambda _: None) -> list[Row]:
    """Everything that does not depend on time."""
    advance("stored stream")
    rows = stored_rows()
    for case in cases:
        advance(case.name)
        rows += run_case(case)
    return rows


def speed_row(
    subject: speed.Subject,
    accepted_rows: Mapping[str, Row],
    tolerances: Mapping[Kind, Tolerance],
    careful: bool = False,
    advance: Advance = lambda _: None,
) -> Row:
    """The ratio of one subject: of several attempts the middle one for a baseline, else the fastest."""
    advance(subject.name)
    attempts = [speed.measure(subject)]
    while len(attempts) < speed.ATTEMPTS and (careful or exceeding(attempts[-1:], accepted_rows, tolerances)):
        attempts.append(speed.measure(subject))
    values = [_number(row) for row in attempts]
    return attempts[values.index(median_low(values) if careful else min(values))]


def exceeding(rows: Sequence[Row], before: Mapping[str, Row], tolerances: Mapping[Kind, Tolerance]) -> bool:
    """Whether any figure got worse, upwards, by more than its tolerance."""
    for row in rows:
        old, tolerance = before.get(row.key), tolerances[row.kind]
        if old is not None:
            limit = tolerance.absolute + tolerance.relative * abs(_number(old))
            if _number(row) - _number(old) > limit:
                return True
    return False


def milder(first: Sequence[Row], second: Sequence[Row]) -> list[Row]:
    """Of two measurements of the same rows the smaller figures."""
    return [min(pair, key=_number) for pair in zip(first, second, strict=True)]


def _number(row: Row) -> float:
    assert not isinstance(row.value, str)
    return row.value


@contextmanager
def progress(total: int) -> Iterator[Advance]:
    """A bar that is drawn only when something is done: a thread of its own would be timed too."""
    bar = Progress(console=Console(stderr=True), auto_refresh=False)
    with bar:
        task = bar.add_task("gate", total=total)
        done = iter(range(total + 1))

        def advance(what: str) -> None:
            bar.update(task, completed=next(done, total), description=what, refresh=True)

        yield advance
        bar.update(task, completed=total, description="gate", refresh=True)

"""Rows of this run beside the accepted ones: which moved, by how much, and is that a regression?

A figure fails where it got worse by more than its tolerance, or is gone. What got better by more is told, and accepted
when somebody does. Digests have no tolerance; those of what a sender made here are judged only where the baseline knows
this processor and these codec versions, for floating point in the label network may differ elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.gate.model import (
    EXACT,
    FAILURES,
    Baseline,
    Finding,
    Kind,
    Machine,
    Provenance,
    Row,
    Tolerance,
    Verdict,
)

OF_A_MACHINE = frozenset({Kind.DIGEST, Kind.SPEED})
"""Kinds whose accepted figures are kept for each processor model."""

STREAM_MAKERS = (
    "svt-av1",
    "dav1d",
    "torch",
    "numpy",
    "opencv-contrib-python-headless",
    "constriction",
    "raptorq",
)
"""Versions that decide the bytes that a sender makes."""


def machine_key(provenance: Provenance) -> str:
    """What digests and speed are kept by. All is measured on one thread."""
    return f"{provenance.processor}, 1 thread"


def other_versions(before: Provenance, now: Provenance) -> list[str]:
    """What decides the bytes and is of another version than when the figures were accepted, as text."""
    pairs = (
        (name, before.versions.get(name, "absent"), now.versions.get(name, "absent"))
        for name in STREAM_MAKERS
    )
    return [f"{name} {old} then, {new} now" for name, old, new in pairs if old != new]


def judge(baseline: Baseline, rows: Sequence[Row], provenance: Provenance, kernel: int) -> list[Finding]:
    """One finding for each row, and one for each accepted row that a case that ran did not give any more."""
    machine = baseline.machines.get(machine_key(provenance))
    why_not = _why_digests_are_not_judged(machine, provenance)
    findings = []
    for row in rows:
        if row.kind is Kind.DIGEST:
            findings.append(_judge_digest(row, baseline, machine, why_not))
        elif row.kind is Kind.SPEED:
            findings.append(_judge_speed(row, machine, kernel, baseline.tolerances[Kind.SPEED]))
        else:
            findings.append(_judge_row(row, baseline.rows.get(row.key), baseline.tolerances))
    accepted = {**baseline.rows, **(machine.rows if machine else {})}
    return [*findings, *_gone(accepted, rows)]


def passed(findings: Iterable[Finding]) -> bool:
    """Whether nothing failed."""
    return not any(finding.verdict in FAILURES for finding in findings)


def _why_digests_are_not_judged(machine: Machine | None, provenance: Provenance) -> str:
    if machine is None:
        return "unknown processor"
    others = other_versions(machine.provenance, provenance)
    return f"other versions: {'; '.join(others)}" if others else ""


def _judge_row(row: Row, before: Row | None, tolerances: Mapping[Kind, Tolerance]) -> Finding:
    if before is None:
        return _finding(row, None, None, Verdict.NEW)
    if row.kind in EXACT:
        same = row.value == before.value
        return _finding(row, before, 0.0 if same else None, Verdict.SAME if same else Verdict.WORSE)
    return _judge_number(row, before, tolerances[row.kind])


def _judge_digest(row: Row, baseline: Baseline, machine: Machine | None, why_not: str) -> Finding:
    """Equal to what this processor gave, or any other, is equal."""
    before = machine.rows.get(row.key) if machine else None
    known = [m.rows[row.key] for m in baseline.machines.values() if row.key in m.rows]
    if any(row.value == one.value for one in known):
        return _finding(row, before or row, 0.0, Verdict.SAME)
    if not known:
        return _finding(row, None, None, Verdict.NEW)
    if why_not:
        return _finding(row, before or known[0], None, Verdict.UNJUDGED, why_not)
    return _finding(row, before, None, Verdict.WORSE if before else Verdict.NEW)


def _judge_speed(row: Row, machine: Machine | None, kernel: int, tolerance: Tolerance) -> Finding:
    if machine is not None and machine.kernel != kernel:
        return _finding(row, None, None, Verdict.UNJUDGED, "accepted against other kernels")
    before = machine.rows.get(row.key) if machine else None
    if before is None:
        return _finding(row, None, None, Verdict.NEW, "no baseline for this processor")
    return _judge_number(row, before, tolerance)


def _judge_number(row: Row, before: Row, tolerance: Tolerance) -> Finding:
    assert not isinstance(row.value, str) and not isinstance(before.value, str)
    moved = row.value - before.value
    limit = tolerance.absolute + tolerance.relative * abs(before.value)
    over = moved / limit if limit else None if moved else 0.0
    if row.value == before.value:
        verdict = Verdict.SAME
    elif abs(moved) <= limit:
        verdict = Verdict.WITHIN
    elif tolerance.worse == "both" or (moved > 0) == (tolerance.worse == "up"):
        verdict = Verdict.WORSE
    else:
        verdict = Verdict.BETTER
    return _finding(row, before, over, verdict)


def _finding(row: Row, before: Row | None, over: float | None, verdict: Verdict, note: str = "") -> Finding:
    return Finding(
        key=row.key, kind=row.kind, before=before and before.value, now=row.value, over=over, verdict=verdict, note=note
    )  # fmt: skip


def _gone(accepted: Mapping[str, Row], rows: Sequence[Row]) -> list[Finding]:
    ran, there = {row.case for row in rows}, {row.key for row in rows}
    return [
        Finding(key=key, kind=row.kind, before=row.value, now=None, over=None, verdict=Verdict.GONE)
        for key, row in accepted.items()
        if row.case in ran and key not in there
    ]

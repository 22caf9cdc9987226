"""`semcast gate --mutations`: the gate put to the test.

    healthy program -> rows -> a baseline in memory -> the healthy program again: nothing may be found
    each mutation at work -> the rows of its part -> judged -> which row found it, by how much

Where the codecs are of other versions than the baseline's, digests say nothing: the last column says how many rows find
the mutation even so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.gate import memory, speed
from benchmarks.gate.baseline import accepted, provenance_of, shown
from benchmarks.gate.cases import CASES
from benchmarks.gate.judge import judge, machine_key
from benchmarks.gate.model import FAILURES, TOLERANCES, Baseline, Finding, Kind, Part, Provenance, Row
from benchmarks.gate.mutations import MUTATIONS, Mutation
from benchmarks.gate.report import change, markdown_table
from benchmarks.gate.run import Advance, case_rows, exceeding, milder, progress, speed_row
from benchmarks.report import Model, write_text
from benchmarks.tables import Cells, rich_table
from common.clock import UnixClock
from common.files import made_folder

HEALTHY = "none: the healthy program again"
HEAD = ("mutation", "found by", "accepted", "then", "moved", "of tolerance", "rows", "rows but digests")

Measure = Callable[[Mutation | None, Baseline | None], list[Row]]
"""The rows of a part with a mutation at work or without one; with a baseline what exceeds it is measured again."""


class Trial(Model):
    """What the gate made of one mutation, or of none.

    found : the rows that failed, the clearest first
    right : a mutation was found, and nothing was found without one
    """

    mutation: str
    part: Part
    found: list[Finding]
    right: bool


def run_trials(out: Path, only: Sequence[Part] = ()) -> bool:
    """Print the table and JSON, write mutations.md and mutations.json to `out`; True where the gate was always right."""
    made_folder(out)
    torch.set_num_threads(1)
    parts, provenance = list(only) or list(Part), provenance_of(UnixClock())
    chosen = {part: [mutation for mutation in MUTATIONS if mutation.part is part] for part in parts}
    trials: list[Trial] = []
    with progress(sum(map(len, chosen.values())) + 2 * len(parts)) as advance:
        for part, mutations in chosen.items():
            trials += _trials(part, mutations, _measure_of(part), provenance, advance)
    _write(trials, out)
    return all(trial.right for trial in trials)


def _trials(
    part: Part, mutations: Sequence[Mutation], measure: Measure, provenance: Provenance, advance: Advance
) -> list[Trial]:
    advance(f"{part}: baseline")
    baseline = accepted(None, measure(None, None), [], provenance, speed.KERNEL, "trial")
    trials = []
    for mutation in (None, *mutations):
        name = mutation.name if mutation else HEALTHY
        advance(name)
        findings = judge(baseline, measure(mutation, baseline), provenance, speed.KERNEL)
        trials.append(judged(name, part, findings, healthy=mutation is None))
    return trials


def judged(name: str, part: Part, findings: Sequence[Finding], healthy: bool) -> Trial:
    """The trial that these findings make; failures with the largest move over tolerance first, digests last."""
    found = [finding for finding in findings if finding.verdict in FAILURES]
    found.sort(key=lambda finding: -abs(finding.over or 0.0))
    return Trial(mutation=name, part=part, found=found, right=healthy != bool(found))


def _measure_of(part: Part) -> Measure:
    return {Part.CASES: _cases, Part.SPEED: _speed(), Part.MEMORY: _memory}[part]


def _cases(mutation: Mutation | None, _: Baseline | None) -> list[Row]:
    if mutation is None:
        return case_rows(CASES)
    with mutation.apply():
        return case_rows(CASES)


def _speed() -> Measure:
    """All mutations are tried on the same stream."""
    subjects: list[speed.Subject] = []

    def measure(mutation: Mutation | None, baseline: Baseline | None) -> list[Row]:
        if not subjects:
            subjects.extend(speed.open_subjects(speed.record()))
        before = baseline.machines[machine_key(baseline.provenance)].rows if baseline else {}
        careful = baseline is None
        if mutation is None:
            return [speed_row(subject, before, TOLERANCES, careful) for subject in subjects]
        with mutation.apply():
            return [speed_row(subject, before, TOLERANCES, careful) for subject in subjects]

    return measure


def _memory(mutation: Mutation | None, baseline: Baseline | None) -> list[Row]:
    rows = _watched(mutation)
    exceeds = baseline is not None and exceeding(rows, baseline.rows, TOLERANCES)
    return milder(rows, _watched(mutation)) if exceeds else rows


def _watched(mutation: Mutation | None) -> list[Row]:
    with memory.started(mutation.name if mutation else None) as samples:
        return memory.memory_rows(samples())


# --- the table ----------------------------------------------------------------------------------------------------


def cells(trials: Sequence[Trial]) -> Cells:
    """A line for each trial with the row that found it most clearly."""
    return Cells("The gate, put to the test", HEAD, tuple(_line(trial) for trial in trials))


def _line(trial: Trial) -> tuple[str, ...]:
    if not trial.found:
        return trial.mutation, "nothing" if trial.right else "NOT FOUND", "", "", "", "", "0", "0"
    first = trial.found[0]
    over = "exact" if first.over is None else f"{abs(first.over):.1f}x"
    others = sum(finding.kind is not Kind.DIGEST for finding in trial.found)
    figures = (shown(first.before), shown(first.now), change(first), over, f"{len(trial.found)}", f"{others}")
    name = first.key if trial.right else f"FALSE ALARM: {first.key}"
    return trial.mutation, name, *figures


def _write(trials: Sequence[Trial], out: Path) -> None:
    table = cells(trials)
    wrong = [trial.mutation for trial in trials if not trial.right]
    document = {
        "passed": not wrong,
        "wrong": wrong,
        "trials": [trial.model_dump(mode="json") for trial in trials],
    }
    write_text(json.dumps(document, indent=1) + "\n", out / "mutations.json")
    write_text("\n".join(markdown_table(table)) + "\n", out / "mutations.md")
    Console(highlight=False, soft_wrap=True).print(rich_table(table))
    print(json.dumps(document), file=sys.stdout)

"""The accepted figures: benchmarks/gate/baseline.json, where they come from, and how others take their place."""

from __future__ import annotations

import ctypes
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from benchmarks.gate.judge import OF_A_MACHINE, machine_key
from benchmarks.gate.model import (
    TOLERANCES,
    Baseline,
    Change,
    Finding,
    Kind,
    Machine,
    Provenance,
    Row,
    Verdict,
)
from benchmarks.kept import ROOT
from benchmarks.report import versions, write_text
from common.clock import Clock
from common.errors import SourceError
from common.weights import shipped
from sender.coded import bundled_library

BASELINE = Path(__file__).with_name("baseline.json")
HISTORY = 50
"""Acceptances that are kept."""

_GIT_TIMEOUT_S = 10.0
_LIBRARIES = {"svt-av1": ("SvtAv1Enc", "svt_av1_get_version"), "dav1d": ("dav1d", "dav1d_version")}


def read_baseline(path: Path) -> Baseline | None:
    """None where there is no such file; SourceError for one that is not a baseline."""
    try:
        return Baseline.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        reason = (
            f"{error.error_count()} fields are wrong"
            if isinstance(error, ValidationError)
            else error.strerror
        )
        raise SourceError(
            f"{path} cannot be read as the gate's baseline ({reason}): check it out anew, or remove it and accept"
        ) from error


def write_baseline(baseline: Baseline, path: Path) -> None:
    """SinkError where that is impossible."""
    write_text(baseline.model_dump_json(indent=1) + "\n", path)


def accepted(
    before: Baseline | None,
    rows: Sequence[Row],
    findings: Sequence[Finding],
    provenance: Provenance,
    kernel: int,
    reason: str,
) -> Baseline:
    """The baseline with these rows in place of those of the same cases; everything else is kept.

    Tolerances are kept too, since they may have been set by hand, and so is where figures come from that were not
    measured: speed alone says nothing about the versions that digests were made with. kernel : of the speed rows
    """
    cases = {row.case for row in rows}
    own = {row.key: row for row in rows if row.kind in OF_A_MACHINE}
    shared = {row.key: row for row in rows if row.kind not in OF_A_MACHINE}
    others = {name: row for name, row in (before.rows if before else {}).items() if row.case not in cases}
    change = Change(
        date=provenance.date, reason=reason, commit=provenance.commit, processor=provenance.processor,
        moved=described(findings),
    )  # fmt: skip
    return Baseline(
        provenance=provenance if before is None or shared else before.provenance,
        tolerances={**TOLERANCES, **(before.tolerances if before else {})},
        rows=_sorted({**others, **shared}),
        machines=_machines(before.machines if before else {}, own, cases, provenance, kernel),
        history=[*(before.history if before else []), change][-HISTORY:],
    )


def _machines(
    before: Mapping[str, Machine],
    own: Mapping[str, Row],
    cases: set[str],
    provenance: Provenance,
    kernel: int,
) -> dict[str, Machine]:
    """This machine with its new rows, and the others: what they made of the same cases holds where it is the same."""
    key = machine_key(provenance)
    old = before.get(key)
    stale = old is not None and old.kernel != kernel
    kept = {
        name: row
        for name, row in (old.rows if old else {}).items()
        if row.case not in cases and not (stale and row.kind is Kind.SPEED)
    }
    digests = {name: row.value for name, row in own.items() if row.kind is Kind.DIGEST}
    others = {
        name: machine.model_copy(update={"rows": {
            k: row for k, row in machine.rows.items()
            if row.kind is not Kind.DIGEST or row.case not in cases or digests.get(k) == row.value
        }})
        for name, machine in before.items()
        if name != key
    }  # fmt: skip
    makers = provenance if old is None or digests else old.provenance
    return {**others, key: Machine(provenance=makers, kernel=kernel, rows=_sorted({**kept, **own}))}


def _sorted(rows: Mapping[str, Row]) -> dict[str, Row]:
    """By key: a file that is read as a difference."""
    return dict(sorted(rows.items()))


def described(findings: Sequence[Finding]) -> list[str]:
    """What moved, a line each; new rows are only counted."""
    new = sum(finding.verdict is Verdict.NEW for finding in findings)
    moved = [
        f"{finding.key}: {shown(finding.before)} -> {shown(finding.now)}"
        for finding in findings
        if finding.verdict not in (Verdict.SAME, Verdict.NEW)
    ]
    return [*moved, f"{new} new rows"] if new else moved


def shown(value: float | str | None) -> str:
    """A figure for people."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.6g}"


# --- where figures come from --------------------------------------------------------------------------------------


def provenance_of(clock: Clock) -> Provenance:
    """Of figures measured here and now. clock : seconds since 1970"""
    weights = {name: asset.sha256[:16] for name, asset in shipped().items()}
    return Provenance(
        date=datetime.fromtimestamp(clock.now_s(), UTC).strftime("%Y-%m-%d %H:%M UTC"), processor=processor_model(),
        commit=_commit(), versions={**versions(), **_library_versions()}, weights=weights,
    )  # fmt: skip


def processor_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """As the system calls it, with family and model, since a virtual machine's name alone says little."""
    try:
        text = cpuinfo.read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    wanted = ("model name", "cpu family", "model")
    found = {name: re.search(rf"^{name}\s*:\s*(.+)$", text, re.MULTILINE) for name in wanted}
    name, family, model = (found[key][1].strip() if found[key] else "" for key in wanted)  # type: ignore[index]
    return f"{name or platform.machine()} ({family}/{model})" if family else name or platform.machine()


def _library_versions() -> dict[str, str]:
    found = {}
    for name, (library, function) in _LIBRARIES.items():
        ask = getattr(bundled_library(library), function)
        ask.restype = ctypes.c_char_p
        found[name] = ask().decode()
    return found


def _commit() -> str | None:
    """The commit that is checked out, with a + where files differ from it; None outside a checkout."""
    command = ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None

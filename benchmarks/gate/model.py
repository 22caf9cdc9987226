"""What the gate measures, keeps and says. The baseline and `gate.json` are these models as JSON.

Row        one figure of this run                       cases.py, speed.py, memory.py
Baseline   the figures accepted last, and where from    baseline.json
Finding    a row beside its accepted figure             judge.py
GateReport all of it
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from benchmarks.report import Model

BASELINE_NAME: Literal["semcast.gate-baseline/1"] = "semcast.gate-baseline/1"
REPORT_NAME: Literal["semcast.gate/1"] = "semcast.gate/1"

Share = Annotated[float, Field(ge=0.0)]


class Part(StrEnum):
    """What can be measured by itself."""

    CASES = "cases"
    SPEED = "speed"
    MEMORY = "memory"


class Kind(StrEnum):
    """What a figure is, which decides how it is judged (`TOLERANCES`, judge.py)."""

    STORED = "stored digest"  # of given bytes: the same on every machine
    DIGEST = "digest"  # of what a sender made here: the same with the same codecs on the same processor
    BYTES = "bytes"
    LAYER = "layer bytes"
    PSNR = "PSNR, dB"
    MS_SSIM = "MS-SSIM"
    STALLS = "stalls"
    SPEED = "time over kernel"
    ALLOCATED = "MiB a minute, allocated"
    RESIDENT = "MiB a minute, resident"


EXACT = frozenset({Kind.STORED, Kind.DIGEST})


class Tolerance(Model):
    """A figure may move by absolute + relative * accepted figure.

    worse : in which direction a figure gets worse; "both" where any move has to be accepted
    """

    absolute: Share = 0.0
    relative: Share = 0.0
    worse: Literal["up", "down", "both"]


TOLERANCES: dict[Kind, Tolerance] = {
    Kind.BYTES: Tolerance(relative=0.01, worse="up"),
    Kind.LAYER: Tolerance(absolute=24, relative=0.05, worse="both"),
    Kind.PSNR: Tolerance(absolute=0.05, worse="down"),
    Kind.MS_SSIM: Tolerance(absolute=0.001, worse="down"),
    Kind.STALLS: Tolerance(worse="up"),
    Kind.SPEED: Tolerance(relative=0.05, worse="up"),
    Kind.ALLOCATED: Tolerance(absolute=0.5, worse="up"),
    Kind.RESIDENT: Tolerance(absolute=8.0, worse="up"),
}
"""What a new baseline begins with. Guide and base picture are integers, the same everywhere; the output is bfloat16 and
moves by some hundredths of a decibel between processors."""


class Row(Model):
    """One figure. case : what was measured; name : which figure of it

    low, high : 95 % confidence interval, where the figure has one
    """

    case: str
    name: str
    kind: Kind
    value: float | str
    low: float | None = None
    high: float | None = None

    @property
    def key(self) -> str:
        return f"{self.case}: {self.name}"


class Provenance(Model):
    """Where figures come from. date : UTC; commit : None outside a checkout; weights : sha256 by name"""

    date: str
    processor: str
    commit: str | None
    versions: dict[str, str]
    weights: dict[str, str]


class Machine(Model):
    """What holds on one processor model with one number of threads only: digests of what is made there, and speed.

    kernel : version of the calibration kernels that the speed was measured against
    """

    provenance: Provenance
    kernel: int
    rows: dict[str, Row]


class Change(Model):
    """One acceptance. moved : the rows that were other before, as text"""

    date: str
    reason: str
    commit: str | None
    processor: str
    moved: list[str]


class Baseline(Model):
    """The accepted figures. rows : by key, those that hold on every machine; machines : by processor model and threads"""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    schema_name: Literal["semcast.gate-baseline/1"] = Field(default=BASELINE_NAME, alias="schema")
    provenance: Provenance
    tolerances: dict[Kind, Tolerance]
    rows: dict[str, Row]
    machines: dict[str, Machine]
    history: list[Change]


class Verdict(StrEnum):
    """Only WORSE and GONE fail the gate."""

    SAME = "same"
    WITHIN = "within tolerance"
    BETTER = "better"
    WORSE = "WORSE"
    GONE = "GONE"
    NEW = "no baseline"
    UNJUDGED = "not judged"


FAILURES = frozenset({Verdict.WORSE, Verdict.GONE})


class Finding(Model):
    """A row beside its accepted figure. before, now : None where there is none

    over : move / tolerance, 1 is the limit; None where there is no tolerance, or nothing to compare
    note : why it was judged so, where the verdict does not say it all
    """

    key: str
    kind: Kind
    before: float | str | None
    now: float | str | None
    over: float | None
    verdict: Verdict
    note: str = ""


class GateReport(Model):
    """One run of the gate. passed : nothing failed; accepted : the reason, where these figures became the baseline

    seconds : real time it took; remarks : what is to be known when reading it
    """

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    schema_name: Literal["semcast.gate/1"] = Field(default=REPORT_NAME, alias="schema")
    passed: bool
    accepted: str | None
    seconds: Share
    parts: list[Part]
    provenance: Provenance
    remarks: list[str]
    findings: list[Finding]

"""Made-up figures of the regression gate, for its tests."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.gate.baseline import accepted
from benchmarks.gate.model import Baseline, Kind, Provenance, Row

KERNEL = 7
HERE = Provenance(
    date="2026-01-02 03:04 UTC", processor="a processor", commit="abc", versions={"svt-av1": "v4", "torch": "2.13"},
    weights={"tiny": "00ff"},
)  # fmt: skip
ELSEWHERE = HERE.model_copy(update={"processor": "another processor"})
UPDATED = HERE.model_copy(update={"versions": {"svt-av1": "v5", "torch": "2.13"}})

ROWS = (
    Row(case="talk", name="bytes", kind=Kind.BYTES, value=8000),
    Row(case="talk", name="residual bytes", kind=Kind.LAYER, value=900),
    Row(case="talk", name="PSNR of base", kind=Kind.PSNR, value=31.5),
    Row(case="talk", name="MS-SSIM of base", kind=Kind.MS_SSIM, value=0.975),
    Row(case="talk", name="freezes", kind=Kind.STALLS, value=1),
    Row(case="talk", name="stream", kind=Kind.DIGEST, value="7e75bb1a"),
    Row(case="stored stream", name="states", kind=Kind.STORED, value="82ec1798"),
    Row(case="speed", name="sender", kind=Kind.SPEED, value=2.0, low=1.98, high=2.02),
    Row(case="memory", name="allocated", kind=Kind.ALLOCATED, value=0.9, low=0.8, high=1.0),
    Row(case="memory", name="resident", kind=Kind.RESIDENT, value=3.0, low=2.0, high=4.0),
)


def changed(name: str, value: float | str, rows: Sequence[Row] = ROWS) -> list[Row]:
    """The rows with one of another value."""
    assert any(row.name == name for row in rows)
    return [
        Row.model_validate({**row.model_dump(), "value": value}) if row.name == name else row for row in rows
    ]


def baseline(
    rows: Sequence[Row] = ROWS, provenance: Provenance = HERE, before: Baseline | None = None
) -> Baseline:
    """These rows as accepted."""
    return accepted(before, rows, [], provenance, KERNEL, "for a test")

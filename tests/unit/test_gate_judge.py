"""The regression gate's judgement, on made-up figures: what fails, what is told, what is not judged, what is accepted."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from benchmarks.gate.baseline import (
    HISTORY,
    accepted,
    processor_model,
    provenance_of,
    read_baseline,
    write_baseline,
)
from benchmarks.gate.judge import judge, passed
from benchmarks.gate.model import Finding, GateReport, Kind, Part, Row, Verdict
from benchmarks.gate.report import ACCEPT, markdown, moved_cells, print_report, summary, write_report
from common.clock import VirtualClock
from common.errors import SourceError
from tests.gate_rows import ELSEWHERE, HERE, KERNEL, ROWS, UPDATED, baseline, changed

MOVES = {
    "2 % more rate": ("bytes", 8160, Verdict.WORSE),
    "0.9 % more rate": ("bytes", 8072, Verdict.WITHIN),
    "2 % less rate": ("bytes", 7840, Verdict.BETTER),
    "a layer is dropped": ("residual bytes", 0, Verdict.WORSE),
    "a layer is dearer": ("residual bytes", 1100, Verdict.WORSE),
    "worse picture": ("PSNR of base", 31.4, Verdict.WORSE),
    "better picture": ("PSNR of base", 31.6, Verdict.BETTER),
    "nearly the same picture": ("PSNR of base", 31.47, Verdict.WITHIN),
    "less structure": ("MS-SSIM of base", 0.9735, Verdict.WORSE),
    "one more freeze": ("freezes", 2, Verdict.WORSE),
    "one freeze less": ("freezes", 0, Verdict.BETTER),
    "another stream": ("stream", "7e75bb1b", Verdict.WORSE),
    "other states of stored bytes": ("states", "82ec1799", Verdict.WORSE),
    "10 % slower": ("sender", 2.2, Verdict.WORSE),
    "4 % slower": ("sender", 2.08, Verdict.WITHIN),
    "10 % faster": ("sender", 1.8, Verdict.BETTER),
    "1 MiB a minute leaked": ("allocated", 1.9, Verdict.WORSE),
    "allocated as before": ("allocated", 1.2, Verdict.WITHIN),
    "nothing moved": ("bytes", 8000, Verdict.SAME),
}


def found(rows: list[Row], name: str, provenance=HERE, kernel: int = KERNEL) -> Finding:  # type: ignore[no-untyped-def]
    findings = judge(baseline(), rows, provenance, kernel)
    (one,) = [finding for finding in findings if finding.key.endswith(f": {name}")]
    assert passed(findings) == (one.verdict not in (Verdict.WORSE, Verdict.GONE))
    return one


@pytest.mark.parametrize(("name", "value", "verdict"), MOVES.values(), ids=MOVES.keys())
def test_verdicts(name: str, value: float | str, verdict: Verdict) -> None:
    finding = found(changed(name, value), name)
    assert finding.verdict is verdict
    if finding.over is not None:
        assert (abs(finding.over) > 1) == (verdict in (Verdict.WORSE, Verdict.BETTER))


def test_a_row_that_is_gone_fails_only_where_its_case_ran() -> None:
    without = [row for row in ROWS if row.name != "sender"]
    assert passed(judge(baseline(), without, HERE, KERNEL))
    without.append(Row(case="speed", name="network step", kind=Kind.SPEED, value=1.0))
    findings = judge(baseline(), without, HERE, KERNEL)
    assert {f.key: f.verdict for f in findings if f.verdict is not Verdict.SAME} == {
        "speed: sender": Verdict.GONE,
        "speed: network step": Verdict.NEW,
    }
    assert not passed(findings)


def test_another_processor_is_judged_by_what_holds_everywhere() -> None:
    rows = changed("sender", 9.0, changed("stream", "other"))
    assert found(rows, "stream", ELSEWHERE).verdict is Verdict.UNJUDGED
    assert found(rows, "sender", ELSEWHERE).verdict is Verdict.NEW
    assert found(list(ROWS), "stream", ELSEWHERE).verdict is Verdict.SAME
    assert found(changed("states", "other"), "states", ELSEWHERE).verdict is Verdict.WORSE
    assert found(changed("bytes", 8160), "bytes", ELSEWHERE).verdict is Verdict.WORSE


def test_other_codec_versions_leave_digests_unjudged_and_are_named() -> None:
    finding = found(changed("stream", "other"), "stream", UPDATED)
    assert finding.verdict is Verdict.UNJUDGED and "svt-av1 v4 then, v5 now" in finding.note


def test_speed_over_other_kernels_is_not_compared() -> None:
    assert found(changed("sender", 9.0), "sender", kernel=KERNEL + 1).verdict is Verdict.UNJUDGED


# --- accepting ----------------------------------------------------------------------------------------------------


def test_accepting_keeps_what_was_not_measured_and_says_what_moved() -> None:
    rows = [row for row in changed("bytes", 9000) if row.case == "talk"]
    before = baseline()
    findings = judge(before, rows, HERE, KERNEL)
    after = accepted(before, rows, findings, HERE, KERNEL, "larger on purpose")
    assert after.rows["talk: bytes"].value == 9000
    assert after.rows["memory: allocated"] == before.rows["memory: allocated"]
    key = "a processor, 1 thread"
    assert after.machines[key].rows["speed: sender"].value == 2.0
    assert [change.reason for change in after.history] == ["for a test", "larger on purpose"]
    assert after.history[-1].moved == ["talk: bytes: 8000 -> 9000"]
    assert passed(judge(after, rows, HERE, KERNEL))


def test_accepting_elsewhere_adds_a_machine_and_forgets_digests_that_hold_no_longer() -> None:
    before = baseline()
    same = accepted(before, changed("sender", 3.0), [], ELSEWHERE, KERNEL, "a second machine")
    assert len(same.machines) == 2
    assert passed(judge(same, list(ROWS), HERE, KERNEL)) and passed(
        judge(same, changed("sender", 3.0), ELSEWHERE, KERNEL)
    )
    other = accepted(before, changed("stream", "other"), [], ELSEWHERE, KERNEL, "another stream")
    assert "talk: stream" not in other.machines["a processor, 1 thread"].rows
    assert "speed: sender" in other.machines["a processor, 1 thread"].rows
    assert passed(judge(other, changed("stream", "other"), HERE, KERNEL))


def test_accepting_speed_alone_says_nothing_about_where_digests_come_from() -> None:
    only_speed = [row for row in ROWS if row.case == "speed"]
    after = accepted(baseline(), only_speed, [], UPDATED, KERNEL, "speed after an update")
    assert after.provenance == HERE and after.machines["a processor, 1 thread"].provenance == HERE
    assert found(changed("stream", "other"), "stream", UPDATED).verdict is Verdict.UNJUDGED
    fresh = accepted(baseline(), only_speed, [], ELSEWHERE, KERNEL, "a base in CI")
    other = judge(fresh, changed("stream", "other"), ELSEWHERE, KERNEL)
    assert passed(other) and {f.verdict for f in other if f.key == "talk: stream"} == {Verdict.NEW}


def test_tolerances_set_by_hand_survive_and_the_history_is_bounded() -> None:
    before = baseline()
    wide = before.tolerances[Kind.PSNR].model_copy(update={"absolute": 3.0})
    before = before.model_copy(update={"tolerances": {**before.tolerances, Kind.PSNR: wide}})
    for _ in range(HISTORY + 3):
        before = baseline(before=before)
    assert before.tolerances[Kind.PSNR].absolute == 3.0 and len(before.history) == HISTORY


def test_baseline_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "baseline.json"
    assert read_baseline(path) is None
    write_baseline(baseline(), path)
    assert read_baseline(path) == baseline()
    path.write_text('{"schema": "something else"}')
    with pytest.raises(SourceError, match="remove it and accept"):
        read_baseline(path)


def test_provenance_says_versions_weights_and_date() -> None:
    found = provenance_of(VirtualClock(1_700_000_000.0))
    assert found.date == "2023-11-14 22:13 UTC"
    assert {"svt-av1", "dav1d", "torch", "python"} <= set(found.versions)
    assert {"tiny", "labels"} <= set(found.weights) and found.processor


def test_processor_model(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n")
    assert processor_model(cpuinfo) == "AMD EPYC (26/2)"
    assert processor_model(tmp_path / "absent")


# --- what is said -------------------------------------------------------------------------------------------------


def report(rows: list[Row]) -> GateReport:
    findings = judge(baseline(), rows, HERE, KERNEL)
    return GateReport(
        passed=passed(findings), accepted=None, seconds=12.0, parts=list(Part), provenance=HERE,
        remarks=["a remark"], findings=findings,
    )  # fmt: skip


def test_the_table_holds_what_moved_failures_first() -> None:
    rows = changed("bytes", 8160, changed("PSNR of base", 31.6, changed("stream", "x|y")))
    cells = moved_cells(report(rows).findings)
    assert [row[0] for row in cells.rows] == ["talk: bytes", "talk: stream", "talk: PSNR of base"]
    assert cells.rows[0][1:] == ("8000", "8160", "+2.00 %", "2.0x", "WORSE")
    text = markdown(report(rows))
    assert "❌" in text and ACCEPT in text and "x\\|y" in text and "> a remark" in text


def test_nothing_moved_is_one_line(tmp_path: Path) -> None:
    good = report(list(ROWS))
    assert summary(good) == "passed: 10 rows, 10 same; 12 s"
    assert "No row moved" in markdown(good) and ACCEPT not in markdown(good)
    write_report(good, tmp_path)
    assert GateReport.model_validate_json((tmp_path / "gate.json").read_text()) == good


def test_the_last_line_is_the_document() -> None:
    out = io.StringIO()
    bad = report(changed("bytes", 8160))
    print_report(bad, None, out)
    lines = out.getvalue().splitlines()
    assert GateReport.model_validate(json.loads(lines[-1])) == bad
    assert any(ACCEPT in line for line in lines[:-1])

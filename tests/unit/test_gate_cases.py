"""The gate's cases on a few pictures: the same twice, and each regression put in on purpose is found.

The whole table, with speed and memory, is `semcast gate --mutations`: timing is nothing for a test.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import common.fusion
from benchmarks.gate.baseline import BASELINE, accepted, read_baseline
from benchmarks.gate.cases import CASES, Case, cases_of, run_case, stored_rows
from benchmarks.gate.judge import judge, passed
from benchmarks.gate.model import FAILURES, Finding, Kind, Part, Row
from benchmarks.gate.mutations import LEAK_BYTES, MUTATIONS, mutation_named
from benchmarks.gate.trials import HEALTHY, Trial, cells, judged
from common.errors import SourceError, UsageError
from receiver.pipeline import ReceiverSession
from sender.pipeline import SenderSession
from tests.gate_rows import HERE, KERNEL, ROWS, baseline, changed

BASE_ONLY = "receiver.steps=0"
SMALL = (
    Case("small", 0, 9, ("stream.bitrate_bps=60k", "guide.scale=2", BASE_ONLY)),
    Case("small rich", 140, 6, ("stream.bitrate_bps=3M", BASE_ONLY)),
)


def rows_now() -> list[Row]:
    return [*stored_rows(), *(row for case in SMALL for row in run_case(case))]


@pytest.fixture(scope="module")
def healthy() -> list[Row]:
    return rows_now()


def failing(healthy: list[Row], now: list[Row]) -> dict[str, Finding]:
    findings = judge(accepted(None, healthy, [], HERE, KERNEL, "healthy"), now, HERE, KERNEL)
    assert passed(findings) == (not any(finding.verdict in FAILURES for finding in findings))
    return {finding.key: finding for finding in findings if finding.verdict in FAILURES}


def test_the_small_cases_use_what_is_dropped_below(healthy: list[Row]) -> None:
    values = {row.key: row.value for row in healthy}
    assert (
        isinstance(values["small rich: residual bytes"], float) and values["small rich: residual bytes"] > 500
    )
    assert isinstance(values["small: semantics bytes"], float) and values["small: semantics bytes"] > 30
    assert values["small: PSNR of base"] != values["small: PSNR of guide"]
    kinds = {row.kind for row in healthy}
    assert kinds >= {Kind.STORED, Kind.DIGEST, Kind.BYTES, Kind.LAYER, Kind.PSNR, Kind.MS_SSIM, Kind.STALLS}


def test_the_same_twice(healthy: list[Row]) -> None:
    assert rows_now() == healthy


FOUND_BY = {
    "quantiser one too coarse": "small: stream",
    "2 % more rate": "small: stream",
    "residual dropped": "small rich: residual bytes",
    "label maps dropped": "small: semantics bytes",
    "one filter tap of the base picture off by 1/64": "stored stream: base pictures",
}


@pytest.mark.parametrize(("name", "row"), FOUND_BY.items(), ids=FOUND_BY.keys())
def test_mutations_are_found(healthy: list[Row], name: str, row: str) -> None:
    with mutation_named(name).apply():
        mutated = rows_now()
    assert row in failing(healthy, mutated)


def test_mutations_leave_nothing_behind(healthy: list[Row]) -> None:
    before = SenderSession.step, ReceiverSession.paint, common.fusion.NEAR
    for mutation in MUTATIONS:
        with mutation.apply():
            pass
    assert (SenderSession.step, ReceiverSession.paint) == before[:2] and common.fusion.NEAR is before[2]


def test_every_part_has_mutations_and_every_required_one_is_there() -> None:
    assert {mutation.part for mutation in MUTATIONS} == set(Part)
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
    assert pytest.approx(1 << 20, rel=0.001) == LEAK_BYTES * 25 * 60
    with pytest.raises(UsageError, match="there are network 10 % slower"):
        mutation_named("nothing")


def test_trials_are_right_where_mutations_are_found_and_nothing_else() -> None:
    good = judge(baseline(), list(ROWS), HERE, KERNEL)
    bad = judge(baseline(), changed("stream", "other", changed("bytes", 8160)), HERE, KERNEL)
    trials = [
        judged(HEALTHY, Part.CASES, good, healthy=True),
        judged("found", Part.CASES, bad, healthy=False),
        judged("missed", Part.CASES, good, healthy=False),
        judged("false alarm", Part.CASES, bad, healthy=True),
    ]
    assert [trial.right for trial in trials] == [True, True, False, False]
    assert [row[1] for row in cells(trials).rows] == [
        "nothing", "talk: bytes", "NOT FOUND", "FALSE ALARM: talk: bytes",
    ]  # fmt: skip
    assert cells(trials).rows[1][-2:] == ("2", "1")
    assert all(Trial.model_validate(trial.model_dump()) == trial for trial in trials)


# --- which cases --------------------------------------------------------------------------------------------------


def test_each_clip_of_a_folder_is_two_cases(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.mkv", ".hidden"):
        (tmp_path / name).touch()
    names = [case.name for case in cases_of(tmp_path)[len(CASES) :]]
    assert names == ["a", "a, losses", "b", "b, losses"]
    assert cases_of(None) == CASES


def test_folders_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a folder"):
        cases_of(tmp_path / "absent")
    with pytest.raises(UsageError, match="is empty"):
        cases_of(tmp_path)
    (tmp_path / "talk.mp4").touch()
    with pytest.raises(UsageError, match="'talk' is taken"):
        cases_of(tmp_path)


def test_a_stored_stream_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"absent\.sgv"):
        stored_rows(tmp_path / "absent.sgv")


def test_the_committed_baseline_has_every_case() -> None:
    kept = read_baseline(BASELINE)
    assert kept is not None
    cases = {row.case for row in kept.rows.values()}
    assert cases == {"stored stream", "memory", *(case.name for case in CASES)}
    assert kept.history and all(change.reason for change in kept.history)
    for machine in kept.machines.values():
        assert {row.name for row in machine.rows.values() if row.kind is Kind.SPEED} == {
            "network step", "base picture", "decode and advance", "sender",
        }  # fmt: skip

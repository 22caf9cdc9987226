"""What `bench latency --load` measures and asks for; the load itself ends with the block that began it."""

from __future__ import annotations

import os

import psutil
import pytest

from benchmarks.busy import busy_cores
from benchmarks.latency_load import (
    PLANNER,
    POLICIES,
    Bench,
    LoadReport,
    Moment,
    PolicyResult,
    Sent,
    load_table,
    play,
    requirements,
)
from benchmarks.latency_page import load_page
from common.clock import VirtualClock
from common.config import load_config
from receiver.painter import BasePainter
from tests.small_stream import STREAM, frame, open_session

FRAMES = 5


def result(
    name: str, late: float, vmaf: float | None, distance: float | None, loaded: bool = True
) -> PolicyResult:
    return PolicyResult(
        name=name, loaded=loaded, pictures=1000, miss_ratio=late, longest_late_run=1, p50_ms=1.0, p95_ms=2.0,
        p99_ms=3.0, max_ms=4.0, levels={"base": 1.0}, vmaf=vmaf, feature_distance=distance,
    )  # fmt: skip


def results(planner: PolicyResult) -> list[PolicyResult]:
    return [
        result(PLANNER, 0.0, 91.0, 0.01, loaded=False), planner, result("1 step", 1.0, 95.0, 0.01),
        result("4 steps", 1.0, 94.0, 0.01), result("base", 0.001, 88.0, 0.02),
    ]  # fmt: skip


def test_the_planner_is_held_against_the_fixed_levels_that_are_in_time() -> None:
    found = requirements(results(result(PLANNER, 0.004, 90.0, 0.02)))
    assert [item.met for item in found] == [True] * 4
    assert [item.where for item in found[2:]] == ["base", "base"]
    found = requirements(results(result(PLANNER, 0.006, 87.0, 0.03)))
    assert [item.met for item in found] == [False, True, False, False]


def test_what_was_not_measured_is_not_asked_for() -> None:
    unknown = [one.model_copy(update={"vmaf": None}) for one in results(result(PLANNER, 0.0, None, 0.02))]
    assert [item.name.startswith("planner's feature") for item in requirements(unknown)] == [
        False,
        False,
        True,
    ]


def test_the_page_and_the_table_show_every_policy() -> None:
    moments = tuple(
        Moment(
            at_s=0.04 * k, level="carry" if k % 2 else "bridge1", spent_ms=10.0 + k, late=k == 3,
            uncertainty=None if k == 0 else 1.5, loaded=k > 2, cut=k == 4,
        )
        for k in range(8)
    )  # fmt: skip
    some = tuple(results(result(PLANNER, 0.004, 90.0, 0.02)))
    report = LoadReport(
        load=1, budget_ms=42.0, policies=some, requirements=tuple(requirements(some)), timeline=moments
    )
    assert [row[0] for row in load_table(report).rows] == [one.name for one in some]
    text = load_page(report, "a clip", {}, {})
    assert all(name in text for name in POLICIES) and "Under load 0.4 % of 1000 pictures" in text
    assert LoadReport.model_validate_json(report.model_dump_json()) == report


def test_a_play_paints_at_the_pace_of_the_clip() -> None:
    sender, clock = open_session(), VirtualClock()
    sent = [
        Sent(frame(k), tuple(unit.data for unit in sender.step(frame(k)).units), k == 2)
        for k in range(FRAMES)
    ]
    sender.close()
    config = load_config(None, ["receiver.budget_ms=42"])
    bench = Bench(
        sent,
        config,
        STREAM.frame_rate,
        BasePainter(),
        clock,
        lambda wait_s: clock.advance_to(clock.now_s() + wait_s),
    )
    found = play(bench, bench.session(0), loaded=True)
    shown = [one.frame.slot for one, _ in found.shown]
    assert shown == [one.frame.slot for one in sent if one.units] and len(shown) > 1
    assert [round(one.at_s / 0.04) for one in found.moments] == shown
    assert all(one.loaded and not one.late and one.level == "base" for one in found.moments)
    again = play(bench, bench.session(0), loaded=False, until_s=clock.now_s() + 0.06)
    assert 0 < len(again.moments) < len(found.moments), "no longer than it may"


def test_what_a_planner_has_learned_stays_with_it() -> None:
    config = load_config(None, [])
    bench = Bench([], config, STREAM.frame_rate, BasePainter(), VirtualClock())
    first, second = bench.session("auto"), bench.session("auto")
    assert first.planner is second.planner and second.costs is first.planner.costs


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="here nobody can wait for a process to be stopped")
def test_busy_processes_wait_until_told_and_end_with_the_block() -> None:
    with busy_cores(2) as cores:
        ids = [process.pid for process in cores.processes]
        assert all(os.waitid(os.P_PID, one, os.WSTOPPED) for one in ids)
        cores.set(True)
        assert all(os.waitid(os.P_PID, one, os.WCONTINUED) for one in ids)
    assert not any(psutil.pid_exists(one) for one in ids)

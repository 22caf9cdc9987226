"""What `bench latency --load` measures and asks for; the load itself ends with the block that began it."""

from __future__ import annotations

import os
from itertools import cycle
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.busy import CALM, Load, busy
from benchmarks.busy_gpu import TURN_S, take_turns, work_on
from benchmarks.latency import run_latency
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
from common.errors import SemcastError, UsageError
from receiver.painter import BasePainter
from tests.small_stream import STREAM, frame, open_session

FRAMES = 5
ONE_CORE = Load(1)


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
    found = requirements(results(result(PLANNER, 0.004, 90.0, 0.02)), ONE_CORE)
    assert [item.met for item in found] == [True] * 4
    assert [item.where for item in found[2:]] == ["base", "base"]
    found = requirements(results(result(PLANNER, 0.006, 87.0, 0.03)), ONE_CORE)
    assert [item.met for item in found] == [False, True, False, False]


def test_four_steps_need_not_be_late_on_a_gpu() -> None:
    found = requirements(results(result(PLANNER, 0.004, 90.0, 0.02)), Load(gpu=0.5))
    assert not any(item.name.startswith("4 steps") for item in found)


def test_what_was_not_measured_is_not_asked_for() -> None:
    unknown = [one.model_copy(update={"vmaf": None}) for one in results(result(PLANNER, 0.0, None, 0.02))]
    assert [item.name.startswith("planner's feature") for item in requirements(unknown, ONE_CORE)] == [
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
        load=1,
        budget_ms=42.0,
        policies=some,
        requirements=tuple(requirements(some, ONE_CORE)),
        timeline=moments,
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
    with busy(Load(2)) as others:
        ids = [process.pid for process in others.processes]
        assert all(os.waitid(os.P_PID, one, os.WSTOPPED) for one in ids)
        others.set(True)
        assert all(os.waitid(os.P_PID, one, os.WCONTINUED) for one in ids)
    assert not any(psutil.pid_exists(one) for one in ids)


@pytest.mark.parametrize(
    ("load", "said"),
    [
        (CALM, "nothing"),
        (Load(1), "1 core"),
        (Load(2, 0.5), "2 cores and 50 % of the GPU's time"),
        (Load(gpu=1.0), "100 % of the GPU's time"),
    ],
)
def test_a_load_says_what_it_takes(load: Load, said: str) -> None:
    assert str(load) == said and bool(load) == (said != "nothing")


@given(
    share=st.floats(0.01, 1.0),
    pieces_s=st.lists(st.floats(1e-4, 0.1), min_size=1, max_size=20),
)
def test_a_device_is_busy_for_its_share_of_the_time(share: float, pieces_s: list[float]) -> None:
    clock, worked_s, pieces = VirtualClock(), [0.0], cycle(pieces_s)

    def pass_time(wait_s: float) -> None:
        clock.advance_to(clock.now_s() + wait_s)

    def work() -> None:
        piece_s = next(pieces)
        worked_s.append(piece_s)
        pass_time(piece_s)

    turns = iter([True] * 10)
    take_turns(share, work, lambda: next(turns, False), clock.now_s, pass_time)
    assert sum(worked_s) == pytest.approx(share * clock.now_s(), rel=1e-6)
    assert clock.now_s() >= 10 * TURN_S * 0.999


def test_work_on_a_device_is_found_and_can_be_done() -> None:
    work_on("cpu")()


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="here nobody can wait for a process to be stopped")
def test_a_busy_device_is_left_alone_until_told() -> None:
    with busy(Load(gpu=0.5), "cpu") as others:
        (process,) = others.processes
        assert os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        others.set(True)
        assert os.waitid(os.P_PID, process.pid, os.WCONTINUED)
    assert not psutil.pid_exists(process.pid)


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(SemcastError, match="no load can be put on nowhere"), busy(Load(gpu=0.5), "nowhere"):
        pass


def test_load_on_a_gpu_that_does_not_paint(tmp_path: Path) -> None:
    config = load_config(None, ["receiver.device=cpu"])
    with pytest.raises(UsageError, match="--load-gpu takes a CUDA device's time"):
        run_latency(None, tmp_path / "out", config, 1.0, load=Load(gpu=0.5))
    assert not (tmp_path / "out").exists()


@pytest.mark.gpu
def test_load_on_a_gpu() -> None:
    with busy(Load(gpu=0.5)) as others:
        others.set(True)

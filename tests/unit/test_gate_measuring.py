"""How the gate decides about speed and memory, on made-up samples: noise must not fail it, regressions must."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from benchmarks.gate import memory, speed
from benchmarks.gate.memory import MINUTES, Samples, growth, memory_rows
from benchmarks.gate.model import TOLERANCES, Kind, Row
from benchmarks.gate.ratios import Effort, compare, ratio_of
from benchmarks.gate.run import exceeding, milder, speed_row
from common.errors import UsageError

Rng = np.random.Generator


def noisy(rng: Rng, seconds: float, count: int, noise: float) -> list[float]:
    """Times on a busy machine: never shorter, now and then much longer."""
    spikes = np.where(rng.random(count) < 0.05, rng.uniform(1, 3, count), 1.0)
    return list(seconds * (1 + np.abs(rng.normal(0, noise, count))) * spikes)


def test_a_ratio_is_the_median_of_pairs() -> None:
    found = ratio_of([1.0, 1.0, 3.0], [2.0, 4.0])
    assert found.value == 2.0 and found.pairs == 2
    with pytest.raises(ValueError, match="one kernel more"):
        ratio_of([1.0], [1.0])


def test_what_slows_everything_changes_no_ratio() -> None:
    rng = np.random.default_rng(1)
    slower = np.linspace(1.0, 1.6, 81)
    kernels = np.array(noisy(rng, 1e-3, 81, 0.02)) * slower
    subjects = np.array(noisy(rng, 3e-3, 80, 0.02)) * slower[:-1]
    assert ratio_of(list(kernels), list(subjects)).value == pytest.approx(3.0, rel=0.015)


def test_the_interval_holds_the_true_ratio() -> None:
    inside = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        found = ratio_of(noisy(rng, 1e-3, 61, 0.05), noisy(rng, 2e-3, 60, 0.05))
        assert found.low <= found.value <= found.high
        inside += found.low <= 2.0 <= found.high
    assert inside >= 34


@pytest.mark.parametrize(("noise", "pairs"), [(0.001, 24), (0.4, 160)])
def test_a_quiet_machine_is_done_sooner(noise: float, pairs: int) -> None:
    rng = np.random.default_rng(3)

    def stopwatch(work: object) -> float:
        return float(1e-3 * (1 + abs(rng.normal(0, noise))))

    effort = Effort()
    assert compare(lambda: None, lambda: None, stopwatch, effort).pairs == pairs
    assert (effort.least, effort.most) == (24, 160)


# --- speed --------------------------------------------------------------------------------------------------------

SUBJECT = speed.Subject("sender", lambda: None, lambda: None, 1)


def speed_is(value: float) -> Row:
    return Row(case=speed.CASE, name="sender", kind=Kind.SPEED, value=value)


def measured(
    monkeypatch: pytest.MonkeyPatch, values: list[float], careful: bool = False
) -> tuple[float, int]:
    """What comes of measurements with these results, against 1.0, and how many it took."""
    left = list(values)
    monkeypatch.setattr(speed, "measure", lambda subject: speed_is(left.pop(0)))
    row = speed_row(SUBJECT, {SUBJECT.key: speed_is(1.0)}, TOLERANCES, careful)
    assert isinstance(row.value, float)
    return row.value, len(values) - len(left)


def test_noise_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, [1.02, 9.0]) == (1.02, 1)
    assert measured(monkeypatch, [1.2, 1.01, 9.0]) == (1.01, 2)


def test_a_regression_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, [1.12, 1.09, 1.10]) == (1.09, 3)


def test_a_baseline_is_the_middle_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, [1.0, 0.9, 1.3], careful=True) == (1.0, 3)


@pytest.mark.parametrize(("slower", "share"), [(1.0, 0.0), (1.1, 0.95)])
def test_ten_percent_are_seen_and_nothing_is_not(
    monkeypatch: pytest.MonkeyPatch, slower: float, share: float
) -> None:
    """With measurements that scatter by 2 %, twice what was seen on a quiet machine, around the truth."""
    rng, seen, runs = np.random.default_rng(5), 0, 300
    for _ in range(runs):
        monkeypatch.setattr(speed, "measure", lambda subject: speed_is(float(slower * rng.normal(1, 0.02))))
        row = speed_row(SUBJECT, {SUBJECT.key: speed_is(1.0)}, TOLERANCES)
        seen += exceeding([row], {SUBJECT.key: speed_is(1.0)}, TOLERANCES)
    assert seen == 0 if share == 0 else seen >= share * runs


def test_kernels_use_nothing_of_the_project_and_run() -> None:
    for kernel in (speed.convolutions(), speed.integers()):
        assert speed.processor_s(kernel) > 0


# --- memory -------------------------------------------------------------------------------------------------------


def series(rng: Rng, slope: float, step: float = 0.0) -> Samples:
    """As a process might give: growth, a late step, and noise."""
    minutes = np.arange(1, 1 + round(MINUTES * 7.5)) / 7.5
    allocated = (
        160
        + slope * minutes
        + step * (minutes > 1.2)
        + 2 * np.exp(-6 * minutes)
        + rng.normal(0, 0.02, len(minutes))
    )
    return Samples(
        minutes=list(minutes), allocated_mib=list(allocated), resident_mib=list(320 + 3 * slope * minutes)
    )


@pytest.mark.parametrize("slope", [0.0, 0.9, 1.9])
@pytest.mark.parametrize("step", [0.0, 0.25])
def test_growth_is_told_in_spite_of_a_warm_up_and_a_step(slope: float, step: float) -> None:
    allocated, resident = memory_rows(series(np.random.default_rng(2), slope, step))
    assert allocated.value == pytest.approx(slope, abs=0.3)
    assert allocated.low is not None and allocated.high is not None
    assert allocated.low <= float(allocated.value) <= allocated.high
    assert resident.value == pytest.approx(3 * slope, abs=0.05)


def test_one_mib_a_minute_exceeds_and_the_same_again_does_not() -> None:
    before = {row.key: row for row in memory_rows(series(np.random.default_rng(0), 0.9))}
    for seed in range(1, 5):
        healthy = memory_rows(series(np.random.default_rng(seed), 0.9, step=0.25))
        leaking = memory_rows(series(np.random.default_rng(seed), 1.9))
        assert not exceeding(healthy, before, TOLERANCES)
        assert exceeding(leaking, before, TOLERANCES)
        assert milder(healthy, leaking)[0] == healthy[0]


def test_growth_needs_samples() -> None:
    with pytest.raises(ValueError, match="2 samples"):
        growth(np.array([1.0, 2.0]), np.array([1.0, 2.0]))


@pytest.mark.skipif(memory.allocated_mib() is None, reason="needs glibc's mallinfo2")
def test_what_is_allocated_is_known_to_the_byte() -> None:
    read = memory.allocated_mib()
    assert read is not None
    before = read()
    kept = np.ones(5 << 20, np.uint8)
    assert read() - before == pytest.approx(5.0, abs=0.1)
    assert memory.resident_mib() > kept.nbytes / (1 << 20)


def test_other_systems_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory.allocated_mib() is None
    with pytest.raises(UsageError, match="--only"):
        memory.watch(0.1)

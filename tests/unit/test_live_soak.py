"""The soak: a link that changes, figures of programs over time, slopes with their intervals, and the page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from scipy.stats import theilslopes

from benchmarks.live import soak as soak_module
from benchmarks.live.relay import packet_link
from benchmarks.live.scrape import DELAY, FAR_END_QUEUE, PARTIAL_UNITS, read, values_of
from benchmarks.live.slopes import BLOCK_S, CONFIDENCE, Measured, blocks, slope_and_interval, slope_of
from benchmarks.live.soak import (
    KINDS,
    Sample,
    SoakPlan,
    Watched,
    period_of,
    run_soak,
    series,
    slopes_of,
    warm_up_of,
)
from benchmarks.live.soak_page import slope_table, write_page
from benchmarks.live.trials import Program
from benchmarks.live.weather import PERIOD_S, changing_link, due
from channel.spec import PacketSpec
from common.errors import ChannelError

HOUR_S = 3600.0
STREAM = {
    "pictures": 1000, "fps": 29.5, "freeze_ratio": 0.01, "longest_freeze_s": 0.4, "drift_ms": -3.0,
    "glass_to_glass_ms": {"p50": 140.0, "p95": 180.0, "max": 300.0},
}  # fmt: skip


# --- the link -----------------------------------------------------------------------------------------------------


def test_a_changing_link_is_the_same_for_the_same_seed() -> None:
    spells = changing_link(1, HOUR_S)
    assert spells == changing_link(1, HOUR_S) != changing_link(2, HOUR_S)
    assert spells[0].at_s == 0.0 and all(a.at_s < b.at_s for a, b in pairwise(spells))
    links = [packet_link(spell.link) for spell in spells]
    assert all(isinstance(link, PacketSpec) for link in links)
    assert {link.loss > 0 for link in links} == {True, False}
    assert any(spell.cut_s for spell in spells) and max(spell.cut_s for spell in spells) <= 1.0


def test_a_changing_link_comes_again() -> None:
    spells = changing_link(3, 2.5 * PERIOD_S)
    first = changing_link(3, PERIOD_S)
    assert [(s.link, s.cut_s) for s in spells[: 2 * len(first)]] == [(s.link, s.cut_s) for s in first] * 2
    assert spells[len(first)].at_s == PERIOD_S and spells[-1].at_s < 2.5 * PERIOD_S
    assert len({spell.link for spell in first}) > 20


def test_a_spell_is_due_once() -> None:
    spells = changing_link(0, 300.0)
    assert spells[-1].at_s < 300.0
    assert due(spells, 0.0, spells[1].at_s - 0.1) is None
    assert due(spells, 0.0, spells[1].at_s) == spells[1]
    assert due(spells, spells[1].at_s, spells[1].at_s + 0.1) is None
    assert due(spells, 0.0, 300.0) == spells[-1], "who was held up takes the newest"


# --- slopes -------------------------------------------------------------------------------------------------------


def measured(values: Sequence[float], bound: float = 1.0) -> Measured:
    at_s = tuple(10.0 * (number + 1) for number in range(len(values)))
    return Measured("sender", "memory", "MiB", bound, at_s, tuple(values))


def test_a_slope_is_found_in_noise_and_outliers_do_not_move_it() -> None:
    random = np.random.default_rng(0)
    hours = np.arange(1, 361) / 360
    values = 500 + 6 * hours + random.normal(0, 0.5, 360)
    values[::97] += 300
    slope = slope_of(measured(values), 180.0)
    assert slope is not None and slope.low is not None and slope.high is not None
    assert slope.per_hour == pytest.approx(6.0, abs=0.5) and slope.low < 6.0 < slope.high
    assert slope.verdict == "grows"
    within = slope_of(measured(values, bound=16.0), 180.0)
    assert within is not None and within.verdict == "flat"


def test_what_does_not_change_is_flat_and_what_is_too_short_is_unclear() -> None:
    still = slope_of(measured([18.0] * 360), 180.0)
    assert still is not None and (still.per_hour, still.low, still.high, still.verdict) == (0, 0, 0, "flat")
    short = slope_of(measured([18.0] * 20), 0.0)
    assert short is not None and short.per_hour is None and short.verdict == "unclear"
    assert slope_of(measured([18.0] * 20), 500.0) is None
    noise = slope_of(measured(np.random.default_rng(1).normal(0, 50, 60)), 0.0)
    assert noise is not None and noise.verdict == "unclear"


@given(st.lists(st.floats(-1e3, 1e3), min_size=5, max_size=60, unique=True))
def test_one_phase_is_theil_and_sen(values: list[float]) -> None:
    at_s = [BLOCK_S * (number + 0.5) for number in range(len(values))]
    expected = theilslopes(values, np.asarray(at_s) / HOUR_S, alpha=CONFIDENCE)
    found = slope_and_interval(at_s, values)
    assert found is not None
    assert found == pytest.approx((expected.slope, expected.low_slope, expected.high_slope), abs=1e-3)


def test_what_comes_again_is_told_from_what_grows() -> None:
    random, minutes = np.random.default_rng(2), np.arange(60)
    weather = random.normal(0, 50, 15)[minutes % 15]
    values = weather + random.normal(0, 3, 60) + 6 * minutes / 60
    at_s = [BLOCK_S * (number + 0.5) for number in minutes]
    plain, found = slope_and_interval(at_s, values), slope_and_interval(at_s, values, 15 * BLOCK_S)
    assert plain is not None and found is not None
    assert found[1] < 6 < found[2] and found[2] - found[1] < (plain[2] - plain[1]) / 5
    assert slope_and_interval(at_s[:20], values[:20], 15 * BLOCK_S) is None, "five pairs tell nothing"


def test_a_period_takes_a_link_that_changes_and_time() -> None:
    hour, short = samples_of(360), samples_of(120)
    assert period_of(SoakPlan(), hour) == PERIOD_S and period_of(SoakPlan(), short) is None
    assert period_of(SoakPlan(link="clean"), hour) is None


def test_blocks_are_medians_of_minutes() -> None:
    at_s = [10.0, 20.0, 30.0, 60.0, 75.0, 80.0]
    assert blocks(at_s, [1, 9, 2, 5, float("nan"), 7], 15.0) == ([45.0, 105.0], [5.0, 7.0])


# --- figures ------------------------------------------------------------------------------------------------------


def test_of_the_metrics_the_largest_of_each_name_is_read(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    queue = Gauge(FAR_END_QUEUE, "", ["far_end"], registry=registry)
    queue.labels("a").set(0.25)
    queue.labels("b").set(0.5)
    Gauge("semcast_other", "", registry=registry).set(1)
    assert values_of(generate_latest(registry).decode()) == {FAR_END_QUEUE: 0.5}
    (tmp_path / "metrics").write_bytes(generate_latest(registry))
    assert read((tmp_path / "metrics").as_uri()) == {FAR_END_QUEUE: 0.5}
    assert read((tmp_path / "nothing").as_uri()) is None


def scraper(*lines: Any) -> Program:
    return cast("Program", SimpleNamespace(lines={"out": [json.dumps(line) for line in lines]}))


def this_program() -> Program:
    return cast("Program", SimpleNamespace(pid=os.getpid()))


def test_a_sample_has_the_median_of_what_was_scraped_since_the_last() -> None:
    rows = [[{DELAY: 0.1}, {DELAY: 9.0, PARTIAL_UNITS: 2.0}], [None, None], [{DELAY: 0.3}, {DELAY: 1.0}]]
    watched = Watched("receiver 1", this_program(), scraper(*rows), row=0)
    watched.look()
    sample = watched.sample(10.04)
    assert (sample.at_s, sample.program) == (10.0, "receiver 1")
    assert sample.figures["delay p50"] == 200.0 and "partial units" not in sample.figures
    assert (
        sample.figures["memory"] > 1 and sample.figures["descriptors"] > 0 and sample.figures["threads"] >= 1
    )
    watched.look()
    assert "delay p50" not in watched.sample(20.0).figures, "nothing new came"


def test_a_program_that_is_gone_ends_the_watch() -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    with pytest.raises(ChannelError, match="receiver 2 has stopped in the middle"):
        Watched("receiver 2", cast("Program", done)).sample(0.0)


def samples_of(count: int) -> list[Sample]:
    return [
        Sample(10.0 * n, program, {"memory": 500.0 + (n if program == "sender" else 0), "descriptors": 18.0})
        for n in range(1, count + 1)
        for program in ("sender", "receiver 1")
    ]


def samples() -> list[Sample]:
    return samples_of(60)


def test_slopes_of_all_programs() -> None:
    slopes = slopes_of(samples(), 60.0)
    assert [(s.program, s.figure, s.verdict) for s in slopes] == [
        ("sender", "memory", "grows"), ("sender", "descriptors", "flat"),
        ("receiver 1", "memory", "flat"), ("receiver 1", "descriptors", "flat"),
    ]  # fmt: skip
    assert slopes[0].per_hour == pytest.approx(360.0)
    assert series(samples(), "sender", "queue").values == ()
    assert set(KINDS) >= {slope.figure for slope in slopes}


def test_the_page_has_slopes_plots_and_the_link(tmp_path: Path) -> None:
    plan = SoakPlan(seconds=600.0)
    slopes = slopes_of(samples(), warm_up_of(samples()))
    figures = {"flat": 3, "grows": ["sender: memory"], "unclear": [], "watched_s": 600.0}
    text = write_page(plan, samples(), slopes, figures, tmp_path).read_text()
    assert "3 of 4 figures are flat; growing: sender: memory; unclear: none" in text
    assert "<svg" in text and "packet:delay_ms=25" in text
    assert slope_table(slopes).rows[0][-2:] == ("16", "grows")
    short = slopes_of(samples()[:4], 0.0)
    assert slope_table(short).rows[0][-3:] == ("too short", "16", "unclear")


def test_a_run_that_ends_early_has_its_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = []
    ends = [
        SimpleNamespace(end=lambda: ended.append(True), document=lambda _, found=document: found)
        for document in ({"stream": {"keys": 1, "frames": 1000}}, {"streams": [STREAM]})
    ]
    monkeypatch.setattr(soak_module, "_start", lambda *_: ([], ends[0], ends[1:]))

    def watch(watched: object, plan: object, hosts: object, keep: Any) -> str:
        for sample in samples():
            keep(sample)
        return "receiver 1 has stopped in the middle"

    monkeypatch.setattr(soak_module, "_watch", watch)
    monkeypatch.setattr(soak_module, "hosts_or_none", lambda _: nullcontext())
    with pytest.raises(ChannelError, match="ended after 600 s: receiver 1 has stopped in the middle"):
        run_soak(None, tmp_path, SoakPlan())
    assert len(ended) == 2 and len((tmp_path / "samples.jsonl").read_text().splitlines()) == 120
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["grows"] == ["sender: memory"] and last["p95_ms"] == 180.0 and last["drift_ms"] == 3.0
    assert json.loads((tmp_path / "soak.json").read_text())["slopes"][0]["verdict"] == "grows"

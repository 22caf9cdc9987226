"""The ladder's choice, the cost model behind it, and the playout clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.budget import CostModel, plan
from receiver.jitter import Playout

LEVELS = ("hold", "guide", "base", "bridge1", "bridge2", "bridge4")
costs = st.dictionaries(st.sampled_from(LEVELS), st.floats(0, 1), max_size=6)
ladders = st.integers(1, 6).map(lambda count: LEVELS[:count])
times_s = st.floats(0, 100)


@given(times_s, st.floats(-1, 2), st.floats(0, 2), costs, ladders)
def test_a_later_deadline_never_means_a_lower_level(
    now_s: float, room_s: float, more_s: float, costs_s: dict[str, float], levels: tuple[str, ...]
) -> None:
    early = plan(now_s, now_s + room_s, costs_s, levels)
    late = plan(now_s, now_s + room_s + more_s, costs_s, levels)
    never = plan(now_s, None, costs_s, levels)
    assert levels.index(early) <= levels.index(late) <= levels.index(never)


@given(times_s, st.floats(-1, 2) | st.none(), costs, ladders)
def test_the_choice_fits_or_is_the_cheapest(
    now_s: float, room_s: float | None, costs_s: dict[str, float], levels: tuple[str, ...]
) -> None:
    deadline_s = None if room_s is None else now_s + room_s
    chosen = plan(now_s, deadline_s, costs_s, levels)
    assert chosen in levels
    if chosen != levels[0]:
        assert deadline_s is None or now_s + costs_s[chosen] <= deadline_s
    better = levels[levels.index(chosen) + 1 :]
    assert all(
        level not in costs_s or (deadline_s is not None and now_s + costs_s[level] > deadline_s)
        for level in better
    )


def test_levels_that_were_never_tried_are_not_chosen() -> None:
    assert plan(0.0, None, {}, LEVELS) == "hold"
    assert plan(0.0, None, {"base": 0.004}, LEVELS) == "base"


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=48))
def test_the_cost_is_between_median_and_worst(seen_s: list[float]) -> None:
    model = CostModel()
    for cost_s in seen_s:
        model.observe("base", cost_s)
    cost = model.costs_s()["base"]
    assert sorted(seen_s)[len(seen_s) // 2] * 0.999 <= cost <= max(seen_s) * 1.001 or len(seen_s) < 3


def test_old_costs_are_forgotten() -> None:
    model = CostModel()
    for cost_s in [1.0] * 10 + [0.01] * 48:
        model.observe("base", cost_s)
    assert model.costs_s()["base"] < 0.011


def test_bridges_not_tried_yet_are_scaled_from_one_step() -> None:
    model = CostModel()
    model.observe("base", 0.004)
    model.observe("bridge1", 0.014)
    costs_s = model.costs_s()
    assert abs(costs_s["bridge2"] - 0.024) < 1e-3
    assert abs(costs_s["bridge4"] - 0.044) < 1e-3
    model.observe("bridge4", 0.03)
    assert model.costs_s()["bridge4"] == 0.03


def test_a_level_that_was_too_dear_is_tried_again_in_time() -> None:
    model = CostModel()
    model.observe("bridge1", 0.08)
    for _ in range(400):
        assert model.costs_s()["bridge1"] <= 0.08
        model.observe("base", 0.002)
    assert plan(0.0, 0.042, model.costs_s(), ("hold", "base", "bridge1")) == "bridge1"


# --- playout -------------------------------------------------------------------------------------

arrivals = st.lists(st.tuples(st.integers(0, 400), st.floats(0, 2)), min_size=1, max_size=40)


@given(st.floats(0, 1), arrivals, st.integers(0, 400), st.integers(0, 400))
def test_later_frames_are_shown_later(
    delay_s: float, seen: list[tuple[int, float]], first: int, second: int
) -> None:
    playout = Playout(delay_s)
    for slot, travel_s in seen:
        playout = playout.arrived(slot / 25, slot / 25 + travel_s)
    low, high = sorted((first, second))
    assert playout.due_s(low / 25) <= playout.due_s(high / 25)


@given(st.floats(0, 1), arrivals)
def test_an_arrival_never_moves_the_clock_back_and_the_fastest_has_the_whole_delay(
    delay_s: float, seen: list[tuple[int, float]]
) -> None:
    playout = Playout(delay_s)
    for slot, travel_s in seen:
        before = playout.due_s(1.0)
        playout = playout.arrived(slot / 25, slot / 25 + travel_s)
        assert playout.due_s(1.0) <= before
    fastest_s = min(travel_s for _, travel_s in seen)
    assert abs(playout.due_s(1.0) - (1.0 + fastest_s + delay_s)) < 1e-9


def test_nothing_is_due_before_anything_arrived() -> None:
    assert Playout(0.1).due_s(0.0) == float("inf")


def test_clocks_that_drift_apart_are_followed() -> None:
    """A receiver whose clock is fast by 100 ppm would else show every picture as late after a quarter of an hour."""
    playout = Playout(0.1, forgetting=1e-3)
    for second in range(0, 3600, 2):
        playout = playout.arrived(float(second), second * 1.0001)
    assert playout.due_s(3600.0) == pytest.approx(3600 * 1.0001 + 0.1, abs=0.005)
    steady = Playout(0.1).arrived(0.0, 5.0).arrived(10.0, 15.5)
    assert steady.due_s(20.0) == pytest.approx(25.1)

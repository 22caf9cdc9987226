"""Deadline control: its promises hold for whatever costs and loads come."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from common.deadline import HOLD_S, LONGEST_HOLD_S, Ceiling, CostModel, Governor, plan

OPTIONS = ("hold", "guide", "base", "carry", "bridge1", "bridge2")
FRAME_S, BUDGET_S = 0.04, 0.042

some_costs = st.dictionaries(st.sampled_from(OPTIONS), st.floats(0, 1), max_size=6)
some_gains = st.lists(st.floats(-10, 10), min_size=1, max_size=6).map(
    lambda gains: dict(zip(OPTIONS, gains, strict=False))
)
times_s = st.floats(0, 100)


# --- plan ---------------------------------------------------------------------------------------------------------


@given(times_s, st.floats(-1, 2), st.floats(0, 2), some_costs, some_gains)
def test_a_later_deadline_never_gains_less(
    now_s: float, room_s: float, more_s: float, costs_s: dict[str, float], gains: dict[str, float]
) -> None:
    early, late, never = (
        plan(now_s, deadline_s, costs_s, gains)
        for deadline_s in (now_s + room_s, now_s + room_s + more_s, None)
    )
    assert gains[early] <= gains[late] <= gains[never]


@given(times_s, st.floats(-1, 2) | st.none(), some_costs, some_gains)
def test_the_choice_fits_and_nothing_that_fits_gains_more(
    now_s: float, room_s: float | None, costs_s: dict[str, float], gains: dict[str, float]
) -> None:
    deadline_s = None if room_s is None else now_s + room_s
    chosen, first = plan(now_s, deadline_s, costs_s, gains), next(iter(gains))

    def fits(option: str) -> bool:
        known = option in costs_s and (deadline_s is None or now_s + costs_s[option] <= deadline_s)
        return option == first or known

    assert fits(chosen)
    assert all(gains[option] <= gains[chosen] for option in gains if fits(option))


def test_of_equal_ones_the_cheaper_is_chosen() -> None:
    costs_s = {"one thread": 0.03, "two threads": 0.02}
    gains = {"base": 0.0, "one thread": 1.0, "two threads": 1.0}
    assert plan(0.0, 1.0, costs_s, gains) == "two threads"


def test_what_was_never_tried_is_not_chosen() -> None:
    gains = {"hold": 0.0, "base": 1.0, "bridge1": 2.0}
    assert plan(0.0, None, {}, gains) == "hold"
    assert plan(0.0, None, {"base": 0.004}, gains) == "base"


# --- costs --------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=48))
def test_the_cost_is_between_median_and_worst(seen_s: list[float]) -> None:
    model: CostModel[str] = CostModel()
    for cost_s in seen_s:
        model.observe("base", cost_s)
    assert sorted(seen_s)[(len(seen_s) - 1) // 2] <= model.costs_s()["base"] <= max(seen_s)


def test_old_costs_are_forgotten() -> None:
    model: CostModel[str] = CostModel()
    for cost_s in [1.0] * 10 + [0.01] * 48:
        model.observe("base", cost_s)
    assert model.costs_s()["base"] < 0.011


def test_a_cost_that_is_not_measured_any_more_fades_to_the_least_that_it_was() -> None:
    model: CostModel[str] = CostModel()
    for cost_s in (0.03, 0.08):
        model.observe("bridge1", cost_s)
    costs_s = []
    for _ in range(200):
        costs_s.append(model.costs_s()["bridge1"])
        model.observe("base", 0.002)
    assert costs_s[0] == 0.08 and costs_s[-1] == 0.03
    assert all(after <= before for before, after in pairwise(costs_s))


def test_after_a_late_one_everything_is_expected_to_be_slower_until_one_is_not() -> None:
    model: CostModel[str] = CostModel()
    model.observe("base", 0.004)
    model.observe("bridge1", 0.03)
    model.observe("bridge1", 0.3, late=True)
    assert model.costs_s()["base"] == 0.04
    model.observe("base", 0.02)
    assert model.costs_s()["bridge1"] == 0.3 * 0.98, "it was measured, and has begun to fade"
    model.observe("guide", 0.001)
    model.observe("base", 0.004)
    assert model.costs_s()["guide"] == 0.001 * 1.0


@given(st.lists(st.tuples(st.sampled_from(OPTIONS), st.floats(0, 1), st.booleans()), max_size=400))
def test_memory_is_bounded(seen: list[tuple[str, float, bool]]) -> None:
    governor = Governor(OPTIONS)
    for number, (option, cost_s, late) in enumerate(seen):
        governor.took(option, cost_s, number * FRAME_S, late)
    assert sum(len(seen.costs_s) for seen in governor.costs._seen.values()) <= 48 * len(OPTIONS)
    assert sys.getsizeof(governor.ceiling) < 200


# --- a receiver on a machine whose load comes and goes ------------------------------------------------------------

COSTS_S = dict(zip(OPTIONS, (0.0005, 0.002, 0.003, 0.004, 0.03, 0.06), strict=True))
GAINS = dict(zip(OPTIONS, (-9.0, -3.0, 0.0, 1.0, 2.0, 2.5), strict=True))

loads = st.lists(st.tuples(st.integers(1, 60), st.floats(1, 30)), min_size=1, max_size=12).map(
    lambda spells: [load for frames, load in spells for _ in range(frames)]
)
"""How many times slower everything is, picture by picture."""


@dataclass(frozen=True)
class Frame:
    """What became of one."""

    now_s: float
    option: str
    late: bool
    load: float

    @property
    def place(self) -> int:
        return OPTIONS.index(self.option)


def primed(budget_s: float = BUDGET_S) -> Governor[str]:
    governor = Governor(OPTIONS)
    for option, cost_s in COSTS_S.items():
        governor.costs.observe(option, cost_s)
    return governor


def watched(
    load: Sequence[float], governor: Governor[str] | None = None, began_s: float = 0.0
) -> list[Frame]:
    """A picture every `FRAME_S`, each slowed by its load."""
    governor = governor or primed()
    frames = []
    for number, times in enumerate(load):
        now_s = began_s + number * FRAME_S
        option = governor.choose(now_s, now_s + BUDGET_S, GAINS)
        cost_s = COSTS_S[option] * times
        governor.took(option, cost_s, now_s + cost_s, late=cost_s > BUDGET_S)
        frames.append(Frame(now_s, option, cost_s > BUDGET_S, times))
    return frames


@given(loads)
def test_never_two_late_in_a_row_while_a_cheaper_one_fits(load: list[float]) -> None:
    for before, after in pairwise(watched(load)):
        if before.late:
            assert after.place < before.place or before.place == 0
            cheapest_s = COSTS_S[OPTIONS[0]] * after.load
            if after.load <= before.load and cheapest_s <= BUDGET_S:
                assert not after.late


@given(loads)
def test_nothing_oscillates_faster_than_stated(load: list[float]) -> None:
    """With gains that stay as they are, the level rises again no sooner than `HOLD_S` after it fell."""
    fell_s = float("-inf")
    for before, after in pairwise(watched(load)):
        if after.place < before.place:
            fell_s = after.now_s
        elif after.place > before.place and fell_s > 0:
            assert after.now_s - fell_s >= HOLD_S - 2 * FRAME_S
            fell_s = float("-inf")


@given(loads)
def test_it_recovers_when_the_load_goes_away(load: list[float]) -> None:
    governor = primed()
    watched(load, governor)
    fading_s = 48 * FRAME_S * 4
    calm = [1.0] * round((LONGEST_HOLD_S + fading_s) / FRAME_S)
    after = watched(calm, governor, len(load) * FRAME_S)
    assert after[-1].option == "bridge1", "the best that fits"
    assert sum(frame.late for frame in after) <= 1 + len(OPTIONS)


@given(st.floats(1.5, 10), st.integers(200, 1500))
def test_what_stays_too_dear_is_tried_ever_more_rarely(times: float, frames: int) -> None:
    late = sum(frame.late for frame in watched([times] * frames))
    tries = 8 + frames * FRAME_S / LONGEST_HOLD_S
    assert late <= 2 * tries


def test_without_a_deadline_the_best_is_taken_whatever_was_late() -> None:
    governor = primed()
    watched([20.0] * 10, governor)
    assert governor.choose(1.0, None, GAINS) == "bridge2"


# --- the ceiling --------------------------------------------------------------------------------------------------

falls = st.lists(st.tuples(st.integers(0, 5), st.floats(0, 40), st.booleans()), max_size=60)


@given(falls)
def test_a_ceiling_stays_for_at_least_the_hold_and_at_most_the_longest(
    seen: list[tuple[int, float, bool]],
) -> None:
    ceiling, now_s = Ceiling(), 0.0
    for place, wait_s, tried in seen:
        now_s += wait_s
        ceiling = ceiling.lowered(place, now_s, tried)
        assert HOLD_S <= ceiling.until_s - now_s + 1e-9 <= LONGEST_HOLD_S + 1e-6
        assert ceiling.place <= place
        assert list(ceiling.permits(OPTIONS, now_s)) == list(OPTIONS[: ceiling.place + 1])
        assert list(ceiling.permits(OPTIONS, ceiling.until_s)) == list(OPTIONS)


def test_a_try_that_fails_at_once_is_repeated_after_four_times_as_long() -> None:
    ceiling, now_s, holds_s = Ceiling(), 0.0, []
    for _ in range(5):
        ceiling = ceiling.lowered(2, now_s, tried=True)
        holds_s.append(ceiling.until_s - now_s)
        now_s = ceiling.until_s
    assert holds_s == [0.5, 2.0, 8.0, 16.0, 16.0]
    later = ceiling.lowered(2, now_s + 100.0, tried=True)
    assert later.hold_s == HOLD_S
